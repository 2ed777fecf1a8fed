"""Opens the provider that the configuration names."""

from __future__ import annotations

import os

from opentelemetry.metrics import Meter, NoOpMeter

from services.crypto.provider import Provider
from services.crypto.providers import local
from services.crypto.providers.local import LocalProvider
from services.crypto.providers.pkcs11 import provider
from services.crypto.providers.pkcs11.module import Module
from services.crypto.providers.pkcs11.provider import Pkcs11Provider
from services.crypto.providers.pkcs11.root import RootProbe
from services.crypto.providers.pkcs11.sessions import PoolOptions, SessionPool
from services.crypto.providers.pkcs11.tokens import TokenChoice
from services.crypto.settings import LocalProviderSettings, Pkcs11ProviderSettings, ProviderSettings
from services.runtime.errors import StrongroomError
from services.runtime.telemetry import Telemetry


def open_provider(settings: ProviderSettings, telemetry: Telemetry) -> Provider:
    """The provider with its root key; ends the process when there is none yet."""
    if isinstance(settings, LocalProviderSettings):
        return LocalProvider(settings.root_key_file)
    return Pkcs11Provider(_sessions(settings, telemetry.meter), telemetry)


def initialize(settings: ProviderSettings) -> bool:
    """Makes the first root version where there is none; answers whether it did. Run it once, before serving."""
    if isinstance(settings, LocalProviderSettings):
        return local.initialize(settings.root_key_file)
    pool = _sessions(settings, NoOpMeter("initialize"))
    try:
        return provider.initialize(pool)
    except StrongroomError as error:
        raise SystemExit(f"provider: {error.message}") from error
    finally:
        pool.close()


def _sessions(settings: Pkcs11ProviderSettings, meter: Meter) -> SessionPool:
    token = TokenChoice(settings.token_label, settings.token_serial)
    options = PoolOptions(token, _pin(settings), settings.sessions)
    return SessionPool(Module(settings.module), options, RootProbe(), meter)


def _pin(settings: Pkcs11ProviderSettings) -> str:
    if settings.pin_file is not None:
        try:
            return settings.pin_file.read_text().strip()
        except OSError as error:
            raise SystemExit(f"provider.pin_file: {error.strerror}: {settings.pin_file}") from error
    pin = os.environ.get(settings.pin_variable or "")
    if not pin:
        raise SystemExit(f"provider.pin_variable: {settings.pin_variable} is not set")
    return pin
