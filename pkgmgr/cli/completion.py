"""What may come next on a command line, for the shells' completion; and the shells' side of it.

The shells ask ``pannier __complete -- WORD...``, the last word being the unfinished one, and get
one candidate per line. A name has a colon, at which bash breaks words: its script deals with that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# What an argument is called that takes the name of a model in the store.
_MODEL_ARGUMENTS = frozenset({"NAME", "NAME...", "MODEL", "SOURCE"})

_BASH = r"""
_pannier() {
    local line=${COMP_LINE:0:COMP_POINT} words current
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current=${words[-1]}
    mapfile -t COMPREPLY < <(pannier __complete -- "${words[@]:1}" 2>/dev/null)
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        local i head=${current%"${current##*:}"}
        for i in "${!COMPREPLY[@]}"; do COMPREPLY[i]=${COMPREPLY[i]#"$head"}; done
    fi
}
complete -o default -F _pannier pannier
"""
_ZSH = r"""
#compdef pannier
_pannier() {
    local -a candidates
    candidates=("${(@f)$(pannier __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    candidates=(${candidates:#})
    if (( $#candidates )); then compadd -- "${candidates[@]}"; else _files; fi
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _pannier "$@"
else
    compdef _pannier pannier
fi
"""
_FISH = r"""
complete --command pannier --arguments \
    '(pannier __complete -- (commandline --tokenize --cut-at-cursor --current-process)[2..] \
        (commandline --cut-at-cursor --current-token) 2>/dev/null)'
"""
SCRIPTS: Mapping[str, str] = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def candidates(group: Any, ctx: Any, words: list[str], names: Iterable[str]) -> list[str]:
    """Everything that the last word may become.

    Args:
        group: the group of all commands.
        ctx: a context of that group.
        words: what was typed after the program's name; the last one is unfinished.
        names: of the models in the store; looked at only where a model is wanted.
    """
    *before, current = words or [""]
    command, rest = _command(group, ctx, before)
    found: Iterable[str]
    if command is None:
        found = ()
    elif hasattr(command, "list_commands") and not current.startswith("-"):
        found = _commands(command, ctx)
    elif current.startswith("-") and "--" not in rest:
        found = _options(command)
    elif _wants_model(command, rest):
        found = names
    else:
        found = ()
    return sorted(item for item in found if item.startswith(current))


def _command(group: Any, ctx: Any, words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words name, None where there is none, and the words behind it."""
    command, rest = group, words
    for index, word in enumerate(words):
        if not hasattr(command, "get_command"):
            break
        if not word.startswith("-"):
            command, rest = command.get_command(ctx, word), words[index + 1 :]
    return command, rest


def _commands(group: Any, ctx: Any) -> Iterator[str]:
    for name in group.list_commands(ctx):
        if not group.get_command(ctx, name).hidden:
            yield name


def _options(command: Any) -> Iterator[str]:
    for param in command.params:
        yield from (name for name in param.opts if name.startswith("--"))
    yield "--help"


def _wants_model(command: Any, words: list[str]) -> bool:
    """Whether the next positional word is the name of a model."""
    with_value = {
        name
        for param in command.params
        for name in param.opts
        if name.startswith("-") and not param.is_flag
    }
    if words and words[-1] in with_value:
        return False
    given = sum(
        1
        for index, word in enumerate(words)
        if not word.startswith("-") and (index == 0 or words[index - 1] not in with_value)
    )
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    for argument in arguments:
        if given == 0 or argument.nargs == -1:
            return argument.metavar in _MODEL_ARGUMENTS
        given -= 1
    return False
