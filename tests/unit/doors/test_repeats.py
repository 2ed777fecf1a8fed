"""What a door changes is changed once: by a request id, which is the same when it has to ask again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from services.doors.mesh import repeats
from services.doors.mesh.repeats import Repeats
from services.runtime.errors import Reason, StrongroomError
from strongroom.keystore.v1.key_service_pb2 import CreateKeyVersionRequest
from strongroom.secrets.v1.secret_service_pb2 import (
    CreateSecretRequest,
    DeleteSecretRequest,
    DisableSecretVersionRequest,
    GetSecretRequest,
    GetSecretValueRequest,
    PutSecretValueRequest,
)

WHO = "accounts/shop/users/u"
PUT = PutSecretValueRequest(name="accounts/shop/secrets/s", value=b"one")
OTHER = PutSecretValueRequest(name="accounts/shop/secrets/s", value=b"two")


class Service:
    """Answers as it is told, and notes the ids it was asked by."""

    def __init__(self, *script: Reason | str) -> None:
        self.script = list(script)
        self.ids: list[str] = []

    def __call__(self, request: Any, seconds: float) -> str:
        assert seconds > 0
        self.ids.append(getattr(request, "request_id", ""))
        told = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(told, Reason):
            raise StrongroomError(told, "not now")
        return told


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "_PAUSE_SECONDS", 0.01)


def reason_of(answering: Repeats, request: Any, service: Service, who: str = WHO) -> Reason:
    with pytest.raises(StrongroomError) as refused:
        answering.answer(who, request, service)
    return refused.value.reason


@pytest.mark.parametrize("first", [Reason.AUDIT_PENDING, Reason.CHANGE_UNDECIDED])
def test_a_change_that_may_stand_is_asked_for_again_by_its_id(first: Reason) -> None:
    service = Service(first, Reason.AUDIT_UNREACHABLE, first, "version 1")
    assert Repeats(5.0).answer(WHO, PUT, service) == "version 1"
    assert len(service.ids) == 4
    assert len({UUID(one) for one in service.ids}) == 1
    assert PUT.request_id == ""


def test_two_changes_have_two_ids() -> None:
    answering, service = Repeats(5.0), Service("version")
    for _ in range(2):
        answering.answer(WHO, PUT, service)
    assert len(set(service.ids)) == 2


def test_what_stays_undecided_says_so_and_is_the_same_change_when_its_caller_repeats_it() -> None:
    answering, service = Repeats(0.1), Service(Reason.AUDIT_PENDING, Reason.AUDIT_UNREACHABLE)
    assert reason_of(answering, PUT, service) is Reason.AUDIT_PENDING
    assert answering.is_left(WHO, PUT)
    service.script = ["version 1"]
    answering.answer(WHO, PUT, service)
    assert len(set(service.ids)) == 1
    # Once it is known, the next is another.
    assert not answering.is_left(WHO, PUT)
    answering.answer(WHO, PUT, service)
    assert len(set(service.ids)) == 2


@pytest.mark.parametrize("unanswered", [Reason.SECRETS_UNREACHABLE, Reason.DEADLINE_EXCEEDED])
def test_so_is_what_nobody_answered(unanswered: Reason) -> None:
    answering, service = Repeats(0.1), Service(unanswered)
    assert reason_of(answering, PUT, service) is unanswered
    service.script = ["version 1"]
    answering.answer(WHO, PUT, service)
    assert len(service.ids) == 2
    assert len(set(service.ids)) == 1


def test_nobody_elses_nor_another_request_has_its_id() -> None:
    answering, service = Repeats(0.1), Service(Reason.SECRETS_UNREACHABLE)
    reason_of(answering, PUT, service)
    service.script = ["version"]
    answering.answer("accounts/shop/users/other", PUT, service)
    # Whoever has asked for another value since wants the first one anew.
    answering.answer(WHO, OTHER, service)
    answering.answer(WHO, PUT, service)
    assert len(set(service.ids)) == 4


@pytest.mark.parametrize(
    ("left", "other"),
    [
        (PUT, OTHER),
        (PUT, DeleteSecretRequest(name=PUT.name)),
        (PUT, DisableSecretVersionRequest(name=f"{PUT.name}/versions/2")),
        (CreateSecretRequest(parent="accounts/shop", secret_id="s"), OTHER),
        (PUT, CreateSecretRequest(parent="accounts/shop", secret_id="s")),
    ],
    ids=lambda request: type(request).__name__,
)
@pytest.mark.parametrize("stands", [True, False])
def test_what_somebody_changed_since_is_changed_anew(left: Any, other: Any, stands: bool) -> None:
    answering, service = Repeats(0.1), Service(Reason.SECRETS_UNREACHABLE)
    reason_of(answering, left, service)
    (first,) = set(service.ids)
    change = Service("done" if stands else Reason.AUDIT_PENDING)
    if stands:
        answering.answer("accounts/shop/users/other", other, change)
    else:
        reason_of(answering, other, change, "accounts/shop/users/other")
    assert not answering.is_left(WHO, left)
    service.script = ["version 4"]
    answering.answer(WHO, left, service)
    assert service.ids[-1] != first


@pytest.mark.parametrize(
    ("other", "answer"),
    [
        (GetSecretValueRequest(name=PUT.name), "value"),
        (CreateKeyVersionRequest(parent="accounts/shop/keys/s"), "version"),
        (PutSecretValueRequest(name=f"{PUT.name}2", value=b"two"), "version"),
        (CreateSecretRequest(parent="accounts/shop"), "another"),
        (OTHER, Reason.PERMISSION_DENIED),
        (OTHER, Reason.STAGE_CONFLICT),
    ],
    ids=str,
)
def test_what_changes_nothing_of_it_leaves_it_the_same_change(other: Any, answer: Reason | str) -> None:
    answering, service = Repeats(0.1), Service(Reason.SECRETS_UNREACHABLE)
    reason_of(answering, PUT, service)
    if isinstance(answer, Reason):
        assert reason_of(answering, other, Service(answer), "accounts/shop/users/other") is answer
    else:
        answering.answer("accounts/shop/users/other", other, Service(answer))
    assert answering.is_left(WHO, PUT)


def test_an_id_is_kept_for_a_while_and_not_longer() -> None:
    now = [0.0]
    answering, service = Repeats(5.0, lambda: now[0]), Service(Reason.SECRETS_UNREACHABLE)
    reason_of(answering, PUT, service)
    now[0] = 31.0
    assert not answering.is_left(WHO, PUT)
    reason_of(answering, PUT, service)
    assert len(set(service.ids)) == 2


def test_a_refusal_is_told_at_once_and_forgotten() -> None:
    answering, service = Repeats(5.0), Service(Reason.STAGE_CONFLICT)
    assert reason_of(answering, PUT, service) is Reason.STAGE_CONFLICT
    assert not answering.is_left(WHO, PUT)
    service = Service(Reason.AUDIT_PENDING, Reason.PERMISSION_DENIED)
    assert reason_of(answering, PUT, service) is Reason.PERMISSION_DENIED


def test_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "_KEPT", 3)
    answering, service = Repeats(0.1), Service(Reason.SECRETS_UNREACHABLE)
    asked = [CreateSecretRequest(parent="accounts/shop", secret_id=f"s-{number}") for number in range(5)]
    for request in asked:
        reason_of(answering, request, service)
    assert [answering.is_left(WHO, request) for request in asked] == [False, False, True, True, True]


def test_what_one_account_leaves_takes_nothing_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "_KEPT", 3)
    answering, refused = Repeats(0.1), Service(Reason.QUOTA_EXCEEDED)
    reason_of(answering, PUT, Service(Reason.SECRETS_UNREACHABLE))
    for number in range(10):
        request = CreateSecretRequest(parent="accounts/hostile", secret_id=f"s-{number}")
        reason_of(answering, request, refused, f"accounts/hostile/users/u{number}")
    assert answering.is_left(WHO, PUT)


def test_what_is_over_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "_KEPT", 2)
    now = 1_000.0
    answering = Repeats(0.1, lambda: now)
    monkeypatch.setattr(answering, "_until_known", lambda *_: Service(Reason.SECRETS_UNREACHABLE)(PUT, 1.0))
    other, more = (CreateSecretRequest(parent="accounts/other", secret_id=f"s-{number}") for number in range(2))
    reason_of(answering, PUT, Service("never asked"))
    now += 31.0
    for request in (other, more):
        reason_of(answering, request, Service("never asked"), "accounts/other/users/u")
    assert all(answering.is_left("accounts/other/users/u", request) for request in (other, more))


def test_what_has_no_id_is_asked_once() -> None:
    service = Service(Reason.AUDIT_PENDING)
    assert reason_of(Repeats(5.0), GetSecretRequest(name="s"), service) is Reason.AUDIT_PENDING
    assert service.ids == [""]


ROTATE = CreateKeyVersionRequest(parent="accounts/shop/keys/k")


def whole(answering: Repeats, service: Service, *asked: Any, status: int = 503) -> None:
    """Asks for several things as one request of a client's, which is answered with a status."""

    def work() -> int:
        for one in asked:
            answering.answer(WHO, one, service)
        return status

    assert answering.whole(work, lambda answer: answer >= 500) == status


