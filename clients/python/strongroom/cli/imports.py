"""`strongroom key material …`: key material that its owner brings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from strongroom.cli.command import Report, Session, command, facts_report
from strongroom.cli.inputs import Force, InputFile, read_bytes, write_bytes
from strongroom.cli.lifecycle import version_report
from strongroom.cli.plain import plain
from strongroom.wrapping import DEFAULT_METHOD

material = typer.Typer(name="material", help="Key material of your own.", no_args_is_help=True)

_LIMIT = 16_384
_TOKEN_LIMIT = 8_192

Key = Annotated[str, typer.Argument(metavar="KEY", help="A key, alias or key version.", show_default=False)]
Method = Annotated[str, typer.Option(help="How the material is wrapped.")]
ExpireDays = Annotated[int, typer.Option(help="Days until the material expires; 0 for never.")]


@command(material, "import")
def import_material(
    session: Session, key: Key, source: InputFile = None, method: Method = DEFAULT_METHOD, expire_days: ExpireDays = 0
) -> Report:
    """Wrap key material here and import it: a raw key, or a private key in PEM or PKCS#8 DER."""
    given = read_bytes(None, source, _LIMIT, "material")
    return version_report(
        session.client.keys.material.wrap_and_import(key, given, expire_time=_expiry(expire_days), method=method)
    )


@command(material, "parameters")
def import_parameters(
    session: Session,
    key: Key,
    public_key: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the wrapping key (DER).")],
    token: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the import token.")],
    method: Method = DEFAULT_METHOD,
    force: Force = False,
) -> Report:
    """Get a wrapping key and a token, in order to wrap material elsewhere."""
    parameters = session.client.keys.material.get_import_parameters(key, method)
    write_bytes(public_key, parameters.public_key, force=force)
    write_bytes(token, parameters.token, force=force)
    facts = {**plain(parameters), "public_key": None, "token": None}
    return facts_report({**facts, "public_key_file": public_key, "token_file": token})


@command(material, "import-wrapped")
def import_wrapped(
    session: Session,
    key: Key,
    token: Annotated[Path, typer.Option(metavar="FILE", help="The import token.")],
    source: InputFile = None,
    expire_days: ExpireDays = 0,
) -> Report:
    """Import material that was wrapped elsewhere."""
    wrapped = read_bytes(None, source, _LIMIT, "encrypted_material")
    given = read_bytes(None, token, _TOKEN_LIMIT, "import_token")
    return version_report(
        session.client.keys.material.import_wrapped(key, given, wrapped, expire_time=_expiry(expire_days))
    )


@command(material, "delete")
def delete_material(session: Session, key: Key) -> Report:
    """Delete imported material, until the same is imported again."""
    return version_report(session.client.keys.material.delete(key))


def _expiry(days: int) -> datetime | None:
    return datetime.now(UTC) + timedelta(days=days) if days else None
