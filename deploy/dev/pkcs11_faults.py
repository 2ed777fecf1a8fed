"""Faults inside a PKCS#11 module, for tests and benchmarks: in this process its functions answer as they are told."""

from __future__ import annotations

import ctypes
import mmap
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.crypto.providers.pkcs11.module import FUNCTIONS

OK = 0x00
GENERAL_ERROR = 0x05
DEVICE_ERROR = 0x30
DEVICE_REMOVED = 0x32
SESSION_HANDLE_INVALID = 0xB3
TOKEN_NOT_PRESENT = 0xE0
USER_NOT_LOGGED_IN = 0x101

# Without arguments: a C function may leave those that it gets unread.
_Answer = ctypes.CFUNCTYPE(ctypes.c_ulong)
_PROTECT_READ_WRITE = 0x3
_MOST_ARGUMENTS = 8
_BEGINNINGS = (
    *("C_GetSessionInfo", "C_CreateObject", "C_FindObjectsInit", "C_EncryptInit", "C_DecryptInit", "C_SignInit"),
    *("C_GenerateKey", "C_GenerateKeyPair", "C_WrapKey", "C_UnwrapKey", "C_GenerateRandom"),
)
_SERIAL_READ_WRITE = 0x6


class Sessions:
    """The sessions that a process has, and those of them that its HSM is to have forgotten."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._dropped: set[int] = set()

    def lives(self, session: int) -> bool:
        """Whether it was not dropped."""
        self._seen.add(session)
        return session not in self._dropped

    def drop(self, choose: Callable[[list[int]], int]) -> None:
        """Drops one of the living that were used lately, if there is any."""
        if living := sorted(self._seen - self._dropped):
            self._dropped.add(choose(living))
        self._seen.clear()

    def forget(self) -> None:
        """Handles begin anew when a module is initialised again."""
        self._seen.clear()
        self._dropped.clear()


class FunctionTable:
    """The CK_FUNCTION_LIST of a module, through which this process calls it."""

    def __init__(self, module: Path) -> None:
        table = ctypes.c_void_p()
        _check(ctypes.CDLL(str(module)).C_GetFunctionList(ctypes.byref(table)), "C_GetFunctionList")
        self._addresses = ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))
        _make_writable(table.value or 0, (len(FUNCTIONS) + 1) * ctypes.sizeof(ctypes.c_void_p))

    def succeed(self, name: str, *arguments: int | bytes) -> None:
        """Calls a function whose arguments are numbers, addresses, and bytes that it reads."""
        buffers = [ctypes.create_string_buffer(one, len(one)) if isinstance(one, bytes) else one for one in arguments]
        numbers = [one if isinstance(one, int) else ctypes.addressof(one) for one in buffers]
        _check(self._original(name, len(numbers))(*numbers), name)

    def opened(self, slot: int) -> int:
        """The handle of a new read-write session."""
        handle = ctypes.c_ulong()
        self.succeed("C_OpenSession", slot, _SERIAL_READ_WRITE, 0, 0, ctypes.addressof(handle))
        return handle.value

    @contextmanager
    def answering(self, answer: int | Callable[[], int], *names: str) -> Iterator[Counter[str]]:
        """Has functions answer with a CKR code and do nothing: those named, or all but C_Finalize, which has to clean
        up. Counts their calls."""
        counts: Counter[str] = Counter()

        def stand_in(name: str) -> Callable[[], int]:
            def call() -> int:
                counts[name] += 1
                return answer if isinstance(answer, int) else answer()

            return call

        wanted = names or [name for name in FUNCTIONS if name != "C_Finalize"]
        with self._replaced({name: _Answer(stand_in(name)) for name in wanted}):
            yield counts

    @contextmanager
    def counting_logins(self) -> Iterator[Counter[str]]:
        """Lets C_Login do its work, and counts its calls."""
        counts: Counter[str] = Counter()
        login = self._original("C_Login", 4)

        def call(*arguments: int) -> int:
            counts["C_Login"] += 1
            return int(login(*arguments))

        prototype = ctypes.CFUNCTYPE(ctypes.c_ulong, *[ctypes.c_ulong] * 4)
        with self._replaced({"C_Login": prototype(call)}):
            yield counts

    @contextmanager
    def dropping(self) -> Iterator[Sessions]:
        """Lets the functions with which work in a session begins do that work, but in sessions that were dropped."""
        sessions = Sessions()
        finalize = self._original("C_Finalize", 1)

        def forwarding(name: str) -> Callable[..., int]:
            function = self._original(name, _MOST_ARGUMENTS)

            def call(session: int, *rest: int) -> int:
                return int(function(session, *rest)) if sessions.lives(session) else SESSION_HANDLE_INVALID

            return call

        def call_finalize(reserved: int) -> int:
            sessions.forget()
            return int(finalize(reserved))

        # A C function leaves arguments unread that it does not have.
        prototype = ctypes.CFUNCTYPE(ctypes.c_ulong, *[ctypes.c_ulong] * _MOST_ARGUMENTS)
        functions: dict[str, Any] = {name: prototype(forwarding(name)) for name in _BEGINNINGS}
        functions["C_Finalize"] = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_ulong)(call_finalize)
        with self._replaced(functions):
            yield sessions

    @contextmanager
    def _replaced(self, functions: dict[str, Any]) -> Iterator[None]:
        positions = {name: FUNCTIONS.index(name) + 1 for name in functions}
        before = {name: self._addresses[position] for name, position in positions.items()}
        for name, function in functions.items():
            self._addresses[positions[name]] = ctypes.cast(function, ctypes.c_void_p).value
        try:
            yield
        finally:
            for name, address in before.items():
                self._addresses[positions[name]] = address
            # A thread may be inside one of them for a moment yet.
            _kept.append(functions)

    def _original(self, name: str, arguments: int) -> Any:
        prototype = ctypes.CFUNCTYPE(ctypes.c_ulong, *[ctypes.c_ulong] * arguments)
        return prototype(self._addresses[FUNCTIONS.index(name) + 1] or 0)


_kept: list[dict[str, Any]] = []


def _make_writable(address: int, size: int) -> None:
    start = address // mmap.PAGESIZE * mmap.PAGESIZE
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    _check(protect(start, address + size - start, _PROTECT_READ_WRITE), "mprotect")


def _check(status: int, what: str) -> None:
    if status != OK:
        raise RuntimeError(f"{what} answered 0x{status:x}")
