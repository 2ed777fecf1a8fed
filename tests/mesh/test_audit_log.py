"""The log over a real mesh: proved, followed, reported, exported, verified."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from deploy.dev.mesh import Mesh
from deploy.dev.topology import free_port
from strongroom import Client
from strongroom.calls.audit.events import StreamedEvent
from strongroom.ocsf import api_activity
from strongroom.tlog import merkle, proofs
from strongroom.tlog.checkpoints import open_checkpoint
from strongroom.tlog.notes import COSIGNATURE, VerifierKey, parse_verifier_key
from strongroom.tlog.tiles import tiles_between
from tests.conftest import PrivateMeshes
from tests.support.clients import client_of, refusal, until
from tests.support.independent_log import open_proof, verify_consistency, verify_folder


def keys_of(client: Client) -> list[VerifierKey]:
    (log,) = client.audit.logs.list(account="default")
    return [parse_verifier_key(key.verifier_key) for key in log.keys]


def test_the_event_of_an_answer_is_proved_with_the_public_key_alone(client: Client, key: str) -> None:
    sealed = client.encrypt(key, b"x")
    found = client.audit.logs.get_inclusion_proof(sealed.event_id)
    (vkey,) = keys_of(client)
    index, size = open_proof(found.proof, found.leaf, str(vkey))
    assert (index, size) == (found.index, found.checkpoint.tree_size)
    assert merkle.leaf_hash(found.leaf) == found.leaf_hash
    assert proofs.parse(found.proof).verify(found.leaf, [vkey]).root == found.checkpoint.root_hash
    assert b"Encrypt" not in found.leaf


def test_the_log_only_grows(client: Client, key: str) -> None:
    before = client.audit.logs.get_checkpoint()
    event_id = client.encrypt(key, b"x").event_id
    client.audit.logs.get_inclusion_proof(event_id)
    after = client.audit.logs.get_checkpoint()
    assert after.tree_size > before.tree_size
    found = client.audit.logs.get_consistency_proof(before.tree_size, after.tree_size)
    assert found.from_root_hash == before.root_hash
    verify_consistency(before.tree_size, after.tree_size, before.root_hash, after.root_hash, list(found.hashes))
    for checkpoint in (before, after):
        assert open_checkpoint(checkpoint.note, keys_of(client))[0].root == checkpoint.root_hash
    assert (
        refusal(lambda: client.audit.logs.get_consistency_proof(after.tree_size + 10**9)).reason == "TREE_SIZE_INVALID"
    )


def test_its_tiles_are_all_of_it(client: Client, key: str, tmp_path: Path) -> None:
    client.audit.logs.get_inclusion_proof(client.encrypt(key, b"x").event_id)
    checkpoint = client.audit.logs.get_checkpoint()
    for path in tiles_between(0, checkpoint.tree_size):
        file = tmp_path / str(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(client.audit.logs.get_tile(str(path)))
    (tmp_path / "checkpoint").write_bytes(checkpoint.note)
    size, _ = verify_folder(tmp_path, str(keys_of(client)[0]))
    assert size == checkpoint.tree_size
    assert refusal(lambda: client.audit.logs.get_tile("tile/0/x999/999")).reason == "TILE_NOT_FOUND"
    assert refusal(lambda: client.audit.logs.get_tile("tile/0/1")).reason == "FIELD_INVALID"
    assert refusal(lambda: client.audit.logs.get("logs/other")).reason == "LOG_NOT_FOUND"


def test_events_are_followed_as_they_come_and_resumed_without_gap_or_repeat(client: Client, key: str) -> None:
    found: list[StreamedEvent] = []

    def follow(token: str, count: int) -> None:
        for streamed in client.audit.events.stream(resource=key, action="crypto:Encrypt", resume_token=token):
            found.append(streamed)
            if len(found) == count:
                return

    first = threading.Thread(target=follow, args=("", 3))
    first.start()
    ids: list[str] = []
    # Until the tail has begun, events are of before it.
    while first.is_alive():
        ids.append(client.encrypt(key, b"x").event_id)
    first.join()
    while len(ids) - ids.index(found[0].event.id) < 6:
        ids.append(client.encrypt(key, b"x").event_id)
    begun = ids.index(found[0].event.id)
    follow(found[-1].resume_token, 6)
    assert [streamed.event.id for streamed in found] == ids[begun : begun + 6]
    assert [streamed.index for streamed in found] == sorted({streamed.index for streamed in found})
    error = refusal(lambda: next(client.audit.events.stream(resource="keys/other", resume_token=found[0].resume_token)))
    assert error.reason == "RESUME_TOKEN_INVALID"


def test_a_tail_from_a_time_begins_there(client: Client, key: str) -> None:
    ids = [client.encrypt(key, b"x").event_id for _ in range(3)]
    tail = client.audit.events.stream(
        resource=key, action="crypto:Encrypt", since=datetime.now(UTC) - timedelta(minutes=5)
    )
    assert [next(tail).event.id for _ in ids] == ids


def test_uses_are_counted_by_what_is_asked_for(client: Client, key: str) -> None:
    since = datetime.now(UTC) - timedelta(minutes=5)
    for _ in range(3):
        client.encrypt(key, b"x")
    client.batch_encrypt(key, [b"a", b"b"])
    refusal(lambda: client.decrypt(client.encrypt(key, b"x", {"a": "b"}).ciphertext))
    rows = {tuple(row.values): row for row in client.audit.report_usage(since, by=["action", "outcome"], resource=key)}
    assert rows["crypto:Encrypt", "ALLOWED"].event_count == 5
    assert rows["crypto:Encrypt", "ALLOWED"].item_count == 6
    assert rows["crypto:Decrypt", "FAILED"].event_count == 1
    (by_day,) = client.audit.report_usage(since, by=["version"], resource=key, action="crypto:Encrypt")
    assert by_day.values == [f"{key}/versions/1"]
    assert list(client.audit.report_usage(since, until=since + timedelta(seconds=1), resource=key)) == []
    too_long = since - timedelta(days=401)
    assert refusal(lambda: list(client.audit.report_usage(too_long))).field == "end_time"
    assert refusal(lambda: list(client.audit.report_usage(since, by=["day", "day"]))).field == "dimensions"


def test_an_event_is_an_api_activity_of_ocsf(client: Client, key: str) -> None:
    event = client.audit.events.get(client.encrypt(key, b"x", {"tenant": "blue"}).event_id)
    document = json.loads(json.dumps(api_activity(event)))
    # What OCSF 1.5 requires of the class.
    for name in ("activity_id", "actor", "api", "category_uid", "class_uid", "metadata", "severity_id", "time"):
        assert name in document
    assert (document["class_uid"], document["type_uid"]) == (6003, 600399)
    assert document["actor"]["user"]["uid"] == event.principal
    assert document["api"]["operation"] == "crypto:Encrypt"
    assert document["src_endpoint"] == {"ip": "127.0.0.1"}
    assert document["resources"][0]["uid"] == key
    assert document["metadata"]["correlation_uid"] == event.trace_id
    assert document["unmapped"]["encryption_context"] == {"tenant": "blue"}


@pytest.fixture
def publishing_mesh(private_mesh: PrivateMeshes, tmp_path: Path) -> tuple[Mesh, str, Path]:
    """A mesh whose log is also served over HTTP and written to a folder."""
    address = f"127.0.0.1:{free_port()}"
    log = {"http_address": address, "export_directory": tmp_path / "export"}
    return private_mesh(settings={"audit": {"log": log}}), address, tmp_path / "export" / "main"


def test_the_log_over_http_and_in_the_export_folder(publishing_mesh: tuple[Mesh, str, Path]) -> None:
    mesh, address, folder = publishing_mesh
    with client_of(mesh) as client:
        event_id = client.encrypt(client.keys.create("payments").name, b"x").event_id
        size = client.audit.logs.get_inclusion_proof(event_id).checkpoint.tree_size
        (vkey,) = keys_of(client)

    def fetched(path: str) -> bytes:
        with urllib.request.urlopen(f"http://{address}/main/{path}", timeout=5) as answer:
            return bytes(answer.read())

    note = fetched("checkpoint")
    checkpoint, _ = open_checkpoint(note, [vkey])
    assert checkpoint.size >= size
    bundle = fetched(f"tile/entries/000.p/{size}")
    assert bundle == (folder / f"tile/entries/000.p/{size}").read_bytes()
    for path in ("tile/0/999", "nothing", "../../etc/passwd", "tile/0/000.p/0"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            fetched(path)
        assert refused.value.code == 404
    assert verify_folder(folder, str(vkey))[0] >= size


def test_a_tail_ends_when_the_service_drains_and_goes_on_after(private_mesh: PrivateMeshes) -> None:
    mesh = private_mesh()
    with client_of(mesh) as client:
        key = client.keys.create("payments").name
        before = client.encrypt(key, b"x").event_id
        since = datetime.now(UTC) - timedelta(minutes=5)
        tail = client.audit.events.stream(since=since, resource=key, action="crypto:Encrypt")
        first = next(tail)
        assert first.event.id == before
        restarting = threading.Thread(target=mesh.restart, args=("audit",))
        restarting.start()
        assert refusal(lambda: next(tail)).reason in {"SHUTTING_DOWN", "UNREACHABLE"}
        restarting.join()
        until(lambda: mesh.process("audit").running)
        ids: list[str] = []
        until(lambda: bool(ids) or not _tried(client, key, ids), 20)
        again = client.audit.events.stream(resource=key, action="crypto:Encrypt", resume_token=first.resume_token)
        assert next(event.event.id for event in again if event.event.outcome == "ALLOWED") == ids[0]


def _tried(client: Client, key: str, ids: list[str]) -> bool:
    from strongroom import StrongroomError

    try:
        ids.append(client.encrypt(key, b"x").event_id)
    except StrongroomError:
        return True
    return False


def test_a_proof_of_what_no_quorum_has_cosigned_is_refused_while_its_caller_still_waits(
    private_mesh: PrivateMeshes,
) -> None:
    away = VerifierKey("witness.example/w", COSIGNATURE, Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    mesh = private_mesh(settings={"audit": {"log": {"witnesses": [{"key": str(away)}], "witness_quorum": 1}}})
    with client_of(mesh) as client:
        made = client.keys.create("payments")
        started = time.monotonic()
        found = refusal(
            lambda: client.audit.logs.get_inclusion_proof(client.encrypt(made.name, b"x").event_id, timeout=2)
        )
        assert found.reason == "EVENT_UNPUBLISHED"
        assert 1 < time.monotonic() - started < 4  # sooner than the five seconds that the service has patience for


def test_an_account_s_events_are_held_and_made_unreadable(tenant: Client, name: str) -> None:
    sealed = tenant.encrypt(tenant.keys.create("payments").name, b"x")
    assert tenant.audit.retention.get_policy().archive_after == timedelta(days=400)
    changed = tenant.audit.retention.update_policy(shred_after=timedelta(days=500))
    assert (changed.archive_after, changed.shred_after) == (timedelta(days=400), timedelta(days=500))
    assert (
        refusal(lambda: tenant.audit.retention.update_policy(shred_after=timedelta(hours=36))).reason == "FIELD_INVALID"
    )
    assert tenant.audit.retention.update_policy(never_shred=True, etag=changed.etag).shred_after is None

    held = tenant.audit.retention.update_legal_hold(True, "case 7")
    assert (held.active, held.reason, held.changed_by) == (True, "case 7", f"accounts/{name}/users/admin")
    assert refusal(lambda: tenant.audit.retention.shred_events(name, "left us")).reason == "LEGAL_HOLD"
    assert not tenant.audit.retention.update_legal_hold(False, etag=held.etag).active
    assert tenant.audit.retention.get_legal_hold().reason == "case 7"

    assert refusal(lambda: tenant.audit.retention.shred_events("other", "left us")).reason == "CONFIRMATION_MISMATCH"
    assert tenant.audit.retention.shred_events(name, "left us", validate_only=True).event_count > 3
    assert tenant.audit.events.get(sealed.event_id).action == "crypto:Encrypt"
    assert tenant.audit.retention.shred_events(name, "left us").sealing_key_count == 1
    assert refusal(lambda: tenant.audit.events.get(sealed.event_id)).reason == "EVENT_SHREDDED"
    assert tenant.audit.logs.get_inclusion_proof(sealed.event_id).leaf
    # What came after tells of it.
    told = [event for event in tenant.audit.events.list() if event.action == "audit:ShredAccountEvents"]
    assert told[0].attributes["comment"] == "left us"
    assert all(event.action.startswith("audit:") for event in tenant.audit.events.list())
