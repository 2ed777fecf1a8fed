"""MYSQL: a login of a MySQL or MariaDB server."""

from __future__ import annotations

from services.secrets.kinds.databases import DatabaseKind
from strongroom.secrets.v1.secret_pb2 import SECRET_TYPE_MYSQL

MYSQL = DatabaseKind("mysql", port=3306, name_bytes=32)
DECLARATION = MYSQL.declaration(SECRET_TYPE_MYSQL, "services.secrets.rotation.rotators.mysql")
