"""What the audit service is configured with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, IPvAnyNetwork, StringConstraints, field_validator, model_validator

from services.runtime.config import Address, Database, Section, ServiceSettings
from strongroom.errors import StrongroomError
from strongroom.tlog import notes

Origin = Annotated[str, StringConstraints(pattern=r"^[^\s+]{1,200}$")]
LogId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]


WitnessUrl = Annotated[str, StringConstraints(pattern=r"^$|^https?://[^\s]+$")]


class WitnessSection(Section):
    """A witness that cosigns the log's checkpoints."""

    key: str = Field(description="its verifier key for cosignatures: name, hash and base64, joined by +")
    url: WitnessUrl = Field(default="", description="where add-checkpoint is; empty for one that brings cosignatures")

    @field_validator("key")
    @classmethod
    def _is_cosigner(cls, value: str) -> str:
        try:
            key = notes.parse_verifier_key(value)
        except StrongroomError as error:
            raise ValueError(error.message) from error
        if key.kind != notes.COSIGNATURE:
            raise ValueError("is not a key for cosignatures")
        return value


class LogSettings(Section):
    """The log, and how it is published."""

    origin: Origin | None = Field(
        default=None, description="first line of checkpoints, never to be changed; by default {trust domain}/audit"
    )
    account: str = Field(default="", description="whose policies decide on services/audit; empty: nobody's")
    checkpoint_seconds: float = Field(default=0.5, ge=0.01, le=0.9, description="from one checkpoint to the next")
    signing_key_days: int = Field(default=365, ge=31, le=3660, description="after which checkpoints get a new key")
    http_address: Address | None = Field(default=None, description="tiles and checkpoints over HTTP, read-only")
    http_proxies: tuple[IPvAnyNetwork, ...] = Field(
        default=(), description="addresses of the web servers before that, which say whose a request is"
    )
    http_forwarded: Literal["X-Forwarded-For", "Forwarded"] = Field(
        default="X-Forwarded-For", description="the header in which all of them say so"
    )
    export_directory: Path | None = Field(default=None, description="tiles and checkpoints as files")
    warn_free_mib: int = Field(default=1024, ge=0, description="below which there is a warning")
    refuse_free_mib: int = Field(default=64, ge=0, description="below which nothing is written")
    witnesses: list[WitnessSection] = Field(default_factory=list, max_length=16)
    witness_quorum: int = Field(default=0, ge=0, description="cosignatures before a checkpoint counts as published")
    shards: dict[LogId, Database] = Field(
        default_factory=dict,
        description="several logs that accounts are spread over, never to be changed; by default one, `main`, "
        "in `database`",
    )

    @model_validator(mode="after")
    def _quorum_can_be_reached(self) -> Self:
        if self.witness_quorum > len(self.witnesses):
            raise ValueError("witness_quorum is larger than the number of witnesses")
        return self


class AuditServiceSettings(ServiceSettings):
    """The runtime's settings, the log and its database."""

    database: Database
    log: LogSettings = LogSettings()
