"""The path of audit events: nothing that one caller does keeps another's calls, or their events, out of the log."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import grpc
import pytest

from deploy.dev.mesh import Mesh
from deploy.dev.topology import spiffe_id
from strongroom import Client, StrongroomError
from strongroom.crypto.v1.crypto_pb2 import EncryptRequest
from strongroom.crypto.v1.crypto_pb2_grpc import CryptoServiceStub
from strongroom.errors import from_rpc_error
from tests.support.clients import client_of, reason_of, refusal, until

PERMIT_ALL = "permit(principal, action, resource);"
USERS = 180
STRANGERS = 300
_UNLIKE = 20


@pytest.fixture
def mallory(client: Client, mesh: Mesh, name: str) -> Iterator[Client]:
    """Who administers an account of its own, and may do nothing in another's."""
    identity, account = f"user/{name}-mallory", f"{name}-m"
    client.access.accounts.create(account, administrator_spiffe_ids=[spiffe_id(identity)])
    with client_of(mesh, identity, account) as mallory:
        yield mallory


def size(event: object) -> int:
    """About how many bytes of the log an event takes, as a client sees it."""
    return len(str(dataclasses.astuple(event)))  # type: ignore[call-overload]


def test_one_call_of_many_long_events_is_recorded_and_hurts_nobody(client: Client, tenant: Client, key: str) -> None:
    users = [f"users/u{number}" for number in range(USERS)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(tenant.access.principals.create, users))
    for number in range(4):
        # As many as an account may have of them.
        with suppress(StrongroomError):
            tenant.access.policies.create(f"long-{number}", PERMIT_ALL * 100, attached_to=["users/admin"], timeout=60)
    made = tenant.access.policies.create("poison", PERMIT_ALL, attached_to=users, timeout=60)
    assert len(made.attached_to) == USERS
    assert client.encrypt(key, b"x").ciphertext
    tenant.access.principals.set_roles("users/admin", ["administrator", "auditor"])
    events = [event for event in tenant.audit.events.list(limit=300) if event.method == "CreatePolicy"]
    assert len(events) >= USERS
    assert max(map(size, events)) < 6_000
    assert tenant.mesh.service_status("keystore").state == "OK"


def test_a_refused_batch_leaves_little_in_anothers_log_and_keeps_nobody_waiting(
    tenant: Client, mallory: Client
) -> None:
    own = tenant.keys.create("payments").name
    tenant.access.principals.set_roles("users/admin", ["administrator", "auditor"])
    items = [(b"x", {"n": str(number), "filling": "x" * 4_000}) for number in range(1_000)]
    with ThreadPoolExecutor(4) as pool:
        attacks = [pool.submit(lambda: reason_of(lambda: mallory.batch_encrypt(own, items))) for _ in range(8)]
        for _ in range(20):
            assert tenant.encrypt(own, b"x").ciphertext
        # Some may find nobody to answer in time, which is the attacker's own affair.
        assert "" not in {attack.result() for attack in attacks}
    denied = [event for event in tenant.audit.events.list(limit=100) if event.outcome == "DENIED"]
    assert denied
    assert {event.item_count for event in denied} == {1_000}
    assert all(event.attributes["encryption_contexts"] == "1000" for event in denied)
    assert max(map(size, denied)) <= 4_096
    assert len(denied) <= 8


def test_calls_without_a_credential_are_summed_up(client: Client, mesh: Mesh, key: str) -> None:
    credentials = grpc.ssl_channel_credentials(mesh.authority.trust.read_bytes())
    with grpc.secure_channel(mesh.address("crypto", "public"), credentials) as channel:
        encrypt = CryptoServiceStub(channel).Encrypt
        ids = []
        for _ in range(STRANGERS):
            with pytest.raises(grpc.RpcError) as refused:
                encrypt(EncryptRequest(key=key, plaintext=b"x"), timeout=20)
            error = from_rpc_error(refused.value, "crypto")
            assert error.reason in ("UNAUTHENTICATED", "QUOTA_EXCEEDED")
            ids += [error.event_id] * bool(error.event_id)
    assert 0 < len(ids) < STRANGERS / 2
    events = {event.id: event for event in client.audit.events.list(parent="services/audit", limit=STRANGERS)}
    # Only those that are in the log have an id.
    assert set(ids) <= set(events)
    assert all(events[event_id].reason == "UNAUTHENTICATED" for event_id in ids)


