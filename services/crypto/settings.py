"""What the crypto service is configured with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from services.runtime.config import Section, ServiceSettings


class LocalProviderSettings(Section):
    """A root key in a file, for development."""

    kind: Literal["local"]
    root_key_file: Path


class Pkcs11ProviderSettings(Section):
    """A root key in a PKCS#11 token. The PIN comes from a file or from the environment, never from this file."""

    kind: Literal["pkcs11"]
    module: Path
    token_label: str | None = None
    token_serial: str | None = None
    pin_file: Path | None = None
    pin_variable: str | None = Field(default=None, description="name of the environment variable that holds the PIN")
    sessions: int = Field(default=8, ge=1, le=256)

    @model_validator(mode="after")
    def _names_its_token(self) -> Pkcs11ProviderSettings:
        if not self.token_label and not self.token_serial:
            raise ValueError("token_label or token_serial is required, or both")
        return self

    @model_validator(mode="after")
    def _has_one_pin(self) -> Pkcs11ProviderSettings:
        if (self.pin_file is None) == (self.pin_variable is None):
            raise ValueError("one of pin_file and pin_variable is required")
        return self


ProviderSettings = Annotated[LocalProviderSettings | Pkcs11ProviderSettings, Field(discriminator="kind")]


class CryptoSettings(ServiceSettings):
    """The runtime's settings, the key provider, and how many key records a worker keeps."""

    provider: ProviderSettings
    cached_keys: int = Field(default=100_000, ge=1)
    generations: int = Field(default=2, ge=1, le=64, description="RSA keys in the making at once")
