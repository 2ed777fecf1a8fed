"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from strongroom.cli import (
    access,
    accounts,
    audit,
    audit_export,
    audit_logs,
    audit_report,
    audit_retention,
    audit_witness,
    client_keys,
    cryptography,
    files,
    grants,
    imports,
    keys,
    lifecycle,
    oidc_providers,
    policies,
    principals,
    profile,
    quotas,
    root_key,
    rotations,
    run,
    sessions,
    signatures,
    status,
    trace,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("strongroom"))
        raise typer.Exit


def _root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Keys, secrets and encryption with Strongroom.

    KEY is a key's id, alias/ALIAS, or a full name such as accounts/main/keys/payments. Commands exit 0 when
    done, 1 when refused or failed, and 2 when they are not understood.
    """
    del show_version


app = typer.Typer(
    name="strongroom",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(_root)
status.add_to(app)
sessions.add_to(app)
cryptography.add_to(app)
signatures.add_to(app)
for subject in (audit_logs, audit_export, audit_report, audit_retention, audit_witness):
    subject.add_to(audit.app)
keys.keys.add_typer(lifecycle.versions)
keys.keys.add_typer(imports.material)
for group in (keys.keys, keys.aliases, files.app, rotations.app, audit.app, root_key.root, grants.app, access.app):
    app.add_typer(group)
for group in (
    accounts.accounts,
    principals.principals,
    principals.roles,
    policies.policies,
    client_keys.client_keys,
    oidc_providers.oidc_providers,
    quotas.quotas,
):
    app.add_typer(group)
trace.add_to(app)
run.add_to(app)
app.add_typer(profile.app)
