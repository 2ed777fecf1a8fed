"""POSTGRESQL: a login of a PostgreSQL server."""

from __future__ import annotations

from services.secrets.kinds.databases import DatabaseKind
from strongroom.secrets.v1.secret_pb2 import SECRET_TYPE_POSTGRESQL

POSTGRESQL = DatabaseKind("postgresql", port=5432, name_bytes=63)
DECLARATION = POSTGRESQL.declaration(SECRET_TYPE_POSTGRESQL, "services.secrets.rotation.rotators.postgresql")
