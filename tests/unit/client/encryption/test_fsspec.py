"""The encrypting file system, with pandas and pyarrow on it."""

from __future__ import annotations

from pathlib import Path

import pandas
import pyarrow.dataset
import pyarrow.parquet
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from strongroom.encryption import DataKeyCache, EncryptionClient
from strongroom.encryption.adapters.fsspec_files import EncryptedFileSystem
from strongroom.errors import StrongroomError
from tests.support.mesh_keys import MeshKeys


@pytest.fixture
def encryption() -> EncryptionClient:
    return EncryptionClient(MeshKeys(), keys="payments", cache=DataKeyCache())


@pytest.fixture
def files(encryption: EncryptionClient) -> EncryptedFileSystem:
    return EncryptedFileSystem(LocalFileSystem(), encryption, {"bucket": "orders"})


def test_pandas_reads_an_encrypted_parquet_file(files: EncryptedFileSystem, tmp_path: Path) -> None:
    orders = pandas.DataFrame({"id": range(50_000), "card": [f"4111 {number}" for number in range(50_000)]})
    path = str(tmp_path / "orders.parquet")
    orders.to_parquet(path, filesystem=files)
    assert not (tmp_path / "orders.parquet").read_bytes().startswith(b"PAR1")
    pandas.testing.assert_frame_equal(pandas.read_parquet(path, filesystem=files), orders)
    only = pandas.read_parquet(path, filesystem=files, columns=["id"], filters=[("id", "<", 10)])
    assert list(only["id"]) == list(range(10))


def test_an_encrypted_folder_is_a_dataset(files: EncryptedFileSystem, tmp_path: Path) -> None:
    table = pyarrow.table({"day": [1, 1, 2, 2], "amount": [10, 20, 30, 40]})
    pyarrow.parquet.write_to_dataset(table, str(tmp_path / "orders"), partition_cols=["day"], filesystem=files)
    found = pyarrow.dataset.dataset(str(tmp_path / "orders"), filesystem=files, partitioning="hive")
    assert found.count_rows() == 4
    assert pandas.read_parquet(str(tmp_path / "orders"), filesystem=files)["amount"].sum() == 100


def test_text_goes_through_and_is_read_line_by_line(files: EncryptedFileSystem, tmp_path: Path) -> None:
    path = str(tmp_path / "orders.csv")
    with files.open(path, "w") as file:
        pandas.DataFrame({"id": [1, 2]}).to_csv(file, index=False)
    with files.open(path, "r") as file:
        assert file.read().split() == ["id", "1", "2"]


def test_sizes_are_of_contents_and_files_are_listed_copied_and_removed(encryption: EncryptionClient) -> None:
    files = EncryptedFileSystem(MemoryFileSystem(), encryption)
    files.pipe_file("/data/a", bytes(1000))
    assert files.info("/data/a")["size"] == 1000
    assert files.info("/data/a")["encrypted_size"] > 1000
    assert files.cat_file("/data/a", start=990, end=995) == bytes(5)
    files.copy("/data/a", "/data/b")
    assert files.cat_file("/data/b") == bytes(1000)
    assert sorted(files.ls("/data", detail=False)) == ["/data/a", "/data/b"]
    files.rm("/data/a")
    assert not files.exists("/data/a")
    with pytest.raises(NotImplementedError):
        files.open("/data/b", "ab")


def test_a_file_that_was_put_in_the_place_of_another_is_refused(encryption: EncryptionClient) -> None:
    below = MemoryFileSystem()
    files = EncryptedFileSystem(below, encryption, lambda path: {"path": path})
    files.pipe_file("/data/mine", b"mine")
    files.pipe_file("/data/yours", b"yours")
    below.cp_file("/data/yours", "/data/mine")
    with pytest.raises(StrongroomError) as refused:
        files.cat_file("/data/mine")
    assert refused.value.reason == "CONTEXT_MISMATCH"
    files.cp_file("/data/yours", "/data/again")
    assert files.cat_file("/data/again") == b"yours"


def test_what_an_exception_left_unfinished_is_refused(files: EncryptedFileSystem, tmp_path: Path) -> None:
    path = str(tmp_path / "unfinished")

    def interrupted() -> None:
        with files.open(path, "wb") as file:
            file.write(bytes(200_000))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(StrongroomError):
        files.cat_file(path)


def test_text_that_an_exception_left_unfinished_is_refused(files: EncryptedFileSystem, tmp_path: Path) -> None:
    path = str(tmp_path / "unfinished.csv")

    def interrupted() -> None:
        with files.open(path, "w") as file:
            file.write("a" * 200_000)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(StrongroomError):
        files.cat_file(path)
    with pytest.raises(NotImplementedError):
        files.open(path + ".gz", "wb", compression="infer")


def test_a_folder_with_files_that_are_no_messages_is_listed_read_and_removed(
    files: EncryptedFileSystem, tmp_path: Path
) -> None:
    folder = tmp_path / "orders"
    files.makedirs(str(folder))
    files.pipe_file(str(folder / "good"), b"content")
    (folder / "_SUCCESS").write_bytes(b"")
    (folder / "unfinished").write_bytes((folder / "good").read_bytes()[:100])
    found = {Path(entry["name"]).name: entry for entry in files.ls(str(folder))}
    assert {name: entry["size"] for name, entry in found.items()} == {"good": 7, "_SUCCESS": None, "unfinished": None}
    assert found["_SUCCESS"]["refusal"] == "MESSAGE_NOT_RECOGNIZED"
    assert len(files.find(str(folder))) == 3
    assert files.cat(str(folder / "g*")) == {str(folder / "good"): b"content"}
    for name in ("_SUCCESS", "unfinished"):
        with pytest.raises(StrongroomError):
            files.info(str(folder / name))
        with pytest.raises(StrongroomError):
            files.open(str(folder / name))
    files.rm(str(folder), recursive=True)
    assert not folder.exists()


def test_a_file_has_one_context_however_its_path_is_written(
    encryption: EncryptionClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = EncryptedFileSystem(LocalFileSystem(), encryption, lambda path: {"path": path})
    with files.open("orders", "wb") as file:
        file.write(b"content")
    for path in ("orders", "./orders", tmp_path / "orders", f"strongroom://{tmp_path}/orders", "file://orders/"):
        with files.open(path) as file:
            assert file.read() == b"content"
    assert files.cat([entry["name"] for entry in files.ls(tmp_path)]) == {str(tmp_path / "orders"): b"content"}
    in_memory = EncryptedFileSystem(MemoryFileSystem(), encryption, lambda path: {"path": path})
    in_memory.pipe_file("one/context", b"content")
    assert in_memory.cat_file("/one/context") == b"content"
