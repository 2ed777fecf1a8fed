"""Users, workloads and roles."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from services.keystore.access.accounts import ended_grants
from services.keystore.access.accounts.identities import require_free_spiffe_ids, require_free_subjects, require_given
from services.keystore.access.editing import kinds
from services.keystore.access.editing.editing import (
    AccessEditor,
    Change,
    already_exists,
    update,
)
from services.keystore.access.editing.plans import Needs
from services.keystore.access.policies import policy_text
from services.keystore.access.records import client_key_store, ended_names, policy_store, principal_store, quota_store
from services.keystore.access.records.resources import ROLES, Principal, account_of, collection_of
from services.keystore.store import changes
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError, invalid
from services.runtime.storage.editing import UNCHANGED, Unchanged
from services.runtime.storage.request_ids import Repeatable
from services.runtime.storage.rights import Rights
from services.runtime.storage.sql_filters import Condition
from strongroom.keystore.v1.key_record_service_pb2 import CHANGE_KIND_QUOTA

log = logging.getLogger(__name__)

MAX_TAKEN_ALONG = 300
"""So many principals that hold it, and policies that are attached to it, are changed with a principal that ends."""
# So many principals that ended leave nothing but their names, with each that is made or ends.
_FOLDED = 100
SET_ROLES = "access:SetPrincipalRoles"
BIND_IDENTITY = "access:BindIdentity"
_SET_TRUST_POLICY = "access:SetTrustPolicy"
# Fields by which somebody becomes a principal.
_ACTIONS = {
    "spiffe_ids": BIND_IDENTITY,
    "oidc_bindings": BIND_IDENTITY,
    "role_settings": _SET_TRUST_POLICY,
}
_ACTIONS_OF_NEW = {**_ACTIONS, "roles": SET_ROLES}


class Principals:
    """The principals of all accounts. Methods raise PERMISSION_DENIED, PRINCIPAL_NOT_FOUND, ETAG_MISMATCH; those that
    may take somebody's permissions away POLICY_LOCKOUT."""

    def __init__(self, editor: AccessEditor, operator: str = "", *, bind_any: bool = False) -> None:
        """`operator` is the account of the mesh's administrators, who may learn which SPIFFE ids others have bound, and
        bind any; the others bind what they were given, or with `bind_any` also what nobody was."""
        self._editor = editor
        self._operator = operator
        self._bind_any = bind_any

    def create(self, call: Call, new: Principal, repeatable: Repeatable | None) -> Principal:
        """Adds a principal, which needs for each field what changing it would. Raises ALREADY_EXISTS, POLICY_INVALID,
        OIDC_PROVIDER_NOT_FOUND, REQUEST_ID_REUSED."""
        account = f"accounts/{account_of(new.name)}"
        actions = ("access:CreatePrincipal", "access:SetPrincipalTags") if new.tags else ("access:CreatePrincipal",)
        for action in actions:
            self._editor.permitted(call, action, kinds.ACCOUNT, account, about=new.name, field="parent")
        # Others may have permitted something already to whoever bears this name.
        for action in dict.fromkeys(action for path, action in _ACTIONS_OF_NEW.items() if getattr(new, path)):
            self._editor.authorize(call, action, new.resource)
        for role in new.roles:
            self._editor.permitted(call, SET_ROLES, kinds.PRINCIPAL, role, field="principal.roles")
        _require_valid(new)

        def check(connection: Connection, added: Principal) -> None:
            for role in added.roles:
                kinds.PRINCIPAL.require(connection, role, "principal.roles")
            self._require_free(connection, added, added.spiffe_ids)
            ended_names.fold(connection, account_of(added.name), _FOLDED)
            if ended_names.is_taken(connection, added.name):
                raise already_exists(added.name, "principal_id")

        needs = Needs(room=True)
        return self._editor.create(call, kinds.PRINCIPAL, new, "principal_id", repeatable, check=check, needs=needs)

    def get(self, call: Call, name: str) -> Principal:
        """A principal."""
        return self._editor.permitted(call, "access:GetPrincipal", kinds.PRINCIPAL, name)

    def page(
        self, call: Call, account: str, after: str, limit: int, conditions: Sequence[Condition]
    ) -> list[Principal]:
        """An account's principals that meet the conditions, by name, from the first behind the name `after`."""
        self._editor.permitted(call, "access:ListPrincipals", kinds.ACCOUNT, f"accounts/{account}", field="parent")
        with self._editor.reading() as connection:
            return principal_store.principals_page(connection, account, after, limit, conditions)

    def update(self, call: Call, wanted: Principal, paths: Collection[str], etag: str) -> Principal:
        """Changes the fields of `paths` to those of `wanted`. Raises ALREADY_EXISTS, POLICY_INVALID,
        OIDC_PROVIDER_NOT_FOUND."""
        needed = [action for path, action in _ACTIONS.items() if path in paths]
        for action in dict.fromkeys(("access:UpdatePrincipal", *needed)):
            self._editor.permitted(call, action, kinds.PRINCIPAL, wanted.name)
        if "role_settings" in paths:
            _require_valid(wanted)

        def change(connection: Connection, present: Principal) -> Principal:
            changed = replace(present, **{path: getattr(wanted, path) for path in paths})
            self._require_free(connection, changed, sorted(set(changed.spiffe_ids) - set(present.spiffe_ids)))
            if _loses_identity(present, changed):
                # What began with an identity that is taken away ends with it; who has others begins anew.
                changed = changed.ending_sessions(self._editor.now_us())
            return changed

        def asks(changed: Principal) -> Needs:
            return Needs(room=bool(changed.spiffe_ids or changed.oidc_bindings))

        try:
            return self._editor.edit(call, kinds.PRINCIPAL, wanted.name, change, etag=etag, asks=asks)
        except IntegrityError:
            # Another account's call was quicker.
            raise already_exists("a principal that one of the identities stands for", "principal") from None

    def set_tags(self, call: Call, name: str, tags: Mapping[str, str], etag: str) -> Principal:
        """Replaces a principal's tags."""
        self._editor.permitted(call, "access:SetPrincipalTags", kinds.PRINCIPAL, name)

        def change(_connection: Connection, present: Principal) -> Principal:
            return replace(present, tags=tags)

        return self._editor.edit(call, kinds.PRINCIPAL, name, change, etag=etag, asks=_larger_or_less)

    def set_roles(self, call: Call, name: str, roles: tuple[str, ...], etag: str) -> Principal:
        """Replaces the roles that a principal holds all the time. Raises FIELD_INVALID for a role as the principal."""
        seen = self._editor.permitted(call, SET_ROLES, kinds.PRINCIPAL, name)
        if collection_of(name) == ROLES:
            raise invalid("name", "is a role, which holds no roles")
        rights = self._rights_to_set_roles(call, "roles")
        rights.ask(_given(roles, seen))

        def change(connection: Connection, present: Principal) -> Principal:
            # Whoever is to lose a role may do what else changes meanwhile all the time.
            rights.require(_given(roles, present))
            for role in roles:
                kinds.PRINCIPAL.require(connection, role, "roles")
            return replace(present, roles=roles)

        removes = not _given(roles, seen)
        return self._editor.edit(
            call, kinds.PRINCIPAL, name, change, etag=etag, asks=_larger_or_less, removes=removes, rights=rights
        )

    def disable(self, call: Call, name: str) -> Principal:
        """Refuses a principal everywhere."""
        self._editor.permitted(call, "access:DisablePrincipal", kinds.PRINCIPAL, name)
        return self._editor.edit(call, kinds.PRINCIPAL, name, _to_disabled(disabled=True), asks=_less, removes=True)

    def enable(self, call: Call, name: str) -> Principal:
        """Ends what `disable` began."""
        self._editor.permitted(call, "access:EnablePrincipal", kinds.PRINCIPAL, name)
        # It takes nothing from anybody, and may be what brings an administrator back.
        return self._editor.edit(call, kinds.PRINCIPAL, name, _to_disabled(disabled=False))

    def revoke_sessions(self, call: Call, name: str) -> Principal:
        """Refuses every session of a principal that began before now."""
        self._editor.permitted(call, "access:RevokeSessions", kinds.PRINCIPAL, name)

        def change(_connection: Connection, present: Principal) -> Principal:
            return present.ending_sessions(self._editor.now_us())

        return self._editor.edit(call, kinds.PRINCIPAL, name, change, removes=True)

    def delete(self, call: Call, name: str, etag: str) -> None:
        """Deletes a principal with its client keys, attachments and quota; the grants to it end with it, at once or
        later. To take a role from those who hold it, with what it forbids them, needs `access:SetPrincipalRoles` on
        each."""
        self._editor.permitted(call, "access:DeletePrincipal", kinds.PRINCIPAL, name)
        rights = self._rights_to_set_roles(call, "name")
        with self._editor.reading() as connection:
            holders = _taken_along(connection, name)
        rights.ask(holders)

        def remove(connection: Connection, _present: Principal) -> None:
            now_us = self._editor.now_us()
            ended_names.fold(connection, account_of(name), _FOLDED)
            rights.require(_taken_along(connection, name))
            principal_store.delete_principal(connection, name, now_us)
            client_key_store.delete_client_keys_of(connection, name, now_us)
            for policy in policy_store.attached_to(connection, name):
                attached_to = tuple(target for target in policy.attached_to if target != name)
                update(connection, kinds.POLICY, replace(policy, attached_to=attached_to), now_us)
            for holder in principal_store.holders(connection, name):
                roles = tuple(role for role in holder.roles if role != name)
                update(connection, kinds.PRINCIPAL, replace(holder, roles=roles), now_us)
            if quota_store.delete_quota(connection, name):
                changes.note(connection, CHANGE_KIND_QUOTA, f"{name}/quota", account_of(name))

        self._editor.delete(call, kinds.PRINCIPAL, name, etag, remove, _less, rights)
        try:
            ended_grants.end_of(self._editor, name)
        except StrongroomError as error:
            # The deletion stands, and is answered so: what is left permits nothing, and ends later.
            log.warning(
                "grants to a principal that was deleted are ended later",
                extra={"fields": {"principal": name, "reason": error.reason}},
            )

    def _rights_to_set_roles(self, call: Call, field: str) -> Rights[str]:
        """Those on principals or roles, by name."""

        def permit(names: Sequence[str]) -> None:
            for name in names:
                self._editor.permitted(call, SET_ROLES, kinds.PRINCIPAL, name, field=field)

        return self._editor.rights(call, permit)

    def _require_free(self, connection: Connection, principal: Principal, added: Sequence[str]) -> None:
        """Raises unless what a principal is to be known by exists and stands for no other of the account, and the
        SPIFFE ids that are `added` are for its account to bind."""
        field = "principal.spiffe_ids"
        everywhere = account_of(principal.name) == self._operator
        if not everywhere and not self._bind_any:
            require_given(connection, account_of(principal.name), added, field)
        require_free_spiffe_ids(connection, principal.name, principal.spiffe_ids, field, everywhere=everywhere)
        for binding in principal.oidc_bindings:
            kinds.OIDC_PROVIDER.require(connection, binding.provider, "principal.oidc_bindings.provider")
        require_free_subjects(connection, principal.name, principal.oidc_bindings, "principal.oidc_bindings")


