"""POST /v1/responses: an answer as items, whole or as events. Stateless; nothing is stored."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from flask import Response, jsonify

from pannier.runtime.messages import ToolCall
from pannier.runtime.request import FinishReason

from ..answer import Answer, Piece
from ..errors import failure_of
from ..ollama.convert import logprob_json
from ..service import Service
from ..streaming import Item, client_gone, from_client, marked, sse, ticking
from . import responses_convert as convert
from .convert import call_json
from .responses_schema import ResponsesRequest
from .texts import started


def respond(service: Service, body: ResponsesRequest) -> Response:
    """Answer a request."""
    chat, call = convert.chat_of(body), from_client(convert.call_of(body), vars(body))
    gone = client_gone()
    (answer,) = started(body.model, [partial(service.chat, call, chat, gone=gone)])
    run = _Run(_frame(body))
    if body.stream:
        return marked(sse(run.events(answer), fault=run.fault, close=answer.close), answer)
    try:
        for piece in answer:
            for _ in run.add(piece):
                pass
    finally:
        answer.close()
    return marked(jsonify(run.response), answer)


def _frame(body: ResponsesRequest) -> dict[str, Any]:
    """The response object before anything is known."""
    return {
        "id": _new_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions or None,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata,
        "model": body.model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": body.reasoning.effort if body.reasoning else None, "summary": None},
        "store": False,
        "temperature": body.temperature,
        "text": {"format": _format(body)},
        "tool_choice": body.tool_choice or "auto",
        "tools": body.tools,
        "top_p": body.top_p,
        "truncation": body.truncation,
        "usage": None,
    }


def _format(body: ResponsesRequest) -> dict[str, Any]:
    form = body.text.format
    if form.type != "json_schema":
        return {"type": form.type}
    strict = form.strict is True
    return {"type": form.type, "name": form.name, "schema": form.schema_, "strict": strict}


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"


@dataclass
class _Run:
    """One answer on its way: pieces in, events out, the response object growing beside them."""

    response: dict[str, Any]
    _number: int = 0
    _item: dict[str, Any] | None = None
    _text: list[str] = field(default_factory=list)
    _logprobs: list[dict[str, Any]] = field(default_factory=list)
    _num_shown: int = 0

    def events(self, answer: Answer) -> Iterator[Item]:
        """All events of a stream."""
        began = False
        for piece in ticking(answer):
            if not began:
                began = True
                yield self._event("response.created", response=dict(self.response))
                yield self._event("response.in_progress", response=dict(self.response))
            if piece is None:
                yield None
            else:
                yield from self.add(piece)

    def add(self, piece: Piece) -> Iterator[Item]:
        """The events of one piece."""
        if piece.thinking:
            yield from self._begin("reasoning")
            yield self._delta("response.reasoning_summary_text.delta", piece.thinking)
        if piece.text:
            yield from self._begin("message")
        if not piece.thinking and (self._item is None or self._is_message):
            self._logprobs += [logprob_json(token) for token in piece.logprobs]
        if piece.text:
            yield self._delta("response.output_text.delta", piece.text)
        for call in piece.tool_calls:
            yield from self._end_item()
            yield from self._call(call)
        if piece.finish is not None:
            if not self.response["output"] and self._item is None:
                yield from self._begin("message")
            is_cut = piece.finish is FinishReason.LENGTH
            yield from self._end_item("incomplete" if is_cut else "completed")
            self.response |= convert.ending_of(piece)
            yield self._event(f"response.{self.response['status']}", response=self.response)

    def fault(self, error: BaseException) -> Item:
        """The event of a failure."""
        code = "server_error" if failure_of(error).status >= 500 else "invalid_prompt"
        failed = {"status": "failed", "error": {"code": code, "message": failure_of(error).message}}
        return self._event("response.failed", response=self.response | failed)

    def _event(self, kind: str, /, **fields: Any) -> tuple[str, dict[str, Any]]:
        self._number += 1
        return kind, {"type": kind, "sequence_number": self._number - 1, **fields}

    @property
    def _is_message(self) -> bool:
        return self._item is not None and self._item["type"] == "message"

    @property
    def _place(self) -> dict[str, Any]:
        assert self._item is not None
        return {"item_id": self._item["id"], "output_index": len(self.response["output"])}

    def _delta(self, name: str, text: str) -> Item:
        self._text.append(text)
        if not self._is_message:
            return self._event(name, **self._place, summary_index=0, delta=text)
        new, self._num_shown = self._logprobs[self._num_shown :], len(self._logprobs)
        return self._event(name, **self._place, content_index=0, delta=text, logprobs=new)

    def _begin(self, kind: str) -> Iterator[Item]:
        if self._item is not None and self._item["type"] == kind:
            return
        yield from self._end_item()
        self._text = []
        if kind == "message":
            self._item = {
                "id": _new_id("msg"), "type": "message", "status": "in_progress",
                "role": "assistant", "content": [],
            }  # fmt: skip
        else:
            self._item = {"id": _new_id("rs"), "type": "reasoning", "summary": []}
            self._logprobs = []
        yield self._added()
        if kind == "message":
            part = _output_text("")
            yield self._event(
                "response.content_part.added", **self._place, content_index=0, part=part
            )
        else:
            yield self._event(
                "response.reasoning_summary_part.added",
                **self._place, summary_index=0, part={"type": "summary_text", "text": ""},
            )  # fmt: skip

    def _added(self) -> Item:
        index = len(self.response["output"])
        assert self._item is not None
        return self._event("response.output_item.added", output_index=index, item=dict(self._item))

    def _end_item(self, status: str = "completed") -> Iterator[Item]:
        item = self._item
        if item is None:
            return
        text = "".join(self._text)
        if item["type"] == "message":
            part = _output_text(text) | {"logprobs": self._logprobs}
            yield self._event(
                "response.output_text.done",
                **self._place, content_index=0, text=text, logprobs=self._logprobs,
            )  # fmt: skip
            yield self._event(
                "response.content_part.done", **self._place, content_index=0, part=part
            )
            item |= {"status": status, "content": [part]}
        else:
            summary = {"type": "summary_text", "text": text}
            yield self._event(
                "response.reasoning_summary_text.done", **self._place, summary_index=0, text=text
            )
            yield self._event(
                "response.reasoning_summary_part.done",
                **self._place, summary_index=0, part=summary,
            )  # fmt: skip
            item |= {"summary": [summary]}
        yield from self._finished(item)

    def _finished(self, item: dict[str, Any]) -> Iterator[Item]:
        index = len(self.response["output"])
        yield self._event("response.output_item.done", output_index=index, item=item)
        self.response["output"] = [*self.response["output"], item]
        self._item, self._logprobs, self._num_shown = None, [], 0

    def _call(self, call: ToolCall) -> Iterator[Item]:
        arguments = call_json(call)["function"]["arguments"]
        self._item = {
            "id": _new_id("fc"), "type": "function_call", "status": "in_progress",
            "call_id": call.id, "name": call.name, "arguments": "",
        }  # fmt: skip
        yield self._added()
        name = "response.function_call_arguments"
        yield self._event(f"{name}.delta", **self._place, delta=arguments)
        yield self._event(f"{name}.done", **self._place, name=call.name, arguments=arguments)
        yield from self._finished(self._item | {"status": "completed", "arguments": arguments})


def _output_text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
