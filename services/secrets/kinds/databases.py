"""What the types of database logins have in common: their target."""

from __future__ import annotations

from dataclasses import dataclass

from services.secrets.kinds.declaration import Declaration, Target, place_at, seconds_for
from services.secrets.kinds.fields import TargetFields
from services.secrets.kinds.texts import LOGIN
from strongroom.secrets.v1.secret_pb2 import SecretType
from strongroom.secrets.v1.target_pb2 import DATABASE_STRATEGY_DUAL_USER, DatabaseStrategy, DatabaseTarget

_DATABASE_NAME = 63
_HOST = 255
_STATEMENT = 4096


@dataclass(frozen=True, slots=True)
class DatabaseKind:
    """One kind of database."""

    engine: str
    """What values call it."""
    port: int
    """The usual one."""
    name_bytes: int
    """How long a user's name may be."""

    def check(self, target: DatabaseTarget, fields: TargetFields) -> None:
        """Checks what a request asks a target to be."""
        fields.address("address", target.address)
        fields.text("username", target.username, self.name_bytes)
        fields.length("alternate_username", target.alternate_username, self.name_bytes)
        fields.length("database", target.database, _DATABASE_NAME)
        fields.length("mysql_host", target.mysql_host, _HOST)
        fields.length("test_statement", target.test_statement, _STATEMENT)
        fields.choice("strategy", target.strategy, DatabaseStrategy)
        fields.master("master_secret", target.master_secret)
        if target.strategy == DATABASE_STRATEGY_DUAL_USER:
            if not target.master_secret:
                raise fields.required("master_secret")
            # MySQL takes no notice of spaces at the end of a name.
            if target.alternate_username.rstrip() == target.username.rstrip():
                raise fields.invalid("alternate_username", "is the first user")

    def declaration(self, kind: SecretType.ValueType, rotator: str) -> Declaration:
        """The type of secret for logins of such a database."""
        target = Target(
            "database",
            self.check,
            place=lambda target: place_at(target.address, self.port),
            step_seconds=lambda target, most: seconds_for(target.address.timeout.ToTimedelta().total_seconds(), most),
        )
        return Declaration(kind, rotator, target, LOGIN)
