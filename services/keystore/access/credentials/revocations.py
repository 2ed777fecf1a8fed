"""Sessions that their own holders end before their time, one by one."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from services.keystore.access.credentials.new_sessions import require_session
from services.keystore.access.editing import kinds
from services.keystore.access.editing.editing import AccessEditor
from services.keystore.access.records.resources import Principal
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError

MAX_ENDED = 256
"""So many sessions of one principal may have been revoked one by one that would last still."""

# The services' clocks differ a little from keystore's: none takes a session that is forgotten here.
_KEPT_US = 60_000_000


class Revocations:
    """Ends sessions. What is kept of one is with its principal, which every service reads, until it would have ended
    anyway."""

    def __init__(self, editor: AccessEditor) -> None:
        self._editor = editor

    def revoke_own(self, call: Call) -> None:
        """Ends the session that a call comes by, and those that were begun from it. Raises UNAUTHENTICATED where it
        comes by none, LIMIT_EXCEEDED, and as every call of somebody without standing."""
        caller = call.principal
        call.record(call.action, caller.name, caller.account)
        self._editor.require_standing(call)
        require_session(caller)

        def change(_connection: Connection, present: Principal) -> Principal:
            lasting = {
                session: ends_us
                for session, ends_us in present.ended_sessions.items()
                if ends_us + _KEPT_US > self._editor.now_us()
            }
            lasting[caller.session_ids[0]] = round(caller.expires * 1e6)
            if len(lasting) > MAX_ENDED:
                raise StrongroomError(
                    Reason.LIMIT_EXCEEDED,
                    f"{MAX_ENDED} sessions of {caller.name} were revoked one by one that would last still: revoke all"
                    " of them (RevokeSessions), or let this one end",
                    limit=str(MAX_ENDED),
                )
            return replace(present, ended_sessions=lasting)

        # Those that are kept are few: an account that has no room for anything else lets its callers go, too.
        self._editor.edit(call, kinds.PRINCIPAL, caller.name, change, removes=True)
