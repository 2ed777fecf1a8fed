"""`strongroom audit witness`: a witness that anyone can run, anywhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from strongroom.cli.audit_logs import Keys, keys_of
from strongroom.cli.command import Report, Session, command


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    command(app, "witness", "strongroom audit witness --key log/keys --state witness --name witness.example.com/w1")(
        witness
    )


def witness(
    session: Session,
    key: Keys,
    state: Annotated[Path, typer.Option(metavar="FOLDER", help="Its key, and what it cosigned last. Keep it.")],
    name: Annotated[str, typer.Option(metavar="TEXT", help="Its name, such as witness.example.com/w1.")],
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where it serves HTTP.")] = "127.0.0.1:7140",
) -> Report:
    """Run a witness (C2SP tlog-witness) of the logs whose keys are given, until Ctrl-C.

    It cosigns a checkpoint only if it goes on from the one before. Prints its own key first: configure that in the log.
    """
    del session  # a witness knows no profile
    import time

    from strongroom.cli.witness_server import WitnessServer
    from strongroom.tlog.notes import is_name
    from strongroom.tlog.witness import Witness, WitnessState

    if not is_name(name):
        raise typer.BadParameter("has a space, a +, or nothing in it", param_hint="--name")
    host, _, port = listen.rpartition(":")
    if not (port.isascii() and port.isdecimal() and len(port) < 6 and int(port) < 1 << 16):
        raise typer.BadParameter(f"'{listen}' is not HOST:PORT, with a port up to 65535", param_hint="--listen")
    own = Witness(name, WitnessState(state), keys_of(key, "--key"), time.time)
    server = WitnessServer(own, host.strip("[]"), int(port))
    sys.stdout.write(f"{own.verifier_key}\n")
    sys.stdout.flush()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()
    return Report({}, silent=True)
