"""`strongroom profile create`, `edit`, `show` and `delete`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strongroom import profile_file, profiles
from strongroom.cli.command import Report, Session, command, facts_report, quiet_core
from strongroom.cli.confirmation import Destruction
from strongroom.cli.forms import warn
from strongroom.cli.inputs import kept_file, pairs_of
from strongroom.names import Names

if TYPE_CHECKING:
    from strongroom.profiles import Profile

Name = Annotated[str, typer.Argument(metavar="NAME", help="The profile's name: letters, digits, `.`, `_` and `-`.")]
Address = Annotated[
    str, typer.Argument(metavar="HOST:PORT", help="Any one service of the mesh: it tells where the others are.")
]
Account = Annotated[str | None, typer.Option(metavar="ID", help="The account that short names belong to.")]
Trust = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="PEM file of the mesh's certificate authorities; default: the system's."),
]
Certificate = Annotated[Path | None, typer.Option(metavar="FILE", help="PEM file of your certificate, with --key.")]
Key = Annotated[Path | None, typer.Option(metavar="FILE", help="PEM file of your certificate's private key.")]
ClientKey = Annotated[
    str | None, typer.Option(metavar="NAME", help="A client key, by id or full name, with --secret-file.")
]
SecretFile = Annotated[
    Path | None, typer.Option("--secret-file", metavar="FILE", help="A file with the client key's secret.")
]
OidcTokenFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A file with an issuer's token; read again for each session.")
]
Role = Annotated[str | None, typer.Option(metavar="ROLE", help="A role to assume for every command.")]
SessionName = Annotated[str | None, typer.Option(metavar="NAME", help="What audit events call the sessions.")]
Addresses = Annotated[
    list[str] | None,
    typer.Option("--endpoint", metavar="SERVICE=HOST:PORT", help="A service's address by hand; may be repeated."),
]
Use = Annotated[bool, typer.Option("--use", help="Make it the current profile.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a profile of this name.")]
Unset = Annotated[
    list[str] | None, typer.Option(metavar="FIELD", help="Forget a field, such as client_key; may be repeated.")
]


# A scheme of gRPC's own may stand in front.
_ADDRESS = re.compile(r"\S+:[0-9]{1,5}")


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    command(app, "create", "strongroom profile create live kms.example.com:7101 --account shop --trust ca.pem")(create)
    command(app, "edit", "strongroom profile edit live --client-key ck-3m5t7qz2k4r6xvbn --secret-file orders.secret")(
        edit
    )
    command(app, "show", "strongroom profile show live")(show)
    command(
        app,
        "delete",
        "strongroom profile delete live --yes",
        destroys=Destruction("deletes the profile {name} of this machine with its login, and nothing in the mesh"),
    )(delete)


def create(
    session: Session,
    name: Name,
    address: Address = "",
    account: Account = None,
    trust: Trust = None,
    certificate: Certificate = None,
    key: Key = None,
    client_key: ClientKey = None,
    client_key_secret_file: SecretFile = None,
    oidc_token_file: OidcTokenFile = None,
    role: Role = None,
    session_name: SessionName = None,
    endpoint: Addresses = None,
    use: Use = False,
    force: Force = False,
) -> Report:
    """Make a profile for a mesh anywhere: one address is enough to find all of its services."""
    del session
    table = _given(
        account=account,
        trust=trust,
        certificate=certificate,
        key=key,
        client_key=client_key,
        client_key_secret_file=client_key_secret_file,
        oidc_token_file=oidc_token_file,
        role=role,
        session_name=session_name,
    )
    found = _discovered(address, table, table) if address else {}
    return _save(name, table, found | pairs_of(endpoint, "--endpoint"), use=use, overwrite=force)


def edit(
    session: Session,
    name: Name,
    address: Address = "",
    account: Account = None,
    trust: Trust = None,
    certificate: Certificate = None,
    key: Key = None,
    client_key: ClientKey = None,
    client_key_secret_file: SecretFile = None,
    oidc_token_file: OidcTokenFile = None,
    role: Role = None,
    session_name: SessionName = None,
    endpoint: Addresses = None,
    unset: Unset = None,
    use: Use = False,
) -> Report:
    """Change what is given of a profile, and leave the rest. With an address, its endpoints are asked for anew."""
    del session
    path = profiles.profile_path()
    profiles.load(path).get(name)
    before = profile_file.table_of(path, name)
    table = before | _given(
        account=account,
        trust=trust,
        certificate=certificate,
        key=key,
        client_key=client_key,
        client_key_secret_file=client_key_secret_file,
        oidc_token_file=oidc_token_file,
        role=role,
        session_name=session_name,
    )
    for field in unset or []:
        if table.pop(field, None) is None:
            raise typer.BadParameter(f"profile {name} has no {field}: it has {', '.join(table)}", param_hint="--unset")
    endpoints: dict[str, str] = dict(table.pop("endpoints", {}))
    if address:
        endpoints |= _discovered(address, table, table)
    elif endpoints and ("certificate" in before) != ("certificate" in table):
        # The other listeners are for this kind of caller, and each of these tells where they are.
        endpoints |= _discovered(next(iter(endpoints.values())), before, table)
    return _save(name, table, endpoints | pairs_of(endpoint, "--endpoint"), use=use, overwrite=True)


def show(session: Session, name: Annotated[str, typer.Argument(metavar="PROFILE", help="Its name.")] = "") -> Report:
    """Show a profile, by default the one in use, and as whom it calls. Secrets are in files of their own."""
    profile = profiles.load().get(name) if name else session.profile
    return facts_report(_facts(profile))


def delete(session: Session, name: Annotated[str, typer.Argument(metavar="PROFILE", help="Its name.")]) -> Report:
    """Delete a profile of this machine with its login. Its certificate and its secrets in files stay where they are."""
    from strongroom import logins

    del session
    path = profiles.profile_path()
    found = profiles.load(path)
    logins.logout(found.get(name))
    profile_file.remove(path, name)
    note = "no profile is current: `strongroom profile use PROFILE` chooses one" if found.current == name else ""
    return Report({"path": path, "name": name}, lambda: f"deleted {name}", note=note)


def _save(name: str, table: Mapping[str, Any], endpoints: Mapping[str, str], *, use: bool, overwrite: bool) -> Report:
    """Puts the profile into the file, and forgets the login of one whose place it takes."""
    from strongroom import logins

    if not endpoints:
        raise typer.BadParameter("give the address of one service, or --endpoint for each")
    path = profiles.profile_path()
    written = {**table, "endpoints": endpoints}
    if written.get("client_key"):
        written["client_key"] = Names(written.get("account", "")).client_key(written["client_key"])
    # What is wrong with it is told before anything is written.
    profile = profiles.profile_of(path, name, written)
    has_credentials = logins.own_credentials(profile) is not None
    for one in (
        profile.trust,
        profile.certificate,
        profile.key,
        profile.client_key_secret_file,
        profile.oidc_token_file,
    ):
        if one is not None and not one.is_file():
            warn(f"there is no file {_tidied(one)} yet: every command of this profile needs it")
    current = profile_file.put(path, name, written, overwrite=overwrite)
    logins.logout(profile)
    if use and not current:
        profiles.use(name, path)
    how = "" if use or current else f" --profile {name}"
    return facts_report(
        _facts(profile), note=f"next: strongroom{how} {'whoami' if has_credentials else 'login --client-key NAME'}"
    )


def _discovered(address: str, connecting: Mapping[str, Any], calling: Mapping[str, Any]) -> dict[str, str]:
    """The services' addresses for the profile `calling`, asked of one that the profile `connecting` reaches."""
    quiet_core()
    from strongroom.credentials import ClientCertificate
    from strongroom.discovery import discover

    address = address.partition(",")[0]
    if not _ADDRESS.fullmatch(address):
        raise typer.BadParameter(f"'{address}' is not HOST:PORT, such as kms.example:7101", param_hint="HOST:PORT")
    certificate = (
        ClientCertificate(Path(connecting["certificate"]), Path(connecting["key"]))
        if connecting.get("certificate") and connecting.get("key")
        else None
    )
    trust = Path(connecting["trust"]) if connecting.get("trust") else None
    found = discover(address, trust=trust, certificate=certificate)
    return dict(found.certificate if calling.get("certificate") else found.token)


