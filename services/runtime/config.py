"""Settings: one TOML file a service, overridden by the environment, validated whole before anything starts."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, NoReturn, Self, TypeVar
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from services.runtime.environment import unknown_variables
from services.runtime.extension import Choice

_ADDRESS = r"(?:[^\s:,]+|\[[0-9a-fA-F:]+\]):\d{1,5}"
Address = Annotated[str, StringConstraints(pattern=rf"^{_ADDRESS}$")]
Addresses = Annotated[str, StringConstraints(pattern=rf"^{_ADDRESS}(?:,{_ADDRESS})*$")]
_MAX_URL_BYTES = 4096
SpiffeId = Annotated[str, StringConstraints(pattern=r"^spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)+$")]


class Section(BaseModel):
    """A table of the configuration file; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PublicListener(Section):
    """Where callers from outside the mesh connect."""

    address: Address = Field(description="TLS; callers present a session token")
    certificate_address: Address | None = Field(
        default=None, description="the same services over mTLS; callers present a client certificate"
    )


class InternalListener(Section):
    """Where the other services of the mesh connect: mTLS only."""

    address: Address = Field(description="mTLS; callers present a certificate of the mesh")
    allow: dict[str, list[SpiffeId]] = Field(
        default_factory=dict, description="internal gRPC service → identities that may call it"
    )
    may_forward: list[SpiffeId] = Field(
        default_factory=list,
        description="services that may call public methods on behalf of their own callers",
    )
    may_pass_on: list[SpiffeId] = Field(
        default_factory=list,
        description="services that may do so by their callers' session tokens alone, and name nobody: doors",
    )
    may_present_certificates: list[SpiffeId] = Field(
        default_factory=list,
        description="of those, services that may begin sessions by client certificates that they have seen verified",
    )


class HealthListener(Section):
    """Where probes that cannot do TLS ask for gRPC health, and nothing else."""

    address: Address = Field(description="without TLS")


class AdvertisedAddresses(Section):
    """The addresses of the mesh's services for one kind of caller; several of one service are joined by commas."""

    keystore: Addresses | None = Field(default=None, description="where keystore is reached")
    crypto: Addresses | None = Field(default=None, description="where crypto is reached")
    secrets: Addresses | None = Field(default=None, description="where the secrets service is reached")
    audit: Addresses | None = Field(default=None, description="where audit is reached")


class Advertised(Section):
    """What whoever asks this service is told of where the mesh is: how its services are reached from outside."""

    token: AdvertisedAddresses = Field(
        default=AdvertisedAddresses(), description="for callers that present a session token"
    )
    certificate: AdvertisedAddresses = Field(
        default=AdvertisedAddresses(), description="for callers that present a client certificate"
    )


class Listeners(Section):
    """The listeners, and how much a process takes on at once."""

    public: PublicListener
    internal: InternalListener
    health: HealthListener | None = None
    advertised: Advertised = Advertised()
    threads: int = Field(default=64, ge=1, le=1024, description="calls in work at once, a listener's each")
    held_refusals: int = Field(
        default=64, ge=0, le=1024, description="callers over their quota that wait a moment to be told, beside those"
    )
    stranger_threads: int = Field(
        default=32, ge=2, le=256, description="calls in work at once of callers that this process has not seen before"
    )
    max_in_flight: int = Field(
        default=2048, ge=1, description="whole calls that wait for a thread; more get RESOURCE_EXHAUSTED"
    )
    max_waiting_mib: int = Field(default=256, ge=16, description="how much the messages of those may hold")
    max_unfinished: int = Field(
        default=512, ge=1, description="calls whose message has not come; beyond, those of whoever has most are ended"
    )
    max_slow: int = Field(
        default=32, ge=1, description="of those, how many may take over half a second: their messages take memory"
    )
    message_seconds: float = Field(default=10.0, gt=0, le=300, description="how long a call's message may take")
    engine: Choice = Field(
        default="auto",
        description="what takes connections: grpcio's server, the extension that `make native` builds, "
        "or `auto`: the extension where it is built",
    )
    max_connections: int = Field(default=4096, ge=1, description="of each port")
    max_address_connections: int = Field(
        default=1024, ge=1, description="of those, from one address (IPv6: from 64 bits); by the native engine alone"
    )
    streams_per_connection: int = Field(default=256, ge=1, description="calls at once on one connection from outside")
    handshake_seconds: float = Field(default=10.0, gt=0, le=120, description="for TLS and the first frames of HTTP/2")
    idle_seconds: float = Field(default=300.0, ge=1, description="after which a connection without a call is closed")
    connection_seconds: float = Field(default=1800.0, ge=1, description="after which a connection has to be made anew")
    drain_seconds: float = Field(default=10.0, ge=0, description="how long calls in flight may take after SIGTERM")
    lame_duck_seconds: float = Field(default=0.0, ge=0, description="time for load balancers to see NOT_SERVING")


