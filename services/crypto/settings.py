"""What the crypto service is configured with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from services.runtime.config import Section, ServiceSettings


class LocalProviderSettings(Section):
    """A root key in a file, for development."""

    kind: Literal["local"] = Field(description="a file")
    root_key_file: Path = Field(description="the file, mode 0600; `initialize` makes it")


class Pkcs11ProviderSettings(Section):
    """A root key in a PKCS#11 token. The PIN comes from a file or from the environment, never from this file."""

    kind: Literal["pkcs11"] = Field(description="a token")
    module: Path = Field(description="the vendor's PKCS#11 library")
    token_label: str | None = Field(default=None, description="which token, by its label")
    token_serial: str | None = Field(
        default=None, description="which token, by its serial number; one of both, or both"
    )
    pin_file: Path | None = Field(default=None, description="a file with the PIN; this or `pin_variable`")
    pin_variable: str | None = Field(default=None, description="name of the environment variable that holds the PIN")
    sessions: int = Field(default=8, ge=1, le=256, description="sessions of one worker, at most")

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
    cached_keys: int = Field(default=100_000, ge=1, description="key records that a worker keeps in memory")
    generations: int = Field(default=2, ge=1, le=64, description="RSA keys in the making at once")
