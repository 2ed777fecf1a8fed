"""How a version is named, wherever one is: NAME/versions/NUMBER."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from strongroom.names import Names

VERSIONS = "/versions/"
_MOST = 2**31 - 1


def version_in(name: str, option: str) -> tuple[str, int | None]:
    """What a name is of, and the number of the version that it ends in, where it does. A usage error for a number that
    no version has.
    """
    of, separator, number = name.partition(VERSIONS)
    if not separator:
        return name, None
    return of, _number(number, option, least=1)


def number_of(names: Names, secret: str, version: str, option: str) -> int:
    """The number of a version of this secret, 0 where none is named. It is SECRET/versions/NUMBER; a bare number, as it
    was typed before, stands for the same. A usage error for a version of another secret.
    """
    if not version:
        return 0
    if VERSIONS not in version:
        return _number(version, option, least=0)
    of, number = version_in(version, option)
    if names.secret(of) != names.secret(secret):
        raise typer.BadParameter(f"{version} is no version of {secret}", param_hint=option)
    return number or 0


def _number(text: str, option: str, *, least: int) -> int:
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else -1
    if not least <= number <= _MOST:
        raise typer.BadParameter(
            f"'{text}' is the number of no version: a version is NAME{VERSIONS}NUMBER", param_hint=option
        )
    return number
