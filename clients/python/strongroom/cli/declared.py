"""What modules of commands ask of typer to declare them, without typer: most of a command's start is loading that.

`strongroom.cli.quick` puts this in its place for one command whose words need no help, completion or complaint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any


class TyperException(Exception):  # noqa: N818  # typer's name
    """An error in how a command was typed."""

    ctx: Any = None

    def __init__(self, message: str = "", ctx: Any = None, param: Any = None, param_hint: str | None = None) -> None:
        del param
        super().__init__(message)
        self._message, self._hint = message, param_hint
        self.ctx = ctx

    def format_message(self) -> str:
        """The message, with the option that is at fault."""
        return f"{self._hint}: {self._message}" if self._hint else self._message


class BadParameter(TyperException):
    """A value that an option does not take."""


class Exit(Exception):  # noqa: N818  # typer's name
    """The end of a command, with a status."""

    def __init__(self, code: int = 0) -> None:
        super().__init__()
        self.exit_code = code


class Abort(Exception):  # noqa: N818  # typer's name
    """The end of a command that somebody answered with no."""


class Declared:
    """An option or an argument, as it is declared."""

    def __init__(self, *declarations: str, **said: Any) -> None:
        self.declarations = declarations
        self.said = said
        # What `strongroom.cli.command` tells options by in errors.
        self.default, self.param_decls = None, list(declarations)
        self.metavar = said.get("metavar")


class OptionInfo(Declared):
    """An option."""


class ArgumentInfo(Declared):
    """An argument."""


class Typer:
    """A group of commands: each by its name, of those whose names were typed."""

    typed: Sequence[str] = ()

    def __init__(self, name: str = "", **said: Any) -> None:
        del said
        self.info = SimpleNamespace(name=name)
        self.wanted = self.typed
        self.commands: dict[str, Callable[..., Any]] = {}
        self.groups: dict[str, Typer] = {}

    def command(self, name: str, **said: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Adds a function as a command."""
        del said

        def add(function: Callable[..., Any]) -> Callable[..., Any]:
            self.commands[name] = function
            return function

        return add

    def add_typer(self, group: Typer) -> None:
        """Adds a group."""
        self.groups[group.info.name] = group


class Context:
    """What completion is asked with."""


Option, Argument = OptionInfo, ArgumentInfo
TyperCommand = TyperGroup = object


def _asked(name: str, *arguments: Any, **options: Any) -> Any:
    """What typer itself does, where a person is asked something."""
    from strongroom.cli import quick

    typer: Any = quick.real_typer()
    try:
        return getattr(typer, name)(*arguments, **options)
    except typer.Abort:
        raise Abort from None
    finally:
        quick.put_in_place()


def confirm(*arguments: Any, **options: Any) -> Any:
    """Asks for yes or no."""
    return _asked("confirm", *arguments, **options)


def prompt(*arguments: Any, **options: Any) -> Any:
    """Asks for a value."""
    return _asked("prompt", *arguments, **options)


def echo(*arguments: Any, **options: Any) -> None:
    """Prints a line."""
    _asked("echo", *arguments, **options)
