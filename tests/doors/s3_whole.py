"""An S3 store with SSE-KMS, whole and unchanged: its objects are ciphertext under a key of the mesh, and are read no
longer than the store may use that key."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from deploy.dev.doors import Doors
from deploy.dev.mesh import Mesh
from strongroom import Client
from strongroom.calls.access.grants import Grant
from tests.doors.seaweedfs import SeaweedFs
from tests.support import access
from tests.support.clients import until

MIB = 1 << 20
SEES_KEYS = """permit (principal, action in [Strongroom::Action::"keystore:GetKey",
    Strongroom::Action::"keystore:ListKeyVersions"], resource);"""
USES = ("crypto:Encrypt", "crypto:Decrypt")


@dataclass(frozen=True)
class Store:
    """A store that runs, who it is in the mesh, and a client of it."""

    server: SeaweedFs
    machine: str
    client: Any

    def bytes_of(self, bucket: str, key: str, **how: str) -> bytes:
        """What it answers for an object."""
        body: bytes = self.client.get_object(Bucket=bucket, Key=key, **how)["Body"].read()
        return body

    def refuses(self, bucket: str, key: str) -> bool:
        """Whether it does not answer with an object's bytes."""
        try:
            self.bytes_of(bucket, key)
        except ClientError:
            return True
        return False


@contextmanager
def running(mesh: Mesh, doors: Doors, administrator: Client, *, remembers: bool) -> Iterator[Store]:
    """A store with an identity of its own, in a directory of its own."""
    machine = access.workload(administrator, permits=SEES_KEYS)
    credential = access.client_key(administrator, machine)
    token = f"{credential.name.rpartition('/')[2]}.{credential.secret}"
    with (
        tempfile.TemporaryDirectory(prefix="strongroom-s3-") as directory,
        SeaweedFs(Path(directory), doors.address, token, mesh.authority.trust, remembers=remembers) as server,
    ):
        yield Store(server, machine, server.client())


@pytest.fixture(scope="module")
def store(mesh: Mesh, doors: Doors, administrator: Client) -> Iterator[Store]:
    with running(mesh, doors, administrator, remembers=False) as store:
        yield store


@pytest.fixture
def bucket(store: Store, name: str) -> str:
    store.client.create_bucket(Bucket=name)
    return name


def may_use(administrator: Client, store: Store, key: str) -> Grant:
    """Makes a key that the store may encrypt and decrypt under."""
    administrator.keys.create(key)
    return administrator.access.grants.create(key, store.machine, USES)


@pytest.fixture
def key(administrator: Client, store: Store, name: str) -> str:
    may_use(administrator, store, name)
    return name


def sse(key: str) -> dict[str, str]:
    return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key}


def random_bytes(size: int) -> bytes:
    """Bytes that the store cannot compress, so that they lie there as they are if nobody encrypts them."""
    return secrets.token_bytes(size)


def test_an_object_is_ciphertext_where_it_lies_and_read_whole_and_in_part(
    store: Store, bucket: str, key: str, administrator: Client
) -> None:
    text, clear = random_bytes(100_000), random_bytes(100_000)
    answer = store.client.put_object(Bucket=bucket, Key="orders", Body=text, **sse(key))
    assert (answer["ServerSideEncryption"], answer["SSEKMSKeyId"]) == ("aws:kms", key)
    store.client.put_object(Bucket=bucket, Key="clear", Body=clear)
    assert store.bytes_of(bucket, "orders") == text
    assert store.bytes_of(bucket, "orders", Range="bytes=70001-70100") == text[70_001:70_101]
    assert store.client.head_object(Bucket=bucket, Key="orders")["ServerSideEncryption"] == "aws:kms"
    # What is not encrypted is found this way; what is, is not.
    until(lambda: store.server.holds(clear[500:564]), 20)
    assert not any(store.server.holds(text[at : at + 64]) for at in (0, 500, 99_000))
    events = list(
        administrator.audit.events.list(principal=store.machine, resource=f"accounts/default/keys/{key}", limit=50)
    )
    assert {event.action for event in events} >= {"crypto:Encrypt", "crypto:Decrypt"}
    assert {event.via_service for event in events} == {"services/doors"}


