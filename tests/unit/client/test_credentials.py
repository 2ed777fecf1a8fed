"""Session tokens over time."""

from __future__ import annotations

from strongroom.credentials import ClientKeySession, ExchangedTokens, FixedToken, SessionToken, Token


class Exchange:
    """Tokens `1`, `2`, … of 1,000 seconds each, and a clock that stands still unless moved."""

    def __init__(self) -> None:
        self.now = 5000.0
        self.count = 0

    def __call__(self) -> tuple[str, float]:
        self.count += 1
        return str(self.count), self.now + 1000


def test_a_token_is_used_until_a_fifth_of_its_time_is_left() -> None:
    exchange = Exchange()
    tokens = ExchangedTokens(exchange, lambda: exchange.now)
    assert tokens.current() == tokens.current() == "1"
    exchange.now += 799
    assert tokens.current() == "1"
    exchange.now += 2
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
