"""What every command has in common: options, the client it calls with, its confirmation and its output."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer
from typer.models import ArgumentInfo

from strongroom.cli import forms
from strongroom.cli.complaints import complain, refused
from strongroom.cli.completion import completed
from strongroom.cli.confirmation import Destruction, Yes
from strongroom.cli.parser import Command
from strongroom.cli.plain import plain
from strongroom.cli.request_fields import Typed
from strongroom.cli.terminal import visible, write_beside, write_line
from strongroom.errors import StrongroomError
from strongroom.profiles import Profile, find

if TYPE_CHECKING:
    from pathlib import Path

    from strongroom.cli.tables import Facts, Look
    from strongroom.client import Client

__all__ = [
    "COMMON_OPTIONS",
    "WRITTEN",
    "Report",
    "Session",
    "command",
    "complain",
    "facts_report",
    "fields_of",
    "quiet_core",
]

_APPLICATION = "strongroom-cli"

_COMMON: Mapping[str, Any] = {
    "output": Annotated[
        forms.Form,
        typer.Option(
            "--output",
            "-o",
            metavar="FORM",
            help="How to print the answer: table, json, yaml or name (names alone, a line each).",
        ),
    ],
    "as_json": Annotated[bool, typer.Option("--json", help="The same as -o json: JSON, and errors in JSON too.")],
    "wide": Annotated[bool, typer.Option("--wide", help="Show all columns whole, however narrow the terminal is.")],
    "profile": Annotated[str, typer.Option(metavar="PROFILE", help="The profile to use, in place of the current one.")],
    "as_role": Annotated[str, typer.Option(metavar="ROLE", help="Assume a role for this command.")],
    "trace": Annotated[bool, typer.Option("--trace", help="Print the trace id on standard error.")],
}
_COMMON_DEFAULTS: Mapping[str, Any] = {
    "output": "table",
    "as_json": False,
    "wide": False,
    "profile": "",
    "as_role": "",
    "trace": False,
}
COMMON_OPTIONS = frozenset(_COMMON)
"""Options of every command, by their parameters' names."""
WRITTEN = "written"
"""Stands beside an option whose file a command writes: that it can be is seen before anything is done."""


@dataclass(frozen=True)
class Report:
    """What a command has to say.

    `data` is printed as JSON, YAML or names where that is asked for; otherwise `raw` is written to standard output as
    it is, or else what `show` makes is printed. `note` goes to standard error, for people alone.
    """

    data: Mapping[str, Any]
    show: Callable[[], Any] | None = None
    raw: bytes | None = field(default=None, repr=False)
    note: str = ""
    exit_code: int = 0
    silent: bool = False
    """Everything was printed already, as it came."""
    whole: bool = False
    """What it says is told nowhere else: names alone would lose it."""


def fields_of(value: object) -> dict[str, Any]:
    """A dataclass's fields, or a copy of a mapping."""
    if isinstance(value, Mapping):
        return dict(value)
    assert dataclasses.is_dataclass(value)  # noqa: S101  # nothing else is answered
    return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}


def facts_report(answer: object, *, note: str = "", exit_code: int = 0) -> Report:
    """One thing's fields, of a mapping or a dataclass: for people a line each, without those that are empty."""
    document = fields_of(answer)
    shown = {name.replace("_", " "): value for name, value in document.items()}

    def show() -> Facts:
        from strongroom.cli.tables import Facts

        return Facts(shown)

    return Report(document, show, note=note, exit_code=exit_code)


class Session:
    """One run of one command."""

    def __init__(
        self,
        command: str,
        profile: str,
        *,
        role: str = "",
        as_json: bool = False,
        form: str = "table",
        wide: bool = False,
    ) -> None:
        self.form = "json" if as_json else form
        self.as_json = self.form == "json"
        self.wide = wide
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

    @property
    def quiet(self) -> bool:
        """Whether nothing may move on standard error: it is no terminal, or a program reads the answer."""
        return self.form != "table" or not sys.stderr.isatty()

    @cached_property
    def profile(self) -> Profile:
        """The profile of this run. Raises PROFILE_NOT_FOUND or PROFILE_INVALID."""
        return find(self._profile)

    @cached_property
    def client(self) -> Client:
        """The profile's client; all of the command's calls are one trace."""
        profile = self.profile
        quiet_core()
        from strongroom.client import Client

        client = self._open.enter_context(Client.from_profile(profile, role=self._role, application=_APPLICATION))
        self.trace_id = self._open.enter_context(client.trace(self._command)).trace_id
        return client

    def say(self, data: object, text: str) -> None:
        """Prints one of many answers as it comes: a line of JSON, a YAML document, a name, or the text."""
        document = plain(data)
        if self.form == "json":
            write_line(json.dumps(document))
        elif self.form == "table":
            write_line(text)
        else:
            sys.stdout.write(("---\n" if self.form == "yaml" else "") + forms.document_text(document, self.form))
            sys.stdout.flush()


