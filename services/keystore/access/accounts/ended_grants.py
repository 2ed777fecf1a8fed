"""The end of the grants to principals that were deleted, and of those that have expired. They permit nothing any more,
and are ended some at a time: they can be hundreds of thousands, and nobody can change anything of an account while some
end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain

from sqlalchemy import Connection

from services.keystore.access.editing.editing import AccessEditor
from services.keystore.access.policies import grants
from services.keystore.access.records import grant_store, principal_store
from services.keystore.access.records.resources import account_of
from services.runtime.background import Background
from services.runtime.errors import StrongroomError

_EVERY_SECONDS = 600.0
_FIRST_SECONDS = 30.0
_MOST_SECONDS = 5.0
_ROUND_SECONDS = 40.0


def end_of(editor: AccessEditor, principal: str) -> None:
    """Ends the grants to a principal that was deleted, as many as can be within some seconds."""
    _end_some(editor, account_of(principal), lambda connection: grants.revoke_of(connection, principal))


def _end_some(editor: AccessEditor, account: str, end: Callable[[Connection], bool]) -> None:
    """Does `end`, which answers whether there may be more, again and again for some seconds."""
    deadline, some = time.monotonic() + _MOST_SECONDS, True
    while some and time.monotonic() < deadline:
        with editor.changing(account) as connection:
            some = end(connection)


class EndedGrants:
    """Ends what is left of them: whoever deleted a principal may have had no database, or no time, for all; and nobody
    is there when a grant expires."""

    def __init__(self, editor: AccessEditor) -> None:
        self._editor = editor
        self._after = ""
        self._ending = Background(
            "ended-grants",
            self.end_left,
            "grants to principals that were deleted, or that have expired, could not be ended",
            every=_EVERY_SECONDS,
            first=_FIRST_SECONDS,
        )

    def start(self) -> None:
        """Begins."""
        self._ending.start()

    def stop(self) -> None:
        """Ends."""
        self._ending.stop()

    def end_left(self) -> None:
        """One round, for as long as one may take. Raises what kept some of them, and ends the others."""
        kept: StrongroomError | None = None
        for end in chain(self._of_deleted(), self._expired()):
            try:
                end()
            except StrongroomError as error:
                kept = error
        if kept is not None:
            raise kept

    def _of_deleted(self) -> Iterator[Callable[[], None]]:
        return (partial(end_of, self._editor, principal) for principal in self._left())

    def _expired(self) -> Iterator[Callable[[], None]]:
        now_us = self._editor.now_us()
        with self._editor.reading() as connection:
            accounts = grant_store.accounts_with_expired(connection, now_us - grants.FORGET_AFTER_US)
        for account in accounts:
            if self._ending.stopping:
                return
            yield partial(self._forget_expired, account, now_us)

    def _forget_expired(self, account: str, now_us: int) -> None:
        _end_some(self._editor, account, lambda connection: grants.forget_expired(connection, account, now_us))

    def _left(self) -> Iterator[str]:
        """Those behind the one that the last round came to: who has grants that cannot be ended keeps no others."""
        deadline, are_more = time.monotonic() + _ROUND_SECONDS, True
        while are_more:
            with self._editor.reading() as connection:
                principals, following = principal_store.deleted_with_grants(connection, self._after)
            for principal in principals:
                if self._ending.stopping or time.monotonic() > deadline:
                    return
                yield principal
                self._after = principal
            self._after, are_more = following, bool(following)
