"""What a shell offers for a value: names of keys, secrets, principals and profiles, asked of the mesh.

A shell that completes sets a variable; without it none of this costs anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from strongroom.client import Client

VARIABLE = "_STRONGROOM_COMPLETE"

_MOST = 500
_SECONDS = 2.0


def _keys(client: Client, incomplete: str) -> Iterable[str]:
    if incomplete.startswith("alias/"):
        return _aliases(client, incomplete)
    return (client.names.shorten(key.name) for key in client.keys.list())


def _aliases(client: Client, incomplete: str) -> Iterable[str]:
    del incomplete
    return (client.names.shorten(alias.name) for alias in client.keys.aliases.list())


def _versions(client: Client, incomplete: str) -> Iterable[str]:
    name, slash, _ = incomplete.partition("/versions/")
    if not slash:
        return (f"{key}/versions/" for key in _keys(client, incomplete))
    return (f"{name}{slash}{found.name.rpartition('/')[2]}" for found in client.keys.versions.list(name))


def _secret_versions(client: Client, incomplete: str) -> Iterable[str]:
    name, slash, _ = incomplete.partition("/versions/")
    if not slash:
        return (f"{secret}/versions/" for secret in _secrets(client, incomplete))
    return (f"{name}{slash}{found.name.rpartition('/')[2]}" for found in client.secrets.versions.list(name))


def _secrets(client: Client, incomplete: str) -> Iterable[str]:
    del incomplete
    return (client.names.shorten(secret.name) for secret in client.secrets.list())


def _principals(client: Client, incomplete: str) -> Iterable[str]:
    del incomplete
    return (client.names.relative(one.name) for one in client.access.principals.list())


def _roles(client: Client, incomplete: str) -> Iterable[str]:
    del incomplete
    return (one.name.rpartition("/")[2] for one in client.access.principals.list("kind = ROLE"))


def _policies(client: Client, incomplete: str) -> Iterable[str]:
    del incomplete
    return (one.name.rpartition("/")[2] for one in client.access.policies.list())


def _client_keys(client: Client, incomplete: str) -> Iterable[str]:
    del incomplete
    return (one.name.rpartition("/")[2] for one in client.access.client_keys.list())


def _providers(client: Client, incomplete: str) -> Iterable[str]:
    del incomplete
    return (one.name.rpartition("/")[2] for one in client.access.oidc_providers.list())


def _resources(client: Client, incomplete: str) -> Iterable[str]:
    yield from _principals(client, incomplete)
    yield from (client.names.relative(key.name) for key in client.keys.list())
    yield from (client.names.relative(secret.name) for secret in client.secrets.list())


_OF_THE_MESH: Mapping[str, Callable[[Client, str], Iterable[str]]] = {
    "KEY": _keys,
    "ALIAS": _aliases,
    "VERSION": _versions,
    "SECRET": _secrets,
    "PRINCIPAL": _principals,
    "ROLE": _roles,
    "POLICY": _policies,
    "CLIENT_KEY": _client_keys,
    "PROVIDER": _providers,
    "TARGET": _resources,
    "RESOURCE": _resources,
}


def completed(annotation: Any) -> Any:
    """A parameter's annotation, with what a shell may offer for it, by its metavar."""
    if VARIABLE not in os.environ:
        return annotation
    for info in getattr(annotation, "__metadata__", ()):
        metavar = (getattr(info, "metavar", None) or "").strip("[].")
        if metavar == "PROFILE":
            info.autocompletion = _profiles
        elif metavar in _OF_THE_MESH:
            info.autocompletion = _completion_of(metavar)
    return annotation


def _completion_of(metavar: str) -> Callable[[typer.Context, str], list[str]]:
    # typer looks at the signature, which a partial would hide.
    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        of_secrets = metavar == "VERSION" and " secret " in ctx.command_path
        return _offered(_secret_versions if of_secrets else _OF_THE_MESH[metavar], ctx, incomplete)

    return complete


def _profiles(incomplete: str) -> list[str]:
    from strongroom import profiles

    try:
        return [name for name in profiles.load().profiles if name.startswith(incomplete)]
    except Exception:  # noqa: BLE001  # a shell that completes is no place for errors
        return []


def _offered(values: Callable[[Client, str], Iterable[str]], ctx: typer.Context, incomplete: str) -> list[str]:
    try:
        from strongroom.cli.command import quiet_core

        quiet_core()
        from strongroom.client import Client

        with Client.from_profile(ctx.params.get("profile") or "", timeout=_SECONDS) as client:
            found = islice((value for value in values(client, incomplete) if value.startswith(incomplete)), _MOST)
            return list(dict.fromkeys(found))
    except Exception:  # noqa: BLE001  # a shell that completes is no place for errors
        return []
