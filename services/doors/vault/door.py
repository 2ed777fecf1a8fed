"""The door itself: from a request to the mount that answers it, for the caller whose token it carries."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Protocol

from services.doors.listening.exchange import Head, HttpError, Response
from services.doors.vault import errors
from services.doors.vault.auth import Auth
from services.doors.vault.callers import Callers, token_of
from services.doors.vault.requests import Request, operation_of
from services.doors.vault.system import System
from services.runtime.errors import StrongroomError
from services.runtime.telemetry import TRACEPARENT, Telemetry

log = logging.getLogger(__name__)

_SERVICE = "strongroom.doors.Vault"
_WRAP = "x-vault-wrap-ttl"


class Engine(Protocol):
    """What answers below a mount."""

    def answer(self, request: Request) -> Response:
        """The answer. Raises HttpError, StrongroomError."""


class VaultDoor:
    """Answers Vault's HTTP API from the mesh. It decides nothing itself: each call that it makes is its caller's."""

    def __init__(
        self, callers: Callers, system: System, auth: Auth, mounts: Mapping[str, Engine], telemetry: Telemetry
    ) -> None:
        self._callers = callers
        self._system = system
        self._auth = auth
        self._mounts = mounts
        self._engines: Mapping[str, Engine] = {**mounts, "sys": system, "auth": auth}
        self._telemetry = telemetry

    def caller_of(self, head: Head) -> str:
        """The token that a request carries, or the address that it is from."""
        return token_of(head) or head.address

    def admit(self, head: Head) -> None:
        """Raises HttpError for a large body of somebody whom the mesh does not know."""
        try:
            self._callers.of(head)
        except StrongroomError as error:
            raise errors.of_the_mesh(error) from None

    def refusal(self, error: HttpError) -> Response:
        """How Vault tells of an error."""
        return errors.refusal(error)

    def answer(self, head: Head, body: bytes) -> Response:
        """The answer to a request; never raises."""
        started = time.perf_counter()
        name = head.path[1] if len(head.path) > 1 and head.path[1] in self._mounts else "other"
        trace = self._telemetry.start_call(_SERVICE, name, head.headers.get(TRACEPARENT, ""))
        outcome = "OK"
        try:
            return self._answer(head, body)
        except HttpError as error:
            outcome = f"HTTP_{error.status}"
            return errors.refusal(error)
        except StrongroomError as error:
            outcome = error.reason
            return errors.refusal(errors.of_the_mesh(error.without_frames()))
        except Exception:
            # The outermost edge: nothing may escape undescribed.
            outcome = "INTERNAL"
            log.exception("a request failed unexpectedly and is answered 500")
            return errors.refusal(HttpError(500, f"internal error; the trace {trace.trace_id} identifies it"))
        finally:
            self._telemetry.end_call(trace, _SERVICE, name, outcome, started)

    def _answer(self, head: Head, body: bytes) -> Response:
        if head.path[0] != "v1" or len(head.path) < 2:
            raise errors.not_found()
        if _WRAP in head.headers:
            # Nobody who asked for a wrapped answer is given it in the clear.
            raise errors.unsupported("response wrapping")
        mount, rest = head.path[1], head.path[2:]
        if mount == "sys":
            open_answer = self._system.open(head, rest)
            if open_answer is not None:
                return open_answer
        elif mount == "auth" and rest[1:2] == ("login",):
            return self._auth.login(head, rest, body)
        operation = operation_of(head)
        engine = self._engines.get(mount)
        if not self._callers.has_token(head):
            raise HttpError(403, errors.PERMISSION_DENIED)
        caller = self._callers.of(head)
        if engine is None:
            raise HttpError(404, f'no handler for route "{"/".join(head.path[1:])}". route entry not found.')
        return engine.answer(Request(caller, operation, rest, head, body))
