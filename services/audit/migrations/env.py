"""Alembic's entry."""

from services.runtime.storage import migrations

migrations.run()
