"""Request ids: the same request again answers what the first did, another one under the same id is refused.

This is the one place that looks an id up, compares what came with it, knows how long it is remembered, and stores it;
each database that repeats calls has the table that `requests_table` defines.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from uuid import UUID

from google.protobuf.message import Message
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    insert,
    select,
    text,
)

from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError, invalid
from services.runtime.identifiers import is_uuid
from services.runtime.storage import row_seals, statements
from services.runtime.storage.database import writes
from services.runtime.storage.row_seals import SEAL

REPEATABLE_US = 24 * 3600 * 1_000_000
"""How long a request id is remembered."""

_LOCK_BYTES = 8
_WITNESS = b"witness\n"


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A request that may come again."""

    request_id: str
    digest: bytes
    """SHA-256 of everything in the request but the secret field, of which it holds the length: a digest of a secret
    would let whoever reads the database try out what it may be."""
    witness: bytes = field(default=b"", repr=False)
    """SHA-256 of the id and of who calls. It is not stored: only who makes the same request again has it."""


def repeatable(request: Message, call: Call, redacted: str = "") -> Repeatable | None:
    """The request's id and digest, or None when it has no id. `redacted` names its field of secret bytes.

    Ids are each caller's own: what stands in the database is made of the id and of who calls, so that the id of another
    principal's request is like one that was never used.

    Raises FIELD_INVALID for an id that is no UUID.
    """
    request_id: str = getattr(request, "request_id")  # noqa: B009  # of every request with an id
    if not request_id:
        return None
    if not is_uuid(request_id):
        raise invalid("request_id", "is not a UUID")
    public = type(request)()
    public.CopyFrom(request)
    public.ClearField("request_id")
    length = 0
    if redacted:
        length = len(getattr(request, redacted))
        public.ClearField(redacted)
        public.ClearField(f"{redacted}_crc32c")
    told = f"{request.DESCRIPTOR.full_name} {length} ".encode()
    return Repeatable(
        _of_caller(request_id, call),
        sha256(told + public.SerializeToString(deterministic=True)).digest(),
        sha256(_WITNESS + _named(request_id, call)).digest(),
    )


def requests_table(metadata: MetaData, *more: Column[bytes]) -> Table:
    """The table as every database that repeats calls defines it; `more` is a seal where its rows have one."""
    return Table(
        "requests",
        metadata,
        Column("account", String(63), primary_key=True),
        Column("request_id", String(36), primary_key=True),
        Column("digest", LargeBinary(32), nullable=False),
        # What the call made, by name.
        Column("resource", String(255), nullable=False),
        Column("created_us", BigInteger, nullable=False, index=True),
        *more,
    )


class RequestIds:
    """What the calls with a request id did, in one database's table. Every method works in its caller's transaction,
    and has nothing to do for a call without an id."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._add = insert(table)
        late = table.c.created_us >= bindparam("since_us")
        self._made = select(table).where(statements.of(table, "account", "request_id"), late)
        self._forget = delete(table).where(table.c.created_us < bindparam("before_us"))

    def made_before(
        self, connection: Connection, account: str, repeatable: Repeatable | None, now_us: int
    ) -> str | None:
        """The name of what the same request made already; None when it is new, or was made more than a day ago. Raises
        REQUEST_ID_REUSED when another request had its id.

        In a transaction that writes, a call of the same id waits here for the end of the one before it: what is found
        stays true until this one ends. Lock what is changed first, and number the change afterwards.
        """
        if repeatable is None:
            return None
        if writes(connection):
            _wait_for_the_others(connection, account, repeatable)
        wanted = statements.named(account=account, request_id=repeatable.request_id)
        found = connection.execute(self._made, wanted | {"since_us": now_us - REPEATABLE_US}).one_or_none()
        if found is None:
            return None
        if SEAL in self._table.c:
            row_seals.of(connection).verify(self._table, found._mapping, f"request {repeatable.request_id}")
        if found.digest != repeatable.digest:
            raise reused()
        return str(found.resource)

    def remember(
        self, connection: Connection, account: str, repeatable: Repeatable | None, made: str, now_us: int
    ) -> None:
        """Notes the name of what a call made that `made_before` knew nothing of in this transaction, and forgets what
        is older than a day."""
        if repeatable is None:
            return
        connection.execute(self._forget, {"before_us": now_us - REPEATABLE_US})
        row: dict[str, object] = {
            "account": account,
            "request_id": repeatable.request_id,
            "digest": repeatable.digest,
            "resource": made,
            "created_us": now_us,
        }
        if SEAL in self._table.c:
            row[SEAL] = row_seals.of(connection).seal(self._table, row)
        connection.execute(self._add, row)


def reused() -> StrongroomError:
    """A request id came with another request than before."""
    return StrongroomError(
        Reason.REQUEST_ID_REUSED, "request_id was used for another request before", field="request_id"
    )


def _of_caller(request_id: str, call: Call) -> str:
    """The request id as this caller's alone; a role's is one of whoever assumed it."""
    return str(UUID(bytes=sha256(_named(request_id, call)).digest()[:16]))


def _named(request_id: str, call: Call) -> bytes:
    return "\n".join((request_id.lower(), call.principal.name, *call.principal.scope.assumed_by)).encode()


def _wait_for_the_others(connection: Connection, account: str, repeatable: Repeatable) -> None:
    """SQLite has one writer at a time; PostgreSQL keeps a lock until the transaction ends."""
    if connection.dialect.name == "postgresql":
        of_id = sha256(f"request {account} {repeatable.request_id}".encode()).digest()[:_LOCK_BYTES]
        number = int.from_bytes(of_id, "big", signed=True)
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": number})
