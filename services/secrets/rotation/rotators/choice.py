"""The rotator of each type of secret.

The libraries that talk to databases and over SSH are loaded with the first secret that needs them: together they are as
large as the rest of the service. What talks to servers of tenants is done in processes of their own where the service
has such (`target_workers`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.channels import MeshChannel
from services.runtime.mesh.tls import Identity, TlsFiles
from services.secrets.rotation.rotators.client_key import ClientKeyRotator
from services.secrets.rotation.rotators.generic import GenericRotator
from services.secrets.rotation.rotators.redis_acl import RedisAclRotator
from services.secrets.rotation.rotators.remote import Identities, RemoteRotator
from services.secrets.rotation.rotators.rotator import Rotator
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

TARGET_TYPES = frozenset(
    (SECRET_TYPE_POSTGRESQL, SECRET_TYPE_MYSQL, SECRET_TYPE_REDIS_ACL, SECRET_TYPE_SSH_KEY_PAIR, SECRET_TYPE_GRPC)
)
"""Types whose rotators talk to servers that may be a hostile tenant's."""


def rotators(tls: TlsFiles, keystore: MeshChannel) -> Mapping[SecretType.ValueType, Rotator]:
    """The rotator of every type, each doing its work in this process."""
    return _MadeOnce(
        {
            SECRET_TYPE_GENERIC: GenericRotator,
            SECRET_TYPE_CLIENT_KEY: lambda: ClientKeyRotator(keystore),
            **{kind: partial(_target_rotator, kind, tls) for kind in TARGET_TYPES},
        }
    )


def target_rotator(kind: SecretType.ValueType, identity: Identity | None) -> Rotator:
    """The rotator of one of TARGET_TYPES, for a single step."""
    return _target_rotator(kind, _OneIdentity(identity))


def load_target_rotators() -> None:
    """Loads every library that talks to targets."""
    for kind in TARGET_TYPES:
        target_rotator(kind, None)


class _OneIdentity:
    def __init__(self, identity: Identity | None) -> None:
        self._identity = identity

    def current(self) -> Identity:
        if self._identity is None:
            raise StrongroomError(Reason.ROTATOR_FAILED, "the step was given no certificate")
        return self._identity


def _target_rotator(kind: SecretType.ValueType, identities: Identities) -> Rotator:
    if kind == SECRET_TYPE_POSTGRESQL:
        return _postgresql()
    if kind == SECRET_TYPE_MYSQL:
        return _mysql()
    if kind == SECRET_TYPE_SSH_KEY_PAIR:
        return _ssh()
    return RedisAclRotator() if kind == SECRET_TYPE_REDIS_ACL else RemoteRotator(identities)


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
    from services.secrets.rotation.rotators.database import DatabaseRotator
    from services.secrets.rotation.rotators.postgresql import PostgresqlDriver

    return DatabaseRotator(PostgresqlDriver())


def _mysql() -> Rotator:
    from services.secrets.rotation.rotators.database import DatabaseRotator
    from services.secrets.rotation.rotators.mysql import MysqlDriver

    return DatabaseRotator(MysqlDriver())


def _ssh() -> Rotator:
    from services.secrets.rotation.rotators.ssh import SshRotator

    return SshRotator()
