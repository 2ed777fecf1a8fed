"""A mesh that answers as a test says, for what a door makes of its answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from services.doors.listening.exchange import Head, HttpError, Response
from services.doors.mesh.calls import Mesh
from services.doors.mesh.sessions import Caller, Session
from services.doors.vault import errors
from services.doors.vault.door import Engine
from services.doors.vault.requests import Request, operation_of
from services.runtime.errors import Reason, StrongroomError

CALLER = Caller(Session("t", "accounts/shop/users/u", "shop", 0), "10.0.0.1")

Answer = Callable[[Any], Any]


class AnsweringMesh:
    """Answers each method as it is told; a reason is refused with. What it has no answer for it denies."""

    def __init__(self, answers: Mapping[str, Answer | Reason | object]) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []
        """The methods, in the order in which they were called."""

    def ask(self, _caller: Caller, method: str, request: Any) -> Any:
        self.asked.append(method)
        answer = self.answers.get(method, Reason.PERMISSION_DENIED)
        if isinstance(answer, Reason):
            raise StrongroomError(answer, f"{method} is refused")
        return answer(request) if callable(answer) else answer

    def pages(self, caller: Caller, method: str, request: Any) -> Iterator[Any]:
        yield self.ask(caller, method, request)

    def is_undecided(self, _caller: Caller, _request: Any) -> bool:
        return False

    def require(self, caller: Caller) -> None:
        self.ask(caller, "GetCallerIdentity", None)

    @property
    def mesh(self) -> Mesh:
        """Itself, for what takes a door's."""
        return cast(Mesh, self)


def asked(
    engine: Engine, path: str, method: str = "POST", body: Any = None, caller: Caller = CALLER
) -> tuple[int, dict[str, Any]]:
    """What an engine answers below its mount: the status, and what is said."""
    head = Head(method, ("v1", "x", *path.split("/")), False, {}, {}, caller.address)
    text = json.dumps(body).encode() if body is not None else b""
    try:
        answer = engine.answer(Request(caller, operation_of(head), tuple(path.split("/")), head, text))
    except HttpError as error:
        answer = errors.refusal(error)
    except StrongroomError as error:
        answer = errors.refusal(errors.of_the_mesh(error))
    return answer.status, _said(answer)


def _said(answer: Response) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(answer.body or b"{}")
    return said
