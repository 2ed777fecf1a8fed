"""Which files a process may open, and which TCP ports it may connect to, kept by the kernel (landlock(7)): what its
libraries read, nothing to write, and the ports that it was given.

A process that is kept so can besides neither look into another nor signal it, unless it began it itself, nor listen on
a TCP port. Kernels before 5.13, and sandboxes without Landlock, keep nothing of this; those before 6.7 no ports, those
before 6.12 no signals.
"""

from __future__ import annotations

import ctypes
import os
import ssl
import stat
import struct
import sys
from collections.abc import Callable, Collection, Iterator

import services
import strongroom

# On every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1 << 0
_PATH_BENEATH, _PORT = 1, 2
# struct landlock_path_beneath_attr, landlock_net_port_attr
_BENEATH, _OF_PORT = struct.Struct("=Qi"), struct.Struct("=QQ")
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
# How many rights over files each version knows, from the first on.
_FILE_RIGHTS = (13, 14, 15, 15)
_MOST_FILE_RIGHTS = 16
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1
_SCOPES = 0b11  # abstract Unix sockets, signals
_WITH_NETWORK, _WITH_SCOPES = 4, 6
# Libraries, names on the network, and whom TLS trusts; not all of /etc, where services have their keys.
_READ = (
    *("/usr", "/lib", "/lib64", "/nix/store", "/dev/null", "/dev/urandom", "/sys/devices/system/cpu"),
    *("/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/services"),
    *("/etc/protocols", "/etc/passwd", "/etc/group", "/etc/localtime", "/etc/ld.so.cache", "/etc/crypto-policies"),
    *("/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/ssl/openssl.cnf", "/etc/pki/tls/certs", "/etc/pki/tls/cert.pem"),
    *("/etc/pki/tls/openssl.cnf", "/etc/pki/ca-trust/extracted"),
)


def is_known() -> bool:
    """Whether the kernel would keep a process so."""
    return _call(_CREATE_RULESET, None, 0, _VERSION) >= 1


def knows_ports() -> bool:
    """Whether it would keep one to TCP ports, too."""
    return _call(_CREATE_RULESET, None, 0, _VERSION) >= _WITH_NETWORK


def keep_to_libraries() -> bool:
    """Keeps the calling thread, and what it starts from now on; answers whether the kernel does. The process must not
    be able to get privileges (PR_SET_NO_NEW_PRIVS)."""
    version = _call(_CREATE_RULESET, None, 0, _VERSION)
    if version < 1:
        return False
    handled = (1 << (*_FILE_RIGHTS, _MOST_FILE_RIGHTS)[min(version, len(_FILE_RIGHTS) + 1) - 1]) - 1
    attributes = struct.pack("=Q", handled)
    if version >= _WITH_NETWORK:
        attributes += struct.pack("=Q", _BIND_TCP)
    if version >= _WITH_SCOPES:
        attributes += struct.pack("=Q", _SCOPES)

    def permit(ruleset: int) -> None:
        for path in _readable():
            _permit(ruleset, path)

    return _keep(attributes, permit)


def connect_only_to(ports: Collection[int]) -> bool:
    """Keeps the calling thread, and what it starts from now on, to these TCP ports of any address; answers whether the
    kernel does."""
    if not knows_ports():
        return False

    def permit(ruleset: int) -> None:
        for port in ports:
            _call(_ADD_RULE, ruleset, _PORT, _OF_PORT.pack(_CONNECT_TCP, port), 0)

    return _keep(struct.pack("=QQ", 0, _CONNECT_TCP), permit)


def _keep(attributes: bytes, permit: Callable[[int], None]) -> bool:
    ruleset = _call(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return False
    try:
        permit(ruleset)
        return _call(_RESTRICT_SELF, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _readable() -> Iterator[str]:
    yield from _READ
    yield from (sys.prefix, sys.base_prefix, *services.__path__, *strongroom.__path__)
    # Where the service's own packages are there may be anything beside them.
    beside = {os.path.realpath(os.path.dirname(path)) for path in services.__path__}  # noqa: PTH120  # as sys.path
    yield from (path for path in sys.path if path and os.path.realpath(path) not in beside)
    trusted = ssl.get_default_verify_paths()
    yield from (path for path in (trusted.cafile, trusted.capath) if path)


def _permit(ruleset: int, path: str) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights = _READ_FILE | _READ_DIR if stat.S_ISDIR(os.fstat(opened).st_mode) else _READ_FILE
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, _BENEATH.pack(rights, opened), 0)
    finally:
        os.close(opened)


def _call(number: int, *arguments: int | bytes | None) -> int:
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return int(ctypes.CDLL(None).syscall(ctypes.c_long(number), *words))
