"""Brings a conversation into the form that Ollama's templates are written for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..messages import Message


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


def mark_images(messages: Sequence[Message]) -> tuple[list[Message], tuple[bytes, ...]]:
    """Messages with `[img-N]` where each image belongs, and the images by number.

    An image takes the place of the next `[img]` in its message, else it goes to the front.
    """
    images: list[bytes] = []
    marked: list[Message] = []
    for message in messages:
        front, content = "", message.content
        for image in message.images:
            mark = f"[img-{len(images)}]"
            if "[img]" in content:
                content = content.replace("[img]", mark, 1)
            else:
                front += mark
            images.append(image)
        marked.append(replace(message, content=front + content) if message.images else message)
    return marked, tuple(images)
