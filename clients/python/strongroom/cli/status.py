"""`strongroom status` and `strongroom whoami`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from strongroom.cli.command import Report, Session, command, facts_report
from strongroom.cli.tables import Table, duration, table

if TYPE_CHECKING:
    import typer

    from strongroom.calls.mesh.status import ServiceStatus


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    command(app, "status", "strongroom status", "strongroom status -o json")(status)
    command(app, "whoami", "strongroom whoami")(whoami)


def status(session: Session) -> Report:
    """Show how each service is, and what is wrong. Exits 1 where one is down."""
    found = session.client.mesh.status()
    down = any(service.state not in ("OK", "DEGRADED") for service in found)
    data = {"state": "DOWN" if down else "OK", "services": found}
    return Report(data, lambda: _status_table(found), exit_code=1 if down else 0)


def whoami(session: Session) -> Report:
    """Show who the services take you for."""
    return facts_report(session.client.access.whoami())


def _status_table(found: tuple[ServiceStatus, ...]) -> Table:
    rows: list[tuple[object, ...]] = []
    for service in found:
        up = duration(service.uptime_seconds) if service.uptime_seconds is not None else ""
        facts = ", ".join(f"{name}={value}" for name, value in sorted((service.attributes or {}).items()))
        about = f"{service.detail} ({service.reason})" if service.reason else facts
        rows.append((service.service, service.state, service.version, up, about))
        for component in service.components:
            if component.state != "OK":
                why = f"{component.detail} ({component.reason})" if component.detail else component.reason
                rows.append((f"  {component.name}", component.state, "", "", why))
    return table(("service", "state", "version", "up", ""), rows)
