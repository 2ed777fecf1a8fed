"""Data keys opened a moment ago: for the same caller alone, and for less than a second."""

from __future__ import annotations

from dataclasses import replace

from services.runtime.call import Call, Principal, SessionScope
from services.runtime.names import ResourceName
from services.runtime.sensitive import SensitiveBytes
from services.secrets.recent_data_keys import RecentDataKeys
from tests.rotation.lab import LocalDataKeys

VERSION = ResourceName("lab", "secrets", "s", 1)


class Counted(LocalDataKeys):
    def __init__(self) -> None:
        super().__init__()
        self.opened = 0

    def open(self, call: Call, ciphertext: bytes, version: ResourceName) -> SensitiveBytes:
        self.opened += 1
        return super().open(call, ciphertext, version)


def caller(name: str, session: str = "") -> Call:
    return Call("s", "m", "secrets:GetSecretValue", principal=Principal(f"accounts/lab/users/{name}", "lab", session))


def test_a_data_key_is_opened_once_in_a_moment_and_again_after_it() -> None:
    crypto, now = Counted(), [0.0]
    recent = RecentDataKeys(crypto, lambda: now[0])
    made = recent.generate(caller("a"), "", VERSION)
    for at in (0.0, 0.5, 0.79):
        now[0] = at
        assert recent.open(caller("a"), made.ciphertext, VERSION).reveal() == made.plaintext.reveal()
    assert crypto.opened == 1
    now[0] = 0.81
    recent.open(caller("a"), made.ciphertext, VERSION)
    assert crypto.opened == 2


def test_every_caller_and_session_asks_for_itself() -> None:
    crypto = Counted()
    recent = RecentDataKeys(crypto, lambda: 0.0)
    made = recent.generate(caller("a"), "", VERSION)
    narrow = caller("a", "session")
    narrow.principal = replace(
        narrow.principal, scope=SessionScope(policies=("forbid (principal, action, resource);",))
    )
    elsewhere = caller("a")
    elsewhere.source_address = "192.0.2.1"
    for call in (caller("a"), caller("b"), caller("a", "session"), narrow, elsewhere):
        recent.open(call, made.ciphertext, VERSION)
    assert crypto.opened == 5
