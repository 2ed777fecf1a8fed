"""The client: what an application holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from strongroom import logins, profiles
from strongroom.calls.access import AccessCalls
from strongroom.calls.audit import AuditCalls
from strongroom.calls.client_key_secrets import ClientKeySecretCalls
from strongroom.calls.data_keys import DataKeyCalls
from strongroom.calls.grants import GrantCalls
from strongroom.calls.imports import ImportCalls
from strongroom.calls.oidc_providers import OidcProviderCalls
from strongroom.calls.policies import PolicyCalls
from strongroom.calls.principals import PrincipalCalls
from strongroom.calls.public_keys import PublicKeyCalls
from strongroom.calls.quotas import QuotaCalls
from strongroom.calls.root_key import RootKeyCalls
from strongroom.calls.signatures import SignatureCalls
from strongroom.calls.simulation import SimulationCalls
from strongroom.calls.status import StatusCalls
from strongroom.credentials import (
    AssumedRole,
    ClientCertificate,
    Credentials,
    ExchangedTokens,
    FixedToken,
    SessionToken,
    TokenSource,
    TokenStore,
)
from strongroom.names import Names
from strongroom.profiles import Profile
from strongroom.tracing import SpanFile, Trace, Tracing
from strongroom.transport import Pem, Transport

DEFAULT_TIMEOUT = 10.0


class Client(
    ImportCalls,
    RootKeyCalls,
    SignatureCalls,
    PublicKeyCalls,
    DataKeyCalls,
    ClientKeySecretCalls,
    AuditCalls,
    PrincipalCalls,
    PolicyCalls,
    GrantCalls,
    SimulationCalls,
    OidcProviderCalls,
    QuotaCalls,
    AccessCalls,
    StatusCalls,
):
    """A caller of one mesh. Safe to share between threads; not to be carried over a fork.

    Connections are opened when first needed and kept. Every call has a deadline (`timeout`, seconds, retries
    included), is retried with growing pauses while the service answers UNAVAILABLE, and carries a trace
    context. What fails raises StrongroomError.

    - `endpoints`: `host:port` of `keystore`, `crypto`, `secrets` and `audit`, as far as they are called; of several
      replicas joined by commas, where calls that nobody answered at one go to the next.
    - `credentials`: who calls; a client certificate needs the services' listeners for client certificates.
    - `certificate`: what to connect with to such listeners where the credentials are something else.
    - `token_store`: keeps the session token that credentials are exchanged for beyond the client's own life.
    - `trust`: PEM file of the authorities that the services' certificates chain to; default: the system's.
    - `account`: the account's id; short names are completed with it.
    - `sample_ratio`: which part of the traces that begin here is recorded, 0 to 1.
    - `trace_directory`: for development: spans of recorded traces are appended there under `application`.
    """

    def __init__(
        self,
        endpoints: Mapping[str, str],
        credentials: Credentials | None = None,
        *,
        certificate: ClientCertificate | None = None,
        token_store: TokenStore | None = None,
        trust: Path | None = None,
        account: str = "",
        timeout: float = DEFAULT_TIMEOUT,
        sample_ratio: float = 0.0,
        trace_directory: Path | None = None,
        application: str = "strongroom-client",
    ) -> None:
        spans = SpanFile(trace_directory, application) if trace_directory else None
        pem = Pem.of(trust, certificate or credentials)
        super().__init__(Transport(endpoints, pem, Tracing(sample_ratio, spans), timeout), Names(account))
        self._transport.tokens = self._token_source(credentials, token_store)

    @classmethod
    def from_profile(
        cls,
        profile: Profile | str = "",
        *,
        role: str = "",
        timeout: float = DEFAULT_TIMEOUT,
        application: str = "strongroom-client",
    ) -> Self:
        """The client of a profile: by name, or `$STRONGROOM_PROFILE`, or the current one; with `role`, as that.

        With a `trace_directory` in the profile, every trace is recorded. `$STRONGROOM_TOKEN`, if set, is a
        session token to use in place of the profile's credentials. Tokens that those are exchanged for are kept
        in the profile's directory. Raises PROFILE_NOT_FOUND, PROFILE_INVALID or LOGIN_EXPIRED.
        """
        if isinstance(profile, str):
            profile = profiles.find(profile)
        credentials = logins.credentials_of(profile, os.environ, role)
        return cls(
            profile.endpoints,
            credentials,
            certificate=logins.certificate_of(profile),
            token_store=logins.token_file(profile, credentials) if credentials is not None else None,
            trust=profile.trust,
            account=profile.account,
            timeout=timeout,
            sample_ratio=1.0 if profile.trace_directory else 0.0,
            trace_directory=profile.trace_directory,
            application=application,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections; calls in flight are cancelled."""
        self._transport.close()

    @property
    def last_trace_id(self) -> str:
        """The trace id (32 hex digits) of this thread's last call; empty before the first."""
        return self._transport.tracing.last_trace_id

    def trace(
        self, name: str = "client", *, trace_id: str = "", sampled: bool | None = None
    ) -> AbstractContextManager[Trace]:
        """Puts every call of the block into one trace, below a span `name`; `with client.trace() as trace:
        …`.

        Inside the application's own OpenTelemetry span it continues that trace. `trace_id` (32 lower-case hex
        digits) begins another of one's own choice; `sampled` says whether a trace that begins here is
        recorded, in place of the client's `sample_ratio`. Raises FIELD_INVALID.
        """
        return self._transport.tracing.span(name, trace_id=trace_id, sampled=sampled, attributes={})

    def _token_source(self, credentials: Credentials | None, store: TokenStore | None = None) -> TokenSource | None:
        if credentials is None or isinstance(credentials, ClientCertificate):
            return None
        if isinstance(credentials, SessionToken):
            return FixedToken(credentials)
        if isinstance(credentials, AssumedRole):
            source = self._token_source(credentials.source)
            return ExchangedTokens(lambda: self._assume(credentials, source), store=store)
        return ExchangedTokens(lambda: self._exchange(credentials), store=store)
