"""`python -m bench [NAME …] [--json] [--quick]`: runs benchmarks, all of them without a name."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import grpc
from rich.console import Console

from bench import abuse, access, algorithms, audit, cli, doors, echo, hsm_soak, keystore, peers, rotation, sdk
from bench.report import BenchmarkError, Report
from deploy.dev.errors import MeshError


class Benchmark(Protocol):
    """One benchmark. `quick` ends within a minute, at the price of noise."""

    def __call__(self, *, quick: bool) -> Report:
        """Measures."""


BENCHMARKS: Mapping[str, Benchmark] = {
    echo.NAME: echo.run,
    algorithms.NAME: algorithms.run,
    keystore.NAME: keystore.run,
    access.NAME: access.run,
    hsm_soak.NAME: hsm_soak.run,
    audit.NAME: audit.run,
    rotation.NAME: rotation.run,
    sdk.NAME: sdk.run,
    cli.NAME: cli.run,
    doors.NAME: doors.run,
    peers.NAME: peers.run,
    abuse.NAME: abuse.run,
}


def main(argv: Sequence[str] | None = None) -> int:
    """0 when every benchmark could be measured, 1 when one could not; a missed target is a figure, not a failure."""
    options = _arguments(argv)
    if options.list:
        for name in BENCHMARKS:
            print(name)
        return 0
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    beside = {one.NAME: partial(one.run, openbao=options.openbao) for one in (doors, peers)}
    benchmarks: dict[str, Benchmark] = {**BENCHMARKS, **beside}
    failed = False
    # There is nothing to measure beside unless somebody says where it is.
    for name in options.names or [name for name in benchmarks if name != peers.NAME or options.openbao]:
        try:
            with errors.status(f"{name} …"):
                report = benchmarks[name](quick=options.quick)
        except (BenchmarkError, MeshError, grpc.RpcError) as error:
            errors.print(f"[bold red]{name} failed:[/] ", end="")
            errors.print(str(error), markup=False, soft_wrap=True)
            failed = True
            continue
        if options.json:
            print(report.json_line(), flush=True)
        else:
            report.print_table(console)
    return 1 if failed else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures Strongroom on this machine.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run; all without one")
    parser.add_argument("--json", action="store_true", help="one JSON line a benchmark in place of a table")
    parser.add_argument("--quick", action="store_true", help="end within a minute a benchmark")
    parser.add_argument(
        "--openbao", metavar="FOLDER", type=Path, help="doors, peers: a running OpenBao to measure beside"
    )
    parser.add_argument("--list", action="store_true", help="name the benchmarks and end")
    options = parser.parse_args(argv)
    for name in options.names:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark {name!r}; there are: {', '.join(BENCHMARKS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
