"""GENERIC: a value of any form, without a target."""

from __future__ import annotations

from services.secrets.kinds.declaration import Declaration
from strongroom.secrets.v1.secret_pb2 import SECRET_TYPE_GENERIC

DECLARATION = Declaration(SECRET_TYPE_GENERIC, rotator="services.secrets.rotation.rotators.generic", needs_value=False)
