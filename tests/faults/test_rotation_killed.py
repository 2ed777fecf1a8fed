"""SIGKILL at any moment of a rotation: afterwards it ends, once, and with a value that logs in.

`make faults` runs many more of the same; a run's seed is in what fails.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from queue import Queue

import pytest

from deploy.dev.certificates import CertificateFiles
from services.secrets.core.model import PREVIOUS
from services.secrets.rotation.machine import ATTEMPT_ABANDONED
from strongroom.secrets.v1.rotation_pb2 import ROTATION_STATE_SUCCEEDED
from tests.support.rotation.fixtures import SUBJECTS
from tests.support.rotation.lab import Lab, Place
from tests.support.rotation.subjects import Subject, tls_files
from tests.support.rotation.victim import STEPS, Kill, Workers

RUNS = int(os.environ.get("STRONGROOM_FAULT_RUNS", "21"))
"""Of each subject."""
SIGKILL = -9

# Few steps of these have anything outside the database to be killed in.
_CALLED = {
    "generic": ("create",),
    "redis": STEPS,
    "redis-master": STEPS,
    "ssh": STEPS,
    "client-key": STEPS,
    "grpc": STEPS,
}
_WHEN = ("before", "inside", "after")
_COMMITS = 5
# One file of keys is no place for several rotations in the same moment.
_AT_ONCE = {"ssh": 1}


def kills(name: str) -> Iterator[tuple[int, Kill]]:
    """Every step before, inside and after it, and every commit, again and again; with a seed each."""
    steps = _CALLED.get(name, STEPS[:3])
    places = [(step, when) for step in steps for when in _WHEN]
    places += [("commit", str(number)) for number in range(1, (2 if name == "generic" else _COMMITS - 1) + 1)]
    for seed in range(RUNS):
        step, when = places[seed % len(places)]
        yield seed, Kill(step, when, random.Random(f"{name} {seed}").uniform(0, 0.03))


@pytest.mark.timeout(30 * RUNS)
@pytest.mark.parametrize("name", SUBJECTS)
def test_a_rotation_survives_being_killed_anywhere(
    tmp_path: Path, certificate: CertificateFiles, place: Place, subject_of: Callable[[str], Subject], name: str
) -> None:
    subject = subject_of(name)
    Lab.new(place, tls=tls_files(certificate)).close()
    template = Path(place.database_url.removeprefix("sqlite:///"))

    at_once = _AT_ONCE.get(name, 3)
    workers: Queue[Workers] = Queue()

    def run(seed: int, kill: Kill) -> int:
        database = tmp_path / f"{seed}.db"
        shutil.copyfile(template, database)
        own = replace(place, database_url=f"sqlite:///{database}", schedule=f"{place.schedule}-{seed}")
        secret_id = f"{name}.{place.schedule}.{seed}".replace("-", "")
        mine = workers.get()
        try:
            return survived(own, certificate, mine, subject, secret_id, kill)
        finally:
            workers.put(mine)

    with ExitStack() as stack, ThreadPoolExecutor(at_once) as pool:
        for _ in range(at_once):
            workers.put(stack.enter_context(Workers()))
        died = Counter(code.result() for code in [pool.submit(run, seed, kill) for seed, kill in kills(name)])

    assert died[SIGKILL] == RUNS


def survived(
    place: Place, certificate: CertificateFiles, workers: Workers, subject: Subject, secret_id: str, kill: Kill
) -> int:
    """One rotation with one kill; how the process that was to be killed ended."""
    lab = Lab(place, tls=tls_files(certificate))
    try:
        subject.create(lab, secret_id)
        first = lab.value(secret_id)
        lab.rotate(secret_id)
        exit_code = workers.run(place, secret_id, certificate, kill)
        again = workers.run(place, secret_id, certificate, None)
        assert again == 0, f"{kill}: {lab.rotation(secret_id)} {lab.attempts(secret_id)}"
        require_whole(lab, subject, secret_id, first, str(kill))
    finally:
        lab.close()
    return exit_code


def require_whole(lab: Lab, subject: Subject, secret_id: str, first: bytes, kill: str) -> None:
    secret, rotation, attempts = lab.secret(secret_id), lab.rotation(secret_id), lab.attempts(secret_id)
    assert rotation.state == ROTATION_STATE_SUCCEEDED, kill
    assert (secret.rotation_count, secret.active_rotation, secret.latest_version) == (1, 0, 2), kill
    assert secret.stages == {"Current": 2, "Previous": 1}, kill
    assert lab.value(secret_id) != first, kill
    assert subject.accepts(lab.value(secret_id)), kill
    assert lab.value(secret_id, PREVIOUS) == first, kill
    assert subject.accepts(first) == subject.previous_works, kill
    tokens = [attempt.fencing_token for attempt in attempts]
    assert tokens == sorted(tokens), kill
    failed = [attempt.error_reason for attempt in attempts if attempt.error_reason]
    assert failed in ([], [ATTEMPT_ABANDONED]), kill