def _given(**options: str | Path | None) -> dict[str, Any]:
    """The fields that options name, as the file has them: its own paths are relative to it, ours to here."""
    for name, value in options.items():
        if isinstance(value, Path):
            kept_file(value, f"--{name.replace('_', '-').removeprefix('client-key-')}")
    return {
        name: str(value.absolute()) if isinstance(value, Path) else value
        for name, value in options.items()
        if value is not None
    }


def _facts(profile: Profile) -> dict[str, Any]:
    from strongroom import logins

    fields = {
        "name": profile.name,
        "account": profile.account,
        "trust": profile.trust,
        "certificate": profile.certificate,
        "key": profile.key,
        "client_key": profile.client_key,
        "client_key_secret_file": profile.client_key_secret_file,
        "oidc_token_file": profile.oidc_token_file,
        "role": profile.role,
        "session_name": profile.session_name,
        "trace_directory": profile.trace_directory,
        "login": logins.described(profile),
    }
    return {
        **{name: _tidied(value) if isinstance(value, Path) else value for name, value in fields.items() if value},
        **{f"{service}_address": address for service, address in profile.endpoints.items()},
    }


def _tidied(path: Path) -> Path:
    """A path without steps back and forth; a link at its end stays one."""
    return path.parent.resolve() / path.name
