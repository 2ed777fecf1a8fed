"""`strongroom oidc-provider`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.bounded import read_text
from strongroom.cli.command import Report, Session, command, facts_report
from strongroom.cli.keys import Limit
from strongroom.cli.plain import plain

if TYPE_CHECKING:
    from rich.console import RenderableType

oidc_providers = typer.Typer(
    name="oidc-provider", help="Issuers of OIDC tokens, such as Kubernetes clusters.", no_args_is_help=True
)

ProviderName = Annotated[str, typer.Argument(metavar="PROVIDER", help="An id or a full name.", show_default=False)]
Audiences = Annotated[
    list[str] | None, typer.Option("--audience", help="One that a token must be for; may be repeated.")
]
JwksUri = Annotated[str | None, typer.Option(help="Where the signing keys are; else the issuer's discovery tells.")]
Certificates = Annotated[
    Path | None, typer.Option("--ca", metavar="FILE", help="PEM: what the issuer's TLS chains to; else the system's.")
]
Jwks = Annotated[Path | None, typer.Option("--jwks", metavar="FILE", help="Signing keys; nothing is fetched then.")]


@command(oidc_providers, "create")
def create_oidc_provider(
    session: Session,
    provider: Annotated[str, typer.Argument(metavar="ID", help="Its id.", show_default=False)],
    issuer: Annotated[str, typer.Option(help="The tokens' iss, an https URL.")],
    audience: Audiences = None,
    jwks_uri: JwksUri = None,
    ca: Certificates = None,
    jwks: Jwks = None,
    description: Annotated[str, typer.Option(help="For people.")] = "",
) -> Report:
    """Accept an issuer's tokens."""
    made = session.client.access.oidc_providers.create(
        provider,
        issuer,
        audience or (),
        jwks_uri=jwks_uri or "",
        ca_certificates=_text(ca) or "",
        static_jwks=_text(jwks) or "",
        description=description,
    )
    return facts_report(plain(made))


@command(oidc_providers, "list")
def list_oidc_providers(session: Session, limit: Limit = None) -> Report:
    """List the account's OIDC providers."""
    found = list(session.client.access.oidc_providers.list(limit=limit))

    def show() -> RenderableType:
        from strongroom.cli.show import table

        rows = [
            (
                provider.name.rpartition("/")[2],
                provider.issuer,
                "DISABLED" if provider.disabled else "",
                provider.fetch_time,
                provider.fetch_error,
            )
            for provider in found
        ]
        return table(("provider", "issuer", "state", "keys fetched", "error"), rows)

    return Report({"oidc_providers": found}, show)


@command(oidc_providers, "describe")
def describe_oidc_provider(session: Session, provider: ProviderName) -> Report:
    """Show all of an OIDC provider."""
    return facts_report(plain(session.client.access.oidc_providers.get(provider)))


@command(oidc_providers, "update")
def update_oidc_provider(
    session: Session,
    provider: ProviderName,
    audience: Audiences = None,
    jwks_uri: JwksUri = None,
    ca: Certificates = None,
    jwks: Jwks = None,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
) -> Report:
    """Change what is given, and have the signing keys fetched anew."""
    changed = session.client.access.oidc_providers.update(
        provider,
        audiences=audience,
        jwks_uri=jwks_uri,
        ca_certificates=_text(ca),
        static_jwks=_text(jwks),
        description=description,
    )
    return facts_report(plain(changed))


@command(oidc_providers, "disable")
def disable_oidc_provider(session: Session, provider: ProviderName) -> Report:
    """Refuse an issuer's tokens from now on."""
    return facts_report(plain(session.client.access.oidc_providers.update(provider, disabled=True)))


@command(oidc_providers, "enable")
def enable_oidc_provider(session: Session, provider: ProviderName) -> Report:
    """End what disable began."""
    return facts_report(plain(session.client.access.oidc_providers.update(provider, disabled=False)))


@command(oidc_providers, "delete")
def delete_oidc_provider(session: Session, provider: ProviderName) -> Report:
    """Delete an OIDC provider that no principal is bound to."""
    name = session.client.names.oidc_provider(provider)
    event_id = session.client.access.oidc_providers.delete(provider)
    return Report({"name": name, "event_id": event_id}, lambda: f"deleted {session.client.names.relative(name)}")


def _text(path: Path | None) -> str | None:
    return read_text(path) if path is not None else None
