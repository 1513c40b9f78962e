from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pannier.pkgmgr.errors import ModelfileError
from pannier.pkgmgr.modelfile.syntax import (
    ROLES,
    Command,
    Comment,
    Modelfile,
    decode,
    parse,
    render,
)

# Texts that are hard on quoting: quotes, blanks, newlines and what does not print.
_HARD = st.text(
    alphabet=st.sampled_from(list('"""  \t\n\n\r#a\\\x00\x1b\u00a0\u200b\u200d\u3000\ufeff🦙é')),
    max_size=24,
)
_values = st.one_of(_HARD, st.text(max_size=40))
_commands = st.one_of(
    st.builds(
        Command,
        st.sampled_from(
            ["license", "template", "system", "adapter", "draft", "renderer", "parser", "requires"]
        ),
        _values,
    ),
    st.builds(
        Command,
        st.just("parameter"),
        _values,
        st.from_regex(r"[A-Za-z0-9_]{1,9}", fullmatch=True),
        quoted=st.booleans(),
    ),
    st.builds(Command, st.just("message"), _values, st.sampled_from(ROLES)),
    st.builds(Comment, st.text(st.characters(exclude_characters="\r\n"), max_size=20)),
)
_modelfiles = st.builds(
    lambda value, items: Modelfile((Command("from", value), *items)),
    _values,
    st.lists(_commands, max_size=6),
)


def commands(text: str) -> list[tuple[str, str | None, str]]:
    return [(item.name, item.key, item.value) for item in parse(text).commands]


@settings(max_examples=1000)
@given(_modelfiles)
def test_reading_what_was_written_gives_the_same(modelfile: Modelfile) -> None:
    assert parse(render(modelfile)) == modelfile


@settings(max_examples=300)
@given(_modelfiles)
def test_writing_what_was_read_changes_nothing_more(modelfile: Modelfile) -> None:
    text = render(modelfile)
    assert render(parse(text)) == text


@settings(max_examples=500)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        modelfile = parse("FROM a\n" + text)
    except ModelfileError:
        return
    assert parse(render(modelfile)) == modelfile


def test_a_whole_modelfile_is_read() -> None:
    text = """# comment
FROM ./a.gguf
parameter temperature 0.7
PARAMETER stop "<|end|>"
TEMPLATE \"\"\"{{ .System }}
{{ .Prompt }}\"\"\"
SYSTEM You are "kind" # really
ADAPTER a b.gguf
LICENSE " MIT "
MESSAGE user hi there
MESSAGE assistant "a
b"
RENDERER qwen3
PARSER qwen3
REQUIRES v0.6.1
DRAFT ~/d.gguf"""
    assert commands(text) == [
        ("from", None, "./a.gguf"),
        ("parameter", "temperature", "0.7"),
        ("parameter", "stop", "<|end|>"),
        ("template", None, "{{ .System }}\n{{ .Prompt }}"),
        ("system", None, 'You are "kind" # really'),
        ("adapter", None, "a b.gguf"),
        ("license", None, " MIT "),
        ("message", "user", "hi there"),
        ("message", "assistant", "a\nb"),
        ("renderer", None, "qwen3"),
        ("parser", None, "qwen3"),
        ("requires", None, "v0.6.1"),
        ("draft", None, "~/d.gguf"),
    ]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("plain", "plain"),
        ("   plain \t ", "plain"),
        ("two  blanks", "two  blanks"),
        ("'single'", "'single'"),
        ('"quoted"', "quoted"),
        ('"two\nlines"', "two\nlines"),
        ('""', ""),
        ("", ""),
        ('"""three"""', "three"),
        ('"""a "quoted" word"""', 'a "quoted" word'),
        ('"""\nline\n"""', "\nline\n"),
        ('"a" and "b"', 'a" and "b'),
        ('a "quoted" end"', 'a "quoted" end"'),
        ('""""""', ""),
        ('"""a""b"""', 'a""b'),
        ('"line\n', None),
        ('"""line"', None),
        ('"', None),
        ('"""', None),
        ('""""', None),
        ("\\n", "\\n"),
        ("a\u00a0b\u200dc", "a\u00a0b\u200dc"),
    ],
)
@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n# end\n"])
def test_values(written: str, value: str | None, end: str) -> None:
    text = f"FROM a\nSYSTEM {written}{end}"
    if value is None:
        with pytest.raises(ModelfileError, match=r"Modelfile:2: .*closing quote"):
            parse(text)
    else:
        assert commands(text)[1] == ("system", None, value)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("FROM a\n\nFRM b", 3, "command must be one of"),
        ("FROM a\nSYSTEM", 2, "has no value"),
        ("FROM a\nSYSTEM\nx", 2, "has no value"),
        ("FROM\n", 1, "has no value"),
        ("FROM a\r\nPARAMETER temperature\r\n", 2, "'temperature' is not a parameter"),
        ("FROM a\nPARAMETER", 2, "has no value"),
        ("FROM a\nPARAMETER top-k 1", 2, "'top-k 1' is not a parameter"),
        ("FROM a\nMESSAGE bot hi", 2, "message role must be one of"),
        ("FROM a\nMESSAGE User hi", 2, "message role must be one of"),
        ("FROM a\nMESSAGE user", 2, "is not a message"),
        ("FROM a\nSYSTEM one\n1SYSTEM two", 3, "not an instruction"),
        ('FROM a\nSYSTEM "open\n\n', 2, "no closing quote"),
        ("FROM a\nJSON SYSTEM hello", 2, "no JSON string"),
        ("FROM a\nJSON SYSTEM 5", 2, "no JSON string"),
    ],
)
def test_errors_name_the_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(ModelfileError) as caught:
        parse(text, path=Path("M"))
    assert caught.value.message.startswith(f"M:{line}: ")
    assert reason in caught.value.message


@pytest.mark.parametrize("text", ["", "# only a comment", "SYSTEM hi\n"])
def test_a_modelfile_needs_a_from(text: str) -> None:
    with pytest.raises(ModelfileError, match="no FROM line"):
        parse(text)


def test_what_no_quoting_can_carry_is_written_as_json() -> None:
    modelfile = Modelfile(
        (Command("from", "a"), Command("system", 'a"""\nb'), Command("system", "\x1b[0m"))
    )
    assert render(modelfile) == 'FROM a\nJSON SYSTEM "a\\"\\"\\"\\nb"\nJSON SYSTEM "\\u001b[0m"\n'


def test_comments_and_empty_lines_stay() -> None:
    text = "# top\nFROM a\n\n# about\n#\n\nSYSTEM hi\n"
    assert render(parse(text)) == text
    assert (
        render(parse("\n\n# top\n\n\n\n  from   a  \nsystem  'x'\r\n"))
        == "# top\n\nFROM a\nSYSTEM 'x'\n"
    )


def test_a_quoted_unset_stays_quoted() -> None:
    text = 'FROM a\nPARAMETER stop "unset"\nPARAMETER top_k unset\n'
    assert render(parse(text)) == text


def test_byte_order_marks_say_the_encoding() -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert commands(decode("FROM é".encode(encoding))) == [("from", None, "é")]
    with pytest.raises(ModelfileError, match="not UTF-8"):
        decode(b"FROM \xff\xff")


def test_a_long_quoted_value_takes_linear_time() -> None:
    text = 'FROM a\nLICENSE """' + 'line "\n' * 200_000 + '"""'
    assert len(parse(text).commands[1].value) == 200_000 * 7
