"""Where a secret's value is valid, as options say it: `--host`, `--user` and what goes with them, for each type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strongroom.cli.inputs import read_text

if TYPE_CHECKING:
    from strongroom.secrets.v1.target_pb2 import RotationTarget, TargetAddress

TargetFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Where the value is valid, as a RotationTarget in JSON, in place of --host."),
]
Host = Annotated[str, typer.Option(metavar="HOST", help="Where the value is valid: the server's name or address.")]
Port = Annotated[
    int | None, typer.Option(metavar="PORT", min=1, max=65_535, help="Its port; the type's usual one where not given.")
]
User = Annotated[str, typer.Option(metavar="USER", help="The login whose password or key it is.")]
Tls = Annotated[
    str,
    typer.Option(
        metavar="FILE|MODE",
        help="The server's authorities in PEM, or verify-full, verify-ca or disabled; default: verify-full.",
    ),
]
Database = Annotated[str, typer.Option(metavar="DATABASE", help="The database to log in to.")]
HostKeys = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The server's public keys, for SSH_KEY_PAIR: see ssh-keyscan.")
]
Master = Annotated[
    str,
    typer.Option(metavar="SECRET", help="The secret whose login changes the password; default: the login its own."),
]

_MODES = ("verify-full", "verify-ca", "disabled")


@dataclass(frozen=True, slots=True)
class Place:
    """What the options said, empty where they said nothing."""

    host: str = ""
    port: int | None = None
    user: str = ""
    tls: str = ""
    database: str = ""
    host_keys: Path | None = None
    master: str = ""

    def given(self) -> list[str]:
        """The options that were given."""
        return [f"--{name.replace('_', '-')}" for name in self.__slots__ if getattr(self, name)]


def target_of(
    secret_type: str, path: Path | None, place: Place, full_name: Callable[[str], str]
) -> RotationTarget | None:
    """The target that a file or the options describe; None where nothing was said. `full_name` completes a secret's. A
    usage error where both say it, or where the type has no such option.
    """
    given = place.given()
    if path is not None:
        if given:
            raise typer.BadParameter(f"goes without {', '.join(given)}", param_hint="--target")
        return _of_file(path)
    if not given:
        return None
    make = _maker(secret_type, given)
    for option, value in (("--host", place.host), ("--user", place.user)):
        if not value:
            raise typer.BadParameter(f"needed beside {given[0]}", param_hint=option)
    return make(place, full_name(place.master) if place.master else "")


def changed_target(
    secret_type: str, before: RotationTarget | None, place: Place, full_name: Callable[[str], str]
) -> RotationTarget:
    """A secret's target with what the options say, and the rest as it was. A usage error where the type has no such
    option.
    """
    from strongroom.secrets.v1.target_pb2 import RotationTarget

    _maker(secret_type, place.given())
    changed = RotationTarget()
    if before is not None:
        changed.CopyFrom(before)
    kind = changed.WhichOneof("kind")
    assert kind is not None  # noqa: S101  # every type that has the options has a target
    one: Any = getattr(changed, kind)
    address = one.address if hasattr(one, "address") else one
    address.host, address.port = place.host or address.host, place.port or address.port
    one.username = place.user or one.username
    if place.tls:
        secured = _address(Place(host=address.host, tls=place.tls))
        address.tls, address.ca_pem = secured.tls, secured.ca_pem
    if place.database:
        one.database = place.database
    if place.master:
        one.master_secret = full_name(place.master)
    if place.host_keys is not None:
        one.host_keys[:] = _host_keys(place.host_keys)
    return changed


def _maker(secret_type: str, given: list[str]) -> Callable[[Place, str], RotationTarget]:
    kind = secret_type.upper().replace("-", "_")
    if kind not in _MADE:
        raise typer.BadParameter(f"{given[0]} needs one of {', '.join(_MADE)}", param_hint="--type")
    allowed, make = _MADE[kind]
    for option in given:
        if option not in allowed:
            raise typer.BadParameter(f"{kind} has no such thing", param_hint=option)
    return make


def _of_file(path: Path) -> RotationTarget:
    from strongroom.cli.messages import message_of
    from strongroom.secrets.v1.target_pb2 import RotationTarget

    return message_of(read_text(path), RotationTarget(), "--target")


def _address(place: Place) -> TargetAddress:
    from strongroom.secrets.v1 import target_pb2 as pb

    mode = place.tls.lower().replace("_", "-")
    if not place.tls or mode in _MODES:
        tls = pb.TargetTls.Value(f"TARGET_TLS_{(mode or _MODES[0]).upper().replace('-', '_')}")
        return pb.TargetAddress(host=place.host, port=place.port or 0, tls=tls)
    path = Path(place.tls)
    if place.tls != "-" and not path.is_file():
        raise typer.BadParameter(f"{place.tls} is no file and none of {', '.join(_MODES)}", param_hint="--tls")
    return pb.TargetAddress(
        host=place.host, port=place.port or 0, tls=pb.TARGET_TLS_VERIFY_FULL, ca_pem=read_text(path)
    )


def _database(place: Place, master: str) -> RotationTarget:
    from strongroom.secrets.v1.target_pb2 import DatabaseTarget, RotationTarget

    return RotationTarget(
        database=DatabaseTarget(
            address=_address(place), database=place.database, username=place.user, master_secret=master
        )
    )


def _redis(place: Place, master: str) -> RotationTarget:
    from strongroom.secrets.v1.target_pb2 import RedisTarget, RotationTarget

    return RotationTarget(redis=RedisTarget(address=_address(place), username=place.user, master_secret=master))


def _ssh(place: Place, master: str) -> RotationTarget:
    from strongroom.secrets.v1.target_pb2 import RotationTarget, SshTarget

    del master
    if place.host_keys is None:
        raise typer.BadParameter(
            "needed: `ssh-keyscan HOST` prints them, and somebody has to check them", param_hint="--host-keys"
        )
    keys = _host_keys(place.host_keys)
    return RotationTarget(ssh=SshTarget(host=place.host, port=place.port or 0, username=place.user, host_keys=keys))


def _host_keys(path: Path) -> list[str]:
    lines = [line for line in read_text(path).splitlines() if line.strip() and not line.startswith("#")]
    # known_hosts has the host in front.
    return [line if line.startswith(("ssh-", "ecdsa-", "sk-")) else line.partition(" ")[2] for line in lines]


_OF_ALL = ("--host", "--port", "--user")
_DATABASES = ((*_OF_ALL, "--tls", "--database", "--master"), _database)
_MADE: Mapping[str, tuple[tuple[str, ...], Callable[[Place, str], RotationTarget]]] = {
    "POSTGRESQL": _DATABASES,
    "MYSQL": _DATABASES,
    "REDIS_ACL": ((*_OF_ALL, "--tls", "--master"), _redis),
    "SSH_KEY_PAIR": ((*_OF_ALL, "--host-keys"), _ssh),
}
