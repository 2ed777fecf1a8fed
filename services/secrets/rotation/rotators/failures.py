"""What is told of a failure at a target: texts of our own, and codes that are known.

A target, and whoever answers in its place, may say anything, a credential in any form included. So nothing that it says
goes into an error, an event, an attempt or a log but a code that its protocol defines.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator

from services.runtime.errors import Reason, StrongroomError

OF_THE_MESH = "of_the_mesh"
"""Metadata of a TARGET_UNREACHABLE for which the target was not asked, since the mesh lacks something."""
_HOST_NAME_MISMATCH = frozenset({62, 63, 64})


def failure(reason: Reason, what: str, error: BaseException, code: str = "") -> StrongroomError:
    """What became of an attempt at a target. `code` is one that the rotator knows; no other word of it is told."""
    return StrongroomError(reason, f"{what}: {code or described(error)}")


def is_of_the_mesh(error: StrongroomError) -> bool:
    """Whether a step failed for what the mesh itself lacks just now, which says nothing of the target or of a
    credential."""
    lacks = error.is_unavailable or error.reason is Reason.OVERLOADED
    return lacks and (error.reason is not Reason.TARGET_UNREACHABLE or OF_THE_MESH in error.metadata)


def described(error: BaseException) -> str:
    """An error of this machine or of TLS in our own words; of any other the type alone."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            mismatch = cause.verify_code in _HOST_NAME_MISMATCH
            return "its certificate is for another host" if mismatch else "its certificate is not trusted"
        if isinstance(cause, ssl.SSLError):
            return "no TLS connection was made"
        if isinstance(cause, TimeoutError):
            return "no answer in time"
        if isinstance(cause, socket.gaierror):
            return "the host name is not known"
        if isinstance(cause, OSError) and cause.errno is not None and cause.errno in errno.errorcode:
            return errno.errorcode[cause.errno]
    return type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        cause = waiting.pop(0)
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [getattr(cause, "original_exception", None), cause.__cause__, cause.__context__]
