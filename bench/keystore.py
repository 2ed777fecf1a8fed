"""`keystore`: what a key store of a million keys costs beside one of a thousand, through gRPC.

The same mesh, first with few keys and then with many, which are put into its SQLite database while keystore is down.
Calls are made one after the other, so a figure is a ratio of times. Of the many, a hundred thousand are then used, to
see what they cost a crypto worker (`key_cache`).
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import Connection, create_engine, func, insert, select

from bench import key_cache
from bench.report import Report, Target
from deploy.dev import records
from deploy.dev.clients import by_certificate
from deploy.dev.configs import ACCOUNT
from deploy.dev.mesh import Mesh, MeshOptions
from deploy.dev.topology import SERVICES
from services.crypto.blobs import Binding
from services.crypto.keys import material
from services.crypto.providers.local import LocalProvider
from services.keystore.store.tables import key_tags, key_versions, keys
from services.runtime.requests import paging
from services.runtime.storage import row_seals, sealed_rows
from strongroom.keystore.v1 import key_pb2 as k
from strongroom.keystore.v1 import key_service_pb2 as pb
from strongroom.keystore.v1.key_service_pb2_grpc import KeyServiceStub

NAME = "keystore"
_GROWTHS = ("create_growth", "get_growth", "list_last_page_growth", "list_by_tag_growth")
TARGETS = {
    **{name: Target(2.0, at_most=True) for name in _GROWTHS},
    "cache_100000_mib": Target(300.0, at_most=True),
}

_FEW = 1_000
_MANY = 1_000_000
_MANY_QUICK = 100_000
_CALLS = 200
_PAGE = 100
_CHUNK = 10_000
_TEAM = 50
# Fewer keys are used in a quick run, and what they cost is multiplied.
_CACHED_QUICK = 5_000
_LAST = "key-z"


def run(*, quick: bool) -> Report:
    """Measures few keys, then many."""
    many = _MANY_QUICK if quick else _MANY
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="strongroom-bench-") as directory, _mesh(Path(directory)) as mesh:
        for name, count in (("few", _FEW), ("many", many)):
            _fill(mesh, count)
            figures |= {f"{operation}_{name}_ms": value for operation, value in _measured(mesh, name, count).items()}
        cached = _CACHED_QUICK if quick else key_cache.KEYS
        names = (f"accounts/{ACCOUNT}/keys/{_id(number)}" for number in range(many))
        mebibytes = key_cache.mebibytes(mesh, names, cached)
        figures["cache_100000_mib"] = mebibytes * key_cache.KEYS / cached
    operations = ("create", "get", "list_first_page", "list_last_page", "list_by_tag")
    growth = {f"{one}_growth": figures[f"{one}_many_ms"] / figures[f"{one}_few_ms"] for one in operations}
    return Report(NAME, {**growth, **figures, "keys": float(many)}, TARGETS)


def _measured(mesh: Mesh, name: str, count: int) -> dict[str, float]:
    step = max(count // _CALLS, 1)
    with (
        by_certificate(mesh) as client,
        mesh.channel("keystore") as channel,
    ):
        stub = KeyServiceStub(channel)

        parent = f"accounts/{ACCOUNT}"
        first = pb.ListKeysRequest(parent=parent, page_size=_PAGE)
        # The page that ends the list, by the token that the one before it gave.
        token = paging.encode(f"{parent}/keys?", f"{_LAST}-")
        last = pb.ListKeysRequest(parent=parent, page_size=_PAGE, page_token=token)
        tagged = pb.ListKeysRequest(parent=parent, page_size=_PAGE, filter=f"tags.team = {_team(count - 1)}")
        created = (f"{_LAST}-{name}-{number}" for number in range(_CALLS))
        there = (_id(number * step) for number in range(_CALLS))
        return {
            "create": _milliseconds(lambda: client.keys.create(next(created))),
            "get": _milliseconds(lambda: client.keys.get(next(there))),
            "list_first_page": _milliseconds(lambda: stub.ListKeys(first)),
            "list_last_page": _milliseconds(lambda: stub.ListKeys(last)),
            "list_by_tag": _milliseconds(lambda: stub.ListKeys(tagged)),
        }


def _milliseconds(call: Callable[[], Any]) -> float:
    """The median time of a call."""
    call()
    times = []
    for _ in range(_CALLS - 1):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return median(times) * 1000


def _fill(mesh: Mesh, count: int) -> None:
    """Puts keys into the database until there are so many."""
    mesh.terminate("keystore")
    engine = records.sealed(mesh, "keystore", create_engine(mesh.database_url("keystore")))
    provider = LocalProvider(mesh.directory.root_key)
    with engine.begin() as connection:
        # Keys come in no order of their uids: with SQLite's usual 2 MiB every one of them would be read from the disk.
        connection.exec_driver_sql("PRAGMA cache_size = -1000000")
        present = connection.execute(select(func.count()).where(keys.c.key_id < _LAST)).scalar_one()
        for first in range(present, count, _CHUNK):
            rows = list(_rows(range(first, min(first + _CHUNK, count)), provider))
            _insert(connection, rows)
    engine.dispose()
    mesh.launch("keystore")


def _insert(connection: Connection, rows: Sequence[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]) -> None:
    """Puts keys in, each with its one version."""
    seals = row_seals.of(connection)
    for key, _, version in rows:
        of_version = sealed_rows.digest([seals.seal(key_versions, {**dict.fromkeys(key_versions.c.keys()), **version})])
        key["versions_digest"] = of_version
    sealed_rows.insert(connection, keys, [key for key, _, _ in rows])
    connection.execute(insert(key_tags), [tag for _, tag, _ in rows])
    sealed_rows.insert(connection, key_versions, [version for _, _, version in rows])


def _rows(numbers: range, provider: LocalProvider) -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Keys as keystore stores them, each with a tag and a version whose material crypto can open."""
    now_us = time.time_ns() // 1000
    for number in numbers:
        uid, named = os.urandom(16), {"account": ACCOUNT, "key_id": _id(number)}
        binding = Binding(
            ACCOUNT,
            f"accounts/{ACCOUNT}/keys/{_id(number)}",
            uid,
            1,
            k.KEY_SPEC_AES_256,
            k.KEY_USAGE_ENCRYPT_DECRYPT,
            k.PROTECTION_LEVEL_SOFTWARE,
        )
        key = {
            **named,
            "uid": uid,
            "spec": k.KEY_SPEC_AES_256,
            "usage": k.KEY_USAGE_ENCRYPT_DECRYPT,
            "protection_level": k.PROTECTION_LEVEL_SOFTWARE,
            "origin": k.KEY_ORIGIN_STRONGROOM,
            "state": k.KEY_STATE_ENABLED,
            "description": "one of many",
            "tags": json.dumps({"team": _team(number)}),
            "deletion_protection": False,
            "primary_version": 1,
            "revision": 1,
            "created_us": now_us,
            "updated_us": now_us,
            "rotated_us": now_us,
        }
        version = {
            "uid": uid,
            "version": 1,
            "state": k.KEY_VERSION_STATE_ENABLED,
            "origin": k.KEY_VERSION_ORIGIN_CREATION,
            "wrapped": material.make(provider, binding).blob,
            "root_version": 1,
            "message_count": 0,
            "created_us": now_us,
        }
        yield key, {**named, "tag_key": "team", "tag_value": _team(number)}, version


def _id(number: int) -> str:
    return f"key-{number:09}"


def _team(number: int) -> str:
    return f"team-{number // _TEAM}"


def _mesh(directory: Path) -> Mesh:
    settings = {service: {"telemetry": {"sample_ratio": None, "span_directory": None}} for service in SERVICES}
    return Mesh(directory, MeshOptions(provider="local", settings=settings, log_level="WARNING"))