@pytest.mark.parametrize("asked", [PUT, ROTATE], ids=["a secret", "a key"])
def test_what_stands_is_not_done_again_where_what_came_after_it_failed(asked: Any) -> None:
    answering, service = Repeats(5.0), Service("version 1")
    whole(answering, service, asked)
    whole(answering, service, asked)
    whole(answering, service, asked, status=200)
    assert len(set(service.ids)) == 1
    # Its caller knows by now: the next is another.
    whole(answering, service, asked, status=200)
    assert len(set(service.ids)) == 2


def test_what_was_answered_well_or_refused_is_not_kept() -> None:
    answering, service = Repeats(5.0), Service("version 1")
    for status in (200, 400, 404):
        whole(answering, service, PUT, status=status)
    assert len(set(service.ids)) == 3


def test_requests_at_once_are_different_ones() -> None:
    answering, service = Repeats(5.0), Service("version 1")

    def work() -> int:
        answering.answer(WHO, ROTATE, service)
        with ThreadPoolExecutor(1) as another:
            another.submit(whole, answering, service, ROTATE).result()
        return 200

    answering.whole(work, lambda answer: answer >= 500)
    assert len(set(service.ids)) == 2


def test_a_secret_that_somebody_changed_meanwhile_is_changed_again() -> None:
    answering, service = Repeats(5.0), Service("version")

    def work() -> int:
        answering.answer(WHO, PUT, service)
        with ThreadPoolExecutor(1) as another:
            another.submit(answering.answer, "accounts/shop/users/v", OTHER, service).result()
        return 503

    answering.whole(work, lambda answer: answer >= 500)
    whole(answering, service, PUT, status=200)
    assert len(set(service.ids)) == 3
