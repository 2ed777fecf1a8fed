"""Values of options as Python has them, with errors in words; typer's own way would load pydantic for each command."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer


class Plain:
    """How one parameter's words become its value. `annotation` is a plain type, a choice of texts, or a list."""

    def __init__(self, annotation: Any, least: float | None, most: float | None) -> None:
        self._one = get_args(annotation)[0] if get_origin(annotation) is list else annotation
        self._least, self._most = least, most

    @staticmethod
    def knows(annotation: Any) -> bool:
        """Whether values of this annotation are made here."""
        one = get_args(annotation)[0] if get_origin(annotation) is list else annotation
        return one in _MADE or get_origin(one) is Literal

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value; a usage error where the words do not stand for one."""
        several = getattr(param, "multiple", False) or param.nargs == -1
        if value is None:
            return () if several else None
        try:
            return tuple(map(self.made, value)) if several else self.made(value)
        except ValueError as error:
            raise typer.BadParameter(str(error), ctx=ctx, param=param) from None

    def made(self, word: Any) -> Any:
        """The value of one word. Raises ValueError."""
        if get_origin(self._one) is Literal:
            allowed = get_args(self._one)
            if word not in allowed:
                raise ValueError(f"'{word}' is none of {', '.join(allowed)}")
            return word
        made = _MADE[self._one](word)
        if isinstance(made, int | float) and not isinstance(made, bool):
            low, high = self._least is not None and made < self._least, self._most is not None and made > self._most
            if low or high:
                raise ValueError(f"{word} is not {_range(self._least, self._most)}")
        return made


def _range(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f"between {least:,.0f} and {most:,.0f}"
    return f"{least:,.0f} or more" if least is not None else f"{most:,.0f} or less"


def _whole(word: Any) -> int:
    try:
        # Python takes 1_000 and the digits of every script.
        return int(word if isinstance(word, int) or (word.isascii() and "_" not in word) else "")
    except ValueError:
        raise ValueError(f"'{word}' is not a whole number") from None


def _number(word: Any) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"'{word}' is not a number")
    return number


def _path(word: Any) -> Path:
    # Path takes nothing for the current directory.
    if word == "":
        raise ValueError("is empty: is a variable not set?")
    return Path(word)


def _yes_or_no(word: Any) -> bool:
    if isinstance(word, bool):
        return word
    raise ValueError(f"'{word}' is neither yes nor no")


_MADE: Mapping[Any, Callable[[Any], Any]] = {
    str: str,
    Path: _path,
    int: _whole,
    float: _number,
    bool: _yes_or_no,
}