def test_an_object_is_copied_under_another_key(store: Store, bucket: str, key: str, administrator: Client) -> None:
    text, other = random_bytes(100_000), f"{key}-other"
    may_use(administrator, store, other)
    store.client.put_object(Bucket=bucket, Key="first", Body=text, **sse(key))
    source = {"Bucket": bucket, "Key": "first"}
    store.client.copy_object(Bucket=bucket, Key="second", CopySource=source, **sse(other))
    assert store.bytes_of(bucket, "second") == text
    assert store.client.head_object(Bucket=bucket, Key="second")["SSEKMSKeyId"] == other
    administrator.keys.disable(key)
    until(lambda: store.refuses(bucket, "first"), 5)
    assert store.bytes_of(bucket, "second") == text


def test_parts_of_an_upload_are_encrypted_each(store: Store, bucket: str, key: str) -> None:
    parts = [random_bytes(5 * MIB), random_bytes(5 * MIB), random_bytes(MIB)]
    upload = store.client.create_multipart_upload(Bucket=bucket, Key="large", **sse(key))["UploadId"]
    where = {"Bucket": bucket, "Key": "large", "UploadId": upload}
    tags = [
        {"PartNumber": number, "ETag": store.client.upload_part(**where, PartNumber=number, Body=part)["ETag"]}
        for number, part in enumerate(parts, 1)
    ]
    store.client.complete_multipart_upload(**where, MultipartUpload={"Parts": tags})
    whole = b"".join(parts)
    assert store.bytes_of(bucket, "large") == whole
    at = len(parts[0]) - 50
    assert store.bytes_of(bucket, "large", Range=f"bytes={at}-{at + 99}") == whole[at : at + 100]
    assert not any(store.server.holds(part[1000:1064]) for part in parts)


def test_a_bucket_encrypts_what_nobody_asked_it_to(store: Store, bucket: str, key: str) -> None:
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}}
    store.client.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    text = random_bytes(50_000)
    store.client.put_object(Bucket=bucket, Key="by-default", Body=text)
    found = store.client.head_object(Bucket=bucket, Key="by-default")
    assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == ("aws:kms", key)
    assert store.bytes_of(bucket, "by-default") == text
    assert not store.server.holds(text[1000:1064])


def test_a_disabled_key_refuses_the_next_get_within_a_second(
    store: Store, bucket: str, key: str, administrator: Client
) -> None:
    text = random_bytes(10_000)
    store.client.put_object(Bucket=bucket, Key="object", Body=text, **sse(key))
    assert store.bytes_of(bucket, "object") == text
    administrator.keys.disable(key)
    time.sleep(1)
    assert store.refuses(bucket, "object")
    with pytest.raises(ClientError):
        store.client.put_object(Bucket=bucket, Key="another", Body=text, **sse(key))
    administrator.keys.enable(key)
    until(lambda: not store.refuses(bucket, "object"), 5)
    # What it wrapped before a rotation it opens afterwards.
    administrator.keys.rotate(key)
    assert store.bytes_of(bucket, "object") == text


def test_a_grant_taken_back_refuses_the_next_get_within_a_second(
    store: Store, bucket: str, name: str, administrator: Client
) -> None:
    grant = may_use(administrator, store, name)
    text = random_bytes(10_000)
    store.client.put_object(Bucket=bucket, Key="object", Body=text, **sse(name))
    assert store.bytes_of(bucket, "object") == text
    administrator.access.grants.revoke(grant.name)
    time.sleep(1)
    assert store.refuses(bucket, "object")
    denied = list(administrator.audit.events.list(principal=store.machine, outcome="DENIED", limit=1))
    assert [(event.resource, event.via_service) for event in denied] == [
        (f"accounts/default/keys/{name}", "services/doors")
    ]
    administrator.access.grants.create(name, store.machine, USES)
    until(lambda: not store.refuses(bucket, "object"), 5)


def test_a_store_that_keeps_data_keys_goes_on_reading_what_it_has_read(
    mesh: Mesh, doors: Doors, administrator: Client, name: str
) -> None:
    """Its own default, which docs/doors/vault/s3.md warns of."""
    with running(mesh, doors, administrator, remembers=True) as store:
        store.client.create_bucket(Bucket=name)
        may_use(administrator, store, name)
        for key in ("read", "unread"):
            store.client.put_object(Bucket=name, Key=key, Body=random_bytes(10_000), **sse(name))
        assert not store.refuses(name, "read")
        administrator.keys.disable(name)
        time.sleep(1)
        assert not store.refuses(name, "read")
        assert store.refuses(name, "unread")
        store.server.stop()
        store.server.start()
        assert store.refuses(name, "read")
