"""Which extension the services call, and what they say where it is another."""

from __future__ import annotations

import hashlib
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from services.runtime import extension

NATIVE = Path(__file__).resolve().parents[3] / "native"
# Change both, and the versions in `native/Cargo.toml` and `Cargo.lock` with the first.
INTERFACE = ("0.2.0", "d7a8d74e359cc20c4f84e107b0b99678263bfd56b626cf20a36b0e9fed3736dd")


def test_a_changed_interface_has_another_version() -> None:
    """An extension that was built before would otherwise be called by what it does not have."""
    crate = tomllib.loads((NATIVE / "Cargo.toml").read_text())["package"]["version"]
    digest = hashlib.sha256((NATIVE / "strongroom_native.pyi").read_bytes()).hexdigest()
    assert (extension.VERSION, digest) == INTERFACE
    assert crate == extension.VERSION


def installed(monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    def found(_: str) -> str:
        if version is None:
            raise metadata.PackageNotFoundError
        return version

    monkeypatch.setattr(metadata, "version", found)


@pytest.mark.parametrize(("version", "is_used"), [(extension.VERSION, True), ("0.1.0", False), (None, False)])
def test_auto_takes_the_one_that_is_called_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, version: str | None, is_used: bool
) -> None:
    installed(monkeypatch, version)
    assert extension.is_used("auto", "listeners.engine") is is_used
    assert not extension.is_used("grpcio", "listeners.engine")
    assert ("run `make native`" in caplog.text) is (version == "0.1.0")


@pytest.mark.parametrize(("version", "told"), [("0.1.0", "is 0.1.0 here, and"), (None, "is not built here")])
def test_where_it_is_asked_for_a_missing_one_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, version: str | None, told: str
) -> None:
    installed(monkeypatch, version)
    with pytest.raises(SystemExit, match=told):
        extension.is_used("native", "listeners.engine")
