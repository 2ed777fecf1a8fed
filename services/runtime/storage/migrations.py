"""The schema of a service's database: Alembic migrations in `services/<service>/migrations`, run by a command.

Alembic is imported only where it migrates: a serving process would carry it for nothing.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from services.runtime.storage import database

_LOCK = 0x5374726F6E67  # "Strong"; PostgreSQL advisory lock under which one process migrates
_SERVICES = Path(__file__).parents[2]


def migrate(engine: Engine, service: str) -> None:
    """Brings the schema to this release's, once the database is there; does nothing when it is."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_directory(service)))

    def upgrade(connection: Connection) -> None:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    database.once_there(engine, upgrade, writes=True)


def run() -> None:
    """The body of every service's `migrations/env.py`: migrates on the connection that `migrate` opened."""
    from alembic import context

    context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


def require_current(engine: Engine, service: str) -> None:
    """Ends the process unless the schema is this release's, once the database is there."""
    # Revisions are numbered, and a file's name begins with its own.
    newest = max(path.name for path in (_directory(service) / "versions").glob("[0-9]*.py")).partition("_")[0]
    found = database.once_there(engine, _revision)
    if found != newest:
        raise SystemExit(
            f"the database is at schema revision {found}, this release needs {newest}: "
            f"run `python -m services.{service} migrate --config FILE`"
        )


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def _directory(service: str) -> Path:
    return _SERVICES / service / "migrations"
