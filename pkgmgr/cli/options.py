"""Options that several commands share, spelled once."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse a dialect that cannot express everything.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before removing.")]
PlainHttp = Annotated[
    bool, typer.Option("--plain-http", help="Speak HTTP, not HTTPS, to the registry.")
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Do not check the registry's TLS certificate.")
]
