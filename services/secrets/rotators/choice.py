"""The rotator of each type of secret."""

from __future__ import annotations

from collections.abc import Mapping

from services.runtime.channels import MeshChannel
from services.runtime.tls import TlsFiles
from services.secrets.rotators.client_key import ClientKeyRotator
from services.secrets.rotators.database import DatabaseRotator
from services.secrets.rotators.generic import GenericRotator
from services.secrets.rotators.mysql import MysqlDriver
from services.secrets.rotators.postgresql import PostgresqlDriver
from services.secrets.rotators.redis_acl import RedisAclRotator
from services.secrets.rotators.remote import RemoteRotator
from services.secrets.rotators.rotator import Rotator
from services.secrets.rotators.ssh import SshRotator
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
    return {
        SECRET_TYPE_GENERIC: GenericRotator(),
        SECRET_TYPE_POSTGRESQL: DatabaseRotator(PostgresqlDriver()),
        SECRET_TYPE_MYSQL: DatabaseRotator(MysqlDriver()),
        SECRET_TYPE_REDIS_ACL: RedisAclRotator(),
        SECRET_TYPE_SSH_KEY_PAIR: SshRotator(),
        SECRET_TYPE_CLIENT_KEY: ClientKeyRotator(keystore),
        SECRET_TYPE_GRPC: RemoteRotator(tls),
    }
