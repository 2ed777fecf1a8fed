"""The quick way into a command: its words are read here, by its declaration, and typer is not loaded.

Whatever is out of the ordinary is left to typer, which has loaded nothing and done nothing by then: help, completion,
words that are wrong, and what is written in a way that is seldom. So typer alone says what is wrong with a command
line, and both read the others alike (`tests/unit/client/test_cli_quick.py`).
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from types import ModuleType, NoneType, SimpleNamespace
from typing import Any, get_args, get_origin

from strongroom.cli import declared
from strongroom.cli.entries import HOMES
from strongroom.cli.together import complaint

_STANDS_FOR = ("typer", "typer.core", "typer.models", "typer.main")
# What explains commands has to know them all.
_TYPERS_OWN = frozenset({"help"})
_COMPLETES = "_STRONGROOM_COMPLETE"
_KEPT = frozenset(f"strongroom.cli{name}" for name in ("", ".startup", ".quick", ".declared", ".entries", ".together"))


class NotOrdinaryError(Exception):
    """The words are left to typer."""


def run(words: Sequence[str]) -> int | None:
    """Runs the command that is typed and answers what the process exits with; None where typer has to see to it."""
    if (
        not words
        or words[0] not in HOMES
        or words[0] in _TYPERS_OWN
        or _COMPLETES in os.environ
        or {"-h", "--help"} & {*words}
    ):
        return None
    declared.Typer.typed = [word for word in words if not word.startswith("-")]
    put_in_place()
    try:
        path, command, rest = _found(words)
        values = read(inspect.signature(command).parameters.values(), rest, path.removeprefix("strongroom "))
    except NotOrdinaryError:
        _take_away()
        return None
    from strongroom.cli.main import guarded

    def work() -> None:
        try:
            command(**values)
        except declared.TyperException as error:
            error.ctx = error.ctx or SimpleNamespace(command_path=path)
            raise

    return guarded(work, words)


def read(parameters: Sequence[inspect.Parameter] | Any, words: Sequence[str], command: str) -> dict[str, Any]:
    """The values of a command's parameters. Raises NotOrdinaryError, also for options that do not go together."""
    options: dict[str, tuple[_Read, bool]] = {}
    arguments: list[_Read] = []
    every = [_Read(parameter) for parameter in parameters]
    for one in every:
        if one.is_argument:
            arguments.append(one)
        options.update({name: (one, yes) for name, yes in one.names()})
    plain = _options_taken(options, words)
    _shared_out(arguments, plain)
    values = {one.name: one.value() for one in every}
    typed = {one.name: values[one.name] for one in every if one.words}
    if complaint(command, typed, {one.name: one.said("metavar") or one.name.upper() for one in every}) is not None:
        raise NotOrdinaryError
    return values


def real_typer() -> ModuleType:
    """The typer that was put aside."""
    for name in _STANDS_FOR:
        if sys.modules.get(name) is declared:
            del sys.modules[name]
    return import_module("typer")


class _Read:
    """One parameter, and the words that were typed for it."""

    def __init__(self, parameter: inspect.Parameter) -> None:
        self.name, self.default = parameter.name, parameter.default
        annotation, self.info = get_args(parameter.annotation)[:2]
        kinds = [one for one in get_args(annotation) if one is not NoneType]
        is_optional = NoneType in get_args(annotation)
        self.kind = kinds[0] if is_optional and len(kinds) == 1 else annotation
        self.is_argument = type(self.info).__name__ == "ArgumentInfo"
        self.is_list = get_origin(self.kind) is list
        self.is_flag = self.kind is bool
        self.words: list[Any] = []

    def said(self, name: str) -> Any:
        """What its declaration says."""
        return self.info.said.get(name) if isinstance(self.info, declared.Declared) else getattr(self.info, name)

    def names(self) -> Iterator[tuple[str, bool]]:
        """How an option is written, and whether a flag is set by it."""
        if self.is_argument:
            return
        first = [self.info.default] if isinstance(self.info.default, str) else []
        given = [*first, *(self.info.param_decls or ())]
        long = f"--{self.name.replace('_', '-')}"
        if not given and self.is_flag:
            given = [f"{long}/--no-{long[2:]}"]
        for declaration in given or [long]:
            yes, _, no = declaration.partition("/")
            yield yes.strip(), True
            if no:
                yield no.strip(), False

    def value(self) -> Any:
        """What stands for what was typed, or the default. Raises NotOrdinaryError."""
        if not self.words and self.default is inspect.Parameter.empty:
            raise NotOrdinaryError
        value = self._made()
        callback = self.said("callback")
        if callback is None:
            return value
        try:
            value = callback(() if value is None and self.is_list else value)
        except Exception as error:
            raise NotOrdinaryError from error
        return None if self.is_list and not value and self.default is None else value

    def _made(self) -> Any:
        if not self.words:
            return self.default
        if self.is_flag:
            return self.words[-1]
        from strongroom.cli.values import Plain

        if not Plain.knows(self.kind):
            raise NotOrdinaryError
        maker = Plain(self.kind, self.said("min"), self.said("max"))
        try:
            made = [maker.made(word) for word in self.words]
        except ValueError as error:
            raise NotOrdinaryError from error
        return made if self.is_list else made[-1]


def _options_taken(options: Mapping[str, tuple[_Read, bool]], words: Sequence[str]) -> list[str]:
    """Gives options their words, and answers the others."""
    plain: list[str] = []
    left = iter(words)
    for word in left:
        if word == "--":
            return [*plain, *left]
        if not word.startswith("-") or word == "-":
            plain.append(word)
            continue
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if name not in options:
            raise NotOrdinaryError
        option, yes = options[name]
        if option.is_flag:
            if equals:
                raise NotOrdinaryError
            option.words.append(yes)
            continue
        if not equals:
            value = next(left, "--")
            if value.startswith("-") and value != "-":
                raise NotOrdinaryError
        option.words.append(value)
    return plain


def _shared_out(arguments: Sequence[_Read], words: Sequence[str]) -> None:
    """Gives arguments their words: one each, and a list what the others leave."""
    spare = len(words) - sum(not one.is_list for one in arguments)
    at = 0
    for one in arguments:
        count = max(spare, 0) if one.is_list else 1
        one.words += words[at : at + count]
        at += count
    if at < len(words):
        raise NotOrdinaryError


def _found(words: Sequence[str]) -> tuple[str, Any, Sequence[str]]:
    """The command that is typed, with its words, and what follows them."""
    found: Any = declared.Typer()
    import_module(f"strongroom.cli.{HOMES[words[0]]}").add_to(found)
    for place, word in enumerate(words, 1):
        if word in found.commands:
            return " ".join(("strongroom", *words[:place])), found.commands[word], words[place:]
        if word not in found.groups:
            break
        found = found.groups[word]
    raise NotOrdinaryError


def put_in_place() -> None:
    """Has modules that import typer get what stands for it."""
    for name in _STANDS_FOR:
        sys.modules[name] = declared


def _take_away() -> None:
    """Forgets every module that was loaded with what stands for typer."""
    real_typer()
    for name in [name for name in sys.modules if name.startswith("strongroom.cli.") and name not in _KEPT]:
        module = sys.modules.pop(name)
        parent, _, last = name.rpartition(".")
        if getattr(sys.modules[parent], last, None) is module:
            delattr(sys.modules[parent], last)
