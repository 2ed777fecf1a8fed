"""The mesh's key provider: chosen once a directory, and the same ever after."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.dev.directory import MeshDirectory
from deploy.dev.errors import MeshError
from deploy.dev.provider import set_up_provider
from deploy.dev.softhsm import find_module

MODULE = find_module()
needs_softhsm = pytest.mark.skipif(MODULE is None, reason="SoftHSM2 (libsofthsm2.so, softhsm2-util) is not installed")


@pytest.fixture
def directory(tmp_path: Path) -> MeshDirectory:
    return MeshDirectory(tmp_path)


def make_root_key(directory: MeshDirectory) -> None:
    """As `initialize` of the crypto service does."""
    directory.root_key.write_bytes(bytes(32))


def test_without_softhsm_the_root_key_is_a_file(directory: MeshDirectory) -> None:
    provider = set_up_provider(directory, "auto", None)
    assert provider.table == {"kind": "local", "root_key_file": str(directory.root_key)}


def test_pkcs11_without_softhsm_is_refused(directory: MeshDirectory) -> None:
    with pytest.raises(MeshError, match="not installed"):
        set_up_provider(directory, "pkcs11", None)


@needs_softhsm
def test_with_softhsm_the_root_key_is_in_a_token_that_stays(directory: MeshDirectory) -> None:
    first = set_up_provider(directory, "auto", MODULE)
    pin_file = Path(first.table["pin_file"])
    pin = pin_file.read_text()
    assert first.kind == "pkcs11"
    assert pin_file.stat().st_mode & 0o777 == 0o600
    assert set_up_provider(directory, "auto", MODULE) == first
    assert pin_file.read_text() == pin


@needs_softhsm
def test_directory_with_a_root_key_file_keeps_it_when_softhsm_appears(directory: MeshDirectory) -> None:
    set_up_provider(directory, "auto", None)
    make_root_key(directory)
    assert set_up_provider(directory, "auto", MODULE).kind == "local"
    with pytest.raises(MeshError, match="were made with provider local, not pkcs11"):
        set_up_provider(directory, "pkcs11", MODULE)


@needs_softhsm
def test_directory_with_a_token_refuses_when_softhsm_is_gone(directory: MeshDirectory) -> None:
    set_up_provider(directory, "auto", MODULE)
    with pytest.raises(MeshError, match="not installed"):
        set_up_provider(directory, "auto", None)
    with pytest.raises(MeshError, match="were made with provider pkcs11, not local"):
        set_up_provider(directory, "local", MODULE)
