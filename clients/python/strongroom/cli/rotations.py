"""`strongroom secret rotate`, `rotation`, `repair` and what else rotates secrets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli import choices
from strongroom.cli.command import Report, Session, command, facts_report, fields_of
from strongroom.cli.complaints import Status, one_failed, status_of, status_of_all
from strongroom.cli.forms import warn
from strongroom.cli.inputs import pairs_of, span_of
from strongroom.cli.secrets import SecretName, app, secret_report
from strongroom.cli.side_by_side import side_by_side
from strongroom.cli.tables import Shown, Table, facts, table
from strongroom.cli.terminal import write_beside
from strongroom.errors import AWAY, StrongroomError
from strongroom.names import last_part

if TYPE_CHECKING:
    from strongroom.calls.secrets.rotations import Rotation
    from strongroom.client import Client

__all__ = ["app"]

_POLL_SECONDS = 0.5
# A rotation that rests for its grace period has done what matters.
_DONE = ("SUCCEEDED", "FAILED", "CANCELLED")


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of one secret's rotation."""

    secret: str
    outcome: str
    reason: str
    detail: str


@command(
    app, "rotate", "strongroom secret rotate database-password", "strongroom secret rotate --tag team=billing --now"
)
def rotate(
    session: Session,
    secret: Annotated[list[str] | None, typer.Argument(metavar="SECRET", help="Ids or full names; or --tag.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="Every secret with these tags.")
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Needed with --tag: whatever their window.")] = False,
    concurrency: Annotated[int, typer.Option(metavar="COUNT", min=1, max=200, help="How many at once.")] = 10,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait until they have ended.")] = True,
    timeout: Annotated[str, typer.Option(metavar="SPAN", help="How long to wait for each.")] = "5m",
) -> Report:
    """Rotate secrets now: those named, or all with the tags. Exits 0 when each has a new value."""
    seconds = span_of(timeout, "--timeout", "s").total_seconds()
    chosen = _chosen(session, secret or [], pairs_of(tag, "--tag"), now=now)
    # One for all threads, made before they begin.
    client = session.client
    errors: dict[str, StrongroomError] = {}
    begun: list[str] = []

    def work(name: str, stopped: threading.Event) -> _Outcome:
        return _rotated(client, name, seconds if follow else 0, _Round(begun, errors, stopped))

    try:
        outcomes = _each(chosen, work, concurrency, quiet=session.quiet)
    except KeyboardInterrupt:
        write_beside(f"interrupted: {len(begun)} of {len(chosen)} rotations have begun, and go on by themselves")
        raise
    if errors and len(chosen) == 1 and not begun:
        raise errors[chosen[0]]

    def show() -> Table:
        rows = [(item.secret, item.outcome, item.reason, item.detail) for item in outcomes]
        return table(("secret", "outcome", "reason", "detail"), rows)

    well = ("SUCCEEDED", "RESTING") if follow else ("RUNNING",)
    statuses = {
        status_of(errors[item.secret]) if item.secret in errors else Status.NO
        for item in outcomes
        if item.outcome not in well
    }
    for name, error in errors.items():
        one_failed(name, error)
    some_done = any(item.outcome in well for item in outcomes)
    return Report({"rotations": outcomes}, show, exit_code=status_of_all(statuses, some_done=some_done))


@command(app, "rotation", "strongroom secret rotation database-password")
def rotation(
    session: Session,
    secret: SecretName,
    limit: Annotated[int, typer.Option(metavar="COUNT", min=1, max=1_000_000, help="Most rotations to show.")] = 5,
) -> Report:
    """Show a secret's rotations, newest first, with every step that was tried."""
    found = list(session.client.secrets.rotations.list(secret, limit=limit))

    def show() -> Table:
        headings = ("rotation", "state", "trigger", "step", "try", "began", "took", "error", "detail")
        rows = [row for each in found for row in _rows(each)]
        return table(headings, rows)

    return Report({"rotations": found}, show)


@command(app, "resume-rotation", "strongroom secret resume-rotation database-password")
def resume(session: Session, secret: SecretName) -> Report:
    """Let a rotation that failed go on, or one that waits go on now."""
    return _rotation_report(session.client.secrets.rotations.resume(secret))


@command(app, "cancel-rotation", "strongroom secret cancel-rotation database-password")
def cancel(session: Session, secret: SecretName) -> Report:
    """Give up a rotation that failed or waits, once the target accepts Current."""
    return _rotation_report(session.client.secrets.rotations.cancel(secret))


@command(app, "repair", "strongroom secret repair database-password --dry-run")
def repair(
    session: Session,
    secret: SecretName,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which credential logs in.")] = False,
) -> Report:
    """Say which credential logs in to the target, and put secret and target back in step."""
    done = session.client.secrets.rotations.repair(secret, dry_run=dry_run)

    def show() -> list[Shown]:
        rows = [
            (
                check.credential,
                session.client.names.shorten(check.version),
                "logs in" if check.accepted else check.reason,
                check.detail,
            )
            for check in done.checks
        ]
        stages = {stage: str(number) for stage, number in done.secret.stages.items()}
        action = {"would do" if dry_run else "did": done.action, "stages": stages}
        return [table(("credential", "version", "outcome", "detail"), rows), facts(action)]

    document = {"action": done.action, "checks": done.checks, "stages": dict(done.secret.stages)}
    return Report(document, show, exit_code=1 if done.action == "IMPOSSIBLE" else 0)


@command(
    app,
    "rotation-policy",
    "strongroom secret rotation-policy database-password --every 30d --window 02:00 --time-zone Europe/Berlin",
)
def rotation_policy(
    session: Session,
    secret: SecretName,
    every: Annotated[str, typer.Option(metavar="SPAN", help="6h to 365d; 0 for never.")],
    jitter: Annotated[str, typer.Option(metavar="SPAN", help="Earlier by up to so much.")] = "",
    window: Annotated[str, typer.Option(metavar="HH:MM", help="When rotations may begin.")] = "",
    window_length: Annotated[str, typer.Option(metavar="SPAN", help="How long the window is open.")] = "1h",
    day: Annotated[list[str] | None, choices.one_of(choices.WEEKDAYS, "May be repeated", "DAY")] = None,
    time_zone: Annotated[str, typer.Option(metavar="ZONE", help="Of the window, such as Europe/Berlin.")] = "",
    max_attempts: Annotated[int, typer.Option(metavar="COUNT", min=0, max=1000, help="How often a step is tried.")] = 0,
) -> Report:
    """Say anew when a secret is rotated by itself, as a whole: what is not given here is no part of it any more."""
    from strongroom.calls.secrets.records import RotationPolicy

    policy = None
    period = span_of(every, "--every", "d")
    if not period:
        for option, value in (("--jitter", jitter), ("--window", window), ("--max-attempts", max_attempts)):
            if value:
                raise typer.BadParameter("goes with a period: --every 0 is never", param_hint=option)
    else:
        policy = RotationPolicy(
            period=period,
            jitter=span_of(jitter, "--jitter") if jitter else timedelta(),
            window_start=window,
            window_duration=span_of(window_length, "--window-length"),
            window_days=day or (),
            time_zone=time_zone,
            max_attempts=max_attempts,
        )
    return secret_report(session.client.secrets.update_rotation_policy(secret, policy))


def _chosen(session: Session, named: Sequence[str], tags: Mapping[str, str], *, now: bool) -> list[str]:
    if bool(named) == bool(tags):
        raise typer.BadParameter("name secrets, or give --tag", param_hint="SECRET / --tag")
    if not tags:
        return list(named)
    if not now:
        raise typer.BadParameter("rotating every secret with a tag needs --now", param_hint="--tag")
    terms = [f"tags.{_quoted(name)} = {_quoted(value)}" for name, value in tags.items()]
    found = session.client.secrets.list(" AND ".join(["state = ENABLED", *terms]))
    chosen = [session.client.names.shorten(secret.name) for secret in found]
    if not chosen:
        wanted = ", ".join(f"{name}={value}" for name, value in tags.items())
        raise StrongroomError(
            "SECRET_NOT_FOUND",
            f"no secret that is enabled has the tags {wanted}: nothing was rotated",
            code="NOT_FOUND",
        )
    return chosen


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _each(
    secrets: Sequence[str], work: Callable[[str, threading.Event], _Outcome], concurrency: int, *, quiet: bool
) -> list[_Outcome]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from strongroom.cli.show import console

    columns = (TextColumn("rotating"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    done: dict[str, _Outcome] = {}
    with Progress(*columns, console=console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task("rotating", total=len(secrets))

        def ended(secret: str, future: Future[_Outcome]) -> None:
            done[secret] = future.result()
            progress.advance(task)

        side_by_side(secrets, work, ended, concurrency)
    return [done[secret] for secret in secrets]


@dataclass(frozen=True, slots=True)
class _Round:
    """What the rotations of one command have in common."""

    begun: list[str]
    errors: dict[str, StrongroomError]
    stopped: threading.Event


def _rotated(client: Client, secret: str, seconds: float, together: _Round) -> _Outcome:
    try:
        found = client.secrets.rotate(secret)
    except StrongroomError as error:
        together.errors[secret] = error
        return _Outcome(secret, "REFUSED", error.reason, error.message)
    together.begun.append(secret)
    missed: StrongroomError | None = None
    told = ""
    deadline = time.monotonic() + seconds
    while found.state not in _DONE and not _rests(found) and time.monotonic() < deadline:
        failed = _failure(found)
        if failed and failed != told:
            told = failed
            warn(f"{secret}: {failed}; the service tries again, and goes on trying when this has ended")
        if together.stopped.wait(_POLL_SECONDS):
            break
        try:
            found, missed = next(iter(client.secrets.rotations.list(secret, limit=1))), None
        except StrongroomError as error:
            missed = error
            if error.code_name not in AWAY:
                break
    if missed is not None:
        # The rotation goes on, whoever looks.
        together.errors[secret] = missed
        return _Outcome(secret, found.state, missed.reason, f"it goes on, but cannot be followed: {missed.message}")
    if _rests(found):
        return _Outcome(secret, "RESTING", "", "Current is new; Previous works until the grace period ends")
    last = found.attempts[-1] if found.attempts and found.state != "SUCCEEDED" else None
    return _Outcome(secret, found.state, last.error_reason if last else "", last.error_detail if last else "")


def _failure(rotation: Rotation) -> str:
    """Why the last try failed, or the one before it, while that runs; nothing where neither did."""
    failed = next((one for one in reversed(rotation.attempts[-2:]) if one.error_reason), None)
    return f"{failed.step} failed, {failed.error_detail or failed.error_reason}" if failed else ""


def _rests(rotation: Rotation) -> bool:
    """Whether it has moved Current, and waits to clean up."""
    return rotation.state == "WAITING" and rotation.step == "FINISH" and not rotation.attempts[-1].error_reason


def _rows(rotation: Rotation) -> list[tuple[object, ...]]:
    of_rotation = (last_part(rotation.name), rotation.state, rotation.trigger)
    if not rotation.attempts:
        return [(*of_rotation, "", "", rotation.start_time, "", "", "")]
    rows: list[tuple[object, ...]] = []
    for attempt in rotation.attempts:
        took = ""
        if attempt.start_time and attempt.end_time:
            took = f"{(attempt.end_time - attempt.start_time).total_seconds():.2f}s"
        head = ("", "", "") if rows else of_rotation
        tried = (attempt.step, attempt.number, attempt.start_time, took, attempt.error_reason, attempt.error_detail)
        rows.append((*head, *tried))
    return rows


def _rotation_report(rotation: Rotation) -> Report:
    return facts_report({name: value for name, value in fields_of(rotation).items() if name != "attempts"})
