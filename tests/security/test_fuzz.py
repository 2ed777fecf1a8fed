"""No request, whatever is in it, ends a process or is answered INTERNAL or UNKNOWN."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from bench.abuse.hostile import Found, Target, seeds, send, targets
from deploy.dev.mesh import Mesh
from tests.conftest import PrivateMeshes

# What found something once, and what is like it, is sent each time: each request as it travels, in base64.
CORPUS = Path(__file__).parent / "corpus" / "fuzz.json"
SECONDS = float(os.environ.get("STRONGROOM_FUZZ_SECONDS", "30"))
SEED = int(os.environ.get("STRONGROOM_FUZZ_SEED", "1"))
_SENT_AT_ONCE = 50


def kept(known: list[Target]) -> Iterator[tuple[Target, bytes]]:
    """The corpus, in its order: some need what was made before."""
    by_path = {target.path: target for target in known}
    for one in json.loads(CORPUS.read_text()):
        yield by_path[one["path"]], base64.b64decode(one["request"], validate=True)


def test_what_found_something_once_is_refused_on_every_kind_of_mesh(mesh: Mesh) -> None:
    """On PostgreSQL as well, which takes no NUL in a text."""
    found = Found()
    send(mesh, list(kept(targets())), found)
    assert not found.faults, found.faults[:20]
    assert found.calls > 150
    assert set(found.answers) >= {"OK", "INVALID_ARGUMENT"}


def test_hostile_requests_are_refused_and_never_internal_errors(private_mesh: PrivateMeshes) -> None:
    mesh = private_mesh(log_level="ERROR")
    known, found = targets(), Found()
    send(mesh, list(kept(known)), found)
    begun, more = time.monotonic(), seeds(SEED, known)
    while time.monotonic() - begun < SECONDS:
        send(mesh, [next(more) for _ in range(_SENT_AT_ONCE)], found)
    assert not found.faults, f"{len(found.faults)} of {found.calls}: {found.faults[:20]}"
    assert mesh.failure() is None
    # Requests get further than the first check.
    assert found.answers["OK"] > 0
    assert len(found.answers) > 4
