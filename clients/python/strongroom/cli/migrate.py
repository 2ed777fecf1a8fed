"""`strongroom migrate`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli.command import Report, Session, command
from strongroom.cli.complaints import Status, one_failed, status_of, status_of_all
from strongroom.cli.file_sets import required
from strongroom.cli.inputs import kept_file, read_text
from strongroom.cli.parser import Group
from strongroom.cli.plain import plain
from strongroom.cli.terminal import write_line
from strongroom.errors import StrongroomError

if TYPE_CHECKING:
    from strongroom.migration.copying import Copied, Place

app = typer.Typer(name="migrate", cls=Group, help="Copy secrets from somewhere else.", no_args_is_help=True)


def add_to(app_of_all: typer.Typer) -> None:
    """Adds the commands."""
    app_of_all.add_typer(app)


_WELL = ("created", "unchanged", "updated")

Prefix = Annotated[str, typer.Option(metavar="TEXT", help="Put before each id here: `vault/`.")]
KeyOption = Annotated[str, typer.Option("--key", metavar="KEY", help="The key to encrypt values under.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Put a new version where the value here is another.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Read everything, write nothing, and say what would be done.")]


@command(
    app, "vault", "strongroom migrate vault --address https://vault.example:8200 --mount secret --path shop --dry-run"
)
def from_vault(
    session: Session,
    address: Annotated[str, typer.Option(metavar="URL", help="Of Vault or OpenBao; default: $VAULT_ADDR.")] = "",
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its token; default: $VAULT_TOKEN, or ~/.vault-token.")
    ] = None,
    mount: Annotated[str, typer.Option(metavar="PATH", help="Where the key/value engine is mounted.")] = "secret",
    path: Annotated[str, typer.Option(metavar="PATH", help="Only what is below this path.")] = "",
    kv_version: Annotated[int, typer.Option(metavar="NUMBER", min=1, max=2, help="The engine's version: 1 or 2.")] = 2,
    namespace: Annotated[str, typer.Option(metavar="PATH", help="The namespace; default: $VAULT_NAMESPACE.")] = "",
    ca: Annotated[Path | None, typer.Option(metavar="FILE", help="PEM file of its authorities.")] = None,
    prefix: Prefix = "",
    key: KeyOption = "",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> Report:
    """Copy the secrets of a key/value engine. Run it again to go on: what is here already is left alone."""
    from strongroom.migration.vault import VaultPlace

    place = VaultPlace(
        address or os.environ.get("VAULT_ADDR", ""),
        _vault_token(token_file, os.environ),
        mount=mount,
        path=path,
        version=kv_version,
        namespace=namespace or os.environ.get("VAULT_NAMESPACE", ""),
        trust=kept_file(ca, "--ca"),
    )
    return _copied(session, place, prefix, key, overwrite=overwrite, dry_run=dry_run)


@command(app, "aws-sm", "strongroom migrate aws-sm --region eu-central-1 --name-prefix prod/ --dry-run")
def from_aws(
    session: Session,
    region: Annotated[str, typer.Option(metavar="REGION", help="Default: what AWS's own configuration says.")] = "",
    name_prefix: Annotated[str, typer.Option(metavar="TEXT", help="Only secrets whose names begin so.")] = "",
    endpoint_url: Annotated[str, typer.Option(metavar="URL", help="In place of AWS's own.")] = "",
    prefix: Prefix = "",
    key: KeyOption = "",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> Report:
    """Copy the secrets of AWS Secrets Manager, with AWS's usual credentials. Run it again to go on."""
    from strongroom.migration.aws import AwsPlace

    place = AwsPlace(region=region, prefix=name_prefix, endpoint=endpoint_url)
    return _copied(session, place, prefix, key, overwrite=overwrite, dry_run=dry_run)


def _copied(session: Session, place: Place, prefix: str, key: str, *, overwrite: bool, dry_run: bool) -> Report:
    """Copies, and tells of each secret as it is done."""
    from strongroom.migration.copying import copy

    done: list[Copied] = []
    secrets = session.client.secrets
    for copied in copy(place, secrets, prefix=prefix, key=key, overwrite=overwrite, dry_run=dry_run):
        done.append(copied)
        if session.form != "table":
            if copied.reason:
                one_failed(
                    copied.name, StrongroomError(copied.reason, copied.detail, code=copied.code or "INVALID_ARGUMENT")
                )
        else:
            why = f"  {copied.detail} ({copied.reason})" if copied.reason else f"  {copied.detail}".rstrip()
            write_line(f"{copied.outcome:<10} {copied.name} → {copied.secret}{why}")
    required(done, "copied")
    counts = Counter(copied.outcome.value for copied in done)
    summary = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    well = sum(counts[outcome] for outcome in _WELL)
    return Report(
        {"dry_run": dry_run, "counts": dict(counts), "secrets": [plain(copied) for copied in done]},
        raw=b"",
        note=f"dry run: {summary}" if dry_run else summary,
        exit_code=status_of_all(
            {_status(copied) for copied in done if copied.outcome not in _WELL}, some_done=well > 0
        ),
    )


def _status(copied: Copied) -> Status:
    """What one secret that was not copied would have its command exit with, alone."""
    if not copied.reason:
        return Status.NO
    return status_of(StrongroomError(copied.reason, copied.detail, code=copied.code or "INVALID_ARGUMENT"))


def _vault_token(token_file: Path | None, environment: Mapping[str, str]) -> str:
    """Vault's own places for it, in Vault's order."""
    if token_file is not None:
        return read_text(token_file).strip()
    if environment.get("VAULT_TOKEN"):
        return environment["VAULT_TOKEN"]
    try:
        usual = Path("~/.vault-token").expanduser()
    except RuntimeError:  # who has no home has no token there
        return ""
    return read_text(usual).strip() if usual.is_file() else ""
