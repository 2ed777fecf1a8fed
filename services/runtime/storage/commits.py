"""A COMMIT whose answer is lost may have happened: what stands is found out by a row that the transaction added."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Insert
from sqlalchemy.exc import DBAPIError

from services.runtime.errors import Reason, StrongroomError

log = logging.getLogger(__name__)

# SQLSTATE classes after which a COMMIT may have happened, besides a connection that is lost: connection exception,
# operator intervention.
_MAY_STAND = ("08", "57P")
_FIND_OUT_SECONDS, _AGAIN_SECONDS = 3.0, 0.1
# For so long nobody removes the row: less than what the relay of an outbox waits.
_KEPT_SECONDS = 4.5


@dataclass(frozen=True, slots=True)
class Witness:
    """A row that a transaction added, and the monotonic time of it."""

    row: Insert
    added: float


def may_stand(error: DBAPIError) -> bool:
    """Whether a COMMIT that failed so may have happened. SQLite always says."""
    state = getattr(error.orig, "sqlstate", None)
    return error.connection_invalidated or str(state or "").startswith(_MAY_STAND)


def require_stands(witnesses: Sequence[Witness], has: Callable[[Insert], bool], undone: StrongroomError) -> None:
    """Returns if the transaction of these witnesses stands; raises `undone` if it does not, and CHANGE_UNDECIDED if
    that cannot be found out for some seconds. `has` says whether a row is there once the transaction that added it has
    ended, wherever that is; a transaction without witnesses is one that may be repeated."""
    if not witnesses:
        raise undone
    witness, deadline = witnesses[0], time.monotonic() + _FIND_OUT_SECONDS
    while time.monotonic() < deadline:
        try:
            stands = has(witness.row)
        except StrongroomError:
            time.sleep(_AGAIN_SECONDS)
            continue
        if stands:
            log.warning("a COMMIT was not answered; it was found to stand")
            return
        if time.monotonic() - witness.added < _KEPT_SECONDS:
            raise undone
        break
    raise StrongroomError(
        Reason.CHANGE_UNDECIDED,
        "the database did not answer the last step of the change, so that it may stand or not: where it had a"
        " request_id, the same request with the same one finds out; otherwise look at the resource",
        peer="database",
    )
