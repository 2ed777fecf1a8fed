"""A third party's tools: Go's transparency log packages verify what the audit service publishes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.audit.publication.export_folder import ExportFolder
from services.runtime.config import Database
from services.runtime.storage import database
from tests.support import databases
from tests.support.audit_logs import OwnRoot, event, opened
from tests.support.clients import until
from tests.support.independent_log import open_proof, verify_folder

SOURCE = Path(__file__).with_name("tlog")


@dataclass(frozen=True)
class Exported:
    """A log of the audit service's own as files, an older checkpoint of it, and the proof of an event."""

    folder: Path
    key: str
    older: Path
    proof: Path
    leaf: bytes


@pytest.fixture(scope="module")
def tlog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program."""
    if shutil.which("go") is None:
        pytest.skip("Go is not installed")
    program = tmp_path_factory.mktemp("go") / "tlog"
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=SOURCE, check=True, timeout=170)
    return program


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    directory = tmp_path_factory.mktemp("log")
    engine = database.open_database(Database(url=f"sqlite:///{directory}/audit.db"))
    databases.migrate(engine, "audit")
    log = opened(engine, OwnRoot())
    folder = ExportFolder(directory / "export", log.source)
    log.publisher.listen(on_published=[folder.published])
    checkpoint = directory / "export" / "checkpoint"
    recorded = [event() for _ in range(700)]
    log.log.append(recorded[:300])
    until(lambda: checkpoint.exists() and b"\n300\n" in checkpoint.read_bytes())
    older = directory / "older"
    older.write_bytes(checkpoint.read_bytes())
    log.log.append(recorded[300:])
    until(lambda: b"\n700\n" in checkpoint.read_bytes())
    found = log.transparency.inclusion("acme", recorded[271].id, 0)
    proof = directory / "event.tlog-proof"
    proof.write_bytes(bytes(found.proof))
    log.stop()
    yield Exported(directory / "export", log.signing_keys.known()[0].verifier_key, older, proof, found.leaf)
    engine.dispose()


def verdict(program: Path, *arguments: object) -> tuple[int, str]:
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, (done.stdout + done.stderr).strip()


def test_every_entry_and_tile_and_an_older_checkpoint(tlog: Path, exported: Exported) -> None:
    assert verdict(tlog, exported.key, exported.folder, exported.older) == (0, "verified 700 entries")
    size, entries = verify_folder(exported.folder, exported.key)
    assert (size, entries[271]) == (700, exported.leaf)


def test_the_proof_of_an_event(tlog: Path, exported: Exported) -> None:
    assert verdict(tlog, exported.key, "proof", exported.proof) == (0, "verified entry 271 of 700")
    assert open_proof(exported.proof.read_bytes(), exported.leaf, exported.key) == (271, 700)


@pytest.mark.parametrize("file", ["tile/entries/001", "tile/0/001", "tile/1/000.p/2", "checkpoint"])
def test_it_refuses_what_was_altered(tlog: Path, exported: Exported, tmp_path: Path, file: str) -> None:
    shutil.copytree(exported.folder, tmp_path / "altered")
    path = tmp_path / "altered" / file
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    status, _ = verdict(tlog, exported.key, tmp_path / "altered")
    assert status == 1
