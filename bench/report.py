"""What a benchmark answers: figures, some of them with a target, and the machine they were measured on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

_PACKAGES = ("grpcio", "protobuf", "cryptography", "sqlalchemy")
_DIGITS = 4


class BenchmarkError(Exception):
    """The benchmark could not be run, or what it measured did not do its work; there are no figures then."""


@dataclass(frozen=True)
class Target:
    """What a figure must be: at least or at most `value`."""

    value: float
    at_most: bool = False

    def met_by(self, figure: float) -> bool:
        """Whether the figure is as it must be."""
        return figure <= self.value if self.at_most else figure >= self.value

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.value:g}"


@dataclass(frozen=True)
class Report:
    """The outcome of one run of a benchmark."""

    bench: str
    figures: Mapping[str, float]
    targets: Mapping[str, Target] = field(default_factory=dict)

    def json_line(self) -> str:
        """One line: `{"bench": …, "figures": {…}, "machine": {…}}`."""
        figures = {name: float(f"{value:.{_DIGITS}g}") for name, value in self.figures.items()}
        return json.dumps({"bench": self.bench, "figures": figures, "machine": machine()})

    def print_table(self, console: Console) -> None:
        """The figures as people read them; those with a target first."""
        table = Table(title=self.bench, title_justify="left", header_style="dim")
        table.add_column("figure")
        table.add_column("value", justify="right")
        table.add_column("target", justify="right")
        table.add_column("")
        for name in sorted(self.figures, key=lambda name: name not in self.targets):
            target = self.targets.get(name)
            table.add_row(name, _readable(self.figures[name]), str(target or ""), self._mark(name))
        console.print(table)
        facts = machine()
        console.print(", ".join(f"{name} {value}" for name, value in facts.items()), style="dim", soft_wrap=True)

    def _mark(self, name: str) -> str:
        target = self.targets.get(name)
        if target is None:
            return ""
        return "[green]met[/]" if target.met_by(self.figures[name]) else "[bold red]missed[/]"


def machine() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "h2load": _h2load_version(),
        **{package: version(package) for package in _PACKAGES},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _h2load_version() -> str:
    try:
        answer = subprocess.run(["h2load", "--version"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "absent"
    return answer.stdout.strip().rpartition("/")[2]


def _readable(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
