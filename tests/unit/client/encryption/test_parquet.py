"""Parquet's modular encryption under keys of the mesh."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from pyarrow.parquet import encryption

from strongroom.encryption.adapters.parquet import crypto_factory
from tests.support.mesh_keys import MeshKeys

TABLE = pyarrow.table({"id": [1, 2, 3], "card": ["4111", "5500", "3400"]})


def configuration() -> encryption.EncryptionConfiguration:
    return encryption.EncryptionConfiguration(
        footer_key="payments", column_keys={"escrow": ["card"]}, cache_lifetime=timedelta(minutes=5)
    )


def written(path: Path, mesh: MeshKeys) -> None:
    factory = crypto_factory(mesh)
    properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), configuration())
    with pyarrow.parquet.ParquetWriter(path, TABLE.schema, encryption_properties=properties) as writer:
        writer.write_table(TABLE)


def read(path: Path, mesh: MeshKeys) -> pyarrow.Table:
    properties = crypto_factory(mesh).file_decryption_properties(encryption.KmsConnectionConfig())
    return pyarrow.parquet.ParquetFile(path, decryption_properties=properties).read()


def test_a_file_is_written_and_read_under_two_keys(tmp_path: Path) -> None:
    mesh = MeshKeys()
    written(tmp_path / "cards.parquet", mesh)
    assert b"4111" not in (tmp_path / "cards.parquet").read_bytes()
    assert read(tmp_path / "cards.parquet", mesh).equals(TABLE)


def test_who_may_not_decrypt_reads_nothing(tmp_path: Path) -> None:
    written(tmp_path / "cards.parquet", MeshKeys())
    with pytest.raises(Exception, match="CIPHERTEXT_INVALID"):
        read(tmp_path / "cards.parquet", MeshKeys())
