"""What rotators of database logins share: who changes whose password, with one user or with two.

With one user its password is changed, by a master login or by itself. With two, whoever is not in Current gets a new
password from the master and becomes Current, so that there is no moment without a valid login: Previous works until the
rotation after.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from hashlib import sha256
from typing import Any, Protocol

from services.runtime.errors import Reason, StrongroomError
from services.secrets.kinds.databases import DatabaseKind
from services.secrets.rotation.rotators.rotator import (
    Credential,
    RotationContext,
    login_value,
    new_password,
    require_credential,
)
from services.secrets.values.sealing import NewValue
from strongroom.secrets.v1.target_pb2 import DATABASE_STRATEGY_DUAL_USER, DatabaseTarget

CLONE_SUFFIX = "_clone"
# Hexadecimal digits of a digest that a name which is too long ends in.
_DIGEST = 10


class Driver(Protocol):
    """One kind of database."""

    kind: DatabaseKind

    def login(self, target: DatabaseTarget, username: str, password: str, address: str) -> AbstractContextManager[Any]:
        """A connection to the target's host, which is at `address`. Raises TARGET_LOGIN_REFUSED, TARGET_UNREACHABLE."""

    def check_own(self, connection: Any, target: DatabaseTarget) -> None:
        """Whether whom the connection is of may change its own password over it. Changes nothing. Raises
        TARGET_CHANGE_REFUSED, TARGET_UNREACHABLE."""

    def change_own_password(self, connection: Any, target: DatabaseTarget, username: str, password: str) -> None:
        """Changes the password of whom the connection is of. Raises TARGET_CHANGE_REFUSED, TARGET_UNREACHABLE."""

    def change_password(self, connection: Any, target: DatabaseTarget, username: str, password: str) -> None:
        """Changes a user's password. Raises as above."""

    def clone_user(self, connection: Any, target: DatabaseTarget, username: str, password: str) -> None:
        """Changes the password of a user that is made where it is absent, once it has the rights of the target's first
        user. Raises as above, and TARGET_RIGHTS_MISSING."""

    def require_equal(self, connection: Any, target: DatabaseTarget, username: str, *, template: bool) -> None:
        """Compares the second user with the first. Raises TARGET_RIGHTS_MISSING, saying what differs; with `template`
        only for what the first lacks."""

    def check_master(self, connection: Any, target: DatabaseTarget, alternate: str) -> None:
        """Whether the master may do what rotations need, with a second user where one is named. Changes nothing. Raises
        TARGET_CHANGE_REFUSED, TARGET_UNREACHABLE."""

    def try_out(self, connection: Any, target: DatabaseTarget, username: str) -> None:
        """Whether who has logged in can do what is wanted: the target's own statement among it. Raises
        TARGET_RIGHTS_MISSING, TARGET_UNREACHABLE."""


