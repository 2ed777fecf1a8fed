"""Users of Redis' access control lists.

Such a user can have several passwords. SET adds the new one, so that both work until Current has moved; FINISH leaves
the new one alone. Passwords travel to be stored as the SHA-256 that Redis keeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ConnectionError, RedisError, TimeoutError  # noqa: A004
from redis.retry import Retry

from services.runtime.errors import Reason, StrongroomError
from services.secrets.kinds.declared.redis_acl import PORT
from services.secrets.rotation.rotators.database import as_master
from services.secrets.rotation.rotators.failures import failure
from services.secrets.rotation.rotators.rotator import (
    Credential,
    RotationContext,
    Rotator,
    Supplies,
    login_value,
    new_password,
    require_credential,
    require_plain,
    seconds_of,
)
from services.secrets.values.sealing import NewValue
from strongroom.secrets.v1.target_pb2 import TARGET_TLS_DISABLED, TARGET_TLS_VERIFY_CA

_CODES = frozenset(
    {"ERR", "NOPERM", "NOAUTH", "WRONGPASS", "READONLY", "LOADING", "BUSY", "MISCONF", "OOM", "MASTERDOWN"}
)


class RedisAclRotator:
    """The rotator of Redis users."""

    def check(self, context: RotationContext, current: Credential | None) -> None:
        """Finds out, without changing anything, whether a rotation could work."""
        if context.master is not None:
            with as_master(_login(context, context.master)) as client:
                _check_master(client, context)
                _check_replicas(client, context)
        if current is not None:
            with _login(context, current) as client:
                _check_replicas(client, context)

    def create(self, context: RotationContext, current: Credential | None) -> NewValue:
        """A new value; the target does not hear of it."""
        target = context.target.redis
        return login_value(
            current,
            host=target.address.host,
            port=target.address.port or PORT,
            username=target.username,
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
        as_whom = context.master or require_credential(current, context.secret)
        _set_user(context, as_whom, "on", _stored(pending))

    def test(self, context: RotationContext, credential: Credential) -> None:
        """Logs in."""
        with _login(context, credential):
            pass

    def finish(self, context: RotationContext, current: Credential, previous: Credential | None) -> None:
        """Makes the target refuse what is older, as far as that is wanted; `current` is the new value by now."""
        _set_user(context, context.master or current, "resetpass", _stored(current))


def rotator(_supplies: Supplies) -> Rotator:
    """The rotator of REDIS_ACL."""
    return RedisAclRotator()


def _set_user(context: RotationContext, as_whom: Credential, *rules: str) -> None:
    target = context.target.redis
    login = _login(context, as_whom)
    with as_master(login) if context.master is not None else login as client:
        try:
            client.execute_command("ACL SETUSER", target.username, *rules)
            if target.save_acl_file:
                client.execute_command("ACL SAVE")
        except (ConnectionError, TimeoutError) as error:
            raise failure(Reason.TARGET_UNREACHABLE, f"{target.username} was not changed", error) from None
        except RedisError as error:
            what = f"{target.username} was not changed"
            raise failure(Reason.TARGET_CHANGE_REFUSED, what, error, _code(error)) from None


def _check_master(client: Any, context: RotationContext) -> None:
    """Whether the master may change the user, and knows it: SETUSER would make an absent one, without any rights."""
    username = context.target.redis.username
    try:
        if client.execute_command("ACL GETUSER", username) is None:
            raise StrongroomError(Reason.TARGET_CHANGE_REFUSED, f"there is no user {username}", incurable="true")
        # Changes nothing.
        client.execute_command("ACL SETUSER", username)
    except (ConnectionError, TimeoutError) as error:
        raise failure(Reason.TARGET_UNREACHABLE, f"{username} was not looked for", error) from None
    except RedisError as error:
        what = f"the master cannot change {username}"
        raise failure(Reason.TARGET_CHANGE_REFUSED, what, error, _code(error)) from None


def _check_replicas(client: Any, context: RotationContext) -> None:
    """Access control lists are not replicated: after a failover the user has its old password, or is not there."""
    if context.target.redis.replicas_kept_in_step:
        return
    try:
        role = client.execute_command("ROLE")
    except (ConnectionError, TimeoutError) as error:
        raise failure(Reason.TARGET_UNREACHABLE, "it was not asked for its replicas", error) from None
    except RedisError:
        # Not every user may ask.
        return
    if not isinstance(role, list) or not role or (role[0] == b"master" and not role[-1]):
        return
    raise StrongroomError(
        Reason.TARGET_CHANGE_REFUSED,
        "the server has replicas or is one, and Redis does not replicate access control lists, so that a failover loses"
        " the new password: keep them in step yourself and set replicas_kept_in_step",
        incurable="true",
    )


@contextmanager
def _login(context: RotationContext, credential: Credential) -> Iterator[Any]:
    target, login = context.target.redis, credential.fields
    address = target.address
    seconds = seconds_of(address)
    require_plain(login["username"], login["password"])
    given: dict[str, Any] = {
        "host": address.host,
        "port": address.port or PORT,
        "username": login["username"],
        "password": login["password"],
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        # The rotation tries again, later.
        "retry": Retry(NoBackoff(), 0),
    }
    kind: type[Any] = _Plain
    if address.tls != TARGET_TLS_DISABLED:
        kind = _Tls
        given["ssl_check_hostname"] = address.tls != TARGET_TLS_VERIFY_CA
        if address.ca_pem:
            given["ssl_ca_data"] = address.ca_pem
    pool = redis.ConnectionPool(connection_class=kind, address=context.address(), **given)
    client: Any = redis.Redis(connection_pool=pool)
    try:
        _ping(client, f"login of {login['username']} at {address.host}")
        yield client
    finally:
        client.close()
        pool.disconnect()


def _ping(client: Any, what: str) -> None:
    try:
        client.ping()
    except AuthenticationError as error:
        raise failure(Reason.TARGET_LOGIN_REFUSED, what, error, "refused") from None
    except (ConnectionError, TimeoutError) as error:
        raise failure(Reason.TARGET_UNREACHABLE, what, error) from None
    except RedisError:
        # It may log in, if not send PING.
        return


def _stored(credential: Credential) -> str:
    return "#" + sha256(str(credential.fields["password"]).encode()).hexdigest()


def _code(error: RedisError) -> str:
    """The word that an error begins with, where it is one that Redis has."""
    word = str(error).partition(" ")[0]
    return f"reply {word}" if word in _CODES else type(error).__name__


class _Plain(redis.Connection):
    """A connection to an address, whatever its host resolves to by now."""

    def __init__(self, address: str, **given: Any) -> None:
        self._address = address
        super().__init__(**given)  # type: ignore[no-untyped-call]

    def _connect(self) -> Any:
        named, self.host = self.host, self._address
        try:
            return super()._connect()  # type: ignore[no-untyped-call]
        finally:
            self.host = named


class _Tls(redis.SSLConnection):
    """A connection over TLS to an address, which verifies the host's name."""

    def __init__(self, address: str, **given: Any) -> None:
        self._address = address
        super().__init__(**given)

    def _connect(self) -> Any:
        self._named, self.host = self.host, self._address
        try:
            return super()._connect()  # type: ignore[no-untyped-call]
        finally:
            self.host = self._named

    def _wrap_socket_with_ssl(self, sock: Any) -> Any:
        self.host = self._named
        return super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]
