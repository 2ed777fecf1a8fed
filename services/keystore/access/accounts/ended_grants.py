"""The end of the grants to principals that were deleted. They permit nothing any more, and are ended some at a time:
they can be hundreds of thousands, and nobody can change anything of an account while some end."""

from __future__ import annotations

import time
from collections.abc import Iterator

from services.keystore.access.editing.editing import AccessEditor
from services.keystore.access.policies import grants
from services.keystore.access.records import principal_store
from services.keystore.access.records.resources import account_of
from services.runtime.background import Background
from services.runtime.errors import StrongroomError

_EVERY_SECONDS = 600.0
_FIRST_SECONDS = 30.0
_MOST_SECONDS = 5.0
_ROUND_SECONDS = 40.0


def end_of(editor: AccessEditor, principal: str) -> None:
    """Ends the grants to a principal that was deleted, as many as can be within some seconds."""
    deadline, some = time.monotonic() + _MOST_SECONDS, True
    while some and time.monotonic() < deadline:
        with editor.changing(account_of(principal)) as connection:
            some = grants.revoke_of(connection, principal)


class EndedGrants:
    """Ends what is left of them: whoever deleted the principal may have had no database, or no time, for all."""

    def __init__(self, editor: AccessEditor) -> None:
        self._editor = editor
        self._after = ""
        self._ending = Background(
            "ended-grants",
            self.end_left,
            "grants to principals that were deleted could not be ended",
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
        for principal in self._left():
            try:
                end_of(self._editor, principal)
            except StrongroomError as error:
                kept = error
        if kept is not None:
            raise kept

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
