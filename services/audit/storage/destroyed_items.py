"""What services of the mesh destroyed for good: SQL and nothing else. Nothing is ever taken away."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Engine, Select, insert, select

from services.audit.storage.tables import destroyed_items
from services.runtime.storage.database import reading, transaction


class DestroyedItems:
    """Those that one log's database knows. Methods raise DATABASE_UNAVAILABLE."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def note(self, service: str, ids: Collection[bytes]) -> None:
        """Remembers what a service destroys."""
        wanted = _these(service, ids)
        with transaction(self._engine) as connection:
            known = {row.item_id for row in connection.execute(wanted)}
            rows = [{"service": service, "item_id": one} for one in ids if one not in known]
            if rows:
                connection.execute(insert(destroyed_items), rows)

    def among(self, service: str, ids: Collection[bytes]) -> list[bytes]:
        """Those of them that a service destroyed."""
        with reading(self._engine) as connection:
            return [row.item_id for row in connection.execute(_these(service, ids))]


def _these(service: str, ids: Collection[bytes]) -> Select[Any]:
    of_service = destroyed_items.c.service == service
    return select(destroyed_items.c.item_id).where(of_service, destroyed_items.c.item_id.in_(ids))
