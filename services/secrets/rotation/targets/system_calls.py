"""Which system calls a process may make no longer (seccomp(2)): what would leave something behind that outlives it, or
reach another process, its limits and its turn at a processor included, or a server by another way than those that
Landlock looks at. It may start threads, which another process may count (`step_threads`), and no process.

Only for the architectures whose numbers stand here.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass

_PR_SET_SECCOMP, _FILTER_MODE = 22, 2
# linux/seccomp.h
_SET_MODE_FILTER, _GET_NOTIF_SIZES = 1, 3
_FOR_ALL_THREADS, _NEW_LISTENER = 1 << 0, 1 << 3
# SECCOMP_USER_NOTIF_FLAG_CONTINUE
_LETS_BE_FROM = (5, 5)
# linux/filter.h
_LOAD, _EQUAL, _SOME, _AT_LEAST, _PASS, _RETURN, _AND = 0x20, 0x15, 0x45, 0x35, 0x05, 0x06, 0x54
_INSTRUCTION = struct.Struct("=HBBI")
# Of struct seccomp_data.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_ALLOW, _KILL, _FAIL, _TELL = 0x7FFF0000, 0x80000000, 0x00050000, 0x7FC00000
_CLONE_THREAD = 0x00010000
# Who gets the signals of a descriptor, and which: fcntl's commands, and those of ioctl for sockets.
_SETOWN, _SETSIG, _SETOWN_EX = 8, 10, 15
_FIOSETOWN, _SIOCSPGRP = 0x8901, 0x8902
# As the calling process says of itself.
_OWN = 0
_MAKES_A_FILE = os.O_CREAT | (os.O_TMPFILE & ~os.O_DIRECTORY)
# Of the other way of x86-64 to call.
_X32 = 0x40000000
# What a step needs: the network, what the machine's addresses are, and, for a moment, a way to itself.
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_UNIX)
# Without those that pass by Landlock, such as MPTCP.
_PROTOCOLS = (0, socket.IPPROTO_TCP, socket.IPPROTO_UDP)
# Of types, in those that send to whom they are not connected with; and what of a type is no flag.
_DATAGRAM, _TYPE = 0b10, 0xF
# Connects and sends in one, which Landlock does not see.
_MSG_FASTOPEN = 0x20000000


@dataclass(frozen=True, slots=True)
class _Numbers:
    """An architecture's, by names of Linux."""

    audit: int
    seccomp: int
    calls: Mapping[str, int]


