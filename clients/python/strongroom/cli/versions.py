"""Which version of a key made a signature or a MAC: neither of them says so itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from strongroom.errors import StrongroomError

if TYPE_CHECKING:
    from strongroom.calls.crypto.signatures import Verification
    from strongroom.client import Client

_VERSIONS = "/versions/"
# Each is a call, with an event of its own.
_MOST = 100
# A version that may not be used, and one that is not there, say nothing of the others.
_PASSED_OVER = frozenset({"KEY_DISABLED", "KEY_STATE_INVALID", "KEY_VERSION_NOT_FOUND"})


def verified_with(
    client: Client, key: str, check: Callable[[str], Verification]
) -> tuple[Verification, tuple[str, ...]]:
    """The first check that finds it valid, with the key's primary version and then with each other one, newest first;
    or the check with the primary version, and the versions that could not be tried. A version that was named is the
    only one.
    """
    first = check(key)
    if first.valid or _VERSIONS in key:
        return first, ()
    passed_over = []
    for version in _others(client, key, first.key_version):
        try:
            found = check(version)
        except StrongroomError as error:
            if error.reason not in _PASSED_OVER:
                raise
            if error.reason != "KEY_VERSION_NOT_FOUND":
                passed_over.append(version)
            continue
        if found.valid:
            return found, ()
    return first, tuple(passed_over)


def _others(client: Client, key: str, primary: str) -> Iterator[str]:
    try:
        names = [version.name for version in client.keys.versions.list(key, limit=_MOST)]
    except StrongroomError as error:
        if error.code_name != "PERMISSION_DENIED":
            raise
        # Whoever may verify need not be allowed to list: older ones have smaller numbers.
        name, _, number = primary.rpartition("/")
        names = [f"{name}/{older}" for older in range(int(number) - 1, max(int(number) - 1 - _MOST, 0), -1)]
    return (name for name in names if name != primary)
