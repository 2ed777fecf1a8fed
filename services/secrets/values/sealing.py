"""Versions' values in and out of the form that the database keeps them in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.sensitive import SensitiveBytes
from services.secrets.core.model import SealedVersion, Version
from services.secrets.core.states import VersionEvent, next_version_state
from services.secrets.values import values
from services.secrets.values.data_keys import DataKeys
from strongroom.secrets.v1.secret_pb2 import SECRET_VERSION_STATE_ENABLED, SecretVersionOrigin, ValueFormat


@dataclass(frozen=True, slots=True)
class NewValue:
    """A value to be stored, and how its bytes are meant."""

    value: SensitiveBytes
    format: ValueFormat.ValueType


class Sealer:
    """Seals and opens values under data keys from crypto. Every method raises what crypto raises.

    No database transaction may be open meanwhile.
    """

    def __init__(self, data_keys: DataKeys, clock: Clock) -> None:
        self._data_keys = data_keys
        self._clock = clock

    def seal(
        self, call: Call, name: ResourceName, key: str, new: NewValue, origin: SecretVersionOrigin.ValueType
    ) -> SealedVersion:
        """A new version of this name, its value sealed under a fresh data key under `key`."""
        data_key = self._data_keys.generate(call, key, name)
        version = Version(
            name,
            SECRET_VERSION_STATE_ENABLED,
            origin,
            data_key.key_version,
            new.format,
            len(new.value),
            self._clock.now_us(),
        )
        return SealedVersion(version, data_key.ciphertext, values.seal(new.value, data_key.plaintext, name))

    def open(self, call: Call, found: SealedVersion, event: VersionEvent = VersionEvent.READ) -> SensitiveBytes:
        """A version's value. Raises SECRET_VERSION_DISABLED, SECRET_VERSION_DESTROYED, SECRET_VALUE_REFUSED."""
        next_version_state(found.version, event)
        try:
            data_key = self._data_keys.open(call, found.data_key, found.version.name)
        except StrongroomError as error:
            raise _of_stored(error, found) from error
        return values.unseal(found.sealed, data_key, found.version.name)

    def open_many(self, call: Call, found: Sequence[SealedVersion]) -> list[SensitiveBytes | StrongroomError]:
        """The values of many versions, with one call to crypto; an error in the place of a value that cannot be had."""
        opened = self._data_keys.open_many(call, [(sealed.data_key, sealed.version.name) for sealed in found])
        return [_unsealed(sealed, data_key) for sealed, data_key in zip(found, opened, strict=True)]


def _unsealed(found: SealedVersion, data_key: SensitiveBytes | StrongroomError) -> SensitiveBytes | StrongroomError:
    if isinstance(data_key, StrongroomError):
        return _of_stored(data_key, found)
    try:
        return values.unseal(found.sealed, data_key, found.version.name)
    except StrongroomError as error:
        return error


def _of_stored(error: StrongroomError, found: SealedVersion) -> StrongroomError:
    # The caller sent no ciphertext: it is the database that holds something else.
    return values.refused(found.version.name) if error.reason is Reason.CIPHERTEXT_INVALID else error
