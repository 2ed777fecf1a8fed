"""What rights of MySQL and MariaDB are for: everything, databases by pattern, or one object.

The name of a database in a right is a pattern as LIKE takes it: `%` is anything, `_` one character, and either is
itself after a backslash. Of the patterns that match, the server asks the closest alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

EVERYTHING = "*.*"
# Quoted for a statement with values, in which `%` is doubled.
_DATABASE = re.compile(r"(?:[A-Z]+ )*`((?:[^`]|``)*)`\.(\*)?")
_ANY, _ONE = ("%", True), ("_", True)

Token = tuple[str, bool]
"""A character, and whether it stands for others."""


@dataclass(frozen=True)
class Scopes:
    """The rights of one user or role."""

    privileges: frozenset[tuple[str, str]]
    """Privilege and object."""
    literal: bool = field(kw_only=True)
    """Whether names of databases are no patterns (MySQL's `partial_revokes`)."""

    def has(self, privilege: str, where: str) -> bool:
        """Whether there is a right on an object, or on what it is in."""
        return any((privilege, scope) in self.privileges for scope in (EVERYTHING, where, self._database(where)))

    def _database(self, where: str) -> str:
        """The closest of the databases' scopes that an object is in; empty where there is none."""
        if where not in self._closest:
            self._closest[where] = next(self._around(where), "")
        return self._closest[where]

    def _around(self, where: str) -> Iterator[str]:
        found = _DATABASE.match(where)
        if found is None:
            return
        name = _tokens(_unquoted(found[1]), literal=self.literal or not found[2])
        for pattern, scope in self._databases:
            if _covers(pattern, name):
                yield scope

    @cached_property
    def _closest(self) -> dict[str, str]:
        return {}

    @cached_property
    def _databases(self) -> list[tuple[Sequence[Token], str]]:
        """The closest first: that is the one whose first sign for others comes last."""
        found = [(one, scope) for scope in {where for _, where in self.privileges} if (one := _DATABASE.match(scope))]
        patterns = [(_tokens(_unquoted(one[1]), literal=self.literal), scope) for one, scope in found if one[2]]
        return sorted(patterns, key=lambda one: (-_first_sign(one[0]), one[1]))


def _unquoted(name: str) -> str:
    return name.replace("``", "`").replace("%%", "%")


def _tokens(name: str, *, literal: bool) -> list[Token]:
    if literal:
        return [(character, False) for character in name]
    signs = re.findall(r"\\[%_\\]|.", name, re.DOTALL)
    return [(sign[-1], len(sign) == 1 and sign in "%_") for sign in signs]


def _first_sign(pattern: Sequence[Token]) -> float:
    return next((number for number, (_, stands) in enumerate(pattern) if stands), float("inf"))


def _covers(pattern: Sequence[Token], name: Sequence[Token]) -> bool:
    """Whether a pattern matches all that a name, which may be a pattern too, does."""
    ends = {0}
    """How much of the name what was looked at of the pattern can have matched."""
    for token in pattern:
        if token == _ANY:
            ends = set(range(min(ends), len(name) + 1))
        else:
            ends = {end + 1 for end in ends if end < len(name) and _is_one(token, name[end])}
        if not ends:
            return False
    return len(name) in ends


def _is_one(token: Token, of_name: Token) -> bool:
    return of_name != _ANY if token == _ONE else token == of_name
