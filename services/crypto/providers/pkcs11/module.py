"""A PKCS#11 module, initialised so that several threads may use it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pkcs11
from pkcs11 import _pkcs11
from pkcs11.exceptions import PKCS11Error

# python-pkcs11 adds the operations to its key classes at run time, unseen by type checkers.
TokenKey = Any

FUNCTIONS = (
    *("C_Initialize", "C_Finalize", "C_GetInfo", "C_GetFunctionList", "C_GetSlotList", "C_GetSlotInfo"),
    *("C_GetTokenInfo", "C_GetMechanismList", "C_GetMechanismInfo", "C_InitToken", "C_InitPIN", "C_SetPIN"),
    *("C_OpenSession", "C_CloseSession", "C_CloseAllSessions", "C_GetSessionInfo", "C_GetOperationState"),
    *("C_SetOperationState", "C_Login", "C_Logout", "C_CreateObject", "C_CopyObject", "C_DestroyObject"),
    *("C_GetObjectSize", "C_GetAttributeValue", "C_SetAttributeValue", "C_FindObjectsInit", "C_FindObjects"),
    *("C_FindObjectsFinal", "C_EncryptInit", "C_Encrypt", "C_EncryptUpdate", "C_EncryptFinal", "C_DecryptInit"),
    *("C_Decrypt", "C_DecryptUpdate", "C_DecryptFinal", "C_DigestInit", "C_Digest", "C_DigestUpdate", "C_DigestKey"),
    *("C_DigestFinal", "C_SignInit", "C_Sign", "C_SignUpdate", "C_SignFinal", "C_SignRecoverInit", "C_SignRecover"),
    *("C_VerifyInit", "C_Verify", "C_VerifyUpdate", "C_VerifyFinal", "C_VerifyRecoverInit", "C_VerifyRecover"),
    *("C_DigestEncryptUpdate", "C_DecryptDigestUpdate", "C_SignEncryptUpdate", "C_DecryptVerifyUpdate"),
    *("C_GenerateKey", "C_GenerateKeyPair", "C_WrapKey", "C_UnwrapKey", "C_DeriveKey", "C_SeedRandom"),
    "C_GenerateRandom",
)
"""The functions of CK_FUNCTION_LIST (PKCS#11 2.40 §3.6) in its order, as far as they are needed. A version precedes
them, as wide as a pointer."""

_POSITIONS = {name: position for position, name in enumerate(FUNCTIONS, start=1)}

_CKF_OS_LOCKING_OK = 0x2
_CKR_OK = 0
_CKR_ALREADY_INITIALIZED = 0x191
_LOGGED_IN = (1, 3)  # CKS_RO_USER_FUNCTIONS, CKS_RW_USER_FUNCTIONS


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


class _SessionInfo(ctypes.Structure):
    """CK_SESSION_INFO (§3.3)."""

    _fields_ = (
        ("slot_id", ctypes.c_ulong),
        ("state", ctypes.c_ulong),
        ("flags", ctypes.c_ulong),
        ("device_error", ctypes.c_ulong),
    )


class Module:
    """A module, loaded and not yet initialised.

    python-pkcs11 would call C_Initialize(NULL), by which it promises the module one thread at a time, and then let go
    of the GIL around calls: two threads crash the process. So it does not get to: `initialize` promises no such thing.
    """

    def __init__(self, path: Path) -> None:
        try:
            # Its __init__ is what would initialise the module.
            self._library: _pkcs11.lib = _pkcs11.lib.__new__(_pkcs11.lib, str(path))  # type: ignore[call-arg]
            functions = ctypes.c_void_p()
            _succeed(ctypes.CDLL(str(path)).C_GetFunctionList(ctypes.byref(functions)))
        except (OSError, PKCS11Error) as error:
            raise SystemExit(f"provider.module: {path} is no PKCS#11 module that can be loaded ({error})") from error
        self._addresses = ctypes.cast(functions, ctypes.POINTER(ctypes.c_void_p))

    def initialize(self) -> None:
        """Makes the module look for its tokens, afresh where it was initialised before.

        No other thread may be inside the module, and every session and object of before is dead afterwards. Raises
        PKCS11Error.
        """
        initialize = self._function("C_Initialize", ctypes.c_void_p)
        arguments = _InitializeArgs(flags=_CKF_OS_LOCKING_OK)
        status = initialize(ctypes.addressof(arguments))
        if status == _CKR_ALREADY_INITIALIZED:
            self.finalize()
            status = initialize(ctypes.addressof(arguments))
        _succeed(status)

    def finalize(self) -> None:
        """Ends all use of the module. No other thread may be inside. Raises nothing: there is nobody to help."""
        self._function("C_Finalize", ctypes.c_void_p)(None)

    def tokens(self) -> Iterable[pkcs11.Token]:
        """Every token that is there. Raises PKCS11Error."""
        return self._library.get_tokens()

    def logged_in(self, session: Any) -> bool:
        """Whether the session lives, and its user is logged in."""
        info = _SessionInfo()
        call = self._function("C_GetSessionInfo", ctypes.c_ulong, ctypes.c_void_p)
        return call(session.handle, ctypes.addressof(info)) == _CKR_OK and info.state in _LOGGED_IN

    def _function(self, name: str, *arguments: Any) -> Any:
        # As python-pkcs11 does, the module's table is read at each call.
        return ctypes.CFUNCTYPE(ctypes.c_ulong, *arguments)(self._addresses[_POSITIONS[name]] or 0)


def _succeed(status: int) -> None:
    if status != _CKR_OK:
        raise PKCS11Error(f"CKR 0x{status:x}")
