"""Data keys opened a moment ago: for the same caller alone, and for less than a second."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from services.runtime.call import Call, Principal, SessionScope
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.sensitive import SensitiveBytes
from services.secrets.values.recent_data_keys import RecentDataKeys
from tests.support.rotation.lab import LocalDataKeys

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
    for at in (0.0, 0.3, 0.49):
        now[0] = at
        assert recent.open(caller("a"), made.ciphertext, VERSION).reveal() == made.plaintext.reveal()
    assert crypto.opened == 1
    now[0] = 0.81
    recent.open(caller("a"), made.ciphertext, VERSION)
    assert crypto.opened == 2


def test_a_data_key_in_use_is_opened_ahead_while_others_go_on_with_what_is_known() -> None:
    crypto, now = Slow(), [0.0]
    recent = RecentDataKeys(crypto, lambda: now[0])
    made = recent.generate(caller("a"), "", VERSION)
    crypto.go_on.set()
    recent.open(caller("a"), made.ciphertext, VERSION)
    crypto.asked.clear()
    crypto.go_on.clear()
    now[0] = 0.6
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(recent.open, caller("a"), made.ciphertext, VERSION)
        assert crypto.asked.wait(10)
        assert recent.open(caller("a"), made.ciphertext, VERSION).reveal() == made.plaintext.reveal()
        assert not ahead.done()
        crypto.go_on.set()
        ahead.result(10)
    now[0] = 1.0
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


class Slow(Counted):
    """Opens when it is told to, and may fail then."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go_on = threading.Event(), threading.Event()

    def open(self, call: Call, ciphertext: bytes, version: ResourceName) -> SensitiveBytes:
        self.asked.set()
        assert self.go_on.wait(10)
        return super().open(call, ciphertext, version)


@pytest.mark.parametrize("fails", [False, True])
def test_calls_at_once_make_one_request_and_share_what_comes_of_it(fails: bool) -> None:
    crypto = Slow()
    recent = RecentDataKeys(crypto, lambda: 0.0)
    made = recent.generate(caller("a"), "", VERSION)
    if fails:
        crypto.failing = StrongroomError(Reason.CRYPTO_UNREACHABLE, "away")
    raised: list[StrongroomError] = []

    def outcome() -> bytes | Reason:
        try:
            return recent.open(caller("a"), made.ciphertext, VERSION).reveal()
        except StrongroomError as error:
            raised.append(error)
            return error.reason

    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(outcome)
        assert crypto.asked.wait(10)
        others = [pool.submit(outcome) for _ in range(7)]
        crypto.go_on.set()
        found = {future.result(10) for future in (first, *others)}
    assert found == {Reason.CRYPTO_UNREACHABLE if fails else made.plaintext.reveal()}
    assert fails or crypto.opened == 1
    # One that all of them raise would grow with each, and keep what each had in work.
    others_errors = [error for error in raised if error is not crypto.failing]
    assert len({id(error) for error in others_errors}) == len(others_errors)
    assert not fails or others_errors


def test_who_waited_too_long_for_another_call_asks_itself() -> None:
    crypto, now = Slow(), [0.0]
    recent = RecentDataKeys(crypto, lambda: now[0])
    made = recent.generate(caller("a"), "", VERSION)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(recent.open, caller("a"), made.ciphertext, VERSION)
        assert crypto.asked.wait(10)
        second = pool.submit(recent.open, caller("a"), made.ciphertext, VERSION)
        now[0] = 1.0
        crypto.go_on.set()
        for call in (first, second):
            assert call.result(10).reveal() == made.plaintext.reveal()
    assert crypto.opened == 2
