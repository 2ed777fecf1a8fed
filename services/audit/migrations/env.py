"""Alembic's entry."""

from services.runtime import migrations

migrations.run()
