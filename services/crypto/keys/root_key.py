"""Versions of the root key: the next one, and the end of old ones."""

from __future__ import annotations

from services.crypto.provider import Provider
from services.runtime.errors import Reason, StrongroomError


def rotate(provider: Provider, expected: int) -> int:
    """Makes the version after `expected`, unless that has been done; answers the newest. Raises ROOT_VERSION_CONFLICT
    when the newest version is neither of them."""
    newest = provider.root_versions()[-1].number
    if newest == expected:
        provider.make_root(expected + 1)
        return expected + 1
    if newest != expected + 1:
        raise _conflict(f"the newest root version is {newest}, not {expected}")
    return newest


def retire(provider: Provider, version: int) -> None:
    """Destroys an old version, if it is there. Raises ROOT_VERSION_CONFLICT for the newest."""
    versions = [known.number for known in provider.root_versions()]
    if version >= versions[-1]:
        raise _conflict(f"root version {version} is the newest, or none yet")
    if version in versions:
        provider.destroy_root(version)


def _conflict(message: str) -> StrongroomError:
    return StrongroomError(Reason.ROOT_VERSION_CONFLICT, message)