class Tls(Section):
    """This service's certificate and whom it trusts. The files are read again when they change."""

    certificate: Path = Field(description="PEM: this service's certificate, with those between it and the authority")
    key: Path = Field(description="PEM: the certificate's private key")
    trust: Path = Field(description="PEM: the authorities of the mesh's and its callers' certificates")
    trust_domain: Annotated[str, StringConstraints(pattern=r"^[a-z0-9._-]+$")] = Field(
        description="of the SPIFFE ids: `spiffe://{trust_domain}/…`; ids of others are nobody's"
    )


class Store(Section):
    """A server that keeps something for a service, by a URL that may hold a password: so it may stand in a file."""

    url: str = Field(description="where it is")
    url_file: Path | None = Field(default=None, description="a file with the URL, in place of `url`; read at start")
    plaintext: bool = Field(default=False, description="lets the connection to another machine be without TLS")

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, given: Any) -> Any:
        """Takes the URL from its file. What is wrong with it is told without what is in it."""
        if not isinstance(given, dict) or not given.get("url_file"):
            return given
        if given.get("url"):
            raise ValueError("give either url or url_file")
        path = Path(given["url_file"])
        try:
            with path.open("rb") as file:
                text = file.read(_MAX_URL_BYTES).decode().strip()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise ValueError(f"url_file {path} cannot be read: {why}") from None
        return {**given, "url": text}


class Database(Store):
    """The service's own database."""

    url: Annotated[str, StringConstraints(pattern=r"^(sqlite:///|postgresql\+psycopg://)")] = Field(
        description="`sqlite:////absolute/path.db` or `postgresql+psycopg://…`"
    )
    pool_size: int = Field(default=8, ge=1, le=256, description="connections of one worker, at most")

    @model_validator(mode="after")
    def _is_private(self) -> Self:
        verified = _query(self.url).get("sslmode") == "verify-full"
        if not self.plaintext and not verified and _leaves_the_machine(self.url):
            raise ValueError(
                "a PostgreSQL server on another machine needs sslmode=verify-full in its URL, or plaintext = true"
            )
        return self


class Redis(Store):
    """Where the rotation schedule lives."""

    url: Annotated[str, StringConstraints(pattern=r"^(redis|rediss|unix)://")] = Field(
        description="`rediss://user:password@…`; `redis://user:password@…` on this machine; `unix://user:password@/…`"
    )
    passwordless: bool = Field(default=False, description="lets Redis be one that whoever reaches it may write to")

    @model_validator(mode="after")
    def _is_private(self) -> Self:
        # A socket file lets in whoever is of its user.
        if not self.passwordless and not _has_password(self.url):
            raise ValueError("a Redis needs a password in its URL, or passwordless = true")
        if not self.plaintext and self.url.startswith("redis://") and _leaves_the_machine(self.url):
            raise ValueError("a Redis on another machine needs a rediss:// URL, or plaintext = true")
        return self


class Upstream(Section):
    """Internal addresses of the services that this one calls: of one replica or of several, joined by commas."""

    keystore: Addresses | None = Field(default=None, description="keystore's internal listener")
    crypto: Addresses | None = Field(default=None, description="crypto's internal listener")
    audit: Addresses | None = Field(default=None, description="audit's internal listener")


class AuditClientSettings(Section):
    """How this service appends to the audit log."""

    senders: int = Field(default=2, ge=1, le=16, description="groups of events under way at once")
    group_limit: int = Field(default=512, ge=1, le=4096, description="events in one group")
    deadline_seconds: float = Field(default=1.5, gt=0, le=30, description="after which an operation fails")


class RequestLimit(Section):
    """How many requests are let through."""

    requests_per_second: float = Field(ge=0.1, le=1_000_000, description="on average")
    burst: int = Field(ge=1, le=1_000_000, description="requests that may come at once after a pause")


