"""The rotator of each type of secret.

The libraries that talk to databases and over SSH are loaded with the first secret that needs them: together they are as
large as the rest of the service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from services.runtime.channels import MeshChannel
from services.runtime.tls import TlsFiles
from services.secrets.rotators.client_key import ClientKeyRotator
from services.secrets.rotators.generic import GenericRotator
from services.secrets.rotators.redis_acl import RedisAclRotator
from services.secrets.rotators.remote import RemoteRotator
from services.secrets.rotators.rotator import Rotator
from strongroom.secrets.v1.secret_pb2 import (
    SECRET_TYPE_CLIENT_KEY,
    SECRET_TYPE_GENERIC,
    SECRET_TYPE_GRPC,
    SECRET_TYPE_MYSQL,
    SECRET_TYPE_POSTGRESQL,
    SECRET_TYPE_REDIS_ACL,
    SECRET_TYPE_SSH_KEY_PAIR,
    SecretType,
)


def rotators(tls: TlsFiles, keystore: MeshChannel) -> Mapping[SecretType.ValueType, Rotator]:
    """The rotator of every type."""
    return _MadeOnce(
        {
            SECRET_TYPE_GENERIC: GenericRotator,
            SECRET_TYPE_POSTGRESQL: _postgresql,
            SECRET_TYPE_MYSQL: _mysql,
            SECRET_TYPE_REDIS_ACL: RedisAclRotator,
            SECRET_TYPE_SSH_KEY_PAIR: _ssh,
            SECRET_TYPE_CLIENT_KEY: lambda: ClientKeyRotator(keystore),
            SECRET_TYPE_GRPC: lambda: RemoteRotator(tls),
        }
    )


class _MadeOnce(Mapping[SecretType.ValueType, Rotator]):
    """Each is made when it is asked for first."""

    def __init__(self, makers: Mapping[SecretType.ValueType, Callable[[], Rotator]]) -> None:
        self._makers = makers
        self._made: dict[SecretType.ValueType, Rotator] = {}

    def __getitem__(self, kind: SecretType.ValueType) -> Rotator:
        made = self._made.get(kind)
        return made if made is not None else self._made.setdefault(kind, self._makers[kind]())

    def __iter__(self) -> Iterator[SecretType.ValueType]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def _postgresql() -> Rotator:
    from services.secrets.rotators.database import DatabaseRotator
    from services.secrets.rotators.postgresql import PostgresqlDriver

    return DatabaseRotator(PostgresqlDriver())


def _mysql() -> Rotator:
    from services.secrets.rotators.database import DatabaseRotator
    from services.secrets.rotators.mysql import MysqlDriver

    return DatabaseRotator(MysqlDriver())


def _ssh() -> Rotator:
    from services.secrets.rotators.ssh import SshRotator

    return SshRotator()
