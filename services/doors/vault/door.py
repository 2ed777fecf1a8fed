"""The door itself: from a request to the mount that answers it, for the caller whose token it carries."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Protocol

from services.doors.listening.exchange import Head, HttpError, Response
from services.doors.mesh.calls import Mesh
from services.doors.mesh.sessions import Caller
from services.doors.vault import errors
from services.doors.vault.auth import Auth
from services.doors.vault.callers import Callers, token_of
from services.doors.vault.requests import Request, operation_of
from services.doors.vault.system import System
from services.doors.vault.wrapping import Wrapping
from services.runtime.errors import StrongroomError
from services.runtime.telemetry import TRACEPARENT, Telemetry

log = logging.getLogger(__name__)

_SERVICE = "strongroom.doors.Vault"
# Clients of Vault come again by themselves after these.
_REPEATED = frozenset({412, 429, *range(500, 600)})


class Engine(Protocol):
    """What answers below a mount."""

    def answer(self, request: Request) -> Response:
        """The answer. Raises HttpError, StrongroomError."""


class VaultDoor:
    """Answers Vault's HTTP API from the mesh. It decides nothing itself: each call that it makes is its caller's."""

    def __init__(
        self,
        callers: Callers,
        system: System,
        auth: Auth,
        wrapping: Wrapping,
        mounts: Mapping[str, Engine],
        mesh: Mesh,
        telemetry: Telemetry,
    ) -> None:
        self._callers = callers
        self._system = system
        self._auth = auth
        self._wrapping = wrapping
        self._mounts = mounts
        self._engines: Mapping[str, Engine] = {**mounts, "sys": system, "auth": auth}
        self._mesh = mesh
        self._telemetry = telemetry

    def turn_of(self, head: Head) -> tuple[str, str]:
        """The account of the token that a request carries, where it is known, and the token; or the address that it is
        from: made-up tokens are no more turns than none."""
        account = self._callers.known_account(head)
        return (f"accounts/{account}", token_of(head)) if account else (head.address, head.address)

    def admit(self, head: Head) -> None:
        """Raises HttpError for a large body of somebody whom the mesh does not know."""
        try:
            self._mesh.require(self._callers.of(head))
        except StrongroomError as error:
            raise errors.of_the_mesh(error) from None

    def refusal(self, error: HttpError) -> Response:
        """How Vault tells of an error."""
        return errors.refusal(error)

    def answer(self, head: Head, body: bytes) -> Response:
        """The answer to a request; never raises."""
        return self._mesh.whole(lambda: self._told(head, body), lambda answer: answer.status in _REPEATED)

    def _told(self, head: Head, body: bytes) -> Response:
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
        # Nobody who asked for a wrapped answer is given it in the clear: what is wrong with the wish is told first.
        seconds = self._wrapping.asked(head)
        mount, rest = head.path[1], head.path[2:]
        if mount == "sys":
            open_answer = self._open_answer(head, rest, body, seconds)
            if open_answer is not None:
                return open_answer
        if mount == "auth" and rest[1:2] == ("login",):
            caller, answer = self._auth.login(head, rest, body)
        else:
            caller, answer = self._by_engine(head, mount, rest, body)
        return self._wrapping.wrap(caller, head, answer, seconds) if seconds else answer

    def _open_answer(self, head: Head, path: tuple[str, ...], body: bytes, seconds: int) -> Response | None:
        """The answer to what needs no token of the mesh; None for anything else."""
        if path[:1] == ("wrapping",):
            operation = operation_of(head)
            own = None if self._wrapping.is_token(token_of(head)) or not token_of(head) else self._callers.of(head)
            return self._wrapping.answer(head, path[1:], operation, body, own)
        found = self._system.open(head, path)
        if found is not None and seconds:
            raise errors.unsupported("wrapping what everybody is told")
        return found

    def _by_engine(self, head: Head, mount: str, rest: tuple[str, ...], body: bytes) -> tuple[Caller, Response]:
        operation = operation_of(head)
        engine = self._engines.get(mount)
        if not self._callers.has_token(head):
            raise HttpError(403, errors.PERMISSION_DENIED)
        caller = self._callers.of(head)
        if engine is None:
            raise HttpError(404, f'no handler for route "{"/".join(head.path[1:])}". route entry not found.')
        return caller, engine.answer(Request(caller, operation, rest, head, body))
