"""A SoftHSM2 token of the mesh's own: its configuration, its PIN and its objects, all in one directory."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.dev.errors import MeshError
from deploy.dev.files import private_directory, write_file

LABEL = "strongroom"
_MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)


class TokenError(MeshError):
    """The token could not be made; the message holds what softhsm2-util said."""


@dataclass(frozen=True)
class Token:
    """Where a token is, for the `pkcs11` provider's configuration and its process's environment."""

    module: Path
    label: str
    pin_file: Path
    environment: Mapping[str, str]


def find_module() -> Path | None:
    """SoftHSM2's PKCS#11 module, where it and its `softhsm2-util` are installed."""
    if shutil.which("softhsm2-util") is None:
        return None
    multiarch = sorted(Path("/usr/lib").glob("*/softhsm/libsofthsm2.so"))
    return next((path for path in [*map(Path, _MODULES), *multiarch] if path.exists()), None)


def token_exists(directory: Path) -> bool:
    """Whether `open_token` finished in `directory` once."""
    return (directory / "pin").exists()


def open_token(directory: Path, module: Path) -> Token:
    """The token in `directory`, made at first use. Raises TokenError where that fails."""
    tokens = private_directory(private_directory(directory) / "tokens")
    configuration = directory / "softhsm2.conf"
    write_file(
        configuration,
        f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
    )
    environment = {"SOFTHSM2_CONF": str(configuration)}
    pin_file = directory / "pin"
    if not token_exists(directory):
        pin = secrets.token_hex(16)
        for unfinished in tokens.iterdir():
            shutil.rmtree(unfinished)
        _initialize(pin, environment)
        # Last: a token counts as made once its PIN is here.
        write_file(pin_file, pin, mode=0o600)
    return Token(module, LABEL, pin_file, environment)


def _initialize(pin: str, environment: Mapping[str, str]) -> None:
    # softhsm2-util takes a PIN from its arguments or a terminal: other users of this machine can see it for a
    # moment, and the directory keeps them from the token.
    command = ["softhsm2-util", "--init-token", "--free", "--label", LABEL, "--pin", pin]
    done = subprocess.run(
        [*command, "--so-pin", secrets.token_hex(16)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise TokenError(f"softhsm2-util could not make a token: {(done.stderr or done.stdout).strip()}")
