"""How a password is given to MySQL and MariaDB: itself to a server that has proved its name, to any other as the
verifier that it keeps."""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha1, sha512
from typing import Any

from nacl.bindings import crypto_scalarmult_ed25519_base

from services.runtime.errors import Reason, StrongroomError
from services.secrets.rotation.rotators.proof import unproved

Execute = Callable[..., Sequence[Sequence[Any]]]
"""Runs a statement with values and answers its rows. Raises ServerError."""

NATIVE, ED25519 = "mysql_native_password", "ed25519"
# They keep a verifier of a password in the server's tables. Each with how a password is given to it.
MARIA_PLUGINS = (NATIVE, ED25519)
MYSQL_PLUGINS = (NATIVE, "caching_sha2_password", "sha256_password")
# How MariaDB's client calls the plugins that it logs in by.
_OF_CLIENTS = {"client_ed25519": ED25519}
# PASSWORD REQUIRE CURRENT. The second is that of MySQL 8.0.13 to 8.0.15.
_MUST_GIVE_PASSWORD = frozenset({3892, 13226})
# An option of the server's forbids it: --read-only, or --strict-password-validation, which wants to see passwords.
_FORBIDDEN = 1290
# May not read or change a table of the server's own, or a column of one.
UNREADABLE = frozenset({1044, 1142, 1143})


class ServerError(StrongroomError):
    """What a server said to a statement; its number for whoever has another way."""

    number = 0


@dataclass(frozen=True, slots=True)
class Account:
    """A user with the host part of the account's name."""

    user: str
    host: str

    @property
    def grantee(self) -> str:
        """What information_schema calls it."""
        return f"'{self.user}'@'{self.host}'"


class Passwords:
    """Gives passwords to one server. Methods raise TARGET_CHANGE_REFUSED, TARGET_VALUE_REFUSED, TARGET_UNREACHABLE."""

    def __init__(self, execute: Execute, *, is_maria: bool, is_proved: bool) -> None:
        self._execute = execute
        self._is_maria = is_maria
        self._is_proved = is_proved

    def require_own_change(self) -> None:
        """Whether a user may change its own password over this connection: MySQL wants to see both."""
        if not self._is_maria and not self._is_proved:
            raise unproved("a user's change of its own password on MySQL")

    def set_own(self, client_plugin: str, password: str, current: str) -> None:
        """Sets the password of whom the connection is of, who logged in with `client_plugin` and `current`. The plugin
        stays: SET PASSWORD makes what the user's own wants."""
        self.require_own_change()
        # A user may do this for itself; ALTER USER needs rights on MariaDB.
        if self._is_maria:
            if self._is_proved:
                self._execute("SET PASSWORD = PASSWORD(%s)", password)
                return
            verifier = _verifier(_OF_CLIENTS.get(client_plugin, client_plugin), password)
            with self._seen_by_nobody():
                self._execute("SET PASSWORD = %s", verifier)
            return
        try:
            self._execute("SET PASSWORD = %s", password)
        except ServerError as error:
            if error.number not in _MUST_GIVE_PASSWORD:
                raise
            self._execute("SET PASSWORD = %s REPLACE %s", password, current)

    def set(self, account: Account, plugin: str, password: str) -> None:
        """Sets a password, and leaves or puts its account under a plugin."""
        self._identify("ALTER USER", account, plugin, password)

    def set_unseen(self, account: Account, password: str) -> None:
        """Sets the password of an account whose plugin may not be read, and which keeps it. ALTER USER would put the
        server's usual plugin in its place, by which not all of the user's programs may log in."""
        if not self._is_proved:
            raise unproved("a change by a master that may not read mysql.user")
        given = "PASSWORD(%s)" if self._is_maria else "%s"
        try:
            self._execute(f"SET PASSWORD FOR %s@%s = {given}", account.user, account.host, password)
        except ServerError as error:
            if error.number not in UNREADABLE:
                raise
            raise blind_master() from None

    def require_unseen_change(self) -> None:
        """Whether a master that may not read mysql.user may set a password nevertheless, as far as it shows."""
        if not self._is_proved:
            raise unproved("a change by a master that may not read mysql.user")
        ((name, role),) = self._execute("SELECT CURRENT_USER(), CURRENT_ROLE()")
        user, _, host = name.rpartition("@")
        for table, where in (("USER_PRIVILEGES", ""), ("SCHEMA_PRIVILEGES", " AND TABLE_SCHEMA = 'mysql'")):
            found = self._execute(
                f"SELECT 1 FROM information_schema.{table}"  # noqa: S608  # constants
                f" WHERE GRANTEE = %s AND PRIVILEGE_TYPE = 'UPDATE'{where}",
                Account(user, host).grantee,
            )
            if found:
                return
        if role in (None, "NONE"):
            raise blind_master()

    def make(self, account: Account, plugin: str) -> None:
        """Makes an account where it is absent, with a password that nobody knows."""
        unused = secrets.token_urlsafe(32) + "aA1!"
        self._identify("CREATE USER IF NOT EXISTS", account, plugin, unused)

    def _identify(self, statement: str, account: Account, plugin: str, password: str) -> None:
        plugins = MARIA_PLUGINS if self._is_maria else MYSQL_PLUGINS
        if plugin not in plugins:
            raise StrongroomError(
                Reason.TARGET_CHANGE_REFUSED,
                f"the user does not log in with a password that the server keeps ({', '.join(plugins)})",
                incurable="true",
            )
        begun = f"{statement} %s@%s IDENTIFIED"
        if self._is_proved:
            how = f"VIA {plugin} USING PASSWORD(%s)" if self._is_maria else f"WITH {plugin} BY %s"
            self._execute(f"{begun} {how}", account.user, account.host, password)
            return
        how = f"VIA {plugin} USING %s" if self._is_maria else f"WITH {plugin} AS %s"
        with self._seen_by_nobody():
            self._execute(f"{begun} {how}", account.user, account.host, _verifier(plugin, password))

    @contextmanager
    def _seen_by_nobody(self) -> Iterator[None]:
        """Of a verifier the server cannot tell whether the password meets its policy."""
        try:
            yield
        except ServerError as error:
            if error.number != _FORBIDDEN or self._execute("SELECT @@read_only")[0][0]:
                raise
            what = (
                "the server wants to see passwords to judge them, which one that has proved its name (address.tls) may"
            )
            raise StrongroomError(Reason.TARGET_VALUE_REFUSED, what) from None


def blind_master() -> StrongroomError:
    """The error that a master may neither see how a user logs in nor change its password without seeing it."""
    return StrongroomError(
        Reason.TARGET_CHANGE_REFUSED,
        "the master may not read mysql.user, so that the user would lose its authentication plugin: give the master"
        " SELECT on mysql.*",
        incurable="true",
    )


def _verifier(plugin: str, password: str) -> str:
    """What the server keeps of a password."""
    encoded = password.encode()
    if plugin == NATIVE:
        return "*" + sha1(sha1(encoded).digest()).hexdigest().upper()  # noqa: S324  # the plugin's own
    if plugin == ED25519:
        return b64encode(crypto_scalarmult_ed25519_base(sha512(encoded).digest()[:32])).decode().rstrip("=")
    raise unproved(f"a change of a user of {plugin}")