def _given(roles: Sequence[str], principal: Principal) -> list[str]:
    """Those of the roles that a principal does not hold yet."""
    return sorted(set(roles) - set(principal.roles))


def _taken_along(connection: Connection, name: str) -> list[str]:
    """Who holds a role that is to end. Raises LIMIT_EXCEEDED where too much is changed with it."""
    holders = [holder.name for holder in principal_store.holders(connection, name)]
    attached = policy_store.attached_to(connection, name)
    if len(holders) + len(attached) > MAX_TAKEN_ALONG:
        raise StrongroomError(
            Reason.LIMIT_EXCEEDED,
            f"{name} is held by {len(holders)} principals, and has {len(attached)} policies: take it from some"
            f" (SetPrincipalRoles), or detach some, until they are {MAX_TAKEN_ALONG}",
            limit=str(MAX_TAKEN_ALONG),
        )
    return holders


def _larger_or_less(_changed: Principal) -> Needs:
    """What is asked before a change that may make what decisions rest on larger, and take permissions away."""
    return Needs(room=True, way_back=True)


def _less(_changed: Principal) -> Needs:
    """What is asked before permissions are taken away."""
    return Needs(way_back=True)


def _loses_identity(before: Principal, after: Principal) -> bool:
    """Whether something that stood for a principal does no more, or not without further claims."""
    kept = (*after.spiffe_ids, *after.oidc_bindings)
    return any(identity not in kept for identity in (*before.spiffe_ids, *before.oidc_bindings))


def _to_disabled(*, disabled: bool) -> Change[Principal]:
    def change(_connection: Connection, present: Principal) -> Principal | Unchanged:
        return UNCHANGED if present.disabled == disabled else replace(present, disabled=disabled)

    return change


def _require_valid(principal: Principal) -> None:
    if principal.role_settings is not None:
        policy_text.require_valid_trust(
            principal.role_settings.trust_policy, account_of(principal.name), "principal.role_settings.trust_policy"
        )
