"""`strongroom oidc-provider`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strongroom.cli.command import Report, Session, command, facts_report
from strongroom.cli.confirmation import Destruction
from strongroom.cli.inputs import Description, Limit, read_text
from strongroom.cli.parser import Group
from strongroom.cli.tables import Table, table

oidc_providers = typer.Typer(
    name="oidc-provider",
    cls=Group,
    help="Issuers of OIDC tokens, such as Kubernetes clusters.",
    no_args_is_help=True,
)

ProviderName = Annotated[str, typer.Argument(metavar="PROVIDER", help="An id or a full name.", show_default=False)]
Audiences = Annotated[
    list[str] | None,
    typer.Option("--audience", metavar="AUDIENCE", help="One that a token must be for; may be repeated."),
]
JwksUri = Annotated[
    str | None, typer.Option(metavar="URL", help="Where the signing keys are; else the issuer's discovery tells.")
]
Certificates = Annotated[
    Path | None, typer.Option("--ca", metavar="FILE", help="PEM: what the issuer's TLS chains to; else the system's.")
]
Jwks = Annotated[Path | None, typer.Option("--jwks", metavar="FILE", help="Signing keys; nothing is fetched then.")]


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(oidc_providers)


@command(
    oidc_providers,
    "create",
    "strongroom oidc-provider create cluster --issuer https://kubernetes.default.svc --audience strongroom --ca ca.pem",
)
def create_oidc_provider(
    session: Session,
    provider: Annotated[str, typer.Argument(metavar="ID", help="Its id.", show_default=False)],
    issuer: Annotated[str, typer.Option(metavar="URL", help="The tokens' iss, an https URL.")],
    audience: Audiences = None,
    jwks_uri: JwksUri = None,
    ca: Certificates = None,
    jwks: Jwks = None,
    description: Description = "",
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
    return facts_report(made)


@command(oidc_providers, "list", "strongroom oidc-provider list")
def list_oidc_providers(session: Session, limit: Limit = None) -> Report:
    """List the account's OIDC providers."""
    found = list(session.client.access.oidc_providers.list(limit=limit))

    def show() -> Table:
        rows = [
            (
                provider.name.rpartition("/")[2],
                provider.issuer,
                "DISABLED" if provider.disabled else "ENABLED",
                provider.fetch_time,
                provider.fetch_error,
            )
            for provider in found
        ]
        return table(("provider", "issuer", "state", "keys fetched", "error"), rows, prose=("error",))

    return Report({"oidc_providers": found}, show)


@command(oidc_providers, "describe", "strongroom oidc-provider describe cluster")
def describe_oidc_provider(session: Session, provider: ProviderName) -> Report:
    """Show all of an OIDC provider."""
    return facts_report(session.client.access.oidc_providers.get(provider))


@command(oidc_providers, "update", "strongroom oidc-provider update cluster --audience strongroom")
def update_oidc_provider(
    session: Session,
    provider: ProviderName,
    audience: Audiences = None,
    jwks_uri: JwksUri = None,
    ca: Certificates = None,
    jwks: Jwks = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="For people.")] = None,
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
    return facts_report(changed)


@command(oidc_providers, "disable", "strongroom oidc-provider disable cluster")
def disable_oidc_provider(session: Session, provider: ProviderName) -> Report:
    """Refuse an issuer's tokens from now on."""
    return facts_report(session.client.access.oidc_providers.update(provider, disabled=True))


@command(oidc_providers, "enable", "strongroom oidc-provider enable cluster")
def enable_oidc_provider(session: Session, provider: ProviderName) -> Report:
    """End what disable began."""
    return facts_report(session.client.access.oidc_providers.update(provider, disabled=False))


@command(
    oidc_providers,
    "delete",
    "strongroom oidc-provider delete cluster --yes",
    destroys=Destruction("deletes the OIDC provider {provider}"),
)
def delete_oidc_provider(session: Session, provider: ProviderName) -> Report:
    """Delete an OIDC provider that no principal is bound to."""
    name = session.client.names.oidc_provider(provider)
    event_id = session.client.access.oidc_providers.delete(provider)
    return Report({"name": name, "event_id": event_id}, lambda: f"deleted {session.client.names.relative(name)}")


def _text(path: Path | None) -> str | None:
    return read_text(path) if path is not None else None
