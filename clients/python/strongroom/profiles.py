"""Profiles: where a mesh is and who calls it, by name, in a TOML file.

current = "dev"

[profiles.dev]
account = "main"
trust = "/…/authority.pem"            # PEM: certificate authorities of the mesh
certificate = "/…/certificate.pem"    # PEM: the caller's certificate …
key = "/…/key.pem"                    # … and private key
session = false                       # true: exchange the certificate for session tokens and call with those
client_key = "accounts/main/clientKeys/…"     # or a client key, exchanged for session tokens …
client_key_secret_file = "/…/secret"          # … whose secret is in a file of its own
oidc_token_file = "/var/run/…/token"          # or an issuer's token, such as a Kubernetes service account's
session_name = "nightly"              # what events call the sessions; default: the principal's id
role = "accounts/other/roles/…"       # optional: a role to assume with the above …
external_id = "…"                     # … and what its trust policy may ask for
trace_directory = "/…/traces"         # optional: where `strongroom trace` finds spans; calls are traced then

[profiles.dev.endpoints]
keystore = "127.0.0.1:7102"
crypto = "127.0.0.1:7112"
secrets = "127.0.0.1:7122"
audit = "127.0.0.1:7132"
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from strongroom.atomic import write_own
from strongroom.causes import cause_of
from strongroom.errors import StrongroomError

SERVICES = ("keystore", "crypto", "secrets", "audit")

_TEXTS = ("account", "client_key", "session_name", "role", "external_id")
_PATHS = ("trust", "certificate", "key", "client_key_secret_file", "oidc_token_file", "trace_directory")
CURRENT_LINE = re.compile(r"^[ \t]*current[ \t]*=[^\n]*\n?", re.MULTILINE)
"""The line of the file that says which profile is current."""
_FIRST_TABLE = re.compile(r"^[ \t]*\[", re.MULTILINE)
_BARE = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Profile:
    """One mesh and one caller. `endpoints` maps each service's name to its `host:port`, several joined by commas;
    paths may be None.

    With `session`, the certificate is exchanged for session tokens, and calls are made with those. `directory`
    holds the profile file, and beside it session tokens between one process and the next.
    """

    name: str
    endpoints: Mapping[str, str]
    account: str = ""
    trust: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    session: bool = False
    client_key: str = ""
    client_key_secret_file: Path | None = None
    oidc_token_file: Path | None = None
    session_name: str = ""
    role: str = ""
    external_id: str = ""
    trace_directory: Path | None = None
    directory: Path | None = None


@dataclass(frozen=True, slots=True)
class Profiles:
    """What one file holds. `current` is the name of the profile that is used unless another is asked for."""

    path: Path
    current: str
    profiles: Mapping[str, Profile]

    def get(self, name: str = "") -> Profile:
        """The profile `name`, or the current one. Raises PROFILE_NOT_FOUND."""
        wanted = name or self.current
        if wanted not in self.profiles:
            known = ", ".join(self.profiles) or "none"
            what = f"there is no profile '{wanted}'" if wanted else "no profile is current"
            raise _not_found(f"{what} in {self.path}; it has: {known}")
        return self.profiles[wanted]


def profile_path(environment: Mapping[str, str] = os.environ) -> Path:
    """`$STRONGROOM_CONFIG`, or `strongroom/profiles.toml` in the configuration directory (XDG)."""
    chosen = environment.get("STRONGROOM_CONFIG")
    if chosen:
        return Path(chosen)
    home = environment.get("XDG_CONFIG_HOME")
    try:
        return (Path(home) if home else Path("~/.config").expanduser()) / "strongroom" / "profiles.toml"
    except RuntimeError:  # neither HOME nor an entry among the users
        raise _not_found("you have no home directory: say in STRONGROOM_CONFIG where the profiles are") from None


def load(path: Path | None = None) -> Profiles:
    """Reads every profile. Raises PROFILE_NOT_FOUND without a file, PROFILE_INVALID naming what is wrong in
    it.
    """
    path = path or profile_path()
    try:
        document = tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise _not_found(
            f"{path} does not exist; `strongroom profile create NAME HOST:PORT` makes one, and so does `make run`"
        ) from None
    except (OSError, ValueError) as error:
        raise _invalid(path, cause_of(error)) from error
    tables = document.get("profiles", {})
    current = document.get("current", "")
    if not isinstance(tables, dict) or not isinstance(current, str):
        raise _invalid(path, "`current` is a name, and `profiles` holds a table for each")
    return Profiles(path, current, {name: profile_of(path, name, table) for name, table in tables.items()})


def find(name: str = "", environment: Mapping[str, str] = os.environ) -> Profile:
    """The profile `name`, or `$STRONGROOM_PROFILE`, or the current one."""
    return load(profile_path(environment)).get(name or environment.get("STRONGROOM_PROFILE", ""))


def use(name: str, path: Path | None = None) -> Profiles:
    """Makes `name` the current profile and leaves the rest of the file alone. Raises PROFILE_NOT_FOUND."""
    profiles = load(path)
    profiles.get(name)
    if not _BARE.fullmatch(name):
        raise _invalid(profiles.path, f"'{name}' cannot be made current: letters, digits, `.`, `_` and `-` alone")
    text = profiles.path.read_text("utf-8-sig")
    table = _FIRST_TABLE.search(text)
    head, tail = (text[: table.start()], text[table.start() :]) if table else (text, "")
    text = f'current = "{name}"\n' + CURRENT_LINE.sub("", head) + tail
    try:
        understood = tomllib.loads(text)["current"] == name
    except tomllib.TOMLDecodeError:
        understood = False
    if not understood:  # `current` is written in some way that the expression above does not find
        raise _invalid(profiles.path, f'its line `current` cannot be changed here: make it `current = "{name}"`')
    write_own(profiles.path, text.encode())
    return replace(profiles, current=name)


def profile_of(path: Path, name: str, table: object) -> Profile:
    """The profile that a table of the file at `path` describes. Raises PROFILE_INVALID."""
    if not isinstance(table, dict):
        raise _invalid(path, f"profiles.{name} is not a table")
    for field in (*_TEXTS, *_PATHS):
        if not isinstance(table.get(field, ""), str):
            raise _invalid(path, f"profiles.{name}.{field} is not a string")
    session = table.get("session", False)
    if not isinstance(session, bool):
        raise _invalid(path, f"profiles.{name}.session is neither true nor false")
    return Profile(
        name=name,
        endpoints=_endpoints(path, name, table.get("endpoints", {})),
        session=session,
        account=table.get("account", ""),
        trust=_path(path, table, "trust"),
        certificate=_path(path, table, "certificate"),
        key=_path(path, table, "key"),
        client_key=table.get("client_key", ""),
        client_key_secret_file=_path(path, table, "client_key_secret_file"),
        oidc_token_file=_path(path, table, "oidc_token_file"),
        session_name=table.get("session_name", ""),
        role=table.get("role", ""),
        external_id=table.get("external_id", ""),
        trace_directory=_path(path, table, "trace_directory"),
        directory=path.parent,
    )


def _endpoints(path: Path, name: str, endpoints: object) -> dict[str, str]:
    if not isinstance(endpoints, dict):
        raise _invalid(path, f"profiles.{name}.endpoints is not a table")
    for service, address in endpoints.items():
        if service not in SERVICES:
            raise _invalid(path, f"profiles.{name}.endpoints.{service}: no such service")
        if not isinstance(address, str) or not all(":" in one for one in address.split(",")):
            raise _invalid(path, f"profiles.{name}.endpoints.{service} is not of the form host:port")
    return endpoints


def _path(file: Path, table: Mapping[str, Any], field: str) -> Path | None:
    # Relative to the file, so that profile and certificates can be handed on in one directory.
    if not table.get(field):
        return None
    try:
        return file.parent / Path(table[field]).expanduser()
    except RuntimeError:
        raise _invalid(file, f"{field} '{table[field]}': there is no such home directory") from None


def _not_found(message: str) -> StrongroomError:
    return StrongroomError("PROFILE_NOT_FOUND", message, code="NOT_FOUND", field="profile")


def _invalid(path: Path, why: str) -> StrongroomError:
    return StrongroomError("PROFILE_INVALID", f"{path}: {why}", field="profile")
