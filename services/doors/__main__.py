"""The doors: configuration → objects → listeners. `python -m services.doors serve --config FILE`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from pathlib import Path

import uvloop

from services.doors.listening.listener import Listener, run
from services.doors.listening.server_tls import ServerTls
from services.doors.mesh.calls import Mesh
from services.doors.mesh.health import MeshHealth
from services.doors.mesh.sessions import Sessions
from services.doors.settings import DoorsSettings, HttpListener, Mount, VaultSettings
from services.doors.vault.auth import Auth
from services.doors.vault.callers import Callers
from services.doors.vault.door import Engine, VaultDoor
from services.doors.vault.kv.store import KvSecrets
from services.doors.vault.kv.v1 import KvVersion1
from services.doors.vault.kv.v2 import KvVersion2
from services.doors.vault.system import System
from services.doors.vault.transit.engine import Transit
from services.doors.vault.wrapping import Wrapping
from services.runtime import config, garbage
from services.runtime.clock import system_clock
from services.runtime.config import Tls
from services.runtime.mesh.tls import TlsFiles
from services.runtime.sensitive import keep_memory_to_itself
from services.runtime.telemetry import Telemetry, configure_logging

_SERVICE = "doors"


def serve(settings: DoorsSettings) -> None:
    """Opens the doors until SIGTERM."""
    telemetry = Telemetry(_SERVICE, settings.telemetry)
    mesh = Mesh(settings.upstream, TlsFiles(settings.tls))
    mesh.start()
    listeners = [_vault(settings.vault, settings.tls, mesh, telemetry)]
    garbage.settle()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_signal(listeners))
    finally:
        mesh.close()
        telemetry.shutdown()


def _vault(settings: VaultSettings, tls: Tls, mesh: Mesh, telemetry: Telemetry) -> Listener:
    sessions = Sessions(mesh.exchange, mesh.identity, system_clock, settings.session_seconds)
    callers = Callers(sessions, settings.account)
    system = System(mesh, MeshHealth(mesh.by_health), settings.mounts, callers, system_clock)
    auth = Auth(mesh, sessions, callers, system_clock)
    mounts = {name: _engine(mount, mesh) for name, mount in settings.mounts.items()}
    wrapping = Wrapping(mesh, sessions, system_clock)
    door = VaultDoor(callers, system, auth, wrapping, mounts, mesh, telemetry)
    return Listener(settings.listener, door, _server_tls(settings.listener, tls))


def _engine(mount: Mount, mesh: Mesh) -> Engine:
    if mount.type == "transit":
        return Transit(mesh)
    secrets = KvSecrets(mesh, mount.prefix)
    return KvVersion1(secrets) if mount.type == "kv-v1" else KvVersion2(secrets)


def _server_tls(listener: HttpListener, tls: Tls) -> ServerTls | None:
    if listener.plaintext:
        return None
    certificate, key = listener.certificate or tls.certificate, listener.key or tls.key
    return ServerTls(certificate, key, listener.client_trust or tls.trust)


async def _until_signal(listeners: list[Listener]) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await run(listeners, stopping)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m services.doors")
    serving = parser.add_subparsers(dest="command", required=True).add_parser("serve", help="run until SIGTERM")
    serving.add_argument("--config", required=True, type=Path, help="TOML file")
    loaded = config.load(DoorsSettings, _SERVICE, parser.parse_args().config)
    configure_logging(_SERVICE, loaded.telemetry.log_level)
    keep_memory_to_itself()
    # A line for each request that is no HTTP would let strangers fill the log.
    logging.getLogger("uvicorn").setLevel("ERROR")
    serve(loaded)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
