"""The state of a conversation, and the request bodies that it stands for. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Session:
    """One conversation with one model, as `/set` and the flags of `run` shape it.

    Attributes:
        system: replaces the model's own system prompt; None leaves it.
        options: Ollama's option names and their values; only what the user set.
        format: `json` or a JSON schema.
        think: None leaves it to the model.
        keep_alive: a duration as the API reads it, None for the server's default.
    """

    model: str
    system: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    format: str | dict[str, Any] | None = None
    think: bool | str | None = None
    keep_alive: str | None = None
    messages: list[dict[str, Any]] = field(default_factory=list)
    verbose: bool = False
    hide_thinking: bool = False
    word_wrap: bool = True

    def chat_body(self) -> dict[str, Any]:
        """The body of POST /api/chat for the conversation as it stands."""
        system = [{"role": "system", "content": self.system}] if self.system is not None else []
        return self._body() | {"messages": system + self.messages}

    def generate_body(self, prompt: str, images: list[str]) -> dict[str, Any]:
        """The body of POST /api/generate for one prompt. `images` are base64."""
        body = self._body() | {"prompt": prompt}
        if images:
            body["images"] = images
        if self.system is not None:
            body["system"] = self.system
        return body

    def load_body(self) -> dict[str, Any]:
        """The body of POST /api/generate that loads the model and asks nothing."""
        return self._body() | {"stream": False}

    def save_body(self, name: str) -> dict[str, Any]:
        """The body of POST /api/create that makes a model of this conversation."""
        body: dict[str, Any] = {"model": name, "from": self.model, "stream": False}
        if self.system is not None:
            body["system"] = self.system
        if self.options:
            body["parameters"] = self.options
        if self.messages:
            body["messages"] = [
                {"role": item["role"], "content": item["content"]} for item in self.messages
            ]
        return body

    def ask(self, content: str, images: list[str]) -> None:
        """Add what the user says."""
        message: dict[str, Any] = {"role": "user", "content": content}
        if images:
            message["images"] = images
        self.messages.append(message)

    def settle(self, answer: str, thinking: str) -> None:
        """Add what the model said; a question without any answer is taken back."""
        if not answer and not thinking:
            self.messages.pop()
            return
        message = {"role": "assistant", "content": answer}
        if thinking:
            message["thinking"] = thinking
        self.messages.append(message)

    def switch(self, model: str) -> None:
        """Go on with another model, and forget what was said."""
        self.model = model
        self.messages.clear()

    def _body(self) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.model, "stream": True}
        if self.options:
            body["options"] = dict(self.options)
        for name in ("format", "think", "keep_alive"):
            value = getattr(self, name)
            if value is not None:
                body[name] = value
        return body
