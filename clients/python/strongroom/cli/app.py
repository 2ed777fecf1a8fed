"""The commands, put together: each is loaded when it is first asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator, MutableMapping, Sequence
from copy import copy
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.main import get_group

from strongroom.cli.entries import ENTRIES, HOMES
from strongroom.cli.main import guarded
from strongroom.cli.parser import Group
from strongroom.cli.startup import is_whole_process


def sections() -> list[tuple[str, list[str]]]:
    """The headings of the help, with the commands and groups under each."""
    return [(heading, list(entries)) for heading, entries in ENTRIES.items()]


class _Wanted(typer.Typer):
    """An application to which commands of these names alone are added, and every group."""

    def __init__(self, wanted: Sequence[str]) -> None:
        super().__init__(rich_markup_mode=None, add_completion=False)
        self.wanted = wanted


class _Commands(MutableMapping[str, Any]):
    """Every command and group by name, in the order of the help; one is loaded, with what stands beside it in its
    module, when it is asked for.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}
        self.typed: Sequence[str] = ()
        """The words of the one command that will run: of its groups, no other command is made then."""

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            loaded = _Wanted((name,))
            loaded.callback()(_nothing)
            import_module(f"strongroom.cli.{HOMES[name]}").add_to(loaded)
            if self.typed[:1] == [name]:
                loaded.registered_groups = _narrowed(loaded.registered_groups, self.typed)
            self._loaded = {**get_group(loaded).commands, **self._loaded}
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in HOMES or name in self._loaded

    def __iter__(self) -> Iterator[str]:
        return iter({**HOMES, **self._loaded})

    def __len__(self) -> int:
        return len({**HOMES, **self._loaded})


def _narrowed(groups: Sequence[Any], words: Sequence[str]) -> list[Any]:
    """The group that the first word names, with the one command in it that the next words name; all of it where they
    name none, as for its help.
    """
    for info in groups:
        group = info.typer_instance
        if group is None or group.info.name != words[0]:
            continue
        if not words[1:]:
            return [info]
        narrowed = copy(group)
        narrowed.registered_commands = [one for one in group.registered_commands if one.name == words[1]]
        narrowed.registered_groups = _narrowed(group.registered_groups, words[1:])
        if narrowed.registered_commands or narrowed.registered_groups:
            found = copy(info)
            found.typer_instance = narrowed
            return [found]
        return [info]
    return []


class Root(Group):
    """`strongroom` itself."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._every = _Commands()
        self.commands = self._every

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command and group, in the order of the help."""
        del ctx
        return list(self.commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command or group, where there is one of this name."""
        del ctx
        return self.commands.get(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """All commands under their headings, without loading one."""
        del ctx
        for heading, entries in ENTRIES.items():
            with formatter.section(heading):
                formatter.write_dl([(name, entry.about) for name, entry in entries.items()])

    def main(
        self,
        args: Any = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs what was typed; the process ends with its status, unless it is not to stand alone."""
        del windows_expand_args
        arguments = list(sys.argv[1:] if args is None else args)

        name = prog_name or "strongroom"

        self._every.typed = arguments if complete_var is None and is_whole_process() else ()

        def typed() -> object:
            self._main_shell_completion(extra, name, complete_var)
            with self.make_context(name, list(arguments), **extra) as context:
                return self.invoke(context)

        status = guarded(typed, arguments)
        if standalone_mode:
            sys.exit(status)
        return status


def _nothing() -> None:
    """A group has a callback."""


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("strongroom"))
        raise typer.Exit


def _root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Keys, secrets and encryption with Strongroom.

    KEY is a key's id, alias/ALIAS, or a full name such as accounts/main/keys/payments. `strongroom help` lists what
    else is explained: how durations, files and contexts are written, what a command exits with, and more.
    """
    del show_version


app = typer.Typer(
    name="strongroom",
    cls=Root,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(_root)