def test_a_strangers_wish_to_be_traced_is_not_heard(mesh: Mesh, key: str) -> None:
    credentials = grpc.ssl_channel_credentials(mesh.authority.trust.read_bytes())
    trace_id = "5ea1" * 8
    with grpc.secure_channel(mesh.address("crypto", "public"), credentials) as channel:
        wish = (("traceparent", f"00-{trace_id}-{'ab' * 8}-01"),)
        with pytest.raises(grpc.RpcError):
            CryptoServiceStub(channel).Encrypt(EncryptRequest(key=key), metadata=wish, timeout=20)
        with client_of(mesh, trace_directory=mesh.directory.traces) as known:
            known.encrypt(key, b"x")
            seen = known.last_trace_id

    def traces() -> str:
        return "".join(path.read_text() for path in mesh.directory.traces.glob("crypto-*.jsonl"))

    until(lambda: seen in traces(), 10)
    assert trace_id not in traces()


@pytest.mark.parametrize("letter", ["x", "é", "\n"])
def test_a_long_error_reaches_the_caller(client: Client, letter: str) -> None:
    long = f"accounts/{letter * 3_000}/policies/p"
    for work in (
        lambda: client.access.policies.get(long),
        lambda: client.encrypt(f"accounts/a/keys/{letter * 3_000}", b"x"),
    ):
        assert refusal(work).reason in ("NAME_MALFORMED", "FIELD_INVALID")


def test_a_batch_refused_in_any_context_is_not_decided_on_a_thousand_times(tenant: Client, mallory: Client) -> None:
    own = tenant.keys.create("payments").name
    tenant.access.principals.set_roles("users/admin", ["administrator", "auditor"])
    items = [(b"x", {"n": str(number)}) for number in range(_UNLIKE)]
    sealed = [tenant.encrypt(own, data, context).ciphertext for data, context in items]
    assert reason_of(lambda: mallory.batch_encrypt(own, items)) == "PERMISSION_DENIED"
    pairs = [(ciphertext, context) for ciphertext, (_, context) in zip(sealed, items, strict=True)]
    assert reason_of(lambda: mallory.batch_decrypt(pairs)) == "CIPHERTEXT_INVALID"
    denied = [event for event in tenant.audit.events.list(limit=100) if event.outcome == "DENIED"]
    assert {event.method for event in denied} == {"BatchEncrypt", "BatchDecrypt"}
    for event in denied:
        # Each context is told of, also those that nobody was asked about.
        assert (event.item_count, event.failed_item_count) == (_UNLIKE, _UNLIKE)
        assert event.attributes["encryption_contexts"] == str(_UNLIKE)


def test_a_grant_for_the_last_context_of_a_batch_is_found(tenant: Client, mallory: Client) -> None:
    own = tenant.keys.create("payments").name
    items = [(b"x", {"n": str(number)}) for number in range(_UNLIKE)]
    caller = mallory.access.principals.get("users/admin").name
    mallory.access.policies.create("all", PERMIT_ALL, attached_to=["users/admin"])
    tenant.access.grants.create(own, caller, ["crypto:Encrypt"], context_equals=items[-1][1])
    until(lambda: reason_of(lambda: mallory.encrypt(own, *items[-1])) == "")
    outcomes = mallory.batch_encrypt(own, items).outcomes
    assert [getattr(outcome, "reason", "") for outcome in outcomes] == ["PERMISSION_DENIED"] * (_UNLIKE - 1) + [""]
