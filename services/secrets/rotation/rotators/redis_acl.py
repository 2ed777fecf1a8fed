"""Users of Redis' access control lists.

Such a user can have several passwords. SET adds the new one, so that both work until Current has moved; FINISH leaves
the new one alone. Passwords travel to be stored as the SHA-256 that Redis keeps.

Redis makes a user that is not there when it is given a password, without any rights. One that has gone (a restart
without an ACL file, a failover) is for its administrator to make again: nobody here knows what it could do.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,  # noqa: A004
    NoPermissionError,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004
)
from redis.retry import Retry

from services.runtime.errors import Reason, StrongroomError
from services.secrets.kinds.declared.redis_acl import PORT, UNPROVED
from services.secrets.rotation.rotators.database import as_master
from services.secrets.rotation.rotators.failures import failure
from services.secrets.rotation.rotators.proof import Proof, proof_of
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
from services.secrets.rotation.rotators.tls import ssl_context
from services.secrets.values.sealing import NewValue

_CODES = frozenset(
    {"ERR", "NOPERM", "NOAUTH", "WRONGPASS", "READONLY", "LOADING", "BUSY", "MISCONF", "OOM", "MASTERDOWN"}
)
# What GETUSER says besides rights.
_OF_PASSWORDS = frozenset({"passwords", "flags", "enabled"})


class RedisAclRotator:
    """The rotator of Redis users."""

    def check(self, context: RotationContext, current: Credential | None) -> None:
        """Finds out, without changing anything, whether a rotation could work."""
        if context.master is not None:
            with as_master(_login(context, context.master)) as client:
                _check_master(client, context)
                _try_out(client, context)
                _check_replicas(client, context)
        if current is not None:
            with _login(context, current) as client:
                _check_replicas(client, context)
                if context.master is None:
                    _look_at_self(client, context)

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
        # Not `on`: who took that from a user has locked it out.
        _set_user(context, as_whom, _stored(pending), to_keep=current)

    def test(self, context: RotationContext, credential: Credential) -> None:
        """Logs in. Whoever does must be able to do something, and what the target's own command does."""
        with _login(context, credential) as client:
            if context.master is None:
                _look_at_self(client, context)
        if context.master is not None:
            with as_master(_login(context, context.master)) as client, _change_of(context.target.redis.username):
                _rights(client, context)
                _try_out(client, context)

    def finish(self, context: RotationContext, current: Credential, previous: Credential | None) -> None:
        """Makes the target refuse what is older, as far as that is wanted; `current` is the new value by now."""
        _set_user(context, context.master or current, "resetpass", _stored(current))


def rotator(_supplies: Supplies) -> Rotator:
    """The rotator of REDIS_ACL."""
    return RedisAclRotator()


def _set_user(context: RotationContext, as_whom: Credential, *rules: str, to_keep: Credential | None = None) -> None:
    """`to_keep` is a value that the user is let in with and is to be afterwards. It needs to be said of one that any
    password is taken for (`nopass`): its first password would be its only one."""
    target = context.target.redis
    is_masters = context.master is not None
    login = _login(context, as_whom)
    with as_master(login) if is_masters else login as client, _change_of(target.username):
        # A user that has logged in itself is there, and with that password.
        before = _rights(client, context) if is_masters else None
        kept = []
        if to_keep is not None and (not is_masters or _takes_any_password(client, context)):
            kept.append(_stored(to_keep))
        client.execute_command("ACL SETUSER", target.username, *kept, *rules)
        if is_masters and _rights(client, context) != before:
            raise _rights_missing(f"{target.username} had other rights a moment ago: look at them")
        if target.save_acl_file:
            client.execute_command("ACL SAVE")


def _check_master(client: Any, context: RotationContext) -> None:
    """Whether the master may change the user, and knows it."""
    with _change_of(context.target.redis.username):
        _rights(client, context)
        # Changes nothing.
        client.execute_command("ACL SETUSER", context.target.redis.username)


