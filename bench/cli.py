"""`cli`: how long a command takes, beside starting Python and making the call that it makes.

`strongroom encrypt` is a process of its own: it starts Python, loads what it needs, connects and calls. The baseline is
`python -c pass` and one such call over a connection of its own, taken in turns with it.
"""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import strongroom
from bench.report import BenchmarkError, Report, Target
from deploy.dev.clients import by_certificate
from deploy.dev.configs import ACCOUNT
from deploy.dev.mesh import Mesh, MeshOptions
from deploy.dev.profile import write_profile
from deploy.dev.topology import SERVICES

NAME = "cli"
TARGETS = {"cli_encrypt_vs_python_startup": Target(4.0, at_most=True)}

_STRONGROOM = str(Path(sys.executable).parent / "strongroom")
_KEY = "bench"
_ROUNDS, _ROUNDS_QUICK = 30, 8


def run(*, quick: bool) -> Report:
    """Measures commands on a mesh of their own."""
    # As an installed package is.
    compileall.compile_dir(Path(strongroom.__file__).parent, quiet=2)
    with tempfile.TemporaryDirectory() as directory, Mesh(Path(directory), MeshOptions()) as mesh:
        environment = _environment(mesh, Path(directory))
        _typed(environment, "key", "create", _KEY)
        times = _taken(mesh, environment, _ROUNDS_QUICK if quick else _ROUNDS)
    baseline = times["python"] + times["call"]
    return Report(
        NAME,
        {
            "cli_encrypt_vs_python_startup": times["encrypt"] / baseline,
            "cli_status_vs_python_startup": times["status"] / baseline,
            "cli_help_vs_python_startup": times["help"] / times["python"],
            **{f"{name}_ms": seconds * 1000 for name, seconds in times.items()},
        },
        TARGETS,
    )


def _taken(mesh: Mesh, environment: Mapping[str, str], rounds: int) -> dict[str, float]:
    """The median of each kind's times in seconds; the kinds take turns, so that what slows the machine slows all."""
    kinds: dict[str, Callable[[], object]] = {
        "python": lambda: subprocess.run([sys.executable, "-c", "pass"], check=True),
        "call": lambda: _call(mesh),
        "encrypt": lambda: _typed(environment, "encrypt", _KEY, "--text", "attack at dawn"),
        "status": lambda: _typed(environment, "status"),
        "help": lambda: _typed(environment, "--help"),
    }
    for work in kinds.values():
        work()
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, work in kinds.items():
            began = time.perf_counter()
            work()
            times[kind].append(time.perf_counter() - began)
    return {kind: median(taken) for kind, taken in times.items()}


def _call(mesh: Mesh) -> None:
    """What the command asks of the mesh, over a connection that is made for it."""
    with by_certificate(mesh) as client:
        client.encrypt(_KEY, b"attack at dawn")


def _environment(mesh: Mesh, directory: Path) -> Mapping[str, str]:
    files = mesh.administrator
    profile = {
        "account": ACCOUNT,
        "trust": str(files.trust),
        "certificate": str(files.certificate),
        "key": str(files.key),
        "endpoints": {service: mesh.address(service) for service in SERVICES},
    }
    write_profile(directory / "profiles.toml", profile)
    return {**os.environ, "STRONGROOM_CONFIG": str(directory / "profiles.toml")}


def _typed(environment: Mapping[str, str], *arguments: str) -> None:
    done = subprocess.run([_STRONGROOM, *arguments], env=environment, capture_output=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"strongroom {' '.join(arguments)}: {done.stderr.decode()}")
