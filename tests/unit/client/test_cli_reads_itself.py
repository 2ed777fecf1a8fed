"""What one command printed, in whatever form, another takes: bytes, proofs, checkpoints, policies and key material."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from strongroom.calls.audit.logs import Checkpoint as AuditCheckpoint
from strongroom.calls.audit.logs import InclusionProof
from strongroom.calls.crypto.results import DataKey, RandomBytes
from strongroom.cli import command as commands_module
from strongroom.cli import inputs
from strongroom.cli.complaints import Status
from strongroom.names import Names
from strongroom.tlog import merkle, proofs, tiles
from strongroom.tlog.checkpoints import Checkpoint
from strongroom.tlog.notes import Note, Signer
from tests.support.cli import run

FORMS = ("table", "json", "yaml")
KEY = bytes(range(32))
SEALED = b"\x01sealed"
SIGNER = Signer("log.example/a", Ed25519PrivateKey.generate())
OTHER = Signer("log.example/a", Ed25519PrivateKey.generate())
ENTRY = b"an event, sealed"


def note_of(entry: bytes, signer: Signer = SIGNER) -> bytes:
    text = Checkpoint("log.example/a", 1, merkle.leaf_hash(entry)).text
    return bytes(Note(text, [signer.sign(text)]))


class Logs:
    """A log of one event."""

    def get_checkpoint(self, log: str) -> AuditCheckpoint:
        return AuditCheckpoint(log or "logs/a", 1, merkle.leaf_hash(ENTRY), note_of(ENTRY), None, 0, published=True)

    def get(self, log: str) -> Any:
        return SimpleNamespace(keys=[SimpleNamespace(verifier_key=str(SIGNER.verifier_key))], name=log)

    def get_inclusion_proof(self, event: str) -> InclusionProof:
        assert event == "0198"
        proof = bytes(proofs.Proof(0, [], note_of(ENTRY), ENTRY))
        return InclusionProof("logs/a", 0, ENTRY, merkle.leaf_hash(ENTRY), [], self.get_checkpoint(""), proof)


class Client:
    """Answers what is printed here."""

    names = Names("accounts/main")
    audit = SimpleNamespace(logs=Logs())

    def generate_data_key(self, *_: object, **__: object) -> DataKey:
        return DataKey(KEY, SEALED, "accounts/main/keys/k", "accounts/main/keys/k/versions/1", "0198")

    def generate_random(self, count: int) -> RandomBytes:
        return RandomBytes(KEY[:count], "0198")


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands_module.Session, "client", Client())


def printed(*words: str) -> bytes:
    ended = run(*words)
    assert ended.exit_code == 0, ended.output
    return ended.stdout_bytes


def verified(*words: str, key: Signer = SIGNER) -> Any:
    return run("audit", "verify", *words, "--key", str(key.verifier_key), "--json")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    contents = {None: tiles.bundle([ENTRY]), 0: merkle.leaf_hash(ENTRY)}
    for path in tiles.tiles_between(0, 1):
        file = tmp_path / "log" / str(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(contents[path.level])
    (tmp_path / "log" / "checkpoint").write_bytes(note_of(ENTRY))
    return tmp_path / "log"


@pytest.mark.parametrize("form", FORMS)
def test_a_proof_is_verified_in_every_form_in_which_it_was_printed(form: str) -> None:
    Path("proof").write_bytes(printed("audit", "prove", "0198", "-o", form))
    ended = verified("proof")
    assert (ended.exit_code, json.loads(ended.stdout)["verified"]) == (0, True)


@pytest.mark.parametrize("form", FORMS)
def test_an_older_checkpoint_is_read_in_every_form_in_which_it_was_printed(form: str, log: Path) -> None:
    Path("older").write_bytes(printed("audit", "checkpoint", "-o", form))
    ended = verified(str(log), "--older", "older")
    assert (ended.exit_code, json.loads(ended.stdout)["verified"]) == (0, True)


@pytest.mark.parametrize("content", [b"", b"# Read me\n", b"{}", b'{"proof": 5}', b'proof: "x', b"\xff" * 100, b"{"])
def test_what_is_no_proof_and_no_checkpoint_is_no_answer(content: bytes, log: Path) -> None:
    Path("given").write_bytes(content)
    for words in (["given"], [str(log), "--older", "given"]):
        ended = verified(*words)
        assert (ended.exit_code, ended.stdout) == (Status.REFUSED, ""), words
        assert json.loads(ended.stderr)["error"]["reason"] == "LOG_DATA_MALFORMED"


def test_another_key_is_no_answer_and_what_is_untrue_is_one(log: Path) -> None:
    Path("proof").write_bytes(printed("audit", "prove", "0198"))
    for words in (["proof"], [str(log)]):
        assert verified(*words, key=OTHER).exit_code == Status.REFUSED
    Path("proof").write_bytes(bytes(proofs.Proof(0, [], note_of(b"another"), ENTRY)))
    assert verified("proof").exit_code == Status.NO
    Path("older").write_bytes(note_of(ENTRY, OTHER))
    assert verified(str(log), "--older", "older").exit_code == Status.REFUSED
    Path("older").write_bytes(note_of(b"another"))
    assert verified(str(log), "--older", "older").exit_code == Status.NO
    (log / "checkpoint").write_bytes(b"not a note")
    assert verified(str(log)).exit_code == Status.NO


@pytest.mark.parametrize("form", FORMS)
def test_a_data_key_is_taken_by_decrypt_in_every_form(form: str) -> None:
    answer = printed("data-key", "k", "-o", form)
    assert inputs.ciphertext_of(answer) == SEALED
    assert inputs.material_of(answer) == KEY


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("options", [(), ("--hex",)])
@pytest.mark.parametrize("size", [16, 32])
def test_random_bytes_are_key_material_in_every_form(form: str, options: tuple[str, ...], size: int) -> None:
    assert inputs.material_of(printed("random", str(size), *options, "-o", form)) == KEY[:size]


@pytest.mark.parametrize(
    "material",
    [
        KEY,
        b"0123456789abcdef",
        b"A" * 32,
        b"f" * 48,
        b"f" * 64,
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        base64.b64encode(bytes(100)),
        b"0" + bytes(100),
        b"text\n",
        b"\xff" * 44,
    ],
)
def test_key_material_that_lies_in_its_file_as_it_is_stays_so(material: bytes) -> None:
    assert inputs.material_of(material) == material


def test_a_policy_is_read_as_describe_printed_it(tmp_path: Path) -> None:
    text = 'permit (principal, action, resource);\n// "é"\n'
    for form in ("json", "yaml"):
        from strongroom.cli.forms import document_text

        (tmp_path / "policy").write_text(document_text({"name": "policies/x", "cedar": text}, form))
        assert inputs.read_text(tmp_path / "policy", field="cedar") == text
    (tmp_path / "policy").write_text(text)
    assert inputs.read_text(tmp_path / "policy", field="cedar") == text


def test_an_older_copy_is_not_told_as_a_forgery_alone(log: Path) -> None:
    text = Checkpoint("log.example/a", 7, merkle.leaf_hash(ENTRY)).text
    Path("newer").write_bytes(bytes(Note(text, [SIGNER.sign(text)])))
    ended = verified(str(log), "--older", "newer")
    answer = json.loads(ended.stdout)
    assert (ended.exit_code, answer["reason"], answer["older_size"]) == (Status.NO, "LOG_ALTERED", "7")
    told = run("audit", "verify", str(log), "--older", "newer", "--key", str(SIGNER.verifier_key))
    for text in (answer["hint"], told.stdout):
        assert "this copy was merely made before that checkpoint: `strongroom audit export`" in text


@pytest.mark.parametrize(
    ("key", "told"),
    [("nokeys", "there is no file nokeys"), ("log", "log is a folder: give the file of keys in it, log/keys")],
)
@pytest.mark.parametrize("option", ["--key", "--witness"])
def test_a_key_that_is_none_is_told_by_what_is_missing(key: str, told: str, option: str, log: Path) -> None:
    words = ["audit", "verify", str(log), option, key]
    ended = run(*words, *(["--key", str(SIGNER.verifier_key)] if option != "--key" else []))
    assert (ended.exit_code, f"{option}: {told}" in ended.stderr) == (Status.USAGE, True), ended.stderr


@pytest.mark.parametrize("form", FORMS)
def test_a_checkpoint_in_place_of_a_proof_is_told_what_it_is_for(form: str) -> None:
    Path("today").write_bytes(printed("audit", "checkpoint", "-o", form))
    ended = run("audit", "verify", "today", "--key", str(SIGNER.verifier_key))
    assert (ended.exit_code, "--older today" in ended.stderr) == (Status.USAGE, True), ended.stderr


def test_a_proof_has_no_beginning_to_compare() -> None:
    Path("proof").write_bytes(printed("audit", "prove", "0198"))
    ended = run("audit", "verify", "proof", "--older", "proof", "--key", str(SIGNER.verifier_key))
    assert (ended.exit_code, "--older: goes with a folder" in ended.stderr) == (Status.USAGE, True)
