"""`strongroom principal` and `strongroom role`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli.command import Report, Session, command, facts_report
from strongroom.cli.confirmation import Destruction
from strongroom.cli.inputs import Description, Limit, Tags, pairs_of, read_text, span_of
from strongroom.cli.parser import Group
from strongroom.cli.tables import Table, table

if TYPE_CHECKING:
    from strongroom.calls.access.principals import OidcBinding, Principal

principals = typer.Typer(name="principal", cls=Group, help="Users, workloads and roles.", no_args_is_help=True)
roles = typer.Typer(
    name="role", cls=Group, help="Roles: what others hold, or assume for a while.", no_args_is_help=True
)

PrincipalName = Annotated[
    str,
    typer.Argument(metavar="PRINCIPAL", help="users/ID, workloads/ID, roles/ID, or a full name.", show_default=False),
]
RoleName = Annotated[str, typer.Argument(metavar="ROLE", help="An id or a full name.", show_default=False)]
TrustPolicy = Annotated[Path, typer.Option(metavar="FILE", help="Cedar: who may assume it.")]
MaxSession = Annotated[str, typer.Option(metavar="SPAN", help="The longest session: 15m to 12h.")]
SpiffeIds = Annotated[
    list[str] | None, typer.Option("--spiffe-id", metavar="SPIFFE_ID", help="What it is known by; may be repeated.")
]
Bindings = Annotated[
    list[str] | None, typer.Option("--oidc", metavar="PROVIDER=SUBJECT", help="What it is known by; may be repeated.")
]


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(principals)
    app.add_typer(roles)


@command(
    principals,
    "create",
    "strongroom principal create workloads/api --role reader",
    "strongroom principal create users/ann --oidc cluster=system:serviceaccount:default:ann",
)
def create_principal(
    session: Session,
    principal: Annotated[
        str, typer.Argument(metavar="PRINCIPAL", help="users/ID or workloads/ID.", show_default=False)
    ],
    description: Description = "",
    tag: Tags = None,
    role: Annotated[
        list[str] | None, typer.Option(metavar="ROLE", help="A role that it holds; may be repeated.")
    ] = None,
    spiffe_id: SpiffeIds = None,
    oidc: Bindings = None,
) -> Report:
    """Make a user or workload. Roles are made with `strongroom role create`."""
    made = session.client.access.principals.create(
        principal,
        description=description,
        tags=pairs_of(tag, "--tag"),
        roles=role or (),
        spiffe_ids=spiffe_id or (),
        oidc_bindings=_bindings(oidc),
    )
    return facts_report(made)


@command(principals, "list", "strongroom principal list --filter 'kind = USER'")
def list_principals(
    session: Session,
    filter: Annotated[  # noqa: A002  # the option's name
        str, typer.Option("--filter", metavar="FILTER", help='Such as: kind = USER AND tags.team = "a"')
    ] = "",
    limit: Limit = None,
) -> Report:
    """List the account's principals."""
    return _listed(session, filter, limit)


@command(principals, "describe", "strongroom principal describe users/ann")
def describe_principal(session: Session, principal: PrincipalName) -> Report:
    """Show all of a principal."""
    return facts_report(session.client.access.principals.get(principal))


@command(
    principals,
    "update",
    "strongroom principal update users/ann --description 'On call'",
    destroys=Destruction(
        "makes the mesh forget every SPIFFE id and OIDC subject of {principal}",
        lambda options: bool(options["no_identities"]),
    ),
)
def update_principal(
    session: Session,
    principal: PrincipalName,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="For people.")] = None,
    spiffe_id: SpiffeIds = None,
    oidc: Bindings = None,
    no_identities: Annotated[
        bool, typer.Option("--no-identities", help="Forget every SPIFFE id and OIDC subject of it.")
    ] = False,
) -> Report:
    """Change a description, or all SPIFFE ids, or all OIDC subjects."""
    if no_identities and (spiffe_id or oidc):
        raise typer.BadParameter("give either identities or none", param_hint="--no-identities")
    changed = session.client.access.principals.update(
        principal,
        description=description,
        spiffe_ids=() if no_identities else spiffe_id,
        oidc_bindings=() if no_identities else _bindings(oidc) if oidc is not None else None,
    )
    return facts_report(changed)


@command(
    principals,
    "set-tags",
    "strongroom principal set-tags users/ann team=billing",
    destroys=Destruction("takes every tag of {principal} away, as none is named", lambda options: not options["tag"]),
)
def set_tags(
    session: Session,
    principal: PrincipalName,
    tag: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=VALUE", help="All tags that it has from now on; none takes them away."),
    ] = None,
) -> Report:
    """Replace a principal's tags."""
    return facts_report(session.client.access.principals.set_tags(principal, pairs_of(tag, "NAME=VALUE")))


