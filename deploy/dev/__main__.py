"""`make run`: the whole mesh on this machine until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from deploy.dev.configs import ACCOUNT
from deploy.dev.doors import Doors
from deploy.dev.errors import MeshError
from deploy.dev.mesh import SOURCE, Mesh, MeshOptions
from deploy.dev.profile import PROFILE, profile_name, write_profile
from deploy.dev.provider import Choice
from deploy.dev.topology import DOORS_OFFSET, HOST, SERVICES
from strongroom.profiles import profile_path

DEFAULT_PORT = 7100
_WATCH_SECONDS = 0.25
_RENEW_SECONDS = 3600.0
_TAKEN = "Address already in use"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the mesh; 0 after Ctrl-C, 1 where it cannot start or one of its processes ends."""
    options = _arguments(argv)
    console = Console(highlight=False)
    errors = Console(stderr=True, highlight=False)
    stopping = threading.Event()
    mesh = Mesh(
        options.directory,
        MeshOptions(
            provider=options.provider,
            base_port=options.port,
            host=options.host,
            workers=dict(options.workers),
            redis_password=True,
        ),
    )

    def stop(*_: object) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt  # asked twice: do not wait for what does not end
        stopping.set()
        mesh.give_up()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    started = time.monotonic()
    try:
        with mesh, Doors(mesh, port=options.port + DOORS_OFFSET) as doors:
            seconds = time.monotonic() - started
            _announce(console, mesh, seconds)
            _announce_doors(console, doors)
            failure = _watch(mesh, stopping)
            console.print("stopping" if failure is None else "stopping the others", style="dim")
    except MeshError as error:
        failure = None if stopping.is_set() else error
    except KeyboardInterrupt:
        return 130
    if failure is not None:
        errors.print(f"[bold red]error:[/] {escape(_told(failure))}", soft_wrap=True)
        return 1
    return 0


def _watch(mesh: Mesh, stopping: threading.Event) -> MeshError | None:
    """Waits until told to stop (None) or until a process ends by itself (how it ended)."""
    renewed = time.monotonic()
    while not stopping.wait(_WATCH_SECONDS):
        failure = mesh.failure()
        if failure is not None:
            return failure
        if time.monotonic() - renewed > _RENEW_SECONDS:
            mesh.renew_certificates()
            renewed = time.monotonic()
    return None


def _told(failure: MeshError) -> str:
    """What is wrong, for a person: what a process wrote that could not listen says nothing more than that."""
    text = str(failure)
    if _TAKEN not in text:
        return text
    what = text.partition("\n")[0].partition(";")[0].partition(" ended with ")[0]
    return f"{what}: another program has taken its port meanwhile; run it again, or with `make run PORT=FIRST_PORT`"


def profile_of(mesh: Mesh) -> dict[str, object]:
    """The profile of the administrator, as the profile file has it."""
    administrator = mesh.administrator
    return {
        "account": ACCOUNT,
        "trust": str(administrator.trust),
        "certificate": str(administrator.certificate),
        "key": str(administrator.key),
        "trace_directory": str(mesh.directory.traces),
        "endpoints": {service: mesh.address(service) for service in SERVICES},
    }


def _announce(console: Console, mesh: Mesh, seconds: float) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("service", "with token", "with certificate", "internal"):
        table.add_column(heading)
    for service in SERVICES:
        listeners = mesh.topology.services[service]
        table.add_row(service, listeners.public, listeners.certificate, listeners.internal)
    table.add_row("redis", f"{HOST}:{mesh.topology.redis_port}")
    console.print(f"[bold]Strongroom runs[/] (ready in {seconds:.1f} s); Ctrl-C stops it\n")
    console.print(table)
    console.print(f"\ndata and logs: {mesh.directory.root}")
    if mesh.provider == "local":
        console.print(
            Panel(
                "The root key is a plain file, and keys are only as safe as that file.\n"
                f"{mesh.directory.root_key}\n"
                "Install SoftHSM2 and begin with a new directory for a PKCS#11 token, or use a real HSM.",
                title="provider: local — for development only",
                style="bold yellow",
                expand=False,
            )
        )
    else:
        console.print(f"provider: pkcs11 (SoftHSM2, token in {mesh.directory.hsm})")
    path = profile_path()
    name = profile_name(path, str(mesh.administrator.trust))
    current = write_profile(path, profile_of(mesh), name)
    if name != PROFILE:
        console.print(f"\nThe profile {PROFILE} is another mesh's and stays so: this one's is [bold]{name}[/].")
    option = "" if current else f" --profile {name}"
    console.print("\nIn another terminal, try:")
    for arguments in ("status", "key create my-key", "audit events"):
        console.print(f"  [bold]{_command_line()} {arguments}{option}[/]", soft_wrap=True)


def _announce_doors(console: Console, doors: Doors) -> None:
    console.print("\nFor what speaks Vault's HTTP API (docs/doors/vault):")
    console.print(f"  [bold]export VAULT_ADDR={doors.address}[/]", soft_wrap=True)
    console.print(f"  [bold]export VAULT_TOKEN={doors.token()}[/]", soft_wrap=True)


def _command_line() -> str:
    """How this user starts the command line from where they are."""
    script = Path(sys.executable).parent / "strongroom"
    if any(Path(directory) == script.parent for directory in os.get_exec_path()):
        return "strongroom"
    here = Path.cwd()
    return str(script.relative_to(here) if script.is_relative_to(here) else script)


def _worker_count(text: str) -> tuple[str, int]:
    service, _, count = text.partition("=")
    if service not in SERVICES or not count.isdigit() or int(count) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not SERVICE=COUNT with one of {', '.join(SERVICES)}")
    return service, int(count)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.dev", description="Runs the mesh on this machine.")
    parser.add_argument("--directory", type=Path, default=SOURCE / ".strongroom", help="data, keys, logs")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="first of its ports (default %(default)s)")
    parser.add_argument(
        "--host", default=HOST, help="name or address of this machine that clients reach it at (default %(default)s)"
    )
    parser.add_argument("--provider", choices=get_args(Choice), default="auto", help="where the root key is")
    parser.add_argument(
        "--workers",
        type=_worker_count,
        action="append",
        default=[],
        metavar="SERVICE=COUNT",
        help="processes of a service on its one port; may be repeated",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
