"""Targets of rotations as requests describe them: which fields they have, and their limits."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from google.protobuf.duration_pb2 import Duration

from services.runtime.errors import invalid, required, too_large
from services.runtime.outside import key_screening
from services.runtime.outside.key_screening import KeyRefusedError
from services.runtime.requests import names
from services.secrets.rotation.policy import whole_seconds
from services.secrets.values.shapes import is_plain
from strongroom.secrets.v1 import target_pb2 as pb
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

_KINDS: Mapping[SecretType.ValueType, str | None] = {
    SECRET_TYPE_GENERIC: None,
    SECRET_TYPE_POSTGRESQL: "database",
    SECRET_TYPE_MYSQL: "database",
    SECRET_TYPE_REDIS_ACL: "redis",
    SECRET_TYPE_SSH_KEY_PAIR: "ssh",
    SECRET_TYPE_CLIENT_KEY: "client_key",
    SECRET_TYPE_GRPC: "grpc",
}
_DATABASE_NAME = 63
_STATEMENT = 4096
_USERNAME = {
    SECRET_TYPE_POSTGRESQL: 63,
    SECRET_TYPE_MYSQL: 32,
    SECRET_TYPE_REDIS_ACL: 128,
    SECRET_TYPE_SSH_KEY_PAIR: 64,
}
_CA_BYTES = 65_536
_MAX_HOST_KEYS = 16
_PATH = 1024
_MAX_PORT = 65_535
_MAX_PARAMETERS = 32
_MAX_PARAMETER_KEY = 128
_MAX_PARAMETER_VALUE = 1024
_STEP_SECONDS = (1, 60)
_REMOTE_STEP_SECONDS = (1, 300)
_CLIENT_KEY_SECONDS = (3600, 366 * 86_400)
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,253}[A-Za-z0-9])?|\[?[0-9a-fA-F:]{2,45}\]?")
_ADDRESS = re.compile(r"(?P<host>[^\s/]+):(?P<port>[0-9]{1,5})")


class TargetRules:
    """Checks targets. `plaintext` lists the `host` or `host:port` that may be talked to without TLS."""

    def __init__(self, plaintext: Collection[str] = ()) -> None:
        self._plaintext = frozenset(plaintext)

    def check(
        self,
        kind: SecretType.ValueType,
        target: pb.RotationTarget | None,
        account: str,
        field: str = "secret.target",
    ) -> pb.RotationTarget | None:
        """The target of a secret of this type; None for GENERIC. Raises FIELD_REQUIRED, FIELD_INVALID,
        FIELD_TOO_LARGE, NAME_MALFORMED."""
        wanted = _KINDS[kind]
        given = target.WhichOneof("kind") if target is not None else None
        if wanted is None:
            if given is not None:
                raise invalid(field, "is not for secrets of type GENERIC")
            return None
        if given is None or target is None:
            raise required(f"{field}.{wanted}")
        if given != wanted:
            raise invalid(f"{field}.{given}", f"is not for secrets of type {_type_name(kind)}")
        check: Callable[[Any, SecretType.ValueType, str, str], None] = getattr(self, f"_check_{wanted}")
        check(getattr(target, wanted), kind, account, f"{field}.{wanted}")
        return target

    def _check_database(self, target: pb.DatabaseTarget, kind: SecretType.ValueType, account: str, field: str) -> None:
        self._check_address(target.address, f"{field}.address")
        _check_text(target.username, _USERNAME[kind], f"{field}.username")
        _check_length(target.alternate_username, _USERNAME[kind], f"{field}.alternate_username")
        _check_length(target.database, _DATABASE_NAME, f"{field}.database")
        _check_length(target.mysql_host, 255, f"{field}.mysql_host")
        _check_length(target.test_statement, _STATEMENT, f"{field}.test_statement")
        _check_enum(target.strategy, pb.DatabaseStrategy, f"{field}.strategy")
        _check_master(target.master_secret, account, f"{field}.master_secret")
        if target.strategy == pb.DATABASE_STRATEGY_DUAL_USER:
            if not target.master_secret:
                raise required(f"{field}.master_secret")
            # MySQL takes no notice of spaces at the end of a name.
            if target.alternate_username.rstrip() == target.username.rstrip():
                raise invalid(f"{field}.alternate_username", "is the first user")

    def _check_redis(self, target: pb.RedisTarget, kind: SecretType.ValueType, account: str, field: str) -> None:
        self._check_address(target.address, f"{field}.address")
        _check_text(target.username, _USERNAME[kind], f"{field}.username")
        if " " in target.username:
            raise invalid(f"{field}.username", "has a space in it")
        _check_master(target.master_secret, account, f"{field}.master_secret")

    def _check_ssh(self, target: pb.SshTarget, kind: SecretType.ValueType, _account: str, field: str) -> None:
        # With the first secret that needs it: see rotators.choice.
        from services.secrets.rotation.rotators.ssh import KEY_TYPES, host_keys

        _check_host(target.host, target.port, field)
        _check_text(target.username, _USERNAME[kind], f"{field}.username")
        _check_seconds(target.timeout, _STEP_SECONDS, f"{field}.timeout")
        if target.key_type and target.key_type not in KEY_TYPES:
            raise invalid(f"{field}.key_type", f"is none of {', '.join(KEY_TYPES)}")
        _check_length(target.authorized_keys_path, _PATH, f"{field}.authorized_keys_path")
        if target.authorized_keys_path.startswith("/") or ".." in target.authorized_keys_path.split("/"):
            raise invalid(f"{field}.authorized_keys_path", "is not below the user's home")
        if not 1 <= len(target.host_keys) <= _MAX_HOST_KEYS:
            raise invalid(f"{field}.host_keys", f"must be 1 to {_MAX_HOST_KEYS}")
        try:
            host_keys(target.host_keys)
        except ValueError as error:
            raise invalid(f"{field}.host_keys", "has something that is no public key") from error

    def _check_client_key(
        self, target: pb.ClientKeyTarget, _kind: SecretType.ValueType, account: str, field: str
    ) -> None:
        principal = names.parse(target.principal, f"{field}.principal", "users", "workloads")
        if principal.account != account:
            raise invalid(f"{field}.principal", "is not of the secret's account")
        if target.HasField("client_key_lifetime"):
            whole_seconds(target.client_key_lifetime, f"{field}.client_key_lifetime")
            _check_seconds(target.client_key_lifetime, _CLIENT_KEY_SECONDS, f"{field}.client_key_lifetime")

    def _check_grpc(self, target: pb.GrpcTarget, _kind: SecretType.ValueType, account: str, field: str) -> None:
        if not target.address:
            raise required(f"{field}.address")
        found = _ADDRESS.fullmatch(target.address)
        if found is None:
            raise invalid(f"{field}.address", "is not of the form host:port")
        _check_host(found["host"], int(found["port"]), field)
        _check_certificates(target.ca_pem, f"{field}.ca_pem")
        _check_seconds(target.timeout, _REMOTE_STEP_SECONDS, f"{field}.timeout")
        _check_master(target.master_secret, account, f"{field}.master_secret")
        if len(target.parameters) > _MAX_PARAMETERS:
            raise too_large(f"{field}.parameters", _MAX_PARAMETERS, "pairs")
        for key, value in target.parameters.items():
            if not 1 <= len(key) <= _MAX_PARAMETER_KEY:
                raise invalid(f"{field}.parameters", f"has a key that is not of 1 to {_MAX_PARAMETER_KEY} characters")
            if len(value) > _MAX_PARAMETER_VALUE:
                raise too_large(f"{field}.parameters", _MAX_PARAMETER_VALUE, "characters in a value")

    def _check_address(self, address: pb.TargetAddress, field: str) -> None:
        _check_host(address.host, address.port, field)
        _check_enum(address.tls, pb.TargetTls, f"{field}.tls")
        _check_certificates(address.ca_pem, f"{field}.ca_pem")
        _check_seconds(address.timeout, _STEP_SECONDS, f"{field}.timeout")
        if address.tls == pb.TARGET_TLS_DISABLED and not self._plaintext.intersection(
            (address.host, f"{address.host}:{address.port}")
        ):
            raise invalid(f"{field}.tls", "is DISABLED for an address that the service's configuration does not list")


def _check_host(host: str, port: int, field: str) -> None:
    if not host:
        raise required(f"{field}.host")
    if not _HOST.fullmatch(host):
        raise invalid(f"{field}.host", "is neither a host name nor an IP address")
    if port > _MAX_PORT:
        raise invalid(f"{field}.port", f"must be from 1 to {_MAX_PORT}")


def _check_certificates(pem: str, field: str) -> None:
    if not pem:
        return
    if len(pem) > _CA_BYTES:
        raise too_large(field, _CA_BYTES)
    try:
        key_screening.certificates(pem)
    except KeyRefusedError as refused:
        raise invalid(field, f"cannot be used: a certificate {refused}") from refused


def _check_master(name: str, account: str, field: str) -> None:
    if name and names.parse(name, field, "secrets").account != account:
        raise invalid(field, "is not of the secret's account")


def _check_text(text: str, limit: int, field: str) -> None:
    if not text:
        raise required(field)
    _check_length(text, limit, field)


def _check_length(text: str, limit: int, field: str) -> None:
    if len(text.encode()) > limit:
        raise too_large(field, limit)
    if not is_plain(text):
        raise invalid(field, "has a control character, such as a line break or NUL, in it")


def _check_enum(number: int, enum: Any, field: str) -> None:
    if number not in enum.values():
        raise invalid(field, "is none of its values")


def _check_seconds(duration: Duration, limits: tuple[int, int], field: str) -> None:
    least, most = limits
    seconds = duration.ToTimedelta().total_seconds()
    if seconds and not least <= seconds <= most:
        raise invalid(field, f"must be from {least} to {most} seconds")


def _type_name(kind: SecretType.ValueType) -> str:
    return SecretType.Name(kind).removeprefix("SECRET_TYPE_")
