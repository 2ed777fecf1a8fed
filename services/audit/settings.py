"""What the audit service is configured with."""

from __future__ import annotations

from services.runtime.config import Database, ServiceSettings


class AuditServiceSettings(ServiceSettings):
    """The runtime's settings and the log's database."""

    database: Database
