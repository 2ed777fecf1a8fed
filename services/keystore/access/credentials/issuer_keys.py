"""The signing keys of OIDC issuers: fetched when a token comes, kept for a while, and fetched again for a key id that
is not known, each within bounds that no token can stretch.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.keystore.access.credentials import key_sets
from services.keystore.access.credentials.https_documents import DocumentError, is_url, json_object
from services.keystore.access.credentials.key_sets import VerificationKey
from services.keystore.access.credentials.later_notes import IssuerFetches
from services.keystore.access.records.resources import OidcProvider, account_of
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError

log = logging.getLogger(__name__)

FRESH_SECONDS = 300.0
"""After which keys are fetched again."""
KEPT_SECONDS = 3600.0
"""How long keys are used while their issuer cannot be reached."""
SEEK_SECONDS = 10.0
"""Between two fetches for key ids that are not known, however many tokens name such."""
RETRY_SECONDS = 2.0
"""After a fetch that failed, before the next."""

_DISCOVERY = "/.well-known/openid-configuration"
_CACHED_PROVIDERS = 1024
# Of the server's threads: a slow issuer holds those of its own account's callers, and never all.
_WAITING_OF_ACCOUNT = 16
_WAITING = 32

# A document by its URL and the certificates (PEM) that its server's must chain to. Raises DocumentError.
GetDocument = Callable[[str, str], Mapping[str, Any]]


@dataclass(slots=True)
class _Issuer:
    """What is known of one provider. Written under `fetching` alone."""

    revision: int
    keys: tuple[VerificationKey, ...] = ()
    error: str = ""
    fetched_at: float = -math.inf
    failed_at: float = -math.inf
    sought_at: float = -math.inf
    fetching: threading.Lock = field(default_factory=threading.Lock)


class IssuerKeys:
    """Finds the key that a token says to be signed by."""

    def __init__(
        self, fetches: IssuerFetches, get: GetDocument, clock: Clock, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetches = fetches
        self._get = get
        self._clock = clock
        self._monotonic = monotonic
        self._issuers: dict[str, _Issuer] = {}
        self._waiting: Counter[str] = Counter()
        self._lock = threading.Lock()

    def find(self, provider: OidcProvider, header: Mapping[str, Any]) -> VerificationKey | None:
        """The key for a token of this header, or None where the issuer has none for it.

        Raises OIDC_PROVIDER_UNREACHABLE while the issuer's keys cannot be fetched.
        """
        if provider.static_jwks:
            return key_sets.choose(_static(provider), header)
        issuer = self._issuer(provider)
        fetched = self._stale(issuer) and self._fetch_if_due(provider, issuer, seeking=False)
        key = key_sets.choose(issuer.keys, header)
        if key is None and not issuer.error and not fetched and self._may_seek(issuer):
            # Perhaps the issuer has rotated its keys.
            self._fetch_if_due(provider, issuer, seeking=True)
            key = key_sets.choose(issuer.keys, header)
        if key is None and issuer.error:
            raise _unreachable()
        return key

    def _issuer(self, provider: OidcProvider) -> _Issuer:
        with self._lock:
            issuer = self._issuers.get(provider.name)
            if issuer is None or issuer.revision != provider.revision:
                # A changed provider may have its keys elsewhere, or other certificates to trust.
                if provider.name not in self._issuers and len(self._issuers) >= _CACHED_PROVIDERS:
                    self._forget_one()
                issuer = self._issuers[provider.name] = _Issuer(provider.revision)
            return issuer

    def _forget_one(self) -> None:
        """The first of the account that has the most: it takes nobody else's by having many."""
        most, _ = Counter(map(account_of, self._issuers)).most_common(1)[0]
        del self._issuers[next(name for name in self._issuers if account_of(name) == most)]

    def _stale(self, issuer: _Issuer) -> bool:
        now = self._monotonic()
        return now - issuer.fetched_at > FRESH_SECONDS and now - issuer.failed_at > RETRY_SECONDS

    def _may_seek(self, issuer: _Issuer) -> bool:
        return self._monotonic() - issuer.sought_at > SEEK_SECONDS

    def _fetch_if_due(self, provider: OidcProvider, issuer: _Issuer, *, seeking: bool) -> bool:
        """Fetches the keys, unless another thread has while this one waited for its turn; answers whether it did. Who
        has keys that are merely old goes on with them while another fetches. Raises OIDC_PROVIDER_UNREACHABLE where too
        many wait already."""
        due = self._may_seek if seeking else self._stale
        must_wait = seeking or not issuer.keys
        account = account_of(provider.name)
        if not self._take_place(account):
            if must_wait:
                raise _unreachable()
            return False
        try:
            if not issuer.fetching.acquire(blocking=must_wait):
                return False
            try:
                if not due(issuer):
                    return False
                if seeking:
                    issuer.sought_at = self._monotonic()
                self._fetch(provider, issuer)
                return True
            finally:
                issuer.fetching.release()
        finally:
            self._give_place_back(account)

    def _take_place(self, account: str) -> bool:
        """Takes one of the places of those who wait for issuers; answers whether there was one."""
        with self._lock:
            if self._waiting[account] >= _WAITING_OF_ACCOUNT or self._waiting.total() >= _WAITING:
                return False
            self._waiting[account] += 1
            return True

    def _give_place_back(self, account: str) -> None:
        with self._lock:
            self._waiting[account] -= 1
            self._waiting += Counter()  # without those at zero

    def _fetch(self, provider: OidcProvider, issuer: _Issuer) -> None:
        try:
            issuer.keys = self._fetched(provider)
            issuer.fetched_at, issuer.error = self._monotonic(), ""
        except DocumentError as error:
            log.warning("an OIDC issuer's keys cannot be fetched", extra={"fields": {"provider": provider.name}})
            issuer.failed_at, issuer.error = self._monotonic(), str(error)
            if issuer.failed_at - issuer.fetched_at > KEPT_SECONDS:
                issuer.keys = ()
        self._fetches.note(provider.name, (self._clock.now_us(), issuer.error))

    def _fetched(self, provider: OidcProvider) -> tuple[VerificationKey, ...]:
        jwks_uri = provider.jwks_uri or self._discovered(provider)
        try:
            return key_sets.read(self._get(jwks_uri, provider.ca_certificates))
        except ValueError as error:
            raise DocumentError(f"{jwks_uri}: {error}") from error

    def _discovered(self, provider: OidcProvider) -> str:
        """Where the issuer's own document (OpenID Connect Discovery 1.0) says that its keys are."""
        url = provider.issuer.removesuffix("/") + _DISCOVERY
        document = self._get(url, provider.ca_certificates)
        if document.get("issuer") != provider.issuer:
            raise DocumentError(f"{url} is another issuer's")
        jwks_uri = document.get("jwks_uri")
        # It goes into `fetch_error`, and is asked for like one that a caller gave.
        if not isinstance(jwks_uri, str) or not is_url(jwks_uri):
            raise DocumentError(f"{url} names no jwks_uri")
        return jwks_uri


def _static(provider: OidcProvider) -> tuple[VerificationKey, ...]:
    try:
        return key_sets.read(json_object(provider.static_jwks, "static_jwks"))
    except (DocumentError, ValueError) as error:
        raise _unreachable() from error


def _unreachable() -> StrongroomError:
    # Whoever sends a token is not known yet; why it is so is in the provider's `fetch_error`.
    return StrongroomError(
        Reason.OIDC_PROVIDER_UNREACHABLE,
        "the signing keys of the token's issuer cannot be fetched just now",
        retry_after_seconds=RETRY_SECONDS,
    )
