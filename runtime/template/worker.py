"""The child process that renders Jinja: `python -m pannier.runtime.template.worker`.

It reads requests from standard input and writes replies to standard output, each a JSON text with
its length before it as four bytes. Memory is limited for the process, processor time for each
rendering; a template that overruns takes this process with it and nothing else.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
from datetime import datetime
from typing import Any

from ..errors import TemplateError
from .jinja import JinjaTemplate

LENGTH = struct.Struct("<I")
MAX_MEMORY = 512 << 20  # bytes of address space; an idle worker has about 40 MiB
MAX_CPU_S = 2
MAX_TEMPLATES = 32


def main() -> int:
    """Answer requests until the parent closes its end."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    templates: dict[str, JinjaTemplate] = {}
    while (request := _receive()) is not None:
        data = json.dumps(_answer(request, templates)).encode()
        _write_all(LENGTH.pack(len(data)) + data)
    return 0


def _answer(request: dict[str, Any], templates: dict[str, JinjaTemplate]) -> dict[str, Any]:
    """A reply: `text`, or `error` with `line`, or `unknown` for a template never seen."""
    _allow_cpu_time()
    key, source = request["key"], request.get("source")
    try:
        if key not in templates:
            if source is None:
                return {"unknown": True}
            if len(templates) >= MAX_TEMPLATES:
                templates.clear()
            templates[key] = JinjaTemplate(source)
        if "names" not in request:
            return {"text": ""}
        now = datetime.fromisoformat(request["now"])
        names = {**request["names"], "strftime_now": now.strftime}
        return {"text": templates[key].render(names)}
    except TemplateError as error:
        return {"error": error.reason, "line": error.line}
    except MemoryError:
        return {"error": "needs too much memory"}


def _allow_cpu_time() -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(usage.ru_utime + usage.ru_stime) + 1 + MAX_CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))


def _receive() -> dict[str, Any] | None:
    head = _read_exactly(LENGTH.size)
    if not head:
        return None
    data = _read_exactly(LENGTH.unpack(head)[0])
    request = json.loads(data) if data else None
    return request if isinstance(request, dict) else None


def _read_exactly(count: int) -> bytes:
    """So many bytes, none at the end of the input."""
    data = b""
    while len(data) < count:
        part = os.read(0, count - len(data))
        if not part:
            return b""
        data += part
    return data


def _write_all(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


if __name__ == "__main__":
    sys.exit(main())
