"""Calls that come again and calls that come at once, for every method: a request id answers what its first call did,
and no call waits for a second connection of the database while it holds one."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest

from deploy.dev.mesh import Mesh
from deploy.dev.topology import ADMINISTRATOR
from tests.conftest import POSTGRES_SOFTHSM, VARIANTS, Meshes, PrivateMeshes
from tests.support.accounts import Furnished, furnished
from tests.support.clients import client_of
from tests.support.every_method import METHODS, NEW, Answer, Caller, request_of

_AT_ONCE = 8
_READING = ("Get", "List", "Find", "Watch", "Lookup", "Simulate", "Validate", "Generate", "BatchGet")
_CHANGING = sorted(
    name
    for name, (process, method) in METHODS.items()
    if process in ("keystore", "secrets") and not method.name.startswith(_READING)
)
_WITH_ID = sorted(name for name, (_, method) in METHODS.items() if "request_id" in method.input_type.fields_by_name)
# Those of the mesh's administrators. A root key is rotated in tests/unit/keystore/root_key/test_requests.py.
_OF_THE_MESH = {"AccessService.CreateAccount"}
# What else is asked for under an id that was used, by its service.
_OTHERS = {"keystore": "KeyService.CreateKey", "secrets": "SecretService.CreateSecret"}
_ALONE = {*_OF_THE_MESH, *_OTHERS.values()}
_ROOT = "KeyService.RotateRootKey"
_FAILURES = {"UNAVAILABLE", "INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED"}


@dataclass(frozen=True, slots=True)
class Crowd:
    """An account in a mesh whose services have one connection each."""

    account: Furnished
    tenant: Caller
    operator: Caller

    def request(self, method: str) -> dict[str, Any]:
        """A request that is in order, for something new where it makes something."""
        new = f"new-{secrets.token_hex(4)}"
        asked: dict[str, Any] = _named(request_of(method, self.account.names), new)
        if method == "AccessService.CreateOidcProvider":
            asked["oidc_provider"]["issuer"] = f"https://{new}.example"
        if method == "SecretService.DeleteSecret":
            # The one that there is, others go on with; and its key may be deleted by now.
            key = made(self.call(_OTHERS["keystore"], self.request(_OTHERS["keystore"])))
            other = self.request(_OTHERS["secrets"])
            asked["name"] = made(self.call(_OTHERS["secrets"], {**other, "secret": {**other["secret"], "key": key}}))
        return asked

    def call(self, method: str, request: dict[str, Any]) -> Answer:
        """The answer to one call, by whom the method is for."""
        return (self.operator if method in _OF_THE_MESH else self.tenant).call(method, request)


@pytest.fixture(scope="module", params=VARIANTS)
def crowd(request: pytest.FixtureRequest, meshes: Meshes) -> Iterator[Crowd]:
    """One mesh for all tests here."""
    with ExitStack() as stack:
        one = {"database": {"pool_size": 1}}
        private = PrivateMeshes(meshes, stack, native=request.param == POSTGRES_SOFTHSM)
        mesh: Mesh = private(request.param, settings={"keystore": one, "secrets": one})
        with client_of(mesh) as operator:
            account = furnished(mesh, operator, f"crowd-{secrets.token_hex(4)}")
        yield Crowd(
            account,
            stack.enter_context(Caller(mesh, account.identity)),
            stack.enter_context(Caller(mesh, ADMINISTRATOR)),
        )


@pytest.mark.parametrize("method", [name for name in _WITH_ID if name != _ROOT])
def test_the_same_request_again_and_at_once_is_one_request(crowd: Crowd, method: str) -> None:
    asked = {**crowd.request(method), "request_id": str(uuid4())}
    answers = [*at_once(lambda: crowd.call(method, asked)), crowd.call(method, asked)]
    assert [answer.message for answer in answers if answer.code != "OK"] == []
    assert len({made(answer) for answer in answers}) == 1
    assert len({secret_in(answer) for answer in answers}) == 1
    another = method if method in _ALONE else _OTHERS[METHODS[method][0]]
    refused = crowd.call(another, {**crowd.request(another), "request_id": asked["request_id"]})
    assert "request_id was used for another request" in refused.message


@pytest.mark.parametrize("method", [name for name in _CHANGING if name != _ROOT])
def test_calls_at_once_wait_for_no_second_connection(crowd: Crowd, method: str) -> None:
    answers = at_once(lambda: crowd.call(method, crowd.request(method)))
    assert [f"{answer.code}: {answer.message}" for answer in answers if answer.code in _FAILURES] == []


def at_once(work: Callable[[], Answer]) -> list[Answer]:
    """What comes of calls that begin together."""
    ready = Barrier(_AT_ONCE)

    def begin(_number: int) -> Answer:
        ready.wait()
        return work()

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(begin, range(_AT_ONCE)))


def made(answer: Answer) -> str:
    """The name of what was made."""
    response: Any = answer.response
    return str(response.name if hasattr(response, "name") else response.client_key.name)


def secret_in(answer: Answer) -> str:
    """The credential that it alone shows; empty in most."""
    response: Any = answer.response
    return str(getattr(response, "client_key_secret", getattr(response, "secret", "")))


def _named(value: Any, new: str) -> Any:
    """A request with another name for what it makes."""
    if isinstance(value, dict):
        return {key: _named(one, new) for key, one in value.items()}
    return new if value == NEW else value
