"""The options by which `strongroom audit` chooses events."""

from __future__ import annotations

from typing import Annotated

import typer

Since = Annotated[
    str, typer.Option("--since", metavar="TIME", help="A time (2026-11-24T02:25Z), or an age such as 15m, 2h, 7d.")
]
Until = Annotated[str, typer.Option("--until", metavar="TIME", help="As --since; events before it.")]
Action = Annotated[str, typer.Option("--action", help="Such as crypto:Encrypt.")]
Principal = Annotated[str, typer.Option("--principal", help="Who called, by full name.")]
Resource = Annotated[str, typer.Option("--resource", help="By full name.")]
Outcome = Annotated[str, typer.Option("--outcome", help="ALLOWED, DENIED or FAILED.")]
TraceId = Annotated[str, typer.Option("--trace-id", metavar="ID", help="One trace's events.")]
Version = Annotated[str, typer.Option("--version", help="A key's or secret's version, by full name.")]
Text = Annotated[str, typer.Option("--text", help="Occurs anywhere in an event's text; slower.")]
