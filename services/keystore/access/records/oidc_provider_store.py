"""OIDC providers in the database: SQL and nothing else. What is read was verified: functions that read raise
ACCESS_RECORD_REFUSED for what keystore did not write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, select, update

from services.keystore.access.records import contents
from services.keystore.access.records.resources import OidcProvider, account_of, id_of
from services.keystore.access.records.tables import oidc_providers
from services.runtime.storage import sealed_rows
from services.runtime.storage.sql_filters import Condition


def oidc_provider(connection: Connection, name: str) -> OidcProvider | None:
    """The provider of this name."""
    row = connection.execute(select(oidc_providers).where(_is(name))).one_or_none()
    return _provider(connection, row) if row is not None else None


def oidc_provider_of_issuer(connection: Connection, account: str, issuer: str) -> OidcProvider | None:
    """The provider that an account has for an issuer; none that keystore did not write."""
    of_issuer = (oidc_providers.c.account == account, oidc_providers.c.issuer == issuer)
    rows = connection.execute(select(oidc_providers).where(*of_issuer)).all()
    return next((_provider(connection, row) for row in sealed_rows.good(connection, oidc_providers, rows)), None)


def enabled_oidc_providers(connection: Connection, account: str, limit: int) -> list[OidcProvider]:
    """The first of an account's providers that are not disabled; none that keystore did not write."""
    enabled = (oidc_providers.c.account == account, oidc_providers.c.disabled.is_(False))
    ordered = select(oidc_providers).where(*enabled).order_by(oidc_providers.c.oidc_provider_id).limit(limit)
    rows = connection.execute(ordered).all()
    return [_provider(connection, row) for row in sealed_rows.good(connection, oidc_providers, rows)]


def oidc_providers_page(
    connection: Connection, account: str, after: str, limit: int, conditions: Sequence[Condition]
) -> list[OidcProvider]:
    """An account's providers that meet the conditions, in the order of their ids, from the first behind `after`."""
    met = [condition(connection.dialect.name) for condition in conditions]
    of_account = (oidc_providers.c.account == account, oidc_providers.c.oidc_provider_id > after)
    ordered = select(oidc_providers).where(*of_account, *met).order_by(oidc_providers.c.oidc_provider_id)
    return [_provider(connection, row) for row in connection.execute(ordered.limit(limit)).all()]


def insert_oidc_provider(connection: Connection, added: OidcProvider) -> None:
    """Adds a provider. Raises IntegrityError when the name or the issuer is taken."""
    values = {
        **_values(added),
        "account": account_of(added.name),
        "oidc_provider_id": id_of(added.name),
        "issuer": added.issuer,
        "created_us": added.created_us,
    }
    contents.insert(connection, account_of(added.name), oidc_providers, [values])


def update_oidc_provider(connection: Connection, changed: OidcProvider) -> None:
    """Puts what may change of a provider in the place of what it was."""
    contents.update(connection, account_of(changed.name), oidc_providers, [_is(changed.name)], _values(changed))


def note_fetch(connection: Connection, name: str, now_us: int, error: str) -> None:
    """Remembers how the last fetch of a provider's signing keys went: `error` is empty where it went well."""
    said = {"fetch_error": error} if error else {"fetch_error": "", "fetched_us": now_us}
    connection.execute(update(oidc_providers).where(_is(name)).values(said))


def delete_oidc_provider(connection: Connection, name: str) -> None:
    """Removes a provider."""
    contents.delete(connection, account_of(name), oidc_providers, [_is(name)])


def _is(name: str) -> ColumnElement[bool]:
    return and_(oidc_providers.c.account == account_of(name), oidc_providers.c.oidc_provider_id == id_of(name))


def _values(of: OidcProvider) -> dict[str, Any]:
    return {
        "audiences": json.dumps(list(of.audiences)),
        "jwks_uri": of.jwks_uri,
        "ca_certificates": of.ca_certificates,
        "static_jwks": of.static_jwks,
        "description": of.description,
        "disabled": of.disabled,
        "fetched_us": of.fetched_us,
        "fetch_error": of.fetch_error,
        "revision": of.revision,
        "updated_us": of.updated_us,
    }


def _provider(connection: Connection, row: Row[Any]) -> OidcProvider:
    name = f"accounts/{row.account}/oidcProviders/{row.oidc_provider_id}"
    sealed_rows.require(connection, oidc_providers, row, name)
    return OidcProvider(
        name,
        row.issuer,
        tuple(json.loads(row.audiences)),
        row.jwks_uri,
        row.ca_certificates,
        row.static_jwks,
        row.description,
        row.disabled,
        row.fetched_us,
        row.fetch_error,
        row.revision,
        row.created_us,
        row.updated_us,
    )