@command(
    principals,
    "set-roles",
    "strongroom principal set-roles users/ann reader",
    destroys=Destruction("takes every role of {principal} away, as none is named", lambda options: not options["role"]),
)
def set_roles(
    session: Session,
    principal: PrincipalName,
    role: Annotated[
        list[str] | None,
        typer.Argument(metavar="ROLE", help="All roles that it holds from now on; none takes them away."),
    ] = None,
) -> Report:
    """Replace the roles that a user or workload holds all the time."""
    return facts_report(session.client.access.principals.set_roles(principal, role or ()))


@command(principals, "disable", "strongroom principal disable users/ann")
def disable_principal(session: Session, principal: PrincipalName) -> Report:
    """Refuse a principal and its sessions everywhere, within one second."""
    return facts_report(session.client.access.principals.disable(principal))


@command(principals, "enable", "strongroom principal enable users/ann")
def enable_principal(session: Session, principal: PrincipalName) -> Report:
    """End what disable began."""
    return facts_report(session.client.access.principals.enable(principal))


@command(principals, "revoke-sessions", "strongroom principal revoke-sessions users/ann")
def revoke_sessions(session: Session, principal: PrincipalName) -> Report:
    """Refuse every session that began before now, within one second."""
    return facts_report(session.client.access.principals.revoke_sessions(principal))


@command(
    principals,
    "delete",
    "strongroom principal delete users/ann --yes",
    destroys=Destruction("deletes {principal} with its client keys for good: its name is never used again"),
)
def delete_principal(session: Session, principal: PrincipalName) -> Report:
    """Delete a principal with its client keys, for good: its name is never used again."""
    name = session.client.names.principal(principal)
    event_id = session.client.access.principals.delete(principal)
    return Report({"name": name, "event_id": event_id}, lambda: f"deleted {session.client.names.relative(name)}")


@command(roles, "create", "strongroom role create reader --trust-policy trust.cedar --max-session 1h")
def create_role(
    session: Session,
    role: RoleName,
    trust_policy: TrustPolicy,
    max_session: MaxSession = "1h",
    description: Description = "",
    tag: Tags = None,
) -> Report:
    """Make a role. What it may do, policies say that are attached to roles/ID."""
    made = session.client.access.principals.create(
        session.client.names.role(role),
        description=description,
        tags=pairs_of(tag, "--tag"),
        trust_policy=read_text(trust_policy),
        max_session_duration=span_of(max_session, "--max-session", "m"),
    )
    return facts_report(made)


@command(roles, "list", "strongroom role list")
def list_roles(session: Session, limit: Limit = None) -> Report:
    """List the account's roles."""
    return _listed(session, "kind = ROLE", limit)


@command(roles, "describe", "strongroom role describe reader")
def describe_role(session: Session, role: RoleName) -> Report:
    """Show all of a role."""
    return facts_report(session.client.access.principals.get(session.client.names.role(role)))


@command(roles, "trust", "strongroom role trust reader --trust-policy trust.cedar")
def trust(session: Session, role: RoleName, trust_policy: TrustPolicy, max_session: MaxSession = "1h") -> Report:
    """Say anew who may assume a role, and for how long."""
    changed = session.client.access.principals.update(
        session.client.names.role(role),
        trust_policy=read_text(trust_policy),
        max_session_duration=span_of(max_session, "--max-session", "m"),
    )
    return facts_report(changed)


def _listed(session: Session, condition: str, limit: int | None) -> Report:
    found = list(session.client.access.principals.list(condition, limit=limit))

    def show() -> Table:
        headings = ("principal", "state", "roles", "created", "description")
        return table(headings, [_row(session, one) for one in found], prose=("description",))

    return Report({"principals": found}, show)


def _row(session: Session, principal: Principal) -> tuple[object, ...]:
    held = ", ".join(role.rpartition("/")[2] for role in principal.roles)
    return (
        session.client.names.relative(principal.name),
        "DISABLED" if principal.disabled else "ENABLED",
        held,
        principal.create_time,
        principal.description,
    )


def _bindings(pairs: list[str] | None) -> list[OidcBinding]:
    from strongroom.calls.access.principals import OidcBinding

    bindings = []
    for pair in pairs or []:
        provider, equals, subject = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"'{pair}' is not PROVIDER=SUBJECT", param_hint="--oidc")
        bindings.append(OidcBinding(provider, subject))
    return bindings
