"""REDIS_ACL: a user of a Redis server's access control list."""

from __future__ import annotations

from services.secrets.kinds.declaration import Declaration, Target, place_at, seconds_for
from services.secrets.kinds.fields import TargetFields
from services.secrets.kinds.texts import LOGIN
from strongroom.secrets.v1.secret_pb2 import SECRET_TYPE_REDIS_ACL
from strongroom.secrets.v1.target_pb2 import TARGET_TLS_VERIFY_CA, RedisTarget

PORT = 6379
UNPROVED = (
    "AUTH would show the password to a server that has not proved who it is: tls must be VERIFY_FULL, VERIFY_CA with"
    " the server's own authority as ca_pem, or DISABLED for a loopback address"
)
_USERNAME = 128
_COMMAND = 1024


def _check(target: RedisTarget, fields: TargetFields) -> None:
    fields.address("address", target.address)
    if target.address.tls == TARGET_TLS_VERIFY_CA and not target.address.ca_pem:
        raise fields.within("address").invalid("tls", f"is not enough for Redis: {UNPROVED}")
    fields.text("username", target.username, _USERNAME)
    if " " in target.username:
        raise fields.invalid("username", "has a space in it")
    fields.length("test_command", target.test_command, _COMMAND)
    fields.master("master_secret", target.master_secret)


DECLARATION = Declaration(
    SECRET_TYPE_REDIS_ACL,
    rotator="services.secrets.rotation.rotators.redis_acl",
    target=Target(
        "redis",
        _check,
        place=lambda target: place_at(target.address, PORT),
        step_seconds=lambda target, most: seconds_for(target.address.timeout.ToTimedelta().total_seconds(), most),
    ),
    members=LOGIN,
    cleans_up=True,
)
