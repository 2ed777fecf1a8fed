"""`strongroom access`: what would be decided, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli import choices
from strongroom.cli.command import Report, Session, command, fields_of
from strongroom.cli.inputs import Context, Force, OutputFile, moment_of, pairs_of, read_text
from strongroom.cli.outputs import bytes_report
from strongroom.cli.parser import Group
from strongroom.cli.tables import Shown, facts, table
from strongroom.errors import StrongroomError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from strongroom.calls.access.simulation import AccessDecision
    from strongroom.calls.audit.events import Event

app = typer.Typer(name="access", cls=Group, help="What would be decided, and why.", no_args_is_help=True)

_EXPLAINED: Mapping[str, str] = {
    "default-deny": "no policy and no grant permits it",
    "session-policy": "the session's own policy does not permit it",
    "session-ended": "the session was ended: revoked, or begun by a client key that is disabled or deleted",
    "principal-unknown": "there is no such principal any more",
    "principal-disabled": "the principal, or one that assumed the role, is disabled",
    "account-disabled": "the account of the principal or of the resource is disabled",
}
_Tags = list[str] | None


def add_to(app_of_all: typer.Typer) -> None:
    """Adds the commands."""
    app_of_all.add_typer(app)


@command(
    app, "simulate", "strongroom access simulate --principal users/ann --action crypto:Decrypt --resource keys/payments"
)
def simulate(
    session: Session,
    principal: Annotated[
        str, typer.Option(metavar="PRINCIPAL", help="users/ID, workloads/ID, roles/ID, or a full name.")
    ],
    action: Annotated[str, choices.an_action("Such as crypto:Decrypt.")],
    resource: Annotated[
        str, typer.Option(metavar="RESOURCE", help="keys/ID, secrets/ID and the like, or a full name.")
    ],
    context: Context = None,
    session_policy: Annotated[Path | None, typer.Option(metavar="FILE", help="Of the session.")] = None,
    session_tag: Annotated[_Tags, typer.Option(metavar="NAME=VALUE", help="Of the session; may be repeated.")] = None,
    resource_tag: Annotated[_Tags, typer.Option(metavar="NAME=VALUE", help="In place of the resource's.")] = None,
    source_address: Annotated[str, typer.Option(metavar="ADDRESS", help="The caller's address.")] = "",
    at: Annotated[str, typer.Option(metavar="TIME", help="When; now by default.")] = "",
    via_service: Annotated[
        str, typer.Option(metavar="SERVICE", help="Such as services/secrets, acting for the principal.")
    ] = "",
) -> Report:
    """Say what would be decided on a call, without making it. Exits 1 when it would be denied."""
    decision = session.client.access.simulate(
        principal,
        action,
        resource,
        pairs_of(context),
        session_policy=read_text(session_policy) if session_policy else "",
        session_tags=pairs_of(session_tag, "--session-tag"),
        resource_tags=pairs_of(resource_tag, "--resource-tag") or None,
        source_address=source_address,
        at=moment_of(at, "--at") if at else None,
        via_service=via_service,
    )
    return Report(fields_of(decision), lambda: _shown(decision), exit_code=0 if decision.allowed else 1)


@command(app, "why", "strongroom access why 0198c7c4-1a2b-7c3d-8e4f-5a6b7c8d9e0f")
def why(
    session: Session,
    event: Annotated[str, typer.Argument(metavar="EVENT", help="The id of a call's event.", show_default=False)],
) -> Report:
    """Explain what was decided on a call, and what would be decided now."""
    found = session.client.audit.events.get(event)
    try:
        now: AccessDecision | None = session.client.access.simulate(
            found.principal,
            found.action,
            found.resource,
            found.encryption_context,
            source_address=found.source_address,
            via_service=found.via_service,
        )
    except StrongroomError:
        # The auditor may read events without being permitted to simulate, and the resource may not be nameable.
        now = None
    document = {"event": found, "because": _because(found), "now": now}
    return Report(document, lambda: _story(session, found, now))


@command(app, "schema", "strongroom access schema --out strongroom.cedarschema")
def schema(session: Session, output_file: OutputFile = None, force: Force = False) -> Report:
    """Print the Cedar schema that policies are checked against."""
    text = session.client.access.get_schema()
    if output_file is None:
        return Report({"cedar_schema": text}, lambda: text)
    return bytes_report({}, "cedar_schema", text.encode(), output_file, force=force, encoded=False)


def _shown(decision: AccessDecision) -> list[str | Shown]:
    facts_of_it: dict[str, object] = {
        "decision": "allowed" if decision.allowed else "denied",
        "because": _explained(decision.decided_by),
    }
    if decision.denying_accounts:
        facts_of_it["not permitted by"] = ", ".join(f"accounts/{account}" for account in decision.denying_accounts)
    for name, error in decision.errors.items():
        facts_of_it[f"error in {name}"] = error
    rows = [(one.effect.lower(), one.name, f"accounts/{one.account}") for one in decision.determinants]
    parts: list[str | Shown] = [facts(facts_of_it)]
    if rows:
        parts.append(table(("effect", "policy or grant", "side"), rows))
    return parts


def _story(session: Session, event: Event, now: AccessDecision | None) -> list[str | Shown]:
    relative = session.client.names.relative
    told: dict[str, object] = {
        "who": relative(event.principal) + (f" in session {event.session_name}" if event.session_name else ""),
        "did": f"{event.action} on {relative(event.resource)}",
        "with": event.encryption_context or "no encryption context",
        "from": event.source_address + (f" by way of {event.via_service}" if event.via_service else ""),
        "at": event.time,
        "outcome": f"{event.outcome} {event.reason}".rstrip(),
        "because": _because(event),
    }
    return [facts(told), *(["", "now it would be:", *_shown(now)] if now is not None else [])]


def _because(event: Event) -> str:
    return _explained(event.decided_by) if event.decided_by else "no policy was asked"


def _explained(decided_by: str) -> str:
    return _EXPLAINED.get(decided_by, decided_by or "nothing that you may see")
