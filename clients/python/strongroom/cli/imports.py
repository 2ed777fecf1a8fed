"""`strongroom key material …`: key material that its owner brings."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from strongroom.cli import choices
from strongroom.cli.command import Report, Session, command, fields_of
from strongroom.cli.confirmation import Destruction
from strongroom.cli.inputs import Force, InputFile, later_of, material_of, read_bytes
from strongroom.cli.lifecycle import version_report
from strongroom.cli.outputs import files_report
from strongroom.cli.parser import Group
from strongroom.errors import StrongroomError

material = typer.Typer(name="material", cls=Group, help="Key material of your own.", no_args_is_help=True)

_LIMIT = 16_384
_TOKEN_LIMIT = 8_192

Key = Annotated[str, typer.Argument(metavar="KEY", help="A key, alias or key version.", show_default=False)]
Method = Annotated[str, choices.one_of(choices.IMPORT_METHODS, "How the material is wrapped", "METHOD")]
Expires = Annotated[
    str,
    typer.Option(
        "--expires",
        "--expire-days",
        metavar="TIME",
        help="When the material expires: a time, or 30d from now; 0: never.",
    ),
]
DEFAULT_METHOD = choices.IMPORT_METHODS[0]


@command(material, "import", "strongroom key material import payments --in key.bin")
def import_material(
    session: Session, key: Key, source: InputFile = None, method: Method = DEFAULT_METHOD, expires: Expires = "0"
) -> Report:
    """Wrap key material here and import it: a raw key, or a private key in PEM or PKCS#8 DER."""
    given = material_of(_given(source, "material"))
    return version_report(
        session.client.keys.material.wrap_and_import(key, given, expire_time=_expiry(expires), method=method)
    )


@command(material, "parameters", "strongroom key material parameters payments --public-key wrapping.der --token token")
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
    contents = {"public_key": parameters.public_key, "token": parameters.token}
    return files_report(fields_of(parameters), contents, {"public_key": public_key, "token": token}, force=force)


@command(material, "import-wrapped", "strongroom key material import-wrapped payments --token token --in wrapped")
def import_wrapped(
    session: Session,
    key: Key,
    token: Annotated[Path, typer.Option(metavar="FILE", help="The import token.")],
    source: InputFile = None,
    expires: Expires = "0",
) -> Report:
    """Import material that was wrapped elsewhere."""
    wrapped = _given(source, "encrypted_material")
    given = read_bytes(None, token, _TOKEN_LIMIT, "import_token")
    return version_report(
        session.client.keys.material.import_wrapped(key, given, wrapped, expire_time=_expiry(expires))
    )


@command(
    material,
    "delete",
    "strongroom key material delete payments --yes",
    destroys=Destruction("deletes the material of {key}: nothing decrypts until its owner imports the same again"),
)
def delete_material(session: Session, key: Key) -> Report:
    """Delete imported material, until the same is imported again."""
    return version_report(session.client.keys.material.delete(key))


def _given(source: Path | None, field: str) -> bytes:
    content = read_bytes(None, source, _LIMIT, field)
    if not content:
        raise StrongroomError("FIELD_REQUIRED", "there is no key material: what was read is empty", field=field)
    return content


def _expiry(expires: str) -> datetime | None:
    return None if expires == "0" else later_of(expires, "--expires", "d")
