"""Callers of the Vault door, who are told as much as Vault's own clients are, and repeat what those do."""

from __future__ import annotations

import json
import time
from base64 import b64decode, b64encode
from typing import Any

import requests

from deploy.dev.configs import ACCOUNT
from deploy.dev.doors import Doors
from strongroom import StrongroomError
from tests.faults.storm.load import Steady
from tests.faults.storm.replicated import ReplicatedMesh

_UPSTREAM = ("keystore", "crypto", "secrets")
# The door's own limit for a call, and what it takes to say so.
_ANSWER_SECONDS = 15.0
# As Vault's client for Go does by default.
_TRIES, _PAUSE_SECONDS = 3, 1.0
_AWAY = (429, 503)
_VERSIONS_A_SECRET = 8
_VERSIONS_A_KEY = 10
_REMEMBERED = 200


def behind_doors(replicated: ReplicatedMesh) -> dict[str, Any]:
    """Settings of doors that know both processes of each service."""
    return {
        "upstream": {service: replicated.addresses(service, "internal") for service in _UPSTREAM},
        "vault": {"mounts": {"secret": {"type": "kv-v2"}, "transit": {"type": "transit"}}},
    }


class DoorCaller(Steady):
    """Puts values by check-and-set, so that one that was put twice shows at once, and uses and rotates keys."""

    def __init__(self, doors: Doors, token: str, number: int, seed: int, calls_per_second: float) -> None:
        shares = {
            self._door_put: 30,
            self._door_get: 25,
            self._door_encrypt: 20,
            self._door_decrypt: 15,
            self._door_rotate: 10,
        }
        super().__init__(f"storm-door-{number}", seed, calls_per_second, shares)
        self._address = f"{doors.address}/v1"
        self._session = requests.Session()
        self._session.headers["X-Vault-Token"] = token
        self._sealed: list[tuple[str, bytes]] = []
        self._secrets = 0
        self._keys = 0

    def lost(self) -> list[str]:
        """What the door does not decrypt any more."""
        return [f"{sealed} of {plain!r}" for sealed, plain in self._sealed if self._opened(sealed) != plain]

    def _door_put(self) -> str:
        secret = f"{self.name}-{self._secrets}"
        values = self.made.values.setdefault(secret, {})
        undecided = self.made.undecided_values.setdefault(secret, [])
        self._made += 1
        value = json.dumps({"n": f"{self.name} value {self._made}"})
        body = f'{{"options":{{"cas":{len(values)}}},"data":{value}}}'
        try:
            version = self._ask("POST", f"secret/data/{secret}", body)["version"]
        except StrongroomError:
            # It may stand: this one is left alone.
            undecided.append(value.encode())
            if not values:
                del self.made.values[secret], self.made.undecided_values[secret]
            self._secrets += 1
            raise
        if version != len(values) + 1:
            self.wrong.append(f"a put of {secret} after {len(values)} made version {version}")
        values[version] = value.encode()
        if len(values) == _VERSIONS_A_SECRET:
            self._secrets += 1
        return ""

    def _door_get(self) -> str:
        secret = f"{self.name}-{self._secrets}"
        if not (values := self.made.values.get(secret)):
            return self._door_put()
        found = json.dumps(self._ask("GET", f"secret/data/{secret}")["data"])
        if found.encode() != values[max(values)]:
            self.wrong.append(f"{secret} answered {found}, not {values[max(values)]!r}")
        return ""

    def _door_encrypt(self) -> str:
        key = self._key()
        self._made += 1
        plain = f"{self.name} {self._made}".encode()
        sealed = self._ask("POST", f"transit/encrypt/{key}", json.dumps({"plaintext": b64encode(plain).decode()}))
        self._sealed.append((f"{key} {sealed['ciphertext']}", plain))
        return ""

    def _door_decrypt(self) -> str:
        if not self._sealed:
            return self._door_encrypt()
        sealed, plain = self._random.choice(self._sealed[-_REMEMBERED:])
        if (found := self._opened(sealed)) != plain:
            self.wrong.append(f"{sealed} of {plain!r} decrypts to {found!r}")
        return ""

    def _door_rotate(self) -> str:
        key = self._key()
        try:
            self._ask("POST", f"transit/keys/{key}/rotate")
        except StrongroomError:
            # It may have been: nobody knows how many there are.
            self._leave_key(key)
            raise
        self.made.key_versions[key] += 1
        if self.made.key_versions[key] == _VERSIONS_A_KEY:
            self._keys += 1
        return ""

    def _key(self) -> str:
        """The key to use now, which is made where it is not there."""
        key = f"{self.name}-k{self._keys}"
        if key not in self.made.key_versions:
            try:
                self._ask("POST", f"transit/keys/{key}")
            except StrongroomError:
                self.made.undecided_keys.append(key)
                self._keys += 1
                raise
            self.made.keys.append(f"accounts/{ACCOUNT}/keys/{key}")
            self.made.key_versions[key] = 1
        return key

    def _leave_key(self, key: str) -> None:
        del self.made.key_versions[key]
        self._keys += 1

    def _opened(self, sealed: str) -> bytes:
        key, _, ciphertext = sealed.partition(" ")
        answer = self._ask("POST", f"transit/decrypt/{key}", json.dumps({"ciphertext": ciphertext}))
        return b64decode(answer["plaintext"])

    def _ask(self, method: str, path: str, body: str = "{}") -> dict[str, Any]:
        """The `data` of an answer. Raises StrongroomError with what its status means."""
        for left in reversed(range(_TRIES)):
            try:
                data = None if method == "GET" else body
                answer = self._session.request(method, f"{self._address}/{path}", data=data, timeout=_ANSWER_SECONDS)
            except requests.Timeout as error:
                raise StrongroomError("TIMEOUT", str(error), code="DEADLINE_EXCEEDED") from None
            except requests.RequestException as error:
                # Nobody ends the door, nor may it end a connection without an answer.
                raise StrongroomError("DOOR_LOST", str(error), code="UNKNOWN") from None
            if answer.status_code not in _AWAY or not left:
                break
            time.sleep(_PAUSE_SECONDS)
        return self._answered(method, path, answer)

    def _answered(self, method: str, path: str, answer: requests.Response) -> dict[str, Any]:
        status = answer.status_code
        if status == 204:
            return {}
        if status == 200:
            found: dict[str, Any] = answer.json()["data"] or {}
            return found
        if status in _AWAY:
            raise StrongroomError(f"HTTP_{status}", answer.text, code="UNAVAILABLE")
        # What it asks for is right and its own, so that nothing else is.
        self.wrong.append(f"{method} {path} was answered {status}: {answer.text[:300]}")
        raise StrongroomError(f"HTTP_{status}", answer.text, code="INTERNAL")
