"""Callers with known answers, who remember what was acknowledged and how every call ended."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from strongroom import Client, StrongroomError

# How often each is called, of a hundred.
_SHARES = {
    "encrypt": 28,
    "decrypt": 30,
    "get_secret": 16,
    "put_secret": 8,
    "create_key": 4,
    "look_up": 5,
    "rotate": 3,
    "change_user": 4,
    "change_hold": 2,
}
_VERSIONS_A_SECRET = 40
_REMEMBERED = 200
KEY = "storm"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One call, by the monotonic clock; `reason` and `code` are empty where it was answered."""

    operation: str
    began: float
    ended: float
    reason: str = ""
    code: str = ""
    message: str = ""


@dataclass
class Text:
    """A text that is changed again and again: the last that was acknowledged, and those that it may be instead."""

    acknowledged: str = ""
    undecided: set[str] = field(default_factory=set)

    def may_be(self, found: str) -> bool:
        """Whether that is right. A call that hung may be done late, after later ones."""
        return found == self.acknowledged or found in self.undecided

    def change(self, text: str, change: Callable[[str], str]) -> str:
        """What `change` answers, once it is noted whether it was acknowledged."""
        try:
            event = change(text)
        except StrongroomError:
            self.undecided.add(text)
            raise
        self.acknowledged = text
        return event


@dataclass
class Acknowledged:
    """What the mesh said it did, and what it may have done since it did not say."""

    keys: list[str] = field(default_factory=list)
    undecided_keys: list[str] = field(default_factory=list)
    sealed: list[tuple[bytes, bytes]] = field(default_factory=list)
    values: dict[str, dict[int, bytes]] = field(default_factory=dict)
    undecided_values: dict[str, list[bytes]] = field(default_factory=dict)
    rotations: list[str] = field(default_factory=list)
    key_versions: dict[str, int] = field(default_factory=dict)
    """The newest of each key whose every change was answered."""
    users: dict[str, Text] = field(default_factory=dict)
    holds: Text = field(default_factory=Text)
    events: list[str] = field(default_factory=list)


class Steady:
    """One thread's calls, at a steady rate. What it makes is its own, so that it knows every right answer."""

    def __init__(self, name: str, seed: int, calls_per_second: float, shares: Mapping[Callable[[], str], int]) -> None:
        """`shares` says how often each call, which answers its event's id if it has one, is made."""
        self.name = name
        self._random = random.Random(f"{seed}-{name}")
        self._pause = 1 / calls_per_second
        self._shares = shares
        self._made = 0
        self.made = Acknowledged()
        self.outcomes: list[Outcome] = []
        self.wrong: list[str] = []

    def run(self, stopping: threading.Event) -> None:
        """Calls until it is to stop."""
        due = time.monotonic() + self._random.random() * self._pause
        again: tuple[Callable[[], str], ...] = ()
        while not stopping.wait(max(due - time.monotonic(), 0)):
            # Callers do not make up for what they could not call meanwhile.
            due = max(due + self._pause, time.monotonic() - 1)
            # Whoever was refused asks for the same until it is answered: how long that takes is what is measured.
            (call,) = again or self._random.choices(list(self._shares), weights=list(self._shares.values()))
            again = () if self._once(call) else (call,)

    def lost(self) -> list[str]:
        """What it finds missing itself, when all is over."""
        return []

    def _once(self, call: Callable[[], str]) -> bool:
        """Whether it was answered."""
        operation, began = call.__name__.strip("_"), time.monotonic()
        try:
            event = call()
        except StrongroomError as error:
            outcome = error.reason, error.code.name, error.message
            self.outcomes.append(Outcome(operation, began, time.monotonic(), *outcome))
            return False
        self.outcomes.append(Outcome(operation, began, time.monotonic()))
        if event:
            self.made.events.append(event)
        return True


