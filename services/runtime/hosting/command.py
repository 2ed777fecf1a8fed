"""The command line that every service has: `python -m services.<service> serve|… --config FILE`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from services.runtime import config
from services.runtime.config import ServiceSettings
from services.runtime.hosting import workers
from services.runtime.sensitive import keep_memory_to_itself
from services.runtime.telemetry import configure_logging

S = TypeVar("S", bound=ServiceSettings)


@dataclass(frozen=True, slots=True)
class Preparation(Generic[S]):
    """What has to be done once before a service may serve: `migrate` its database, `initialize` its token."""

    command: str
    help: str
    run: Callable[[S], None]


def run(
    service: str,
    settings: type[S],
    serve: Callable[[S], None],
    preparation: Preparation[S],
    *,
    single_process: bool = False,
) -> int:
    """Parses the arguments, loads the configuration and runs; answers the exit status."""
    parser = argparse.ArgumentParser(prog=f"python -m services.{service}")
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="run the service until SIGTERM")
    preparing = commands.add_parser(preparation.command, help=preparation.help)
    for command in (serving, preparing):
        command.add_argument("--config", required=True, type=Path, help="TOML file")
    if not single_process:
        serving.add_argument("--workers", type=int, default=1, help="processes on one port")
    arguments = parser.parse_args()
    loaded = config.load(settings, service, arguments.config)
    configure_logging(service, loaded.telemetry.log_level)
    keep_memory_to_itself()
    if arguments.command == preparation.command:
        preparation.run(loaded)
        return 0
    if getattr(arguments, "workers", 1) > 1 and workers.worker_number() is None:
        return workers.supervise(service, str(arguments.config), arguments.workers)
    workers.end_with_supervisor()
    serve(loaded)
    return 0
