"""`strongroom file`: many files, folders, patterns, pipes and several keys."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from strongroom import file_format
from strongroom.calls.crypto.results import Decrypted
from strongroom.cli.command import Session
from strongroom.errors import StrongroomError
from strongroom.files import decrypt_file, encrypt_file, inspect_file
from tests.support import cli
from tests.support.mesh_keys import MeshKeys


@pytest.fixture
def mesh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MeshKeys:
    mesh = MeshKeys()
    monkeypatch.setattr(Session, "client", mesh)
    monkeypatch.chdir(tmp_path)
    return mesh


def run(*arguments: str, status: int = 0) -> Result:
    result = cli.run("file", *arguments)
    assert result.exit_code == status, result.stderr
    return result


def of_version_1(mesh: MeshKeys) -> bytes:
    """A file as it was made before messages."""
    key = mesh.generate_data_key("accounts/main/keys/payments", {"tenant": "a"})
    header = file_format.Header.fresh(key.ciphertext)
    sealed = io.BytesIO()
    file_format.encrypt_stream(key.plaintext, header, io.BytesIO(b"of old"), sealed, lambda count: None)  # noqa: ARG005
    return sealed.getvalue()


def written(*places: str) -> None:
    for place in places:
        path = Path(place)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"content of {place}".encode())


def test_a_file_goes_beside_itself_and_back(mesh: MeshKeys) -> None:
    written("report.pdf")
    told = json.loads(run("encrypt", "payments", "report.pdf", "--context", "tenant=a", "--json").stdout)
    assert (told["path"], told["size"]) == ("report.pdf.strongroom", 21)
    Path("report.pdf").unlink()
    run("decrypt", "report.pdf.strongroom", "--context", "tenant=a")
    assert Path("report.pdf").read_bytes() == b"content of report.pdf"
    assert mesh.calls == 2


def test_a_folder_is_encrypted_with_one_call_and_what_is_encrypted_is_left_alone(mesh: MeshKeys) -> None:
    written("data/a.csv", "data/deep/er/b.csv", "data/c")
    Path("data/link").symlink_to("c")
    told = json.loads(run("encrypt", "payments", "data", "--json").stdout)
    assert len(told["files"]) == 3
    assert mesh.calls == 1
    assert (
        json.loads(run("encrypt", "payments", "data", "--json", status=3).stdout)["failed"][0]["reason"]
        == "FILE_EXISTS"
    )
    told = json.loads(run("decrypt", "data", "--out", "opened", "--json").stdout)
    assert sorted(one["path"] for one in told["files"]) == ["opened/a.csv", "opened/c", "opened/deep/er/b.csv"]
    assert Path("opened/deep/er/b.csv").read_bytes() == b"content of data/deep/er/b.csv"


def test_patterns_are_matched_where_the_shell_has_not(mesh: MeshKeys) -> None:
    del mesh
    written("a.csv", "b.csv", "c.txt", "deep/d.csv")
    run("encrypt", "payments", "**/*.csv", "--out", "sealed")
    assert {path.name for path in Path("sealed").rglob("*.strongroom")} == {f"{one}.csv.strongroom" for one in "abd"}
    assert "matches nothing" in run("encrypt", "payments", "*.parquet", status=2).stderr


def test_one_file_that_fails_stops_no_other(mesh: MeshKeys) -> None:
    del mesh
    written(*(f"data/{number}" for number in range(6)))
    run("encrypt", "payments", "data", "--jobs", "3")
    broken = Path("data/3.strongroom")
    broken.write_bytes(broken.read_bytes()[:-1])
    result = run("decrypt", "data", "--out", "opened", "--json", status=1)
    told = json.loads(result.stdout)
    assert len(told["files"]) == 5
    assert [(one["path"], one["reason"]) for one in told["failed"]] == [("data/3.strongroom", "FILE_ALTERED")]
    assert json.loads(result.stderr)["error"] == {
        "reason": "FILE_ALTERED",
        "message": told["failed"][0]["message"],
        "path": "data/3.strongroom",
        "exit_status": 3,
    }
    assert run("decrypt", "data", "--out", "again", status=1).stderr.startswith("error: data/3.strongroom: ")
    assert sorted(path.name for path in Path("opened").iterdir()) == ["0", "1", "2", "4", "5"]


def test_several_that_all_fail_alike_end_as_one_does(mesh: MeshKeys) -> None:
    del mesh
    for place in ("a.strongroom", "b.strongroom"):
        Path(place).write_bytes(b"no message")
    alone = run("decrypt", "a.strongroom", "--json", status=3)
    assert json.loads(alone.stderr)["error"]["reason"] == "FILE_NOT_RECOGNIZED"
    both = run("decrypt", "a.strongroom", "b.strongroom", "--json", status=3).stderr.splitlines()
    assert {json.loads(line)["error"]["path"] for line in both} == {"a.strongroom", "b.strongroom"}
    run("decrypt", "gone.strongroom", "lost.strongroom", status=5)
    run("decrypt", "a.strongroom", "lost.strongroom", status=1)


@pytest.mark.parametrize("how", ["file", "pipe"])
@pytest.mark.parametrize("version", [1, 2])
def test_what_is_said_of_a_file_is_said_of_standard_input(mesh: MeshKeys, how: str, version: int) -> None:
    written("x")
    run("encrypt", "payments", "x", "--out", "sealed")
    if version == 1:
        Path("sealed").write_bytes(of_version_1(mesh))
    alone = json.loads(run("inspect", "sealed", "--json").stdout)
    command = [str(Path(sys.executable).parent / "strongroom"), "file", "inspect", "-", "--json"]
    with Path("sealed").open("rb") as file:
        given: dict[str, Any] = {"stdin": file} if how == "file" else {"input": file.read()}
        told = json.loads(subprocess.run(command, check=True, capture_output=True, **given).stdout)
    assert told == {**alone, "path": "-", "size": alone["size"] if how == "file" else None}


def test_any_recipient_opens_a_file_and_rewrapping_shuts_one_out(mesh: MeshKeys) -> None:
    written("report.pdf")
    run("encrypt", "payments", "report.pdf", "--recipient", "escrow")
    for key in ("payments", "escrow"):
        run("decrypt", "report.pdf.strongroom", "--key", key, "--out", f"by-{key}")
    body = Path("report.pdf.strongroom").read_bytes()[-56:]
    run("rewrap", "report.pdf.strongroom", "--recipient", "escrow")
    assert Path("report.pdf.strongroom").read_bytes()[-56:] == body
    assert (
        "KEY_MISMATCH" in run("decrypt", "report.pdf.strongroom", "--key", "payments", "--out", "no", status=3).stderr
    )
    run("decrypt", "report.pdf.strongroom", "--key", "escrow", "--out", "yes")
    assert mesh.calls > 5


def test_files_that_nobody_here_could_open_any_more_stay_as_they_are(
    mesh: MeshKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    written("report.pdf")
    run("encrypt", "payments", "report.pdf")
    before = Path("report.pdf.strongroom").read_bytes()
    decrypt = mesh.decrypt

    def denied(ciphertext: bytes, context: Mapping[str, str] | None = None, *, key: str = "") -> Decrypted:
        found = decrypt(ciphertext, context, key=key)
        if found.key.endswith("escrow"):
            raise StrongroomError("PERMISSION_DENIED", "no", code="PERMISSION_DENIED")
        return found

    monkeypatch.setattr(mesh, "decrypt", denied)
    refused = run("rewrap", "report.pdf.strongroom", "--recipient", "escrow", status=3)
    assert "none of the new keys would open it for you" in refused.stderr
    assert Path("report.pdf.strongroom").read_bytes() == before
    run("rewrap", "report.pdf.strongroom", "--recipient", "escrow", "--recipient", "payments")
    run("rewrap", "report.pdf.strongroom", "--recipient", "escrow", "--for-others")
    assert Path("report.pdf.strongroom").read_bytes() != before


def test_inspection_shows_keys_context_and_size_without_the_mesh(mesh: MeshKeys) -> None:
    written("report.pdf", "other")
    run("encrypt", "payments", "report.pdf", "--recipient", "escrow", "--context", "tenant=a", "--store-context")
    run("encrypt", "payments", "other", "--context", "tenant=a")
    mesh.is_away()
    told = json.loads(run("inspect", "report.pdf.strongroom", "--json").stdout)
    assert (told["size"], told["context"], told["version"]) == (21, {"tenant": "a"}, 2)
    assert [one["key"] for one in told["keys"]] == ["accounts/main/keys/payments", "accounts/main/keys/escrow"]
    shown = run("inspect", ".").stdout
    assert "accounts/main/keys/escrow" in shown
    assert "not stored" in shown


def test_a_file_that_cannot_be_inspected_hides_no_other(mesh: MeshKeys) -> None:
    written("data/a", "data/b")
    run("encrypt", "payments", "data")
    del mesh
    Path("data/a.strongroom").write_bytes(b"plain")
    ended = run("inspect", "data", "gone.strongroom", "--json", status=1)
    told = json.loads(ended.stdout)
    assert [(one["path"], one["size"]) for one in told["files"]] == [("data/b.strongroom", 17)]
    assert [(one["path"], one["reason"]) for one in told["failed"]] == [
        ("data/a.strongroom", "FILE_NOT_RECOGNIZED"),
        ("gone.strongroom", "IO_ERROR"),
    ]
    shown = run("inspect", "data", status=1)
    assert ("accounts/main/keys/payments" in shown.stdout, "data/a.strongroom: " in shown.stderr) == (True, True)
    Path("data/b.strongroom").write_bytes(b"plain")
    run("inspect", "data", status=3)


def test_a_pattern_keeps_the_folders_of_what_it_matches(mesh: MeshKeys, tmp_path: Path) -> None:
    del mesh
    written("data/a/x.csv", "data/b/x.csv", "data/top.csv")
    run("encrypt", "payments", "data/**/*.csv", "--out", "sealed")
    expected = {"a/x.csv.strongroom", "b/x.csv.strongroom", "top.csv.strongroom"}
    assert {str(path.relative_to("sealed")) for path in Path("sealed").rglob("*.strongroom")} == expected
    run("decrypt", str(tmp_path / "sealed" / "*"), "--out", "opened")
    assert Path("opened/b/x.csv").read_bytes() == b"content of data/b/x.csv"
    run("encrypt", "payments", "data/[ab]", "--out", "folders")
    assert Path("folders/a/x.csv.strongroom").exists()


def test_a_stored_context_need_not_be_named(mesh: MeshKeys) -> None:
    written("report.pdf")
    run("encrypt", "payments", "report.pdf", "--context", "tenant=a", "--store-context")
    del mesh
    run("decrypt", "report.pdf.strongroom", "--out", "opened")
    assert (
        "CIPHERTEXT_INVALID"
        in run("decrypt", "report.pdf.strongroom", "--context", "tenant=b", "--out", "no", status=3).stderr
    )


def test_standard_input_and_output_are_a_pipe(mesh: MeshKeys, tmp_path: Path) -> None:
    """A process of its own, as the test's own standard input is no pipe."""
    content = os.urandom(3 << 20)
    sealed = tmp_path / "sealed"
    (tmp_path / "content").write_bytes(content)
    encrypt_file(mesh, "payments", tmp_path / "content", sealed)  # type: ignore[arg-type]
    script = (
        "import pickle, sys\nfrom strongroom.cli.command import Session\nfrom strongroom.cli.app import app\n"
        "from tests.support.mesh_keys import MeshKeys\nmesh = MeshKeys()\n"
        "mesh._wrapped = pickle.loads(bytes.fromhex(sys.argv.pop(1)))\nSession.client = mesh\napp()\n"
    )
    import pickle

    known = pickle.dumps(mesh._wrapped).hex()

    def piped(given: bytes) -> subprocess.CompletedProcess[bytes]:
        arguments = [sys.executable, "-c", script, known, "file", "decrypt", "-"]
        return subprocess.run(
            arguments,
            input=given,
            capture_output=True,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    whole = piped(sealed.read_bytes())
    assert (whole.returncode, whole.stdout) == (0, content), whole.stderr
    cut = piped(sealed.read_bytes()[: -(1 << 20)])
    assert cut.returncode == 3
    assert content.startswith(cut.stdout)
    assert b"FILE_ALTERED" in cut.stderr


def test_files_of_version_1_are_still_read(mesh: MeshKeys) -> None:
    Path("old.strongroom").write_bytes(of_version_1(mesh))
    for keys in ([], ["--key", "payments"], ["--key", "escrow", "--key", "payments"]):
        run("decrypt", "old.strongroom", "--context", "tenant=a", "--force", *keys)
        assert Path("old").read_bytes() == b"of old"
    assert "KEY_MISMATCH" in run("decrypt", "old.strongroom", "--key", "escrow", "--force", status=3).stderr
    found = inspect_file(Path("old.strongroom"))
    assert (found.version, found.size) == (1, 6)
    refused = run("rewrap", "old.strongroom", "--recipient", "escrow", status=3)
    assert "file decrypt" in refused.stderr
    decrypt_file(mesh, Path("old.strongroom"), Path("again"), context={"tenant": "a"})  # type: ignore[arg-type]


def test_two_files_for_one_place_are_refused_before_anything_is_done(mesh: MeshKeys) -> None:
    written("a/x", "b/x")
    assert "two files" in run("encrypt", "payments", "a/x", "b/x", "--out", "sealed", status=2).stderr
    assert mesh.calls == 0
