"""The options by which `strongroom audit` chooses events."""

from __future__ import annotations

from typing import Annotated

import typer

from strongroom.cli import choices

Since = Annotated[
    str, typer.Option("--since", metavar="TIME", help="A time (2026-11-24T02:25Z), or an age such as 15m, 2h, 7d.")
]
Until = Annotated[str, typer.Option("--until", metavar="TIME", help="As --since; events before it.")]
Action = Annotated[str, choices.an_action("Such as crypto:Encrypt.", "--action")]
Principal = Annotated[
    str, typer.Option("--principal", metavar="PRINCIPAL", help="Who called: users/ann, or a full name.")
]
Resource = Annotated[
    str, typer.Option("--resource", metavar="RESOURCE", help="keys/payments, secrets/db, or a full name.")
]
Outcome = Annotated[str, choices.one_of(choices.OUTCOMES, "How it ended", "OUTCOME")]
TraceId = Annotated[str, typer.Option("--trace-id", metavar="ID", help="One trace's events.")]
Version = Annotated[str, typer.Option("--version", metavar="VERSION", help="keys/payments/versions/2, or of a secret.")]
Text = Annotated[str, typer.Option("--text", metavar="TEXT", help="Occurs anywhere in an event's text; slower.")]
