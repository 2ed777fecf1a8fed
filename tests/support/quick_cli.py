"""`strongroom` and `python` for scripts that call them a hundred times, at a tenth of the cost.

One process loads the client. For each call it forks, and the child is the command, with the caller's arguments,
environment, directory and standard streams: a process of its own, like any other, that has loaded its modules already.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_MOST = 1 << 20
_LOADED = (
    "cryptography.hazmat.primitives.ciphers.aead",
    "grpc_status.rpc_status",
    "rich.table",
    "strongroom.calls.access.access",
    "strongroom.calls.audit.audit",
    "strongroom.calls.keys.keys",
    "strongroom.calls.secrets.secrets",
    "strongroom.client",
    "strongroom.secret_cache",
)
# What stands in the scripts' PATH: it hands its streams over and exits as the command did.
_CALLER = """#!{python} -ISE
import array, json, os, signal, socket, sys
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
call = json.dumps([{name!r}, sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
with socket.socket(socket.AF_UNIX) as server:
    server.connect({place!r})
    socket.send_fds(server, [len(call).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(call)
    code = server.recv(1)
sys.exit(code[0] if code else 125)
"""


@contextmanager
def quick_commands(directory: Path) -> Iterator[Path]:
    """A directory with both, to be put in front of PATH, until the block ends."""
    place = directory / "commands"
    binaries = directory / "bin"
    binaries.mkdir()
    for name in ("strongroom", "python"):
        caller = binaries / name
        caller.write_text(_CALLER.format(python=sys.executable, name=name, place=str(place)))
        caller.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place))
        server.listen(16)
        process = _spawn(server)
        try:
            yield binaries
        finally:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


def _spawn(server: socket.socket) -> int:
    """A fresh interpreter, since this one has threads."""
    os.set_inheritable(server.fileno(), True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.support.quick_cli", str(server.fileno())]
    return os.posix_spawn(sys.executable, command, environment)


def _serve(number: int) -> None:
    from importlib import import_module
    from pkgutil import iter_modules

    import strongroom.cli

    # Before the package has a module of this name.
    command_line = strongroom.cli.main
    commands = [f"strongroom.cli.{module.name}" for module in iter_modules(strongroom.cli.__path__)]
    for name in (*_LOADED, *commands):
        import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    server = socket.socket(fileno=number)
    while True:
        connection, _ = server.accept()
        if os.fork() == 0:
            _one(connection, command_line)
        connection.close()


def _one(connection: socket.socket, command_line: Callable[[], None]) -> None:
    """Serves one call, and never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    length, streams, _, _ = socket.recv_fds(connection, 4, 3)
    data = b""
    while len(data) < int.from_bytes(length, "big"):
        data += connection.recv(_MOST)
    name, arguments, environment, directory = json.loads(data)
    child = os.fork()
    if child == 0:
        connection.close()
        for target, stream in enumerate(streams):
            os.dup2(stream, target)
        os._exit(_run(command_line if name == "strongroom" else _program, [name, *arguments], environment, directory))
    for stream in streams:
        os.close(stream)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    with suppress(OSError):
        connection.sendall(bytes([code if code >= 0 else 128 - code]))
    os._exit(0)


def _run(work: Callable[[], None], arguments: list[str], environment: Mapping[str, str], directory: str) -> int:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in ((0, "r"), (1, "w"), (2, "w")))
    sys.argv = arguments
    try:
        work()
    except SystemExit as ended:
        return _code(ended.code)
    except BaseException:  # noqa: BLE001  # as an interpreter does
        traceback.print_exc()
        return 1
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
    return 0


def _program() -> None:
    """Runs a program that comes by standard input, as `python -` does."""
    exec(compile(sys.stdin.read(), "<stdin>", "exec"), {"__name__": "__main__"})  # noqa: S102  # that is what it is for


def _code(code: Any) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    sys.stderr.write(f"{code}\n")
    return 1


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