# The same everywhere.
_COMMON = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "clone3": 435, "openat2": 437, "pidfd_getfd": 438,
    "fchmodat2": 452, "setxattrat": 463, "removexattrat": 466, "file_setattr": 469,
}  # fmt: skip
_ARCHITECTURES = {
    "x86_64": _Numbers(
        0xC000003E,
        317,
        {
            **_COMMON, "open": 2, "ioctl": 16, "shmget": 29, "shmat": 30, "shmctl": 31, "socket": 41, "sendto": 44,
            "sendmsg": 46, "socketpair": 53, "sendmmsg": 307, "clone": 56, "fork": 57, "vfork": 58, "execve": 59,
            "kill": 62, "semget": 64, "semop": 65, "semctl": 66, "msgget": 68, "msgsnd": 69, "msgrcv": 70,
            "msgctl": 71, "fcntl": 72, "truncate": 76, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85,
            "link": 86, "unlink": 87, "symlink": 88, "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93,
            "lchown": 94, "ptrace": 101, "rt_sigqueueinfo": 129, "utime": 132, "mknod": 133, "setpriority": 141,
            "sched_setparam": 142, "sched_setscheduler": 144, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190,
            "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199, "tkill": 200, "sched_setaffinity": 203,
            "semtimedop": 220, "tgkill": 234, "utimes": 235, "mq_open": 240, "mq_unlink": 241, "add_key": 248,
            "request_key": 249, "keyctl": 250, "ioprio_set": 251, "openat": 257, "mkdirat": 258, "mknodat": 259,
            "fchownat": 260, "futimesat": 261, "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266,
            "fchmodat": 268, "unshare": 272, "utimensat": 280, "rt_tgsigqueueinfo": 297, "perf_event_open": 298,
            "prlimit64": 302, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "sched_setattr": 314,
            "renameat2": 316, "bpf": 321, "execveat": 322, "userfaultfd": 323,
        },
    ),
    "aarch64": _Numbers(
        0xC00000B7,
        277,
        {
            **_COMMON, "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15,
            "fremovexattr": 16, "fcntl": 25, "ioctl": 29, "ioprio_set": 30, "mknodat": 33, "mkdirat": 34,
            "unlinkat": 35, "symlinkat": 36, "linkat": 37, "renameat": 38, "truncate": 45, "fchmod": 52, "fchmodat": 53,
            "fchownat": 54, "fchown": 55, "openat": 56, "utimensat": 88, "unshare": 97, "ptrace": 117,
            "sched_setparam": 118, "sched_setscheduler": 119, "sched_setaffinity": 122, "kill": 129, "tkill": 130,
            "tgkill": 131, "rt_sigqueueinfo": 138, "setpriority": 140, "mq_open": 180, "mq_unlink": 181, "msgget": 186,
            "msgctl": 187, "msgrcv": 188, "msgsnd": 189, "semget": 190, "semctl": 191, "semtimedop": 192, "semop": 193,
            "shmget": 194, "shmctl": 195, "shmat": 196, "add_key": 217, "request_key": 218, "keyctl": 219, "clone": 220,
            "execve": 221, "rt_tgsigqueueinfo": 240, "perf_event_open": 241, "prlimit64": 261, "setns": 268,
            "process_vm_readv": 270, "process_vm_writev": 271, "sched_setattr": 274, "renameat2": 276, "bpf": 280,
            "execveat": 281, "userfaultfd": 282, "socket": 198, "socketpair": 199, "sendto": 206, "sendmsg": 211,
            "sendmmsg": 269,
        },
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Rule:
    """What decides beside the number: which argument, the bits or values there, and whether one of these is needed, or
    none may be."""

    argument: int
    comparison: int
    values: tuple[int, ...]
    lets: bool


_JUDGED = {
    "clone": (_Rule(0, _SOME, (_CLONE_THREAD,), lets=True),),
    "open": (_Rule(1, _SOME, (_MAKES_A_FILE,), lets=False),),
    "openat": (_Rule(2, _SOME, (_MAKES_A_FILE,), lets=False),),
    "prlimit64": (_Rule(0, _EQUAL, (_OWN,), lets=True),),
    "fcntl": (_Rule(1, _EQUAL, (_SETOWN, _SETSIG, _SETOWN_EX), lets=False),),
    "ioctl": (_Rule(1, _EQUAL, (_FIOSETOWN, _SIOCSPGRP), lets=False),),
    "socket": (_Rule(0, _EQUAL, _FAMILIES, lets=True), _Rule(2, _EQUAL, _PROTOCOLS, lets=True)),
    "socketpair": (_Rule(1, _SOME, (_DATAGRAM,), lets=False),),
    "sendto": (_Rule(3, _SOME, (_MSG_FASTOPEN,), lets=False),),
    "sendmsg": (_Rule(2, _SOME, (_MSG_FASTOPEN,), lets=False),),
    "sendmmsg": (_Rule(3, _SOME, (_MSG_FASTOPEN,), lets=False),),
}
# Libraries take another way where these are not known.
_UNKNOWN = frozenset({"clone3", "openat2", "io_uring_setup"})


def is_known() -> bool:
    """Whether the kernel would keep a process so, on this architecture. It is asked with a filter that is nowhere."""
    if platform.machine() not in _ARCHITECTURES:
        return False
    library = ctypes.CDLL(None, use_errno=True)
    return bool(library.prctl(_PR_SET_SECCOMP, _FILTER_MODE, None, 0, 0)) and ctypes.get_errno() == errno.EFAULT


def counts_threads() -> bool:
    """Whether the kernel tells another process of the threads that one starts, which may then let them be."""
    numbers = _ARCHITECTURES.get(platform.machine())
    if numbers is None or _seccomp(numbers, _GET_NOTIF_SIZES, 0, ctypes.create_string_buffer(6)) != 0:
        return False
    release = re.match(r"(\d+)\.(\d+)", platform.release())
    return release is not None and tuple(map(int, release.groups())) >= _LETS_BE_FROM


def make_no_process_and_no_file() -> bool:
    """Keeps the calling thread, and what it starts from now on; answers whether the kernel does. The process must not
    be able to get privileges (PR_SET_NO_NEW_PRIVS)."""
    numbers = _ARCHITECTURES.get(platform.machine())
    return numbers is not None and _keep(numbers, _program(numbers, _ALLOW), 0) == 0


def make_no_process_and_tell_of_threads() -> int | None:
    """Keeps the calling thread likewise, where each start of a thread waits for whoever listens at the descriptor that
    is answered; None where the kernel does not do so, and nothing is kept yet."""
    numbers = _ARCHITECTURES.get(platform.machine()) if counts_threads() else None
    listener = _keep(numbers, _program(numbers, _TELL), _NEW_LISTENER) if numbers is not None else -1
    return listener if listener >= 0 else None


def open_streams_alone() -> bool:
    """Keeps every thread of the process from opening a socket by which it could reach a server of this machine that
    listens at a path, or on the network any by another protocol than TCP; answers whether the kernel does."""
    numbers = _ARCHITECTURES.get(platform.machine())
    if numbers is None:
        return False
    program = [
        _instruction(_LOAD, _NUMBER),
        _instruction(_EQUAL, numbers.calls["socket"], otherwise=8),
        _instruction(_LOAD, _ARGUMENTS),
        _instruction(_EQUAL, socket.AF_UNIX, then=5),
        _instruction(_EQUAL, socket.AF_INET, then=1),
        _instruction(_EQUAL, socket.AF_INET6, otherwise=4),
        _instruction(_LOAD, _ARGUMENTS + 8),
        _instruction(_AND, _TYPE),
        _instruction(_EQUAL, socket.SOCK_STREAM, then=1),
        _instruction(_RETURN, _FAIL | errno.EPERM),
        _instruction(_RETURN, _ALLOW),
    ]
    return _keep(numbers, program, _FOR_ALL_THREADS) == 0


def _keep(numbers: _Numbers, instructions: list[bytes], flags: int) -> int:
    program = b"".join(instructions)
    held = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog
    told = struct.pack("@HP", len(instructions), ctypes.addressof(held))
    return _seccomp(numbers, _SET_MODE_FILTER, flags, told)


def _seccomp(numbers: _Numbers, operation: int, flags: int, told: bytes | ctypes.Array[ctypes.c_char]) -> int:
    words = map(ctypes.c_long, (numbers.seccomp, operation, flags))
    return int(ctypes.CDLL(None).syscall(*words, told))


def _program(numbers: _Numbers, thread: int) -> list[bytes]:
    """`thread`: what becomes of a call that starts one."""
    program = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_EQUAL, numbers.audit, then=1),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER),
        _instruction(_AT_LEAST, _X32, otherwise=1),
        _instruction(_RETURN, _KILL),
    ]
    judged = {**_JUDGED, "tgkill": (_Rule(0, _EQUAL, (os.getpid(),), lets=True),)}
    for name, number in numbers.calls.items():
        refused = _instruction(_RETURN, _FAIL | (errno.ENOSYS if name in _UNKNOWN else errno.EPERM))
        rules = judged.get(name)
        if rules is None:
            program += [_instruction(_EQUAL, number, otherwise=1), refused]
            continue
        body = [instruction for rule in rules for instruction in _judging(rule, refused)]
        body.append(_instruction(_RETURN, thread if name == "clone" else _ALLOW))
        program += [_instruction(_EQUAL, number, otherwise=len(body)), *body]
    return [*program, _instruction(_RETURN, _ALLOW)]


def _judging(rule: _Rule, refused: bytes) -> list[bytes]:
    """What comes behind these is done unless the rule refuses the call."""
    count = len(rule.values)
    compared = [_instruction(rule.comparison, value, then=count - place) for place, value in enumerate(rule.values)]
    ends = [refused] if rule.lets else [_instruction(_PASS, 1), refused]
    return [_instruction(_LOAD, _ARGUMENTS + 8 * rule.argument), *compared, *ends]


def _instruction(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    """`then` and `otherwise`: how many of the next to pass over."""
    return _INSTRUCTION.pack(code, then, otherwise, value)
