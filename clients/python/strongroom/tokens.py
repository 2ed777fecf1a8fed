"""Where a client's session tokens come from, by who calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from strongroom.credentials import (
    AssumedRole,
    ClientCertificate,
    Credentials,
    Exchangeable,
    ExchangedTokens,
    FixedToken,
    SessionToken,
    TokenSource,
    TokenStore,
)

if TYPE_CHECKING:
    from strongroom.transport import Transport


def token_source(
    transport: Transport, credentials: Credentials | None, store: TokenStore | None = None
) -> TokenSource | None:
    """The tokens that stand for `credentials`; None for a client certificate, which needs none.

    Tokens that something is exchanged for are exchanged over `transport`, when first needed and before they expire.
    """
    if credentials is None or isinstance(credentials, ClientCertificate):
        return None
    if isinstance(credentials, SessionToken):
        return FixedToken(credentials)
    if isinstance(credentials, AssumedRole):
        source = token_source(transport, credentials.source)
        return ExchangedTokens(lambda: _assumed(transport, credentials, source), store=store)
    return ExchangedTokens(lambda: _exchanged(transport, credentials), store=store)


# A token that was kept from an earlier process needs nothing of sessions: they are loaded where one begins.


def _exchanged(transport: Transport, credentials: Exchangeable) -> tuple[str, float]:
    from strongroom.calls.access import sessions

    return sessions.exchanged(transport, credentials)


def _assumed(transport: Transport, credentials: AssumedRole, source: TokenSource | None) -> tuple[str, float]:
    from strongroom.calls.access import sessions

    return sessions.assumed(transport, credentials, source)
