"""Filters of access lists, as conditions in SQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import ColumnElement, or_, select, true

from services.keystore.access.records.resources import PRINCIPALS
from services.keystore.access.records.tables import (
    accounts,
    client_keys,
    oidc_providers,
    policies,
    policy_attachments,
    principals,
)
from services.runtime.errors import invalid
from services.runtime.requests import names
from services.runtime.storage.sql_filters import Condition, Fields, begins_with, conditions, enum
from strongroom.access.v1.policy_pb2 import PolicyKind
from strongroom.access.v1.principal_pb2 import PrincipalKind


def of_accounts(text: str) -> list[Condition]:
    """The conditions of a list of accounts. Raises FIELD_INVALID."""
    return conditions(text, {"id_prefix": begins_with(accounts.c.account)})


def of_principals(text: str, account: str) -> list[Condition]:
    """The conditions of a list of principals. Raises FIELD_INVALID, NAME_MALFORMED."""

    def id_prefix(value: str) -> ColumnElement[bool]:
        prefixes = (f"accounts/{account}/{collection}/{value}" for collection in PRINCIPALS)
        return or_(*(begins_with(principals.c.name)(prefix) for prefix in prefixes))

    def role(value: str) -> ColumnElement[bool]:
        # Names are plain in JSON.
        name = names.parse(value, "filter", "roles")
        held: ColumnElement[bool] = principals.c.roles.contains(f'"{name}"', autoescape=True)
        return held

    fields: Fields = {
        "kind": enum(principals.c.kind, PrincipalKind, "PRINCIPAL_KIND_", "kind"),
        "disabled": _is_flag(principals.c.disabled, "disabled"),
        "id_prefix": id_prefix,
        "role": role,
    }
    return conditions(text, fields, principals.c.tags)


def of_policies(text: str, account: str) -> list[Condition]:
    """The conditions of a list of policies. Raises FIELD_INVALID."""

    def attached_to(value: str) -> ColumnElement[bool]:
        attached = select(policy_attachments.c.policy).where(policy_attachments.c.target == value)
        return policies.c.name.in_(attached)

    def id_prefix(value: str) -> ColumnElement[bool]:
        return begins_with(policies.c.name)(f"accounts/{account}/policies/{value}")

    fields: Fields = {
        "kind": enum(policies.c.kind, PolicyKind, "POLICY_KIND_", "kind"),
        "attached_to": attached_to,
        "id_prefix": id_prefix,
    }
    return conditions(text, fields)


def of_client_keys(text: str) -> list[Condition]:
    """The conditions of a list of client keys. Raises FIELD_INVALID."""
    return conditions(text, {"principal": lambda value: client_keys.c.principal == value})


def of_oidc_providers(text: str) -> list[Condition]:
    """The conditions of a list of OIDC providers. Raises FIELD_INVALID."""
    fields: Mapping[str, Callable[[str], ColumnElement[bool]]] = {
        "issuer": lambda value: oidc_providers.c.issuer == value,
        "disabled": _is_flag(oidc_providers.c.disabled, "disabled"),
    }
    return conditions(text, fields)


def _is_flag(column: ColumnElement[bool], field: str) -> Callable[[str], ColumnElement[bool]]:
    def condition(value: str) -> ColumnElement[bool]:
        if value not in ("true", "false"):
            raise invalid("filter", f"gives {field} the value {value}, which is neither true nor false")
        wanted: ColumnElement[bool] = column == (true() if value == "true" else ~true())
        return wanted

    return condition
