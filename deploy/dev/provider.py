"""Where the mesh's root key is: a SoftHSM2 token where that is installed, else a file; and there it stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from deploy.dev import softhsm
from deploy.dev.directory import MeshDirectory
from deploy.dev.errors import MeshError
from deploy.dev.files import private_directory

Kind = Literal["local", "pkcs11"]
Choice = Literal["auto", "local", "pkcs11"]


@dataclass(frozen=True)
class ProviderSetup:
    """A provider's kind, its `[provider]` table, and what crypto's environment needs for it."""

    kind: Kind
    table: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=dict)


def set_up_provider(directory: MeshDirectory, choice: Choice, module: Path | None) -> ProviderSetup:
    """What `choice` comes to in `directory`, with SoftHSM2's `module` where it is installed.

    Raises MeshError where the keys there need another provider, or SoftHSM2 is needed and missing.
    """
    present = _present(directory)
    if choice == "auto":
        kind: Kind = present or ("pkcs11" if module else "local")
    elif present not in (None, choice):
        raise MeshError(f"the keys in {directory.root} were made with provider {present}, not {choice}")
    else:
        kind = choice
    if kind == "local":
        private_directory(directory.root_key.parent)
        return ProviderSetup(kind, {"kind": kind, "root_key_file": str(directory.root_key)})
    if module is None:
        raise MeshError("provider pkcs11 needs SoftHSM2 (libsofthsm2.so and softhsm2-util): not installed")
    token = softhsm.open_token(directory.hsm, module)
    table = {
        "kind": kind,
        "module": str(token.module),
        "token_label": token.label,
        "pin_file": str(token.pin_file),
    }
    return ProviderSetup(kind, table, token.environment)


def _present(directory: MeshDirectory) -> Kind | None:
    """The provider that keys were made with here before."""
    if directory.root_key.exists():
        return "local"
    return "pkcs11" if softhsm.token_exists(directory.hsm) else None
