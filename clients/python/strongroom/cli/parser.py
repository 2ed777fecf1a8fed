"""Commands and groups as the parser knows them: help that is never cut off, with examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from typer import BadParameter, TyperException
from typer.core import TyperCommand, TyperGroup

from strongroom.cli.together import complaint
from strongroom.cli.values import Plain

_COMMON = frozenset({"output", "as_json", "wide", "profile", "as_role", "trace", "help"})

OLD_NAMES = ("--rotation-days", "--expire-days", "--archive-days", "--shred-days", "--days")
"""Options of before that take numbers of days; their spans have other names now, and these still work."""

# What other command lines call it.
_MEANT = {
    "add": ("create",),
    "delete": ("schedule-deletion", "destroy", "revoke"),
    "get": ("describe", "list"),
    "info": ("describe", "status"),
    "ls": ("list",),
    "new": ("create",),
    "put": ("update", "set"),
    "remove": ("delete", "schedule-deletion"),
    "rm": ("delete", "schedule-deletion"),
    "set": ("update", "put"),
    "show": ("describe",),
}


def read_plainly(parameters: Iterable[Any]) -> None:
    """Has the values of parameters made by `Plain`, in place of typer's own way, where it knows their type."""
    for parameter in parameters:
        descriptor = getattr(parameter, "type_descriptor", None)
        if descriptor is not None and Plain.knows(descriptor.annotation):
            info = descriptor.parameter_info
            parameter._runtime_param = Plain(descriptor.annotation, info.min, info.max)  # noqa: SLF001


def written(argument: Any) -> str:
    """An argument as usage and help show it: `KEY`, `[KEY]`, `FILE...`, `[FILE...]`."""
    word = (argument.metavar or argument.name.upper()) + ("..." if argument.nargs == -1 else "")
    return word if argument.required else f"[{word}]"


def record_of(parameter: Any, ctx: Any) -> tuple[str, str] | None:
    """A parameter as help shows it, without names of before; None where it is not shown."""
    record = parameter.get_help_record(ctx)
    if record is None:
        return None
    if parameter.param_type_name == "argument":
        return written(parameter), record[1]
    names = record[0]
    for old in OLD_NAMES:
        names = names.replace(f", {old} ", " ")
    return names, record[1]


def _usage_pieces(command: Any, ctx: Any) -> list[str]:
    arguments = [one for one in command.get_params(ctx) if one.param_type_name == "argument"]
    return [command.options_metavar or "", *map(written, arguments)]


def _telling_whose(parse: Callable[[], Any], ctx: Any) -> Any:
    """Parses, and gives an error that names no command this one: its help says more."""
    try:
        return parse()
    except TyperException as error:
        _teach_no_old_name(error, ctx)
        if getattr(error, "ctx", ctx) is None:
            error.ctx = ctx  # type: ignore[attr-defined]
        raise


def _teach_no_old_name(error: Any, ctx: Any) -> None:
    """Has an error about an option that there is not name those of now alone."""
    near = getattr(error, "possibilities", None)
    if getattr(error, "option_name", "") in ("--yes", "-y"):
        error.message, error.possibilities = f"`{ctx.command_path}` asks nothing, and takes no --yes", None
    elif near:
        now = {
            name: one.opts[0] for one in ctx.command.params if not getattr(one, "hidden", False) for name in one.opts
        }
        error.possibilities = sorted({now[name] for name in near if name in now})


def _require_together(ctx: Any, parameters: Iterable[Any]) -> None:
    known = {one.name: one for one in parameters}
    typed = {
        name: ctx.params[name]
        for name in known
        if name in ctx.params and getattr(ctx.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }
    metavars = {name: one.metavar or name.upper() for name, one in known.items()}
    wrong = complaint(ctx.command_path.removeprefix("strongroom "), typed, metavars)
    if wrong is not None:
        name, told = wrong
        is_argument = known[name].param_type_name == "argument"
        raise BadParameter(told, ctx=ctx, param_hint=metavars[name] if is_argument else _long(known[name].opts))


def _long(names: Sequence[str]) -> str:
    return next((name for name in names if name.startswith("--")), names[0])


class Command(TyperCommand):
    """A command whose help ends with examples, one a line of its `epilog`."""

    def get_params(self, ctx: Any) -> Any:
        """Every parameter, the option of the help included."""
        found = super().get_params(ctx)
        read_plainly(found)
        return found

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Reads what was typed. A usage error where what was typed does not go together."""

        def parsed() -> Any:
            left = super(Command, self).parse_args(ctx, args)
            if not ctx.resilient_parsing:
                _require_together(ctx, self.params)
            return left

        return _telling_whose(parsed, ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What the line of usage shows behind the command."""
        return _usage_pieces(self, ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, the command's own options, and then those of every command."""
        arguments: list[tuple[str, str]] = []
        own: list[tuple[str, str]] = []
        common: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = record_of(parameter, ctx)
            if record is None:
                continue
            if parameter.param_type_name == "argument":
                arguments.append(record)
            else:
                (common if parameter.name in _COMMON else own).append(record)
        for title, records in (
            ("Arguments", arguments),
            ("Options", own),
            ("Options of every command", common),
        ):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records, col_max=34)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The examples, to be copied as they stand."""
        del ctx
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.splitlines():
                    formatter.write(f"{' ' * formatter.current_indent}{line}\n")

    @property
    def examples(self) -> list[str]:
        """Whole command lines, `strongroom` first."""
        return (self.epilog or "").splitlines()


class Group(TyperGroup):
    """A command of commands."""

    def get_params(self, ctx: Any) -> Any:
        """Every parameter, the option of the help included."""
        found = super().get_params(ctx)
        read_plainly(found)
        return found

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is meant; a usage error that names the likeliest where there is none."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            from difflib import get_close_matches

            known = self.list_commands(ctx)
            meant = [name for name in _MEANT.get(args[0], ()) if name in known]
            near = meant or get_close_matches(args[0], known, 3)
            path = ctx.command_path
            hint = f"did you mean {' or '.join(f'`{path} {name}`' for name in near)}?" if near else f"`{path} --help`"
            ctx.fail(f"there is no `{path} {args[0]}`: {hint}")
        return super().resolve_command(ctx, args)
