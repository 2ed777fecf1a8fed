"""Alembic's entry."""

from services.runtime.database import run_migrations

run_migrations()
