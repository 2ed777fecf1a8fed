"""Quotas in the database: SQL and nothing else."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from services.keystore.access.records.resources import Quota, account_of
from services.keystore.access.records.tables import quotas


def quota(connection: Connection, target: str) -> Quota | None:
    """The quota that was set for an account or principal."""
    row = connection.execute(select(quotas).where(quotas.c.target == target)).one_or_none()
    return _quota(row) if row is not None else None


def quotas_page(connection: Connection, account: str, after: str, limit: int) -> list[Quota]:
    """The quotas that were set in an account, its own first, then by principal, from the first behind `after`."""
    of_account = (quotas.c.account == account, quotas.c.target > after)
    ordered = select(quotas).where(*of_account).order_by(quotas.c.target)
    return [_quota(row) for row in connection.execute(ordered.limit(limit))]


def put_quota(connection: Connection, wanted: Quota) -> None:
    """Sets a quota, in the place of what it was."""
    delete_quota(connection, wanted.target)
    connection.execute(
        insert(quotas).values(
            target=wanted.target,
            account=account_of(wanted.target),
            requests_per_second=wanted.requests_per_second,
            burst=wanted.burst,
            default_principal_requests_per_second=wanted.default_principal_requests_per_second,
            revision=wanted.revision,
            updated_us=wanted.updated_us,
        )
    )


def delete_quota(connection: Connection, target: str) -> bool:
    """Removes a quota; whether there was one."""
    return connection.execute(delete(quotas).where(quotas.c.target == target)).rowcount > 0


def _quota(row: Row[Any]) -> Quota:
    return Quota(
        row.target,
        row.requests_per_second,
        row.burst,
        row.default_principal_requests_per_second,
        row.revision,
        row.updated_us,
    )