class DatabaseRotator:
    """The rotator of database logins, over one kind of database."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def check(self, context: RotationContext, current: Credential | None) -> None:
        """Finds out, without changing anything, whether a rotation could work."""
        target = context.target.database
        if context.master is not None:
            with self._as_master(context, context.master) as connection:
                self._driver.check_master(connection, target, self._alternate(target))
        elif current is not None:
            with self._as(context, current) as connection:
                self._driver.check_own(connection, target)
        if current is not None:
            self.test(context, current)

    def create(self, context: RotationContext, current: Credential | None) -> NewValue:
        """A new value; the target does not hear of it."""
        target = context.target.database
        return login_value(
            current,
            engine=self._driver.kind.engine,
            host=target.address.host,
            port=target.address.port or self._driver.kind.port,
            database=target.database or None,
            username=self._next_username(target, current),
            password=new_password(context),
        )

    def set(
        self,
        context: RotationContext,
        pending: Credential,
        current: Credential | None,
        previous: Credential | None,
    ) -> None:
        """Makes the target accept `pending`."""
        username = pending.fields["username"]
        self._require_own_user(context.target.database, username)
        self._require_first_user_whole(context, username, current)
        try:
            self._change(context, pending, current)
        except StrongroomError as error:
            # It may have been set by a try before. That is asked only now: a server may count wrong passwords, and lock
            # the user out that its programs log in as.
            if error.reason is Reason.TARGET_UNREACHABLE or not self._accepts(context, pending):
                raise

    def test(self, context: RotationContext, credential: Credential) -> None:
        """Logs in. The second of two users must have the rights of the first."""
        target, username = context.target.database, credential.fields["username"]
        with self._as(context, credential) as connection:
            self._driver.try_out(connection, target, username)
        if context.master is not None and username == self._alternate(target):
            with self._as_master(context, context.master) as connection:
                self._driver.require_equal(connection, target, username, template=False)

    def finish(self, context: RotationContext, current: Credential, previous: Credential | None) -> None:
        """Does nothing: the user that was replaced is the next rotation's, or has the new password."""

    def _require_first_user_whole(self, context: RotationContext, username: str, current: Credential | None) -> None:
        """The first user, whose turn it is, may do what the second could so far. It is given nothing: its rights are
        its administrator's to choose."""
        target = context.target.database
        alternate = self._alternate(target)
        if context.master is None or not alternate or current is None:
            return
        if username == target.username and current.fields["username"] == alternate:
            with self._as_master(context, context.master) as connection:
                self._driver.require_equal(connection, target, alternate, template=True)

    def _change(self, context: RotationContext, pending: Credential, current: Credential | None) -> None:
        target, username = context.target.database, pending.fields["username"]
        if context.master is None:
            change, as_whom = (
                self._driver.change_own_password,
                self._as(context, require_credential(current, context.secret)),
            )
        else:
            cloned = username == self._alternate(target)
            change = self._driver.clone_user if cloned else self._driver.change_password
            as_whom = self._as_master(context, context.master)
        with as_whom as connection:
            change(connection, target, username, pending.fields["password"])

    def _accepts(self, context: RotationContext, credential: Credential) -> bool:
        try:
            self.test(context, credential)
        except StrongroomError as error:
            if error.reason not in (Reason.TARGET_LOGIN_REFUSED, Reason.TARGET_RIGHTS_MISSING):
                raise
            return False
        return True

    def _alternate(self, target: DatabaseTarget) -> str:
        return alternate_username(target, self._driver.kind.name_bytes)

    def _next_username(self, target: DatabaseTarget, current: Credential | None) -> str:
        alternate = self._alternate(target)
        return alternate if alternate and current and current.fields["username"] == target.username else target.username

    def _require_own_user(self, target: DatabaseTarget, username: str) -> None:
        """Whoever may put a value and repair the secret could otherwise have any user's password set by the master."""
        if username not in (target.username, self._alternate(target)):
            raise StrongroomError(
                Reason.TARGET_CHANGE_REFUSED, "the value is of another user than the target names", incurable="true"
            )

    def _as(self, context: RotationContext, credential: Credential) -> AbstractContextManager[Any]:
        login = credential.fields
        return self._driver.login(context.target.database, login["username"], login["password"], context.address())

    def _as_master(self, context: RotationContext, master: Credential) -> AbstractContextManager[Any]:
        return as_master(self._as(context, master))


class as_master:  # noqa: N801  # used as a function, like contextlib's own
    """A login of the master's: that it is refused has a reason of its own."""

    def __init__(self, login: AbstractContextManager[Any]) -> None:
        self._login = login

    def __enter__(self) -> Any:
        try:
            return self._login.__enter__()
        except StrongroomError as error:
            if error.reason is not Reason.TARGET_LOGIN_REFUSED:
                raise
            raise StrongroomError(Reason.MASTER_LOGIN_REFUSED, error.message) from None

    def __exit__(self, *error: Any) -> bool | None:
        return self._login.__exit__(*error)


def alternate_username(target: DatabaseTarget, limit: int) -> str:
    """The second user of two; empty where one rotates alone. One that is made up ends otherwise than the first user's
    name in as many bytes as a server looks at: PostgreSQL cuts a longer one, which would be the first user itself."""
    if target.strategy != DATABASE_STRATEGY_DUAL_USER:
        return ""
    made_up = target.username + CLONE_SUFFIX
    if not target.alternate_username and len(made_up.encode()) > limit:
        digest = sha256(target.username.encode()).hexdigest()[:_DIGEST]
        kept = target.username.encode()[: limit - _DIGEST - 1].decode("utf-8", "ignore")
        return f"{kept}_{digest}"
    return target.alternate_username or made_up