class DefaultQuotas(Section):
    """What holds where no quota was set, in each worker. An item of a batch and each 64 KiB count as a request,
    and 64 of them do against a ceiling."""

    account: RequestLimit | None = None
    principal: RequestLimit | None = None
    account_ceiling: RequestLimit = Field(
        default=RequestLimit(requests_per_second=20_000, burst=40_000),
        description="what an account is held to without any of those: nobody has a worker to itself",
    )
    principal_ceiling: RequestLimit = Field(
        default=RequestLimit(requests_per_second=10_000, burst=20_000), description="likewise a principal"
    )
    stranger: RequestLimit = Field(
        default=RequestLimit(requests_per_second=100, burst=1_000),
        description="calls that are refused for want of a valid credential, of each address",
    )


class Telemetry(Section):
    """Logs, traces and metrics."""

    log_level: Annotated[str, StringConstraints(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = Field(
        default="INFO", description="`DEBUG`, `INFO`, `WARNING` or `ERROR`"
    )
    sample_ratio: float = Field(default=0.01, ge=0, le=1, description="share of calls traced whose caller did not say")
    span_directory: Path | None = Field(default=None, description="write finished spans here, JSON lines")
    otlp_endpoint: Annotated[str, StringConstraints(pattern=r"^$|^https?://[^\s]+$")] = Field(
        default="", description="OTLP/gRPC endpoint for spans and metrics"
    )
    otlp_trust: Path | None = Field(
        default=None, description="whom the endpoint's certificate chains to (PEM); by default the system's"
    )
    otlp_plaintext: bool = Field(default=False, description="lets an http endpoint be on another machine")

    @model_validator(mode="after")
    def _is_private(self) -> Self:
        endpoint = self.otlp_endpoint
        if endpoint.startswith("http://") and _leaves_the_machine(endpoint) and not self.otlp_plaintext:
            raise ValueError("otlp_endpoint on another machine needs https, or otlp_plaintext = true")
        return self


class StatusSettings(Section):
    """Who is told how the service is."""

    account: str = Field(default="", description="the account whose principals see all of GetStatus; empty: none's")


class ServiceSettings(BaseSettings):
    """What every service's configuration has."""

    model_config = SettingsConfigDict(extra="forbid", env_nested_delimiter="__")

    listeners: Listeners
    tls: Tls
    upstream: Upstream
    audit: AuditClientSettings = AuditClientSettings()
    quota: DefaultQuotas = DefaultQuotas()
    status: StatusSettings = StatusSettings()
    telemetry: Telemetry = Telemetry()


S = TypeVar("S", bound=BaseSettings)


def load(settings: type[S], service: str, path: Path) -> S:
    """Reads `path`, then `STRONGROOM_<SERVICE>__SECTION__KEY` from the environment, which wins.

    Ends the process with status 2, naming every error at once, when the result is not valid.
    """
    prefix = f"STRONGROOM_{service.upper()}__"

    class Loaded(settings):  # type: ignore[valid-type, misc]
        model_config = SettingsConfigDict(env_prefix=prefix, toml_file=path)

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            env_settings: PydanticBaseSettingsSource,
            **_: Any,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return env_settings, TomlConfigSettingsSource(settings_cls)

    if not path.is_file():
        _refuse(f"configuration file {path} does not exist")
    unknown = unknown_variables(settings, service, os.environ)
    try:
        loaded: S = Loaded()
    except ValidationError as error:
        problems = [
            f"  {'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        ]
        problems += [f"  {problem}" for problem in unknown]
        _refuse(f"{len(problems)} error(s) in the configuration ({path} and {prefix}*):\n" + "\n".join(problems))
    except ValueError as error:  # not TOML at all
        _refuse(f"{path}: {error}")
    if unknown:
        _refuse(f"{len(unknown)} error(s) in the environment:\n" + "\n".join(f"  {problem}" for problem in unknown))
    return loaded


def _leaves_the_machine(url: str) -> bool:
    """Whether a server of a URL is reached over a network: neither a socket file nor a loopback address."""
    try:
        parts = urlsplit(url)
        named = [host for name, value in parse_qsl(parts.query) if name == "host" for host in value.split(",")]
        hosts = named or [parts.hostname or ""]
    except ValueError:
        return True
    return not all(map(_is_here, hosts))


def _is_here(host: str) -> bool:
    if not host or host.startswith("/") or host == "localhost":
        return True
    for name in (host, host.rpartition(":")[0].strip("[]")):
        with suppress(ValueError):
            return ip_address(name).is_loopback
    return False


def _has_password(url: str) -> bool:
    try:
        return bool(urlsplit(url).password or _query(url).get("password"))
    except ValueError:
        return False


def _query(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


def _refuse(message: str) -> NoReturn:
    sys.stderr.write(f"{message}\n")
    raise SystemExit(2)
