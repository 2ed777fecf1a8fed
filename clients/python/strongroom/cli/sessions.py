"""`strongroom login`, `strongroom logout` and `strongroom assume-role`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli.command import Report, Session, command, facts_report, fields_of, quiet_core
from strongroom.cli.inputs import Force, Tags, kept_file, pairs_of, read_bytes, read_text, span_of
from strongroom.cli.outputs import SecretOut, require_shown, secret_report
from strongroom.cli.tables import time_text
from strongroom.errors import StrongroomError
from strongroom.names import DEFAULT_ROLE_SESSION, Names

if TYPE_CHECKING:
    from strongroom.client import Client
    from strongroom.credentials import Credentials
    from strongroom.profiles import Profile

_MAX_SECRET_BYTES = 1024
_LOGOUT_SECONDS = 3.0
_ENDED_ALREADY = ("TOKEN_INVALID", "TOKEN_EXPIRED", "IDENTITY_UNKNOWN")

SessionName = Annotated[str, typer.Option(metavar="NAME", help="What audit events call the session.")]


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    command(app, "login", "strongroom login --client-key ck-1a2b3c", "strongroom login --certificate")(login)
    command(app, "logout", "strongroom logout")(logout)
    command(app, "assume-role", "strongroom assume-role reader --duration 1h")(assume_role)


def login(
    session: Session,
    client_key: Annotated[
        str, typer.Option(metavar="NAME", help="A client key, by id or full name; its secret is asked for or piped in.")
    ] = "",
    secret_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The client key's secret; read again for each session.")
    ] = None,
    oidc_token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="An issuer's token; read again for each session.")
    ] = None,
    certificate: Annotated[bool, typer.Option("--certificate", help="The profile's client certificate.")] = False,
    session_name: SessionName = "",
) -> Report:
    """Begin a session and use it for every command of this profile until `logout`.

    A session by a certificate or from a file is begun again by itself. One by a secret that was typed lasts an hour.
    """
    if (bool(client_key), oidc_token_file is not None, certificate).count(True) != 1:
        raise typer.BadParameter(
            "give one of --client-key, --oidc-token-file and --certificate", param_hint="--client-key"
        )
    if secret_file is not None and not client_key:
        raise typer.BadParameter("goes with --client-key", param_hint="--secret-file")
    kept_file(secret_file, "--secret-file")
    kept_file(oidc_token_file, "--oidc-token-file")
    profile = session.profile
    if certificate and (profile.certificate is None or profile.key is None):
        raise StrongroomError(
            "PROFILE_INVALID",
            f"profile {profile.name} has no certificate: `strongroom profile edit {profile.name} --certificate FILE "
            "--key FILE` names one",
            code="FAILED_PRECONDITION",
        )
    key_name = Names(profile.account).client_key(client_key) if client_key else ""
    if client_key and secret_file is None:
        return _login_typed(profile, key_name, session_name)
    return _login_kept(
        profile,
        replace(
            profile,
            client_key=key_name,
            client_key_secret_file=secret_file,
            oidc_token_file=oidc_token_file,
            session=certificate,
            session_name=session_name,
        ),
    )


def logout(session: Session) -> Report:
    """End this profile's login: its own credentials are used again, and its sessions are ended in the mesh.

    Where the mesh cannot be reached, the tokens are deleted here all the same, and end by themselves.
    """
    from strongroom import logins

    profile = session.profile
    unrevoked = _revoke(profile, logins.kept_tokens(profile))
    ended = logins.logout(profile)
    note = "logged out" if ended else f"profile {profile.name} had no login"
    if unrevoked:
        note += f"; {unrevoked} of its sessions could not be ended in the mesh, and last until they expire"
    return Report({"logged_out": ended, "unrevoked_sessions": unrevoked}, note=note)


def assume_role(
    session: Session,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="An id or a full name, of any account.")],
    session_name: SessionName = DEFAULT_ROLE_SESSION,
    external_id: Annotated[str, typer.Option(metavar="ID", help="What the role's trust policy may ask for.")] = "",
    duration: Annotated[str, typer.Option(metavar="SPAN", help="15m or more; default: an hour or less.")] = "",
    policy_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Cedar policies that the session stays within.")
    ] = None,
    tag: Tags = None,
    secret_out: SecretOut = None,
    force: Force = False,
) -> Report:
    """Begin a session as a role and print its token, to be used as STRONGROOM_TOKEN.

    `--as-role ROLE` runs any one command as a role instead.
    """
    require_shown(session, secret_out)
    begun = session.client.access.sessions.assume_role(
        role,
        session_name,
        external_id=external_id,
        duration_seconds=int(span_of(duration, "--duration", "s").total_seconds()) if duration else None,
        session_policy=read_text(policy_file) if policy_file is not None else "",
        session_tags=pairs_of(tag, "--tag"),
    )
    expires = time_text(begun.expire_time, local=sys.stderr.isatty()) if begun.expire_time else ""
    note = f"{begun.principal} until {expires}"
    if secret_out is None:
        return Report(fields_of(begun), raw=begun.token.encode() + b"\n", note=note)
    report = secret_report(fields_of(begun), "token", secret_out, force=force)
    return report if report.exit_code else replace(report, note=note)


def _revoke(profile: Profile, tokens: list[str]) -> int:
    """Ends sessions, by their tokens; how many may last still."""
    from strongroom.credentials import SessionToken

    unrevoked = 0
    for token in tokens:
        try:
            with _client(profile, SessionToken(token)) as client:
                client.access.sessions.revoke(timeout=_LOGOUT_SECONDS)
        except StrongroomError as error:
            # Whoever is told that it is not valid has nothing left to end.
            unrevoked += error.reason not in _ENDED_ALREADY
    return unrevoked


def _login_typed(profile: Profile, client_key: str, session_name: str) -> Report:
    from strongroom import logins
    from strongroom.credentials import ClientKeySession

    # Nobody yet: the request itself authenticates.
    with _client(profile, None) as client:
        begun = client.access.sessions.create(ClientKeySession(client_key, _secret()), session_name=session_name)
    logins.login_with_token(profile, begun.token, begun.expire_time.timestamp() if begun.expire_time else 0.0)
    return facts_report({name: value for name, value in fields_of(begun).items() if name != "token"})


def _login_kept(profile: Profile, chosen: Profile) -> Report:
    from strongroom import logins

    with _client(profile, logins.own_credentials(chosen)) as client:
        who = client.access.whoami()
    logins.login(profile, chosen)
    return facts_report(who)


def _client(profile: Profile, credentials: Credentials | None) -> Client:
    from strongroom import logins

    quiet_core()
    from strongroom.client import Client

    return Client(
        profile.endpoints,
        credentials,
        certificate=logins.certificate_of(profile),
        trust=profile.trust,
        account=profile.account,
    )


def _secret() -> str:
    if sys.stdin.isatty():
        typed: str = typer.prompt("secret", hide_input=True, err=True)
        return typed
    given = read_bytes(None, None, _MAX_SECRET_BYTES, "secret").decode(errors="replace").strip()
    if not given:
        raise StrongroomError("FIELD_REQUIRED", "there is no secret in standard input", field="secret")
    return given
