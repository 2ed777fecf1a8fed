"""What the encryption SDK costs in other languages, beside bare AES-256-GCM of that language.

Each client has a program `bench`, which takes the number of rounds and prints one JSON line of figures.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.report import BenchmarkError, Target

TARGETS = {"kib_vs_bare": Target(0.25), "stream_vs_bare": Target(0.8)}
"""The figures of each language."""

_CLIENTS = Path(__file__).parents[1] / "clients"
_SECONDS = 900


@dataclass(frozen=True)
class Language:
    """A client in another language. Commands run in its folder; the number of rounds is put behind `run`."""

    name: str
    needs: str
    build: Sequence[str]
    run: Sequence[str]


_NPM_CI = "npm ci --ignore-scripts --prefer-offline --no-audit --no-fund --silent"

LANGUAGES = (
    Language("go", "go", (), ("go", "run", "./cmd/bench")),
    Language(
        "java",
        "mvn",
        ("mvn", "-q", "-B", "-Dmaven.test.skip=true", "package"),
        ("java", "-cp", "target/classes:target/lib/*", "examples/Bench.java"),
    ),
    Language(
        "node",
        "npm",
        ("sh", "-c", f"{_NPM_CI} && npm run --silent build"),
        ("node", "dist/bench.js"),
    ),
    Language(
        "rust",
        "cargo",
        (),
        ("cargo", "run", "--locked", "--quiet", "--release", "--example", "bench", "--"),
    ),
)


def targets() -> Mapping[str, Target]:
    """What the figures of all languages must be."""
    return {f"{one.name}_{figure}": target for one in LANGUAGES for figure, target in TARGETS.items()}


def measured(rounds: int) -> dict[str, float]:
    """The figures of every language that this machine has."""
    figures: dict[str, float] = {}
    for language in LANGUAGES:
        if shutil.which(language.needs) is None:
            continue
        if language.build:
            _run(language, language.build)
        found = json.loads(_run(language, (*language.run, str(rounds))))
        figures |= {f"{language.name}_{figure}": float(found[figure]) for figure in TARGETS}
    return figures


def _run(language: Language, command: Sequence[str]) -> str:
    done = subprocess.run(
        command, cwd=_CLIENTS / language.name, capture_output=True, text=True, check=False, timeout=_SECONDS
    )
    if done.returncode != 0:
        raise BenchmarkError(f"{language.name}: {' '.join(command)}: {done.stdout[-500:]}{done.stderr[-500:]}")
    return done.stdout
