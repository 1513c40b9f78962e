from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pannier.runtime.stops import TextStream

CHARACTERS = st.sampled_from("ab€ü🐈\n")


def run(pieces: list[bytes], stops: tuple[str, ...] = ()) -> tuple[str, str | None]:
    stream = TextStream(stops)
    text = "".join([*(stream.feed(piece) for piece in pieces), stream.finish()])
    return text, stream.stopped_by


def test_a_character_is_sent_when_it_is_whole() -> None:
    stream = TextStream()
    assert [stream.feed(bytes([byte])) for byte in "🐈".encode()] == ["", "", "", "🐈"]


def test_a_cut_character_ends_as_a_replacement() -> None:
    assert run(["🐈".encode()[:2]]) == ("\ufffd", None)


def test_what_may_become_a_stop_text_is_held_back() -> None:
    stream = TextStream(["</end>"])
    assert stream.feed(b"a</e") == "a"
    assert stream.feed(b"m>b") == "</em>b"


def test_the_earliest_stop_text_wins_then_the_longest() -> None:
    assert run([b"xabcy"], ("bc", "abc", "ab")) == ("x", "abc")


def test_a_stop_text_begins_inside_a_character() -> None:
    data = "x€€y".encode()
    assert run([data[:2], data[2:5], data[5:]], ("€€",)) == ("x", "€€")


def test_nothing_follows_a_stop_text() -> None:
    assert run([b"a", b"STOP", b"more"], ("STOP",)) == ("a", "STOP")


@given(
    st.text(CHARACTERS, max_size=40),
    st.lists(st.text(CHARACTERS, min_size=1, max_size=4), max_size=4),
    st.lists(st.integers(1, 5), min_size=1),
)
def test_text_is_cut_before_the_earliest_stop_text_however_it_arrives(
    text: str, stops: list[str], sizes: list[int]
) -> None:
    data, at = text.encode(), 0
    pieces: list[bytes] = []
    while at < len(data):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[at : at + size])
        at += size
    sent, stopped_by = run(pieces, tuple(stops))
    if stopped_by is None:
        assert sent == text
        assert not any(stop in text for stop in stops)
    else:
        assert text.startswith(sent + stopped_by)
        assert not any(stop in sent for stop in stops)
