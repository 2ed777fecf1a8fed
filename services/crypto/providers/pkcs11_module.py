"""Loading a PKCS#11 module so that several threads may use it."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pkcs11

_CKF_OS_LOCKING_OK = 0x2
_CKR_OK = 0


class _InitializeArgs(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS (PKCS#11 2.40 §3.7): no callbacks, only flags."""

    _fields_ = (
        ("create_mutex", ctypes.c_void_p),
        ("destroy_mutex", ctypes.c_void_p),
        ("lock_mutex", ctypes.c_void_p),
        ("unlock_mutex", ctypes.c_void_p),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_void_p),
    )


def load(path: Path) -> Any:
    """Loads the module at `path`, ready for threads.

    python-pkcs11 calls C_Initialize(NULL), by which it promises the module one thread at a time, and then lets go of
    the GIL around calls: two threads crash the process. So the module is initialised again with CKF_OS_LOCKING_OK.
    """
    module = pkcs11.lib(str(path))
    functions = ctypes.CDLL(str(path))
    arguments = _InitializeArgs(flags=_CKF_OS_LOCKING_OK)
    for status in (functions.C_Finalize(None), functions.C_Initialize(ctypes.byref(arguments))):
        if status != _CKR_OK:
            raise SystemExit(f"{path} cannot be initialised for threads (CKR 0x{status:x})")
    return module
