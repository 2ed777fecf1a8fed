"""SSH_KEY_PAIR: a key pair that a user's authorized_keys file lets in."""

from __future__ import annotations

from services.secrets.kinds.declaration import Declaration, Target, place, seconds_for
from services.secrets.kinds.fields import STEP_SECONDS, TargetFields
from services.secrets.kinds.texts import USERNAME, Text
from strongroom.secrets.v1.secret_pb2 import SECRET_TYPE_SSH_KEY_PAIR
from strongroom.secrets.v1.target_pb2 import SshTarget

PORT = 22
_USERNAME = 64
_PATH = 1024
_MAX_HOST_KEYS = 16


def _check(target: SshTarget, fields: TargetFields) -> None:
    # Its library is large, and loaded with the first secret that needs it.
    from services.secrets.kinds.ssh_keys import KEY_TYPES, host_keys

    fields.host_and_port(target.host, target.port)
    fields.text("username", target.username, _USERNAME)
    fields.seconds("timeout", target.timeout, STEP_SECONDS)
    if target.key_type and target.key_type not in KEY_TYPES:
        raise fields.invalid("key_type", f"is none of {', '.join(KEY_TYPES)}")
    path = target.authorized_keys_path
    fields.length("authorized_keys_path", path, _PATH)
    if path.startswith("/") or ".." in path.split("/"):
        raise fields.invalid("authorized_keys_path", "is not below the user's home")
    if not 1 <= len(target.host_keys) <= _MAX_HOST_KEYS:
        raise fields.invalid("host_keys", f"must be 1 to {_MAX_HOST_KEYS}")
    try:
        host_keys(target.host_keys)
    except ValueError as error:
        raise fields.invalid("host_keys", "has something that is no public key") from error


DECLARATION = Declaration(
    SECRET_TYPE_SSH_KEY_PAIR,
    rotator="services.secrets.rotation.rotators.ssh",
    target=Target(
        "ssh",
        _check,
        place=lambda target: place(target.host, target.port or PORT),
        step_seconds=lambda target, most: seconds_for(target.timeout.ToTimedelta().total_seconds(), most),
    ),
    members={
        "username": USERNAME,
        "private_key": Text(16_384, may_have="\r\n"),
        "public_key": Text(16_384),
    },
    cleans_up=True,
    has_grace_period=True,
)
