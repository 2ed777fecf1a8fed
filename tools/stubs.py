"""Python stubs of the contracts: `python -m tools.stubs` writes them, `--check` says if they are current.

The stubs are committed inside the client package, so that nobody needs protoc to install it.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGES = ROOT / "clients" / "python"
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


class GenerationError(Exception):
    """protoc refused the contracts; it has said why on stderr."""


@dataclass(frozen=True, order=True)
class Difference:
    """One generated file that is not as the contracts say; `what` is `missing`, `stale` or `differs`."""

    path: Path
    what: str


def generate(protos: Path, output: Path) -> None:
    """Writes the stubs of every file under `protos` below `output`, each directory a package.

    Raises GenerationError where protoc refuses.
    """
    sources = sorted(str(path.relative_to(protos)) for path in protos.rglob("*.proto"))
    if not sources:
        return
    output.mkdir(parents=True, exist_ok=True)
    beside_python = Path(sys.executable).parent
    arguments = [
        *(sys.executable, "-m", "grpc_tools.protoc"),
        f"--proto_path={protos}",
        f"--plugin=protoc-gen-mypy={beside_python / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={beside_python / 'protoc-gen-mypy_grpc'}",
        f"--python_out={output}",
        f"--grpc_python_out={output}",
        f"--mypy_out=quiet:{output}",
        f"--mypy_grpc_out=quiet,only_sync:{output}",
        *sources,
    ]
    if subprocess.run(arguments, check=False).returncode != 0:
        raise GenerationError("protoc refused the contracts")
    for package in package_directories(protos, output):
        (package / "__init__.py").touch()


def package_directories(protos: Path, output: Path) -> Iterator[Path]:
    """The package directories that the contracts call for below `output`, without the root package."""
    owned = {
        parent
        for path in protos.rglob("*.proto")
        for parent in path.relative_to(protos).parents
        if len(parent.parts) > 1
    }
    return (output / directory for directory in sorted(owned))


def stubs_in(directory: Path) -> set[Path]:
    """Every generated module below `directory`, relative to it."""
    return {path.relative_to(directory) for path in directory.rglob("*_pb2*") if path.name.endswith(SUFFIXES)}


def differences(fresh: Path, committed: Path) -> list[Difference]:
    """What would have to change below `committed` for it to hold exactly what `fresh` holds."""
    wanted, present = stubs_in(fresh), stubs_in(committed)
    markers = {path.relative_to(fresh) for path in fresh.rglob("__init__.py")}
    found = [Difference(path, "stale") for path in present - wanted]
    found += [Difference(path, "missing") for path in markers if not (committed / path).exists()]
    for path in wanted:
        if path not in present:
            found.append(Difference(path, "missing"))
        elif (fresh / path).read_bytes() != (committed / path).read_bytes():
            found.append(Difference(path, "differs"))
    return sorted(found)


def write(fresh: Path, committed: Path) -> list[Difference]:
    """Makes `committed` hold what `fresh` holds, removes what is stale, and tells what changed."""
    changed = differences(fresh, committed)
    for difference in changed:
        target = committed / difference.path
        if difference.what == "stale":
            target.unlink()
            _remove_left_over_packages(target.parent, committed)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fresh / difference.path, target)
    return changed


def _remove_left_over_packages(directory: Path, root: Path) -> None:
    """Removes `directory` and those above it while an empty package marker is all that they hold."""
    while directory != root:
        left = [path for path in directory.iterdir() if path.name != "__pycache__"]
        if any(path.name != "__init__.py" or path.stat().st_size for path in left):
            return
        shutil.rmtree(directory)
        directory = directory.parent


def main(argv: Sequence[str] | None = None) -> int:
    """Generates, or with `--check` compares; 1 where the committed stubs differ or protoc refuses."""
    parser = argparse.ArgumentParser(prog="python -m tools.stubs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where they are not current")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="strongroom-stubs-") as temporary:
        fresh = Path(temporary)
        try:
            generate(PROTOS, fresh)
        except GenerationError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        if not options.check:
            changed = write(fresh, PACKAGES)
            for difference in changed:
                action = "removed" if difference.what == "stale" else "wrote"
                sys.stdout.write(f"{action} {difference.path}\n")
            return 0
        found = differences(fresh, PACKAGES)
    for difference in found:
        sys.stderr.write(f"{difference.what}: {PACKAGES.relative_to(ROOT) / difference.path}\n")
    if found:
        sys.stderr.write("run `make protos`\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
