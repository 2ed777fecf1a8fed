"""Secrets of a key/value engine of HashiCorp Vault or OpenBao, read with its own client, hvac."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from strongroom.errors import StrongroomError
from strongroom.json_texts import member
from strongroom.migration.copying import Found

_SECONDS = 30
_ONE_VALUE = "value"


class VaultPlace:
    """A key/value engine, version 1 or 2, at a mount of a server. Each secret's newest version is read.

    A secret there is a set of fields. It becomes one JSON object here, as Vault writes it, byte for byte; one that has
    a single field named `value`, with a text, becomes that text.
    """

    def __init__(
        self,
        address: str,
        token: str,
        *,
        mount: str = "secret",
        path: str = "",
        version: int = 2,
        namespace: str = "",
        trust: Path | None = None,
    ) -> None:
        """`trust` is a PEM file of the server's authorities, by default the system's. Raises UNSUPPORTED without hvac,
        FIELD_REQUIRED without an address."""
        if not address:
            raise StrongroomError("FIELD_REQUIRED", "give Vault's address, or set VAULT_ADDR", field="address")
        try:
            import hvac
            import hvac.adapters
        except ImportError:
            raise _missing() from None
        self.title = f"vault:{mount.strip('/')}"
        self._mount = mount.strip("/")
        self._path = path.strip("/")
        self._client = hvac.Client(
            url=address,
            token=token,
            namespace=namespace or None,
            verify=str(trust) if trust is not None else True,
            timeout=_SECONDS,
            # Answers as they are written: reading them would change numbers.
            adapter=hvac.adapters.RawAdapter,
        )
        engine = self._client.secrets.kv
        self._engine: Any = engine.v2 if version == 2 else engine.v1
        self._is_versioned = version == 2

    def names(self) -> Iterator[str]:
        """Every secret below the path, folder by folder."""
        yield from self._below(f"{self._path}/" if self._path else "")

    def read(self, name: str) -> Found:
        """One secret's newest version. Raises SECRET_VERSION_DESTROYED where that was deleted."""
        with _told(name):
            if not self._is_versioned:
                return Found(name, _value(member(_text(self._engine.read_secret(name, self._mount)), "data")))
            answer = self._engine.read_secret_version(
                path=name, mount_point=self._mount, raise_on_deleted_version=False
            )
            # Of a version that is deleted hvac answers what it has read.
            text = json.dumps(answer) if isinstance(answer, dict) else _text(answer)
            data, tags = member(text, "data", "data"), json.loads(member(text, "data", "metadata", "custom_metadata"))
            if data == "null":
                raise StrongroomError("SECRET_VERSION_DESTROYED", f"the newest version of {name} is deleted there")
            return Found(name, _value(data), tags=dict(tags or {}))

    def _below(self, folder: str) -> Iterator[str]:
        with _told(folder or self._mount):
            answer = json.loads(_text(self._engine.list_secrets(path=folder, mount_point=self._mount)))
        for entry in sorted(answer["data"]["keys"]):
            if entry.endswith("/"):
                yield from self._below(f"{folder}{entry}")
            else:
                yield f"{folder}{entry}"


def _value(fields: str) -> bytes:
    """What a secret's fields become, as they are written."""
    read = json.loads(fields, parse_int=str, parse_float=str)
    if isinstance(read, dict) and set(read) == {_ONE_VALUE} and member(fields, _ONE_VALUE).startswith('"'):
        # Half a surrogate pair is no text: the object that it is escaped in is.
        with suppress(UnicodeEncodeError):
            return str(read[_ONE_VALUE]).encode()
    return fields.encode()


def _text(answer: Any) -> str:
    """What Vault has answered. JSON is UTF-8, whatever is said or guessed of it."""
    content: bytes = answer.content
    return content.decode()


@contextmanager
def _told(what: str) -> Iterator[None]:
    """What Vault and the way to it say, as an error of ours; never with the token."""
    import hvac.exceptions
    import requests

    try:
        yield
    except hvac.exceptions.InvalidPath:
        raise StrongroomError("SECRET_NOT_FOUND", f"Vault has nothing at {what}", code="NOT_FOUND") from None
    except (hvac.exceptions.Forbidden, hvac.exceptions.Unauthorized):
        raise StrongroomError(
            "PERMISSION_DENIED", f"Vault's token may not read {what}", code="PERMISSION_DENIED"
        ) from None
    except hvac.exceptions.VaultError as error:
        raise StrongroomError(
            "UNREACHABLE", f"Vault failed at {what}: {type(error).__name__}", code="UNAVAILABLE"
        ) from None
    except ValueError:
        raise StrongroomError("UNREACHABLE", f"Vault answers for {what} what is no JSON", code="UNAVAILABLE") from None
    except requests.RequestException as error:
        raise StrongroomError(
            "UNREACHABLE", f"Vault cannot be reached: {type(error).__name__}", code="UNAVAILABLE"
        ) from None


def _missing() -> StrongroomError:
    return StrongroomError("UNSUPPORTED", "hvac is not installed: pip install 'strongroom[migrate]'")
