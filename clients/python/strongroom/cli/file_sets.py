"""Which files a command reads, and where it writes what comes of each."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import typer

from strongroom.errors import StrongroomError

Found = TypeVar("Found")
SUFFIX = ".strongroom"
STANDARD = Path("-")
"""Standard input, or standard output."""


@dataclass(frozen=True, slots=True)
class Work:
    """One file to read and one to write."""

    source: Path
    destination: Path


def encrypted(sources: Sequence[Path], out: Path | None) -> Sequence[Work]:
    """What is to be encrypted: files, all files in folders but those that are encrypted already, and patterns."""
    return required(_planned(sources, out, _with_suffix, lambda path: path.suffix != SUFFIX), "encrypted")


def decrypted(sources: Sequence[Path], out: Path | None) -> Sequence[Work]:
    """What is to be decrypted: files, all encrypted files in folders, and patterns."""
    return required(_planned(sources, out, _without_suffix, lambda path: path.suffix == SUFFIX), "decrypted")


def chosen(sources: Sequence[Path]) -> list[Path]:
    """Encrypted files that are named, in folders, or matched by patterns."""
    found = [path for source in sources for _, path in _files(source, lambda path: path.suffix == SUFFIX)]
    return list(dict.fromkeys(found))


def required(found: Sequence[Found], done: str) -> Sequence[Found]:
    """What was found. Raises NOTHING_MATCHED where that is nothing: whoever named it takes it for `done`."""
    if not found:
        raise StrongroomError(
            "NOTHING_MATCHED", f"nothing was {done}: no such file is in what was named", code="NOT_FOUND"
        )
    return found


def in_place(sources: Sequence[Path]) -> Sequence[Work]:
    """Encrypted files that are written anew where they are; of standard input, to standard output."""
    return required([Work(path, path) for path in chosen(sources)], "rewrapped")


def _planned(
    sources: Sequence[Path], out: Path | None, renamed: Callable[[Path], Path], wanted: Callable[[Path], bool]
) -> list[Work]:
    if STANDARD in sources:
        if len(sources) > 1:
            raise typer.BadParameter("standard input is read alone", param_hint="FILE")
        return [Work(STANDARD, out or STANDARD)]
    # A pattern may match a folder, and what is in it again.
    roots: dict[Path, Path] = {}
    for source in sources:
        for root, path in _files(source, wanted):
            roots.setdefault(path, root)
    found = [(root, path) for path, root in roots.items()]
    is_one = len(sources) == 1 and len(found) == 1 and found[0][1] == sources[0]
    if out is not None and is_one and not out.is_dir():
        return [Work(sources[0], out)]
    if out is not None and (out == STANDARD or (out.exists() and not out.is_dir())):
        raise typer.BadParameter("several files are written into a folder", param_hint="--out")
    works = [Work(path, renamed(path if out is None else out / path.relative_to(root))) for root, path in found]
    places = [work.destination for work in works]
    twice = {place for place in places if places.count(place) > 1} if len(set(places)) < len(places) else set()
    if twice:
        raise typer.BadParameter(f"two files would be written to {min(twice)}", param_hint="FILE")
    return works


def _files(source: Path, wanted: Callable[[Path], bool]) -> Iterator[tuple[Path, Path]]:
    """The files that an argument stands for, each with the folder that its place is told from.

    Links to folders are not followed, and in folders only regular files are taken.
    """
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.is_file() and not path.is_symlink() and wanted(path):
                yield source, path
    elif source.exists() or not glob.has_magic(str(source)):
        yield source.parent, source
    else:
        matched = sorted(glob.glob(str(source), recursive=True))  # noqa: PTH207  # patterns may begin at the root
        if not matched:
            raise typer.BadParameter(f"{source} matches nothing", param_hint="FILE")
        root = _root_of_pattern(source)
        for match in map(Path, matched):
            # What is matched keeps its place below the part of the pattern that is no pattern.
            yield from ((root if match.is_relative_to(root) else found, path) for found, path in _files(match, wanted))


def _root_of_pattern(source: Path) -> Path:
    """The folders of a pattern before its first magic character."""
    parts = source.parts
    plain = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:plain])


def _with_suffix(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)


def _without_suffix(path: Path) -> Path:
    if path.suffix != SUFFIX:
        raise typer.BadParameter(f"needed, as {path.name} does not end in {SUFFIX}", param_hint="--out")
    return path.with_suffix("")
