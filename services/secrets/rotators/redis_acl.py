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
from redis.exceptions import AuthenticationError, ConnectionError, RedisError, TimeoutError  # noqa: A004

from services.runtime.errors import Reason
from services.secrets.rotators.database import as_master
from services.secrets.rotators.rotator import (
    Credential,
    RotationContext,
    failure,
    login_value,
    new_password,
    require_credential,
    seconds_of,
)
from services.secrets.sealing import NewValue
from strongroom.secrets.v1.target_pb2 import TARGET_TLS_DISABLED, TARGET_TLS_VERIFY_CA

_PORT = 6379


class RedisAclRotator:
    """See Rotator."""

    needs_value = True
    has_target = True
    cleans_up = True
    has_grace_period = False

    def check(self, context: RotationContext, current: Credential | None) -> None:
        """See Rotator."""
        if context.master is not None:
            with as_master(_login(context, context.master)):
                pass
        if current is not None:
            self.test(context, current)

    def create(self, context: RotationContext, current: Credential | None) -> NewValue:
        """See Rotator."""
        target = context.target.redis
        return login_value(
            current,
            host=target.address.host,
            port=target.address.port or _PORT,
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
        """See Rotator."""
        as_whom = context.master or require_credential(current, context.secret)
        _set_user(context, as_whom, "on", _stored(pending))

    def test(self, context: RotationContext, credential: Credential) -> None:
        """See Rotator."""
        with _login(context, credential):
            pass

    def finish(self, context: RotationContext, current: Credential, previous: Credential | None) -> None:
        """See Rotator."""
        _set_user(context, context.master or current, "resetpass", _stored(current))


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
            raise failure(Reason.TARGET_CHANGE_REFUSED, f"{target.username} was not changed", error) from None


@contextmanager
def _login(context: RotationContext, credential: Credential) -> Iterator[Any]:
    target, login = context.target.redis, credential.fields
    address = target.address
    seconds = seconds_of(address)
    protected: dict[str, Any] = {}
    if address.tls != TARGET_TLS_DISABLED:
        protected = {"ssl": True, "ssl_check_hostname": address.tls != TARGET_TLS_VERIFY_CA}
        if address.ca_pem:
            protected["ssl_ca_data"] = address.ca_pem
    client: Any = redis.Redis(
        host=address.host,
        port=address.port or _PORT,
        username=login["username"],
        password=login["password"],
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        **protected,
    )
    try:
        _ping(client, login["username"])
        yield client
    finally:
        client.close()


def _ping(client: Any, username: str) -> None:
    try:
        client.ping()
    except AuthenticationError as error:
        raise failure(Reason.TARGET_LOGIN_REFUSED, f"login of {username}", error) from None
    except (ConnectionError, TimeoutError) as error:
        raise failure(Reason.TARGET_UNREACHABLE, f"login of {username}", error) from None
    except RedisError:
        # It may log in, if not send PING.
        return


def _stored(credential: Credential) -> str:
    return "#" + sha256(str(credential.fields["password"]).encode()).hexdigest()
