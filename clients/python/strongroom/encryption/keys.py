"""The keys of the mesh that data keys of messages are wrapped under."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from strongroom.calls.crypto.results import Context, DataKey, Decrypted, Encrypted
from strongroom.encryption.message.body import DATA_KEY_BYTES
from strongroom.encryption.message.header import MAX_WRAPPED_KEYS, WrappedKey
from strongroom.errors import AWAY, StrongroomError

ANY_KEY = "*"
"""In place of the keys that a reader accepts: every key that its client may use.

Whoever can write messages chooses the key then.
"""

Kind = TypeVar("Kind")


class KeyCalls(Protocol):
    """What of a client the encryption SDK needs: `strongroom.Client`, or what stands in its place."""

    def generate_data_key(self, key: str, context: Context = None, *, byte_count: int = 32) -> DataKey:
        """Makes a data key, in the clear and encrypted under a key."""

    def encrypt(self, key: str, plaintext: bytes, context: Context = None) -> Encrypted:
        """Encrypts under a key."""

    def decrypt(self, ciphertext: bytes, context: Context = None, *, key: str = "") -> Decrypted:
        """Decrypts, with `key` only what is under it."""


@dataclass(frozen=True)
class MeshKey:
    """A key of a mesh: its name, and the client that reaches the mesh.

    `name` is an id (`payments`), `alias/{alias}` or a full name, or `ANY_KEY`, which is for decryption alone and empty
    from then on. `mesh` tells keys of different meshes apart where messages are under several: a word that
    writers and readers agree on.
    """

    name: str
    client: KeyCalls = field(repr=False)
    mesh: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            # A name that was not configured must not come to mean every key.
            raise StrongroomError("FIELD_REQUIRED", "a key has no name; for every key say ANY_KEY", field="keys")
        names = getattr(self.client, "names", None)
        if self.name == ANY_KEY:
            object.__setattr__(self, "name", "")
        elif names is not None:
            object.__setattr__(self, "name", names.key(self.name))

    def generate(self, context: Mapping[str, str]) -> DataKey:
        """A new data key under this key."""
        return _asked(self, lambda: self.client.generate_data_key(self.name, context, byte_count=DATA_KEY_BYTES))

    def wrap(self, data_key: bytes, context: Mapping[str, str]) -> Encrypted:
        """A data key under this key too."""
        return _asked(self, lambda: self.client.encrypt(self.name, data_key, context))

    def unwrap(self, encrypted_data_key: bytes, context: Mapping[str, str]) -> Decrypted:
        """What an encrypted data key opens to. Raises KEY_MISMATCH where it is under another key."""
        return _asked(self, lambda: self.client.decrypt(encrypted_data_key, context, key=self.name))


Keys = str | MeshKey | Iterable[str | MeshKey]
"""One key or several: names, which the client of the whole completes and reaches, or keys with clients of their own."""


@dataclass(frozen=True, slots=True)
class NewDataKey:
    """A data key in the clear, and wrapped under every key that it was asked for."""

    plaintext: bytes = field(repr=False)
    wrapped_keys: tuple[WrappedKey, ...]
    key_version: str
    event_id: str


def keys_of(client: KeyCalls, keys: Keys) -> tuple[MeshKey, ...]:
    """The keys that a caller named, each once. Raises FIELD_REQUIRED or NAME_MALFORMED."""
    given = [keys] if isinstance(keys, str | MeshKey) else list(keys)
    made = tuple(dict.fromkeys(key if isinstance(key, MeshKey) else MeshKey(key, client) for key in given))
    if not made:
        raise StrongroomError("FIELD_REQUIRED", "name at least one key", field="keys")
    return made


def new_data_key(keys: Sequence[MeshKey], context: Mapping[str, str], *, name_keys: bool = True) -> NewDataKey:
    """Has a data key made under the first key, and wrapped under each other one. Raises what the mesh answers."""
    if len(keys) > MAX_WRAPPED_KEYS:
        raise StrongroomError("FIELD_INVALID", f"a message is under at most {MAX_WRAPPED_KEYS} keys", field="keys")
    first, *others = keys
    made = first.generate(context)
    wrapped = [_wrapped(first, made, name_keys=name_keys)]
    wrapped += wrapped_under(others, made.plaintext, context, name_keys=name_keys)
    return NewDataKey(made.plaintext, tuple(wrapped), made.key_version, made.event_id)


def wrapped_under(
    keys: Iterable[MeshKey], data_key: bytes, context: Mapping[str, str], *, name_keys: bool = True
) -> list[WrappedKey]:
    """A data key, wrapped under each of these keys."""
    return [_wrapped(key, key.wrap(data_key, context), name_keys=name_keys) for key in keys]


def _wrapped(key: MeshKey, answer: DataKey | Encrypted, *, name_keys: bool) -> WrappedKey:
    return WrappedKey(answer.ciphertext, answer.key if name_keys else "", key.mesh)


def _asked(key: MeshKey, call: Callable[[], Kind]) -> Kind:
    try:
        return call()
    except StrongroomError as error:
        if error.code.name in AWAY:
            raise error.with_advice(
                f"so there is no data key of {key.name or 'its key'}: look at `strongroom status` and at the profile's "
                "addresses; messages whose data keys a DataKeyCache holds go on meanwhile"
            ) from None
        raise
