"""A real server: engine, SmolLM2 and HTTP, for clients that nobody here wrote."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pannier.api.app import create_app
from pannier.api.server import Server
from pannier.api.service import Service
from pannier.pkgmgr.modelfile.build import create
from pannier.pkgmgr.modelfile.syntax import parse
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.settings import Settings
from pannier.pkgmgr.store.store import Store
from pannier.runtime.supervisor import Supervisor

from .http import running
from .models import smollm2
from .tinyvision import tiny_projector

# SmolLM2's own template knows no tools; this one writes and reads calls as Hermes models do.
TOOLS_TEMPLATE = """{{ if .Tools }}<|im_start|>system
You may call these functions: {{ .Tools }}
Write a call as <tool_call>{"name": …, "arguments": …}</tool_call><|im_end|>
{{ end }}{{ range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}{{ range .ToolCalls }}<tool_call>
{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
</tool_call>{{ end }}<|im_end|>
{{ end }}<|im_start|>assistant
"""


@dataclass(frozen=True)
class Live:
    """A running server with its models, and the parts it is made of.

    `smollm2`, `smollm2-tools` which calls tools, and `smollm2-eyes` which looks at images (and sees
    noise: its projector has random weights).
    """

    server: Server
    service: Service
    runtime: Supervisor

    @property
    def url(self) -> str:
        return self.server.url


@contextmanager
def live_server(home: Path) -> Iterator[Live]:
    """Serve SmolLM2 from a fresh store while the block runs."""
    store = Store.open(home)
    settings = Settings.load({"PANNIER_HOME": str(home)})
    plain = f"FROM {smollm2()}\nPARAMETER num_ctx 2048\nPARAMETER temperature 0\n"
    tools = f'{plain}TEMPLATE """{TOOLS_TEMPLATE}"""\n'
    # Answers to noise end seldom.
    sight = f"FROM {tiny_projector(home / 'mmproj.gguf', 576)}\nPARAMETER num_predict 16\n"
    eyes = plain + sight
    for name, text in (("smollm2-tools", tools), ("smollm2-eyes", eyes), ("smollm2", plain)):
        create(store, parse(text), Reference.parse(name), base_dir=home)
    with Supervisor() as runtime:
        service = Service(store, settings, runtime)
        with running(create_app(service)) as server:
            yield Live(server, service, runtime)
