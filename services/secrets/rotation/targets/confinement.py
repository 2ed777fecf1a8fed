"""What the process of one step may do, kept by the kernel whatever becomes of it.

Nothing that a step does outlives it: it writes no file anywhere, also none that a library would leave behind when the
step is ended, and starts no process, and of threads so many. Of the service, of its files and of other steps it reaches
nothing, even where all of them are of one user; of other servers those at the TCP port of its target alone, once it
knows its target's address, until when it asks servers of names. What a kernel does not keep of this (`landlock`,
`system_calls`) is left to users, the modes of files and the network.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from services.secrets.rotation.targets import landlock, system_calls
from services.secrets.rotation.targets.landlock import connect_only_to, keep_to_libraries
from services.secrets.rotation.targets.step_threads import tell
from services.secrets.rotation.targets.system_calls import (
    make_no_process_and_no_file,
    make_no_process_and_tell_of_threads,
    open_streams_alone,
)

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
# proc(5), oom_score_adj
_FIRST_TO_GO = "1000"
# `nobody`: whom no file belongs to.
_NOBODY = 65_534
OPEN_FILES = 64
"""How many descriptors a step may have."""
# Of what is written into memory before a step begins: the certificates that it trusts, or those that it shows.
_MEMORY_FILE_BYTES = 1 << 20
_PORT_OF_NAMES = 53


def not_kept() -> tuple[str, ...]:
    """What the kernel of this machine, or the sandbox that it is, does not know of what keeps a step."""
    known = {
        "Landlock": landlock.is_known(),
        "Landlock's TCP ports": landlock.knows_ports(),
        "seccomp": system_calls.is_known(),
        "seccomp's notifications": system_calls.counts_threads(),
    }
    return tuple(name for name, is_known in known.items() if not is_known)


def confine(seconds: float, memory_bytes: int, cpu_seconds: int, teller: socket.socket | None = None) -> None:
    """Sets the limits of the process that calls. `memory_bytes` are beyond what it has already; by `teller` whoever
    counts its threads (`step_threads`) hears of them."""
    library = ctypes.CDLL(None)
    # Whose it is decides who may write to the next.
    library.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    with suppress(OSError):
        # Where memory runs out all the same, it is this process's that is taken.
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
    if os.geteuid() == 0:
        _become_nobody()
    # Another step of the same user cannot look into this one. A change of user would undo these.
    for option, value in ((_PR_SET_PDEATHSIG, signal.SIGKILL), (_PR_SET_NO_NEW_PRIVS, 1), (_PR_SET_DUMPABLE, 0)):
        library.prctl(option, value, 0, 0, 0)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + memory_bytes
    for limit, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_FSIZE, _MEMORY_FILE_BYTES),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    keep_to_libraries()
    listener = make_no_process_and_tell_of_threads() if teller is not None else None
    if teller is not None and listener is not None:
        tell(teller, listener)
    else:
        make_no_process_and_no_file()


def connect_to(ports: Collection[int], *, names: bool = False) -> None:
    """Before the process starts a thread: it connects to these TCP ports from now on, and with `names` to the one of
    those who know names."""
    connect_only_to({*ports, _PORT_OF_NAMES} if names else ports)


def reach_no_neighbour() -> None:
    """Before the process talks to anybody: from now on it opens no Unix socket, by which it would reach servers of this
    machine that let its user in, and none for datagrams, by which it would tell anybody anything. So it finds no
    address of a name any more."""
    open_streams_alone()


def write_nothing_more() -> None:
    """Before the process talks to anybody: no file takes a byte from it from now on, wherever it is."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _become_nobody() -> None:
    """A service that runs as root, in a container say, would have its files read by whoever takes this process over."""
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    # libpq looks for files of the user's there, and fails where it may not look.
    os.environ["HOME"] = "/"
