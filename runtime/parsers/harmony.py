"""The harmony format of gpt-oss: channels for thinking, tool calls and the answer. Pure.

A message is `<|start|>role<|channel|>name to=receiver<|constrain|>json<|message|>body` and an end
mark (OpenAI harmony response format). The prompt ends with `<|start|>assistant`, so that an answer
begins with a channel, or with a body where the channel stands in the prompt too.
"""

from __future__ import annotations

import re

from ..messages import ToolCall
from .calls import Toolbox, make_call, numbered, parse_json
from .output import Output, first_of, overlap

_START, _CHANNEL, _MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
_CONSTRAIN = "<|constrain|>"
_ENDS = ("<|end|>", "<|call|>", "<|return|>")
_RECEIVER = re.compile(r"\bto=(?:functions\.)?([^\s<]+)")
_HEAD_MARKS = (_START, _CHANNEL, _MESSAGE)
# A receiver may stand before the channel; the prompt then ends with the role.
_TO = "to="
_BODY_MARKS = (*_ENDS, _START)
_LONGEST_HEAD = 1024


class HarmonyParser:
    """An `OutputParser`."""

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools
        self._buffer = ""
        self._in_head = True
        self._channel = "final"
        self._receiver = ""
        self._body: list[str] = []
        self._count = 0

    def feed(self, text: str) -> list[Output]:
        """See `OutputParser.feed`."""
        self._buffer += text
        outputs: list[Output] = []
        while self._buffer and (self._read_head() if self._in_head else self._read_body(outputs)):
            pass
        return outputs

    def finish(self) -> list[Output]:
        """See `OutputParser.finish`."""
        outputs: list[Output] = []
        rest, self._buffer = self._buffer, ""
        if not self._in_head:
            self._write(rest, outputs)
            self._end(outputs)
        elif rest.strip() and not rest.lstrip().startswith(_HEAD_MARKS):
            outputs.append(Output(rest))
        return outputs

    def _read_head(self) -> bool:
        """Take what stands before the body; a text without any mark is a body of its own."""
        text = self._buffer.lstrip()
        if not text.startswith((*_HEAD_MARKS, _TO)):
            if any(mark.startswith(text) for mark in (*_HEAD_MARKS, _TO)):
                return False
            self._begin("")
            return True
        place = self._buffer.find(_MESSAGE, 0, _LONGEST_HEAD)
        if place < 0 and len(self._buffer) < _LONGEST_HEAD:
            return False
        self._begin(self._buffer[: max(place, 0)])
        self._buffer = self._buffer[place + len(_MESSAGE) if place >= 0 else 0 :]
        return True

    def _begin(self, head: str) -> None:
        self._in_head = False
        _, mark, channel = head.partition(_CHANNEL)
        receiver = _RECEIVER.search(head.replace(_CONSTRAIN, " ").replace(_CHANNEL, " "))
        self._receiver = receiver[1] if receiver else ""
        name = channel.replace(_CONSTRAIN, " ").split(None, 1)
        self._channel = name[0] if mark and name else "final"

    def _read_body(self, outputs: list[Output]) -> bool:
        found = first_of(self._buffer, _BODY_MARKS)
        if found is None:
            held = overlap(self._buffer, _BODY_MARKS)
            text = self._buffer[: len(self._buffer) - held]
            self._buffer = self._buffer[len(text) :]
            self._write(text, outputs)
            return False
        place, mark = found
        self._write(self._buffer[:place], outputs)
        self._end(outputs)
        self._buffer = self._buffer[place + (0 if mark == _START else len(mark)) :]
        self._in_head = True
        return True

    def _write(self, text: str, outputs: list[Output]) -> None:
        if not text:
            return
        if self._receiver:
            self._body.append(text)
        elif self._channel == "analysis":
            outputs.append(Output(thinking=text))
        else:
            outputs.append(Output(text))

    def _end(self, outputs: list[Output]) -> None:
        """Close the message; one to a tool becomes a call, or text where it is none."""
        name, self._receiver = self._receiver, ""
        body, self._body = "".join(self._body), []
        if not name:
            return
        call: ToolCall | None = None
        if name in self._tools:
            arguments = parse_json(body) if body.strip() else {}
            call = make_call(name, arguments) if isinstance(arguments, dict) else None
        if call is None:
            outputs.append(Output(body))
            return
        outputs.append(Output(tool_calls=numbered([call], self._count)))
        self._count += 1
