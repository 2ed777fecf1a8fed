"""What the audit service is configured with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from services.runtime.config import Address, Database, Section, ServiceSettings

Origin = Annotated[str, StringConstraints(pattern=r"^[^\s+]{1,200}$")]
LogId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]


class LogSettings(Section):
    """The log, and how it is published."""

    origin: Origin | None = Field(
        default=None, description="first line of checkpoints, never to be changed; by default {trust domain}/audit"
    )
    account: str = Field(default="", description="whose policies decide on services/audit; empty: nobody's")
    checkpoint_seconds: float = Field(default=0.5, ge=0.01, le=0.9, description="from one checkpoint to the next")
    signing_key_days: int = Field(default=365, ge=31, le=3660, description="after which checkpoints get a new key")
    http_address: Address | None = Field(default=None, description="tiles and checkpoints over HTTP, read-only")
    export_directory: Path | None = Field(default=None, description="tiles and checkpoints as files")
    warn_free_mib: int = Field(default=1024, ge=0, description="below which there is a warning")
    refuse_free_mib: int = Field(default=64, ge=0, description="below which nothing is written")
    shards: dict[LogId, Database] = Field(
        default_factory=dict,
        description="several logs that accounts are spread over, never to be changed; by default one, `main`, "
        "in `database`",
    )


class AuditServiceSettings(ServiceSettings):
    """The runtime's settings, the log and its database."""

    database: Database
    log: LogSettings = LogSettings()
