"""What cannot be taken back is asked about on a terminal, and needs `--yes` in a script."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from strongroom.cli.terminal import visible

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask: needed where nobody can be asked.")]


@dataclass(frozen=True, slots=True)
class Destruction:
    """What a command ends for good: a sentence in which `{option}` stands for what was given, and whether these options
    ask for it at all.
    """

    what: str
    asked: Callable[[Mapping[str, Any]], bool] = lambda _: True

    def confirm(self, options: Mapping[str, Any], *, yes: bool) -> None:
        """Returns where it is to be done. A usage error where nobody can be asked; ends the command where the answer is
        no.
        """
        if yes or not self.asked(options):
            return
        what = visible(self.what.format(**options))
        if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
            raise typer.BadParameter(f"needed, as nobody can be asked: this {what}", param_hint="--yes")
        sys.stderr.write(f"This {what}.\n")
        if not typer.confirm("Go on?", err=True):
            raise typer.Abort
