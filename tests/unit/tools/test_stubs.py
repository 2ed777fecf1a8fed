"""Stubs: generation writes what the contracts say, removes what they no longer say, and leaves the rest alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.stubs import Difference, GenerationError, differences, generate, write

CONTRACT = """syntax = "proto3";
package strongroom.test.v1;
import "google/protobuf/timestamp.proto";
message Thing { google.protobuf.Timestamp create_time = 1; }
service ThingService { rpc GetThing(Thing) returns (Thing); }
"""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    protos, output = tmp_path_factory.mktemp("protos"), tmp_path_factory.mktemp("fresh")
    contract = protos / "strongroom" / "test" / "v1" / "thing.proto"
    contract.parent.mkdir(parents=True)
    contract.write_text(CONTRACT)
    generate(protos, output)
    return output


@pytest.fixture
def committed(tmp_path: Path, fresh: Path) -> Path:
    package = tmp_path / "strongroom"
    package.mkdir()
    (package / "__init__.py").write_text('"""By hand."""\n')
    write(fresh, tmp_path)
    return tmp_path


def test_every_contract_gets_modules_and_their_types(committed: Path) -> None:
    package = committed / "strongroom" / "test" / "v1"
    assert sorted(path.name for path in package.iterdir()) == [
        "__init__.py",
        "thing_pb2.py",
        "thing_pb2.pyi",
        "thing_pb2_grpc.py",
        "thing_pb2_grpc.pyi",
    ]
    assert (committed / "strongroom" / "test" / "__init__.py").read_text() == ""
    assert (committed / "strongroom" / "__init__.py").read_text() == '"""By hand."""\n'


def test_current_stubs_do_not_differ(fresh: Path, committed: Path) -> None:
    assert differences(fresh, committed) == []
    assert write(fresh, committed) == []


def test_changed_and_missing_stubs_are_named(fresh: Path, committed: Path) -> None:
    package = Path("strongroom/test/v1")
    (committed / package / "thing_pb2.pyi").write_text("changed")
    (committed / package / "thing_pb2.py").unlink()
    assert differences(fresh, committed) == [
        Difference(package / "thing_pb2.py", "missing"),
        Difference(package / "thing_pb2.pyi", "differs"),
    ]


def test_stubs_without_a_contract_go_with_their_package(fresh: Path, committed: Path) -> None:
    gone = committed / "strongroom" / "gone" / "v1"
    gone.mkdir(parents=True)
    for marker in (gone.parent / "__init__.py", gone / "__init__.py"):
        marker.touch()
    (gone / "gone_pb2.py").touch()
    assert differences(fresh, committed) == [Difference(Path("strongroom/gone/v1/gone_pb2.py"), "stale")]
    write(fresh, committed)
    assert not gone.parent.exists()


def test_modules_written_by_hand_stay_where_stubs_go(fresh: Path, committed: Path) -> None:
    package = committed / "strongroom" / "client"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "client.py").write_text("by hand")
    (package / "old_pb2.py").touch()
    write(fresh, committed)
    assert sorted(path.name for path in package.iterdir()) == ["__init__.py", "client.py"]


def test_contract_with_an_error_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.proto").write_text("syntax = 3;")
    with pytest.raises(GenerationError):
        generate(tmp_path, tmp_path / "output")
    assert "broken.proto" in capfd.readouterr().err
