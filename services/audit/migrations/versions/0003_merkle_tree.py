"""The Merkle tree, checkpoints, the index of tokens, retention, and one table of wrapped keys for every purpose.

Leaves that are there already get their tiles here; they have no tokens, and are looked at by every lookup.
"""

from hashlib import sha256

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_CHUNK = 256 * 64
_LATE = sa.text("time_us < high_us - 1000000")


def upgrade() -> None:
    """Creates and fills the tables."""
    big = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    heads = op.create_table(
        "heads",
        sa.Column("head_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("high_us", sa.BigInteger, nullable=False),
        sa.Column("last_hash", sa.LargeBinary, nullable=False),
    )
    leaves = op.create_table(
        "new_leaves",
        sa.Column("leaf_index", big, primary_key=True, autoincrement=False),
        sa.Column("event_id", sa.LargeBinary(16), nullable=False, unique=True),
        sa.Column("time_us", sa.BigInteger, nullable=False),
        sa.Column("high_us", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.LargeBinary, nullable=False),
        sa.Column("leaf", sa.LargeBinary, nullable=False),
    )
    tiles = op.create_table(
        "tiles",
        sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", big, primary_key=True, autoincrement=False),
        sa.Column("hashes", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "index_blocks",
        sa.Column("block", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("node", big, primary_key=True, autoincrement=False),
        sa.Column("pairs", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "checkpoints",
        sa.Column("tree_size", big, primary_key=True, autoincrement=False),
        sa.Column("root_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("signed_us", sa.BigInteger, nullable=False),
        sa.Column("note", sa.LargeBinary, nullable=False),
        sa.Column("cosignatures", sa.Text, nullable=False, server_default=""),
        sa.Column("published", sa.Boolean, nullable=False),
    )
    op.create_index("checkpoints_published", "checkpoints", ["published", "tree_size"])
    op.create_table(
        "signing_keys",
        sa.Column("key_id", sa.LargeBinary(16), primary_key=True),
        sa.Column("verifier_key", sa.Text, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "service_keys",
        sa.Column("key_id", sa.LargeBinary(16), primary_key=True),
        sa.Column("purpose", sa.String(64), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
        sa.Column("root_version", sa.Integer, nullable=False),
    )
    op.create_table(
        "retention_policies",
        sa.Column("account", sa.String(63), primary_key=True),
        sa.Column("archive_after_days", sa.Integer, nullable=False),
        sa.Column("shred_after_days", sa.Integer, nullable=False),
        sa.Column("updated_us", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
    )
    op.create_table(
        "legal_holds",
        sa.Column("account", sa.String(63), primary_key=True),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.Column("updated_us", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
    )
    op.create_index("service_keys_by_purpose", "service_keys", ["purpose", "created_us"])
    op.execute(
        "INSERT INTO service_keys (key_id, purpose, created_us, wrapped, root_version) "
        "SELECT root_id, 'audit sealing root', created_us, wrapped, root_version FROM sealing_roots"
    )
    op.drop_table("sealing_roots")
    _take_over(op.get_bind(), heads, leaves, tiles)
    op.drop_table("leaves")
    op.rename_table("new_leaves", "leaves")
    op.create_index("leaves_late", "leaves", ["time_us", "leaf_index"], sqlite_where=_LATE, postgresql_where=_LATE)


def _take_over(connection: sa.Connection, heads: sa.Table, leaves: sa.Table, tiles: sa.Table) -> None:
    """Moves the leaves, and makes the full tiles and those of the levels above that are being filled."""
    old = sa.table("leaves", *(sa.column(name) for name in ("leaf_index", "event_id", "time_us", "leaf")))
    high_us, size, last_hash, level = 0, 0, b"", []
    while True:
        query = sa.select(old).where(old.c.leaf_index >= size).order_by(old.c.leaf_index).limit(_CHUNK)
        rows = [row._asdict() for row in connection.execute(query)]
        if not rows:
            break
        for row in rows:
            high_us = max(high_us, row["time_us"])
            row |= {"high_us": high_us, "tokens": b""}
            last_hash = sha256(b"\x00" + bytes(row["leaf"])).digest()
            level.append(last_hash)
        connection.execute(sa.insert(leaves), rows)
        size += len(rows)
    connection.execute(sa.insert(heads).values(head_id=1, size=size, high_us=high_us, last_hash=last_hash))
    number = 0
    while level:
        above = []
        for start in range(0, len(level), 256):
            hashes = level[start : start + 256]
            if number or len(hashes) == 256:
                connection.execute(sa.insert(tiles).values(level=number, number=start // 256, hashes=b"".join(hashes)))
            if len(hashes) == 256:
                above.append(_root(hashes))
        number, level = number + 1, above


def _root(hashes: list[bytes]) -> bytes:
    while len(hashes) > 1:
        hashes = [
            sha256(b"\x01" + left + right).digest() for left, right in zip(hashes[::2], hashes[1::2], strict=True)
        ]
    return hashes[0]