def _rights(client: Any, context: RotationContext) -> Mapping[str, Any]:
    """All that the user may do, as a master sees it. Raises TARGET_RIGHTS_MISSING for a user that is not there, or may
    do nothing."""
    username = context.target.redis.username
    found = client.execute_command("ACL GETUSER", username)
    if found is None:
        raise _rights_missing(f"there is no user {username}: it must be made again, with its rights")
    words = [*found["categories"], *found["commands"]]
    for selector in found.get("selectors", ()):
        words += " ".join(selector.values() if isinstance(selector, dict) else selector).split()
    if not any(word.startswith("+") for word in words):
        raise _rights_missing(f"{username} may do nothing: it must be given its rights again")
    return {name: value for name, value in found.items() if name not in _OF_PASSWORDS}


def _takes_any_password(client: Any, context: RotationContext) -> bool:
    """Whether the user has no password of its own, as a master sees it. Raises TARGET_CHANGE_REFUSED for one that is
    off."""
    found = client.execute_command("ACL GETUSER", context.target.redis.username)
    if found is not None and not found["enabled"]:
        what = f"{context.target.redis.username} is off: set it on before its programs get another password"
        raise StrongroomError(Reason.TARGET_CHANGE_REFUSED, what)
    return found is not None and "nopass" in found["flags"]


def _look_at_self(client: Any, context: RotationContext) -> None:
    """Raises TARGET_RIGHTS_MISSING for a user without a master that may neither do what everybody may nor change
    itself, or may not do what it is to."""
    username = context.target.redis.username
    with _change_of(username):
        try:
            client.ping()
        except NoPermissionError:
            try:
                # Changes nothing.
                client.execute_command("ACL SETUSER", username)
            except NoPermissionError:
                raise _rights_missing(f"{username} logs in, but may not change its password") from None
    _try_out(client, context)


def _try_out(client: Any, context: RotationContext) -> None:
    """Whether the user may do what the target's own command does. It is not done."""
    target = context.target.redis
    if not target.test_command:
        return
    with _change_of(target.username):
        try:
            answer = client.execute_command("ACL DRYRUN", target.username, *target.test_command.split(" "))
        except ResponseError as error:
            raise _rights_missing(f"test_command was not tried out: {_code(error)}") from None
    if answer not in (b"OK", "OK"):
        raise _rights_missing(f"{target.username} logs in, but may not do what test_command does")


@contextmanager
def _change_of(username: str) -> Iterator[None]:
    try:
        yield
    except (ConnectionError, TimeoutError) as error:
        raise failure(Reason.TARGET_UNREACHABLE, f"{username} was not changed", error) from None
    except RedisError as error:
        raise failure(Reason.TARGET_CHANGE_REFUSED, f"{username} was not changed", error, _code(error)) from None


def _rights_missing(what: str) -> StrongroomError:
    return StrongroomError(Reason.TARGET_RIGHTS_MISSING, what)


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
    where, address = target.address, context.address()
    seconds = seconds_of(where)
    require_plain(login["username"], login["password"])
    what = f"login of {login['username']} at {where.host}"
    # AUTH is the password itself, and Redis has nothing else.
    if proof_of(where, address) is Proof.NOTHING:
        raise StrongroomError(Reason.TARGET_UNREACHABLE, f"{what}: {UNPROVED}", incurable="true")
    pool = redis.ConnectionPool(
        connection_class=_Connection,
        address=address,
        tls=ssl_context(where),
        host=where.host,
        port=where.port or PORT,
        username=login["username"],
        password=login["password"],
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        # The rotation tries again, later.
        retry=Retry(NoBackoff(), 0),
    )
    client: Any = redis.Redis(connection_pool=pool)
    try:
        _ping(client, what)
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


class _Connection(redis.Connection):
    """A connection to an address, whatever its host resolves to by now; over TLS where there is a context, which trusts
    whom the target says and nobody besides."""

    def __init__(self, address: str, tls: ssl.SSLContext | None, **given: Any) -> None:
        self._address = address
        self._tls = tls
        super().__init__(**given)  # type: ignore[no-untyped-call]

    def _connect(self) -> Any:
        named, self.host = self.host, self._address
        try:
            connected = super()._connect()  # type: ignore[no-untyped-call]
        finally:
            self.host = named
        if self._tls is None:
            return connected
        try:
            return self._tls.wrap_socket(connected, server_hostname=named)
        except BaseException:
            connected.close()
            raise
