"""Which version of a key made a signature, a MAC or a bare ciphertext: none of them says so itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from strongroom.errors import StrongroomError

if TYPE_CHECKING:
    from strongroom.calls.crypto.results import Decrypted
    from strongroom.calls.crypto.signatures import Verification
    from strongroom.client import Client

_VERSIONS = "/versions/"
# How the service begins to say that one version may not be used, and not the key as a whole.
_OF_ONE_VERSION = re.compile(r"version ([0-9]+) of key (\S+)")
# Each is a call, with an event of its own.
_MOST = 100
# A version that may not be used, and one that is not there, say nothing of the others.
_PASSED_OVER = frozenset({"KEY_DISABLED", "KEY_STATE_INVALID", "KEY_VERSION_NOT_FOUND"})

Result = TypeVar("Result")


def verified_with(
    client: Client, key: str, check: Callable[[str], Verification]
) -> tuple[Verification, tuple[str, ...]]:
    """The first check that finds it valid, with the key's primary version and then with each other one, newest first;
    or the check with the primary version, and the versions that were not tried. A version that was named is the only
    one. Raises what the primary version is refused with, where no other one finds it valid.
    """
    first = _of_primary(check, key)
    if not isinstance(first, StrongroomError) and (first.valid or _VERSIONS in key):
        return first, ()

    def attempt(version: str) -> Verification | None:
        found = check(version)
        return found if found.valid else None

    primary = _refused_version(first) if isinstance(first, StrongroomError) else first.key_version
    found, untried = _first_of(_others(client, key, primary), attempt)
    if found is not None:
        return found, ()
    if isinstance(first, StrongroomError):
        raise first
    return first, untried


def decrypted_with(
    client: Client, key: str, decrypt: Callable[[str], Decrypted]
) -> tuple[Decrypted | StrongroomError, tuple[str, ...]]:
    """What the key's primary version decrypts, or else another one, newest first; or the primary one's error, and the
    versions that were not tried. A version that was named is the only one.
    """
    first: StrongroomError
    try:
        answer = _of_primary(decrypt, key)
    except StrongroomError as error:
        if error.reason != "CIPHERTEXT_INVALID" or _VERSIONS in key:
            raise
        first = error
    else:
        if not isinstance(answer, StrongroomError):
            return answer, ()
        first = answer

    def attempt(version: str) -> Decrypted | None:
        try:
            return decrypt(version)
        except StrongroomError as error:
            if error.reason != "CIPHERTEXT_INVALID":
                raise
            return None

    primary = _refused_version(first) or _primary(client, key)
    found, untried = _first_of(_others(client, key, primary), attempt)
    return found or first, untried


def _refused_version(error: StrongroomError) -> str:
    """The full name of the version that an error is about, or nothing where it is about none."""
    found = _OF_ONE_VERSION.match(error.message)
    return f"{found[2]}{_VERSIONS}{found[1]}" if found else ""


def _of_primary(attempt: Callable[[str], Result], key: str) -> Result | StrongroomError:
    """What the key's primary version answers, or what that version alone is refused with: others may be enabled."""
    try:
        return attempt(key)
    except StrongroomError as error:
        if _VERSIONS in key or error.reason not in _PASSED_OVER or not _refused_version(error):
            raise
        return error


@dataclass(frozen=True, slots=True)
class _Others:
    """A key's versions but the primary one: those to try, more to try until one is not there, and those of which there
    are too many.
    """

    known: Sequence[str] = ()
    further: Sequence[str] = ()
    beyond: tuple[str, ...] = ()


def _first_of(others: _Others, attempt: Callable[[str], Result | None]) -> tuple[Result | None, tuple[str, ...]]:
    """The first result, or None with the versions that were not tried."""
    untried: list[str] = []
    for version in (*others.known, *others.further):
        try:
            found = attempt(version)
        except StrongroomError as error:
            if error.reason not in _PASSED_OVER:
                raise
            if error.reason != "KEY_VERSION_NOT_FOUND":
                untried.append(version)
            elif version in others.further:
                break
            continue
        if found is not None:
            return found, ()
    return None, (*untried, *others.beyond)


def _others(client: Client, key: str, primary: str) -> _Others:
    try:
        listed = [version.name for version in client.keys.versions.list(key, limit=_MOST)]
    except StrongroomError as error:
        if error.code_name != "PERMISSION_DENIED":
            raise
        return _unlisted(primary)
    oldest = int(listed[-1].rpartition("/")[2]) if len(listed) == _MOST else 1
    known = [name for name in listed if name != primary]
    return _Others(known, beyond=_older(listed[-1], oldest - 1) if oldest > 1 else ())


def _unlisted(primary: str) -> _Others:
    """Whoever may use a key need not be allowed to list its versions: their numbers have no gaps."""
    name, _, number = primary.rpartition("/")
    if not name:
        return _Others(beyond=("any but the primary one: you may not list them",))
    here = int(number)
    least = max(here - _MOST, 1)
    known = [f"{name}/{older}" for older in range(here - 1, least - 1, -1)]
    further = [f"{name}/{newer}" for newer in range(here + 1, here + 1 + _MOST)]
    return _Others(known, further, _older(primary, least - 1) if least > 1 else ())


def _older(version: str, last: int) -> tuple[str, ...]:
    name = version.rpartition("/")[0]
    return (f"{name}/1" + (f" to {last}" if last > 1 else ""),)


def _primary(client: Client, key: str) -> str:
    """The key's primary version, or nothing where its public key may not be asked for."""
    try:
        return client.asymmetric.get_public_key(key).key_version
    except StrongroomError as error:
        if error.code_name != "PERMISSION_DENIED":
            raise
        return ""
