"""What every command has in common: options, the client it calls with, its output and its errors."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from strongroom.cli.plain import plain
from strongroom.cli.terminal import write_line
from strongroom.errors import StrongroomError
from strongroom.profiles import Profile, find

if TYPE_CHECKING:
    from rich.console import RenderableType

    from strongroom.client import Client

_APPLICATION = "strongroom-cli"

_COMMON: Mapping[str, Any] = {
    "as_json": Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")],
    "profile": Annotated[str, typer.Option(metavar="NAME", help="The profile to use, in place of the current one.")],
    "as_role": Annotated[str, typer.Option(metavar="ROLE", help="Assume a role for this command.")],
    "trace": Annotated[bool, typer.Option("--trace", help="Print the trace id on standard error.")],
}
_COMMON_DEFAULTS: Mapping[str, Any] = {"as_json": False, "profile": "", "as_role": "", "trace": False}


@dataclass(frozen=True)
class Report:
    """What a command has to say.

    `data` is printed as JSON with `--json`; without it, `raw` is written to standard output as it is, or else
    what `show` makes is printed. `note` goes to standard error, for people alone.
    """

    data: Mapping[str, Any]
    show: Callable[[], RenderableType] | None = None
    raw: bytes | None = field(default=None, repr=False)
    note: str = ""
    exit_code: int = 0
    silent: bool = False
    """Everything was printed already, as it came."""


def facts_report(document: Mapping[str, Any], *, note: str = "", exit_code: int = 0) -> Report:
    """One thing's fields: for people a line each, without those that are empty."""

    def show() -> RenderableType:
        from strongroom.cli.show import facts

        return facts({name.replace("_", " "): value for name, value in document.items()})

    return Report(document, show, note=note, exit_code=exit_code)


class Session:
    """One run of one command."""

    def __init__(self, command: str, profile: str, *, role: str = "", as_json: bool) -> None:
        self.as_json = as_json
        self._command = command
        self._profile = profile
        self._role = role
        self._open = ExitStack()
        self.trace_id = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._open.__exit__(kind, error, trace)

    @cached_property
    def profile(self) -> Profile:
        """The profile of this run. Raises PROFILE_NOT_FOUND or PROFILE_INVALID."""
        return find(self._profile)

    @cached_property
    def client(self) -> Client:
        """The profile's client; all of the command's calls are one trace."""
        profile = self.profile
        # What gRPC's core would print of a failed handshake comes back in the error.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        from strongroom.client import Client

        client = self._open.enter_context(Client.from_profile(profile, role=self._role, application=_APPLICATION))
        self.trace_id = self._open.enter_context(client.trace(self._command)).trace_id
        return client


def command(app: typer.Typer, name: str) -> Callable[[Callable[..., Report]], Callable[..., Report]]:
    """Adds a function as a command of `app`: its parameters after the session are the options, and `--json`,
    `--profile`, `--as-role` and `--trace` join them."""

    def register(function: Callable[..., Report]) -> Callable[..., Report]:
        parameters = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        common = [
            inspect.Parameter(
                option, inspect.Parameter.KEYWORD_ONLY, default=_COMMON_DEFAULTS[option], annotation=annotation
            )
            for option, annotation in _COMMON.items()
        ]
        title = " ".join(part for part in ("strongroom", app.info.name, name) if isinstance(part, str))

        def run(as_json: bool, profile: str, as_role: str, trace: bool, **options: Any) -> None:
            exit_code = _run(Session(title, profile, role=as_role, as_json=as_json), function, options, trace)
            if exit_code:
                raise typer.Exit(exit_code)

        run.__signature__ = inspect.Signature([*parameters, *common])  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*parameters, *common)}
        run.__doc__ = function.__doc__
        app.command(name)(run)
        return function

    return register


# What the command line can do about an error of the library.
_HINTS = {"FILE_EXISTS": "; --force replaces it"}


def _run(session: Session, function: Callable[..., Report], options: Mapping[str, Any], trace: bool) -> int:
    try:
        with session:
            report = function(session, **options)
        _print(report, session)
    except StrongroomError as error:
        hint = _HINTS.get(error.reason, "")
        complain(error.message + hint, error.reason, f"event {error.event_id}" if error.event_id else "")
        return 1
    except BrokenPipeError:
        raise
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}" if error.filename else str(error), "IO_ERROR")
        return 1
    finally:
        if trace and session.trace_id:
            sys.stderr.write(f"trace {session.trace_id}\n")
    return report.exit_code


def complain(message: str, *details: str) -> None:
    """Writes the one line that an error gets, on standard error."""
    inside = ", ".join(detail for detail in details if detail)
    write_line(f"error: {message} ({inside})", sys.stderr)


def _print(report: Report, session: Session) -> None:
    if report.silent:
        return
    if session.as_json:
        document = {**plain(report.data), **({"trace_id": session.trace_id} if session.trace_id else {})}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return
    if report.raw is not None:
        sys.stdout.buffer.write(report.raw)
        sys.stdout.flush()
    elif report.show is not None:
        from strongroom.cli.show import console

        console().print(report.show(), soft_wrap=True)
    if report.note:
        write_line(report.note, sys.stderr)