def quiet_core() -> None:
    """To be called before anything is connected to: what gRPC's core would print of a failed handshake comes back in
    the error."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def command(
    app: typer.Typer, name: str, *examples: str, destroys: Destruction | Sequence[Destruction] = ()
) -> Callable[[Callable[..., Report]], Callable[..., Report]]:
    """Adds a function as a command of `app`: its parameters after the session are the options, and those of every
    command join them. `examples` are whole command lines for its help. What `destroys` is asked about first, unless
    `--yes` is given. Where `app` says which commands are `wanted`, the others are passed over.
    """
    asked_about = (destroys,) if isinstance(destroys, Destruction) else tuple(destroys)

    def register(function: Callable[..., Report]) -> Callable[..., Report]:
        if name not in getattr(app, "wanted", (name,)):
            return function
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        if asked_about:
            own.append(inspect.Parameter("yes", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Yes))
        own += [
            inspect.Parameter(
                option, inspect.Parameter.KEYWORD_ONLY, default=_COMMON_DEFAULTS[option], annotation=annotation
            )
            for option, annotation in _COMMON.items()
        ]
        parameters = [parameter.replace(annotation=completed(parameter.annotation)) for parameter in own]
        written = [parameter.name for parameter in own if WRITTEN in parameter.annotation.__metadata__]
        title = " ".join(part for part in ("strongroom", app.info.name, name) if isinstance(part, str))

        def run(
            output: str, as_json: bool, wide: bool, profile: str, as_role: str, trace: bool, **options: Any
        ) -> None:
            _require_text(options)
            yes = options.pop("yes", False)
            for destruction in asked_about:
                destruction.confirm(options, yes=yes)
            session = Session(title, profile, role=as_role, as_json=as_json, form=output, wide=wide)
            try:
                _require_writable([options[name] for name in written if options[name] is not None], options)
                exit_code = _run(session, function, options, trace)
            except StrongroomError as error:
                words = " ".join(title.split()[1:])
                given = {**options, "as_role": as_role}
                exit_code = refused(error, Typed(_flags(parameters), given, words, COMMON_OPTIONS))
            if exit_code:
                raise typer.Exit(exit_code)

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        run.__doc__ = function.__doc__
        app.command(name, cls=Command, epilog="\n".join(examples) or None)(run)
        return function

    return register


def _flags(parameters: Sequence[inspect.Parameter]) -> dict[str, str]:
    """How each parameter is written on the command line, by its name: `--out`, or `KEY` for an argument."""
    written = {}
    for parameter in parameters:
        info = parameter.annotation.__metadata__[0]
        # typer takes the first for a default, until it makes the option.
        names = (info.default, *(getattr(info, "param_decls", None) or ()))
        long = [name for name in names if isinstance(name, str) and name.startswith("--")]
        is_argument = parameter.kind is not inspect.Parameter.KEYWORD_ONLY and isinstance(info, ArgumentInfo)
        default = info.metavar or parameter.name.upper() if is_argument else f"--{parameter.name.replace('_', '-')}"
        written[parameter.name] = long[0] if long else default
    return written


def _require_text(options: Mapping[str, object]) -> None:
    """A usage error where something that was typed is no UTF-8; a path may be anything."""
    for name, value in options.items():
        for text in value if isinstance(value, list) else (value,):
            if isinstance(text, str) and any("\ud800" <= one <= "\udfff" for one in text):
                raise typer.BadParameter(f"{visible(text)} is not UTF-8", param_hint=f"--{name.replace('_', '-')}")


def _require_writable(paths: Sequence[Path], options: Mapping[str, Any]) -> None:
    if paths:
        from strongroom.cli.inputs import require_writable

        require_writable(paths, force=options.get("force", False))


def _run(session: Session, function: Callable[..., Report], options: Mapping[str, Any], trace: bool) -> int:
    try:
        with session:
            report = function(session, **options)
        _print(report, session, options)
    finally:
        if trace and session.trace_id and not session.as_json:
            write_beside(f"trace {session.trace_id}")
    return report.exit_code


def _print(report: Report, session: Session, options: Mapping[str, Any]) -> None:
    if report.silent:
        return
    if session.form != "table":
        document = {**plain(report.data), **({"trace_id": session.trace_id} if session.trace_id else {})}
        form = "json" if report.whole and session.form == "name" else session.form
        sys.stdout.write(forms.document_text(document, form))
        return
    if report.raw is not None:
        sys.stdout.buffer.write(report.raw)
        sys.stdout.flush()
    elif report.show is not None:
        from strongroom.cli.tables import Look, Table

        shown = report.show()
        if isinstance(shown, Table) and not shown.rows:
            write_beside(_nothing(report, options))
        else:
            _print_shown(shown, Look.of_output(wide=session.wide))
    if report.note:
        write_beside(report.note)


def _print_shown(shown: Any, look: Look) -> None:
    from strongroom.cli.tables import Shown

    parts = shown if isinstance(shown, list | tuple) else (shown,)
    for part in parts:
        if isinstance(part, str):
            sys.stdout.write(visible(part, lines=True) + "\n")
        elif isinstance(part, Shown):
            sys.stdout.writelines(f"{line}\n" for line in part.lines(look))
        else:
            from strongroom.cli.show import console

            console().print(part, soft_wrap=True)


def _nothing(report: Report, options: Mapping[str, Any]) -> str:
    """That there is nothing, of what, and under which conditions."""
    what = next(
        (name for name, value in report.data.items() if isinstance(value, list | tuple) and not value), "answers"
    )
    given = [
        f"{name.replace('_', '-')} {', '.join(value) if isinstance(value, list) else value}"
        for name, value in options.items()
        if isinstance(value, str | list) and value
    ]
    return f"no {what.replace('_', ' ')}" + (f" with {'; '.join(given)}" if given else "")
