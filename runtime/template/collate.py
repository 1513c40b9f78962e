"""Brings a conversation into the form that Ollama's templates are written for. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..errors import UnsupportedRequest
from ..messages import Message
from ..request import Segment


def collate(messages: Sequence[Message]) -> tuple[str, list[Message]]:
    """All system texts in one, and the messages with neighbours of one role joined.

    Tool results stay apart. Both joints are a blank line. System messages stay among the others.
    """
    system = "\n\n".join(message.content for message in messages if message.role == "system")
    joined: list[Message] = []
    for message in messages:
        if joined and joined[-1].role == message.role != "tool":
            content = f"{joined[-1].content}\n\n{message.content}"
            joined[-1] = replace(joined[-1], content=content)
        else:
            joined.append(message)
    return system, joined


def shown_mark(number: int) -> str:
    """How the place of an image is written where people see it.

    >>> shown_mark(0)
    '[img-0]'
    """
    return f"[img-{number}]"


def mark_images(
    messages: Sequence[Message], mark_of: Callable[[int], str] = shown_mark
) -> tuple[list[Message], tuple[bytes, ...]]:
    """Messages with a mark where each image belongs, and the images by number.

    An image takes the place of the next `[img]` in its message, else it goes to the front.
    """
    images: list[bytes] = []
    marked: list[Message] = []
    for message in messages:
        front, content = "", message.content
        for image in message.images:
            mark = mark_of(len(images))
            if "[img]" in content:
                content = content.replace("[img]", mark, 1)
            else:
                front += mark
            images.append(image)
        marked.append(replace(message, content=front + content) if message.images else message)
    return marked, tuple(images)


def placed_images(prompt: str, count: int) -> tuple[Segment, ...]:
    """A prompt whose writer placed `count` images by their marks, in pieces.

    Raises:
        UnsupportedRequest: an image has no mark.
    """
    pieces: list[Segment] = []
    for part in re.split(r"(\[img-\d{1,3}\])", prompt) if count else [prompt]:
        found = re.fullmatch(r"\[img-(\d{1,3})\]", part)
        number = int(found[1]) if found else count
        if part:
            pieces.append(Segment(part, image=number if number < count else None))
    missing = set(range(count)) - {piece.image for piece in pieces}
    if missing:
        mark = shown_mark(min(missing))
        raise UnsupportedRequest(f"a raw prompt has to say where its images are: {mark} is missing")
    return tuple(pieces)
