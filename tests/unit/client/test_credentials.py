"""Session tokens over time."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from strongroom import StrongroomError
from strongroom.credentials import ClientKeySession, ExchangedTokens, FixedToken, SessionToken, Token
from tests.support.clients import until


class Exchange:
    """Tokens `1`, `2`, … of 1,000 seconds each, and a clock that stands still unless moved."""

    def __init__(self) -> None:
        self.now = 5000.0
        self.count = 0
        self.fails: StrongroomError | None = None
        self.before: Callable[[], None] = lambda: None

    def __call__(self) -> tuple[str, float]:
        self.count += 1
        self.before()
        if self.fails is not None:
            raise self.fails
        return str(self.count), self.now + 1000


def test_a_token_is_used_until_a_fifth_of_its_time_is_left() -> None:
    exchange = Exchange()
    tokens = ExchangedTokens(exchange, lambda: exchange.now)
    assert tokens.current() == tokens.current() == "1"
    exchange.now += 799
    assert tokens.current() == "1"
    exchange.now += 2
    assert tokens.current() == "2"


def away(code: str = "UNAVAILABLE") -> StrongroomError:
    return StrongroomError("KEYSTORE_UNREACHABLE", "away", code=code)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"])
def test_a_token_that_lasts_is_used_while_no_other_can_be_had(code: str) -> None:
    exchange = Exchange()
    tokens = ExchangedTokens(exchange, lambda: exchange.now)
    assert tokens.current() == "1"
    exchange.now += 850
    exchange.fails = away(code)
    assert [tokens.current() for _ in range(3)] == ["1"] * 3
    # It is not asked for by every call.
    assert exchange.count == 2
    exchange.now += 1.5
    assert tokens.current() == "1"
    assert exchange.count == 3
    exchange.fails = None
    exchange.now += 1.5
    assert tokens.current() == "4"


def test_it_is_not_used_once_it_has_ended_or_was_refused() -> None:
    for ends in (True, False):
        exchange = Exchange()
        tokens = ExchangedTokens(exchange, lambda exchange=exchange: exchange.now)  # type: ignore[misc]
        assert tokens.current() == "1"
        exchange.fails = away()
        if ends:
            exchange.now += 1000
        else:
            tokens.renew("1")
        with pytest.raises(StrongroomError):
            tokens.current()


def test_what_refuses_another_token_is_told_at_once() -> None:
    exchange = Exchange()
    tokens = ExchangedTokens(exchange, lambda: exchange.now)
    assert tokens.current() == "1"
    exchange.now += 850
    exchange.fails = away("UNAUTHENTICATED")
    with pytest.raises(StrongroomError):
        tokens.current()


def test_nobody_else_waits_while_one_asks_for_another_token() -> None:
    exchange, asked, answer = Exchange(), Event(), Event()
    tokens = ExchangedTokens(exchange, lambda: exchange.now)
    assert tokens.current() == "1"
    exchange.now += 850

    def hang() -> None:
        asked.set()
        assert answer.wait(10)

    exchange.before = hang
    with ThreadPoolExecutor(1) as one:
        renewing = one.submit(tokens.current)
        assert asked.wait(10)
        assert tokens.current() == "1"
        answer.set()
        assert renewing.result() == "2"
    assert tokens.current() == "2"


def test_those_that_wait_for_an_exchange_share_its_failure() -> None:
    exchange = Exchange()
    exchange.fails = away()
    tokens = ExchangedTokens(exchange, lambda: exchange.now)
    go_on = Event()
    exchange.before = lambda: until(go_on.is_set)

    def reason() -> str:
        with pytest.raises(StrongroomError) as refused:
            tokens.current()
        return refused.value.reason

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(reason) for _ in range(8)]
        until(lambda: all(call.running() for call in calls))
        time.sleep(0.1)
        go_on.set()
        assert {call.result(20) for call in calls} == {"KEYSTORE_UNREACHABLE"}
    assert exchange.count == 1
    exchange.fails = None
    assert tokens.current() == "2"


def test_a_refused_token_is_exchanged_once_however_many_were_refused() -> None:
    exchange = Exchange()
    tokens = ExchangedTokens(exchange, lambda: exchange.now)
    assert tokens.current() == "1"
    assert tokens.renew("1")
    assert tokens.current() == "2"
    assert tokens.renew("1")
    assert tokens.current() == "2"


class Kept:
    """A store in memory."""

    def __init__(self, token: Token | None = None) -> None:
        self.token = token

    def read(self) -> Token | None:
        return self.token

    def write(self, token: Token) -> None:
        self.token = token


def test_a_token_that_was_kept_is_used_until_little_of_its_time_is_left() -> None:
    exchange, kept = Exchange(), Kept(Token("kept", 4500.0, 5500.0))
    tokens = ExchangedTokens(exchange, lambda: exchange.now, kept)
    assert tokens.current() == "kept"
    exchange.now += 301
    assert tokens.current() == "1"
    assert kept.token == Token("1", exchange.now, exchange.now + 1000)


def test_a_kept_token_that_is_refused_is_replaced() -> None:
    exchange, kept = Exchange(), Kept(Token("kept", 4500.0, 5500.0))
    tokens = ExchangedTokens(exchange, lambda: exchange.now, kept)
    assert tokens.renew(tokens.current())
    assert tokens.current() == "1"
    assert kept.token is not None
    assert kept.token.text == "1"


def test_a_fixed_token_is_the_only_one() -> None:
    tokens = FixedToken(SessionToken("secret"))
    assert tokens.current() == "secret"
    assert not tokens.renew("secret")


def test_no_repr_shows_a_token_or_secret() -> None:
    assert "secret" not in repr(SessionToken("secret"))
    assert "secret" not in repr(Token("secret", 0, 1))
    assert "secret" not in repr(ClientKeySession("key", "secret"))
