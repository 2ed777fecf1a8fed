"""CLIENT_KEY: a client key of Strongroom itself, valid at keystore."""

from __future__ import annotations

from services.runtime.requests import names
from services.runtime.requests.fields import whole_seconds
from services.secrets.kinds.declaration import Declaration, Target
from services.secrets.kinds.fields import TargetFields
from services.secrets.kinds.texts import Text
from strongroom.secrets.v1.secret_pb2 import SECRET_TYPE_CLIENT_KEY
from strongroom.secrets.v1.target_pb2 import ClientKeyTarget

_LIFETIME_SECONDS = (3600, 366 * 86_400)


def _check(target: ClientKeyTarget, fields: TargetFields) -> None:
    principal = names.parse(target.principal, fields.name("principal"), "users", "workloads")
    if principal.account != fields.account:
        raise fields.invalid("principal", "is not of the secret's account")
    if target.HasField("client_key_lifetime"):
        whole_seconds(target.client_key_lifetime, fields.name("client_key_lifetime"))
        fields.seconds("client_key_lifetime", target.client_key_lifetime, _LIFETIME_SECONDS)


DECLARATION = Declaration(
    SECRET_TYPE_CLIENT_KEY,
    rotator="services.secrets.rotation.rotators.client_key",
    target=Target("client_key", _check),
    members={"client_key": Text(256), "secret": Text(256)},
    cleans_up=True,
    has_grace_period=True,
)