class Caller(Steady):
    """Calls by the client for Python."""

    def __init__(self, client: Client, number: int, seed: int, calls_per_second: float) -> None:
        shares = {getattr(self, f"_{name}"): share for name, share in _SHARES.items()}
        super().__init__(f"storm-{number}", seed, calls_per_second, shares)
        self._client = client
        self._number = number
        self._has_rotated = False
        self._put = 0

    def _encrypt(self) -> str:
        self._made += 1
        plaintext = f"{self.name} {self._made}".encode()
        sealed = self._client.encrypt(KEY, plaintext)
        self.made.sealed.append((sealed.ciphertext, plaintext))
        return sealed.event_id

    def _decrypt(self) -> str:
        if not self.made.sealed:
            return self._encrypt()
        ciphertext, plaintext = self._random.choice(self.made.sealed[-_REMEMBERED:])
        answer = self._client.decrypt(ciphertext)
        if answer.plaintext != plaintext:
            self.wrong.append(f"decrypt of {plaintext!r} answered {answer.plaintext!r}")
        return answer.event_id

    def _create_key(self) -> str:
        self._made += 1
        key_id = f"{self.name}-{self._made}"
        try:
            key = self._client.keys.create(key_id)
        except StrongroomError:
            self.made.undecided_keys.append(key_id)
            raise
        self.made.keys.append(key.name)
        return key.event_id

    def _secret(self) -> str:
        """The secret to use now; another one when it has had its versions."""
        return f"{self.name}-{self._put // _VERSIONS_A_SECRET}"

    def _put_secret(self) -> str:
        secret, value = self._secret(), f"{self.name} value {self._put}".encode()
        if secret not in self.made.values:
            return self._create_secret(secret)
        self._put += 1
        try:
            version = self._client.secrets.put_value(secret, value)
        except StrongroomError:
            self.made.undecided_values[secret].append(value)
            raise
        self._note(secret, int(version.name.rpartition("/")[2]), value)
        return version.event_id

    def _create_secret(self, secret: str) -> str:
        self._put += 1
        value = f"{self.name} value {self._put} first".encode()
        try:
            created = self._client.secrets.create(secret, value, retained_versions=100)
        except StrongroomError:
            # It may be there: this one is left alone, and the next is made.
            self._put += _VERSIONS_A_SECRET
            raise
        self.made.values[secret], self.made.undecided_values[secret] = {1: value}, []
        return created.event_id

    def _note(self, secret: str, version: int, value: bytes) -> None:
        if version in self.made.values[secret]:
            self.wrong.append(f"version {version} of {secret} was acknowledged twice")
        self.made.values[secret][version] = value

    def _get_secret(self) -> str:
        secret = self._secret()
        values = self.made.values.get(secret)
        if not values:
            return self._encrypt()
        answer = self._client.secrets.get_value(secret)
        last = values[max(values)]
        if answer.value != last and answer.value not in self.made.undecided_values[secret]:
            self.wrong.append(f"{secret} answered {answer.value!r}, not {last!r}")
        return answer.event_id

    def _rotate(self) -> str:
        secret = f"{self.name}-rotated"
        if not self._has_rotated:
            _made(lambda: self._client.secrets.create(secret, b"first"))
            self._has_rotated = True
        try:
            rotation = self._client.secrets.rotate(secret)
        except StrongroomError as error:
            if error.reason == "ROTATION_ACTIVE":
                # The one before, which has not ended yet.
                return ""
            raise
        self.made.rotations.append(rotation.name)
        return rotation.event_id

    def _change_user(self) -> str:
        user = f"users/{self.name}"
        text = self.made.users.get(user)
        if text is None:
            _made(lambda: self._client.access.principals.create(user))
            self.made.users[user] = Text()
            return ""
        self._made += 1
        return text.change(
            f"change {self._made}",
            lambda description: self._client.access.principals.update(user, description=description).event_id,
        )

    def _change_hold(self) -> str:
        if self._number:
            # An account has one, and whoever changes it alone knows what it is.
            return self._encrypt()
        self._made += 1

        def change(reason: str) -> str:
            self._client.audit.retention.update_legal_hold(True, reason)
            return ""

        return self.made.holds.change(f"hold {self._made}", change)

    def _look_up(self) -> str:
        if not self.made.events:
            return self._encrypt()
        found = next(iter(self._client.audit.events.list(limit=1)), None)
        if found is None:
            self.wrong.append("the log has no events")
        return ""


def _made(create: Callable[[], object]) -> None:
    """Makes something that may be there already: what was answered before is not known."""
    try:
        create()
    except StrongroomError as error:
        if error.reason != "ALREADY_EXISTS":
            raise


class Load:
    """Callers that call together."""

    def __init__(self, callers: Sequence[Steady]) -> None:
        self.callers = callers
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=caller.run, args=(self._stopping,), name="storm-caller", daemon=True)
            for caller in self.callers
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @property
    def outcomes(self) -> list[Outcome]:
        """Every call so far, as they ended."""
        return sorted((one for caller in self.callers for one in list(caller.outcomes)), key=lambda one: one.ended)
