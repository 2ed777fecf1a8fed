"""Policies, and what they are attached to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection

from services.keystore.access.editing import kinds, lockout
from services.keystore.access.editing.editing import AccessEditor
from services.keystore.access.editing.plans import Needs
from services.keystore.access.policies import policy_text
from services.keystore.access.policies.policy_text import Problem
from services.keystore.access.records import policy_store
from services.keystore.access.records.resources import PRINCIPALS, Policy, account_of, collection_of, resource
from services.keystore.keys.editing import not_found
from services.keystore.mesh import mesh_resource
from services.keystore.store import changes
from services.keystore.store import store as keystore
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError, invalid
from services.runtime.requests.names import ResourceName, parse, parse_account
from services.runtime.storage.editing import UNCHANGED, Unchanged
from services.runtime.storage.request_ids import Repeatable
from services.runtime.storage.rights import Rights
from services.runtime.storage.sql_filters import Condition
from strongroom.access.v1.policy_pb2 import POLICY_KIND_IDENTITY, POLICY_KIND_RESOURCE, PolicyKind
from strongroom.keystore.v1.key_record_service_pb2 import CHANGE_KIND_KEY, CHANGE_KIND_POLICY

MAX_TARGETS = 1000
ATTACH, DETACH = "access:AttachPolicy", "access:DetachPolicy"

# What a policy of each kind is attached to; an account is in no collection.
_TARGETS = {POLICY_KIND_IDENTITY: ("", *PRINCIPALS), POLICY_KIND_RESOURCE: ("keys", "secrets")}
_Right = tuple[str, str]
"""An action, and the target that it is on."""
_ATTACHABLE = [collection for collections in _TARGETS.values() for collection in collections if collection]


class Policies:
    """The policies of all accounts. Methods raise PERMISSION_DENIED, POLICY_NOT_FOUND, ETAG_MISMATCH; those that may
    take somebody's permissions away POLICY_LOCKOUT."""

    def __init__(self, editor: AccessEditor, operator: str) -> None:
        """`operator` is the id of the account that administrators of the mesh belong to."""
        self._editor = editor
        self._operator = operator

    def create(self, call: Call, new: Policy, repeatable: Repeatable | None) -> Policy:
        """Adds a policy. Raises POLICY_INVALID, ALREADY_EXISTS, REQUEST_ID_REUSED, and what `attach` does."""
        account = f"accounts/{account_of(new.name)}"
        self._editor.permitted(call, "access:CreatePolicy", kinds.ACCOUNT, account, about=new.name, field="parent")
        for target in new.attached_to:
            require_target(new.name, new.kind, target, "policy.attached_to")
            self._permit_target(call, ATTACH, target, "policy.attached_to")
        policy_text.require_valid(new.cedar, new.kind, account_of(new.name), "policy.cedar")

        def check(connection: Connection, added: Policy) -> None:
            _hold(connection, added.attached_to, "policy.attached_to")

        def then(connection: Connection, added: Policy) -> None:
            _tell(connection, added.attached_to)

        needs = Needs(room=True, way_back=bool(new.attached_to) and lockout.forbids(new.cedar))
        return self._editor.create(
            call, kinds.POLICY, new, "policy_id", repeatable, check=check, needs=needs, then=then
        )

    def get(self, call: Call, name: str) -> Policy:
        """A policy."""
        return self._editor.permitted(call, "access:GetPolicy", kinds.POLICY, name)

    def page(self, call: Call, account: str, after: str, limit: int, conditions: Sequence[Condition]) -> list[Policy]:
        """An account's policies that meet the conditions, by name, from the first behind the name `after`."""
        self._editor.permitted(call, "access:ListPolicies", kinds.ACCOUNT, f"accounts/{account}", field="parent")
        with self._editor.reading() as connection:
            return policy_store.policies_page(connection, account, after, limit, conditions)

    def update(self, call: Call, name: str, cedar: str | None, description: str | None, etag: str) -> Policy:
        """Changes what is not None. Another text needs `access:AttachPolicy` on all that the policy is attached to,
        because it gives them what attaching a new policy would, and `access:DetachPolicy` where the old text forbids
        something, which is taken off them. Raises POLICY_INVALID."""
        seen = self._editor.permitted(call, "access:UpdatePolicy", kinds.POLICY, name)
        rewritten = cedar is not None and cedar != seen.cedar
        rights = self._rights(call, "policy.name")
        if cedar is not None and rewritten:
            rights.ask(_for_another_text(seen))
            policy_text.require_valid(cedar, seen.kind, account_of(name), "policy.cedar")

        def change(_connection: Connection, present: Policy) -> Policy:
            if rewritten:
                rights.require(_for_another_text(present))
                _require_same_kind(present, seen)
            # A text that is as it was stays what it has become meanwhile: for that one nobody was asked.
            return replace(
                present,
                cedar=cedar if cedar is not None and rewritten else present.cedar,
                description=present.description if description is None else description,
            )

        if not rewritten:
            return self._editor.edit(call, kinds.POLICY, name, change, etag=etag)
        return self._editor.edit(
            call,
            kinds.POLICY,
            name,
            change,
            etag=etag,
            asks=lambda _: Needs(room=True, way_back=True),
            removes=cedar is not None and not lockout.permits(cedar),
            rights=rights,
            hold=lambda connection, present: _hold_keys(connection, present.attached_to),
            then=lambda connection, changed: _tell(connection, changed.attached_to),
        )

    def delete(self, call: Call, name: str, etag: str) -> None:
        """Deletes a policy, and detaches it, which needs `access:DetachPolicy` on all that it is attached to."""
        seen = self._editor.permitted(call, "access:DeletePolicy", kinds.POLICY, name)
        rights = self._rights(call, "name")
        rights.ask(_for_no_text(seen))

        def remove(connection: Connection, present: Policy) -> None:
            rights.require(_for_no_text(present))
            _locked_keys(connection, present.attached_to)
            policy_store.delete_policy(connection, name)
            _tell(connection, present.attached_to)

        self._editor.delete(call, kinds.POLICY, name, etag, remove, _where_it_permits, rights)

    def attach(self, call: Call, name: str, target: str) -> Policy:
        """Attaches a policy; one that is attached stays so. Raises PRINCIPAL_NOT_FOUND, KEY_NOT_FOUND, LIMIT_EXCEEDED,
        and FIELD_INVALID for a target of the wrong kind or another account."""
        seen = self._editor.permitted(call, ATTACH, kinds.POLICY, name)
        self._permit_target(call, ATTACH, target, "target")
        require_target(seen.name, seen.kind, target, "target")

        def change(_connection: Connection, present: Policy) -> Policy | Unchanged:
            if target in present.attached_to:
                return UNCHANGED
            if len(present.attached_to) >= MAX_TARGETS:
                raise StrongroomError(
                    Reason.LIMIT_EXCEEDED,
                    f"{name} is attached to {MAX_TARGETS} targets already",
                    limit=str(MAX_TARGETS),
                )
            return replace(present, attached_to=tuple(sorted((*present.attached_to, target))))

        return self._editor.edit(
            call,
            kinds.POLICY,
            name,
            change,
            asks=lambda wanted: Needs(room=True, way_back=lockout.forbids(wanted.cedar)),
            hold=lambda connection, _: _hold(connection, [target], "target"),
            then=lambda connection, _: _tell(connection, [target]),
        )

    def detach(self, call: Call, name: str, target: str) -> Policy:
        """Detaches a policy; one that is not attached stays so. Raises as `attach` does."""
        if call.principal.account == self._operator != account_of(name):
            return self._detach_for_tenant(call, name, target)
        seen = self._editor.permitted(call, DETACH, kinds.POLICY, name)
        self._permit_target(call, DETACH, target, "target")
        require_target(seen.name, seen.kind, target, "target")

        def change(_connection: Connection, present: Policy) -> Policy | Unchanged:
            return _without(present, target)

        return self._editor.edit(
            call,
            kinds.POLICY,
            name,
            change,
            asks=_where_it_permits,
            removes=True,
            hold=lambda connection, _: _hold_keys(connection, [target]),
            then=lambda connection, _: _tell(connection, [target]),
        )

    def _detach_for_tenant(self, call: Call, name: str, target: str) -> Policy:
        """For administrators of the mesh: detaches another account's policy, so that those whom it locks out get in
        again. It takes no more from anybody than `disable` of the account, and stands in the logs of both."""
        event = self._editor.authorize(call, DETACH, mesh_resource(self._operator), name)
        told = call.record(DETACH, name, account_of(name))
        told.decided_by = event.decided_by

        def change(_connection: Connection, present: Policy) -> Policy | Unchanged:
            require_target(present.name, present.kind, target, "target")
            return _without(present, target)

        return self._editor.edit(
            call,
            kinds.POLICY,
            name,
            change,
            removes=True,
            hold=lambda connection, _: _hold_keys(connection, [target]),
            then=lambda connection, _: _tell(connection, [target]),
        )

    def problems(self, call: Call, account: str, cedar: str, kind: PolicyKind.ValueType) -> list[Problem]:
        """What is wrong with a policy's text."""
        self._editor.permitted(call, "access:ValidatePolicy", kinds.ACCOUNT, f"accounts/{account}", field="parent")
        return policy_text.check(cedar, kind, account)

    def _rights(self, call: Call, field: str) -> Rights[_Right]:
        def permit(needed: Sequence[_Right]) -> None:
            for action, target in needed:
                self._permit_target(call, action, target, field)

        return self._editor.rights(call, permit)

    def _permit_target(self, call: Call, action: str, target: str, field: str) -> None:
        """Raises PERMISSION_DENIED, and KEY_NOT_FOUND, PRINCIPAL_NOT_FOUND or ACCOUNT_NOT_FOUND."""
        collection = collection_of(target)
        if collection == "secrets":
            # Its service is another: whether it exists, and its tags, are not known here.
            self._editor.authorize(call, action, resource(target))
        elif collection == "keys":
            self._editor.asking(call, partial(self._permit_key, call, action, parse(target, field, "keys"), field))
        elif collection:
            self._editor.permitted(call, action, kinds.PRINCIPAL, target, field=field)
        else:
            self._editor.permitted(call, action, kinds.ACCOUNT, target, field=field)

    def _permit_key(self, call: Call, action: str, name: ResourceName, field: str) -> None:
        with self._editor.reading() as connection:
            key = keystore.key(connection, name)
        self._editor.authorize(call, action, key.resource if key else resource(str(name)))
        if key is None:
            raise not_found(name, field)


def _for_another_text(policy: Policy) -> list[_Right]:
    """What a policy's text needs to be exchanged for another: it gives all that it is attached to what attaching a new
    one would, and takes what it forbids off them."""
    actions = (ATTACH, DETACH) if lockout.forbids(policy.cedar) else (ATTACH,)
    return [(action, target) for action in actions for target in policy.attached_to]


def _for_no_text(policy: Policy) -> list[_Right]:
    """What it needs to end it."""
    return [(DETACH, target) for target in policy.attached_to]


def _require_same_kind(present: Policy, seen: Policy) -> None:
    # The new text was found good for that kind.
    if present.kind != seen.kind:
        raise StrongroomError(Reason.OVERLOADED, f"{seen.name} was made anew by another call just now: try again")


def attachable(target: str, field: str) -> str:
    """The name of what some policy may be attached to. Raises NAME_MALFORMED."""
    if target.count("/") == 1:
        return f"accounts/{parse_account(target, field)}"
    return str(parse(target, field, *_ATTACHABLE))


def require_target(policy: str, kind: PolicyKind.ValueType, target: str, field: str) -> None:
    """Raises FIELD_INVALID for what the policy of this name and kind is not attached to."""
    if account_of(target) != account_of(policy):
        raise invalid(field, "is not of the policy's account")
    if collection_of(target) not in _TARGETS.get(kind, ()):
        what = "principals, or the account" if kind == POLICY_KIND_IDENTITY else "keys and secrets"
        raise invalid(field, f"is not what such a policy is attached to: {what}")


def _hold(connection: Connection, targets: Collection[str], field: str) -> None:
    """Raises PRINCIPAL_NOT_FOUND unless the principals among new targets are still there, and locks the keys."""
    for target in targets:
        if collection_of(target) in PRINCIPALS:
            kinds.PRINCIPAL.require(connection, target, field)
    _locked_keys(connection, targets)


def _tell(connection: Connection, targets: Collection[str]) -> None:
    """Notes that the policies of these keys and secrets are others."""
    keys = _locked_keys(connection, targets)
    secrets = [target for target in targets if collection_of(target) == "secrets"]
    noted = [
        *((CHANGE_KIND_KEY, name, account_of(name), uid) for name, uid in keys),
        *((CHANGE_KIND_POLICY, name, account_of(name), b"") for name in secrets),
    ]
    if noted:
        for (_, uid), revision in zip(keys, changes.note_all(connection, noted), strict=False):
            policy_store.touch_key(connection, uid, revision)


def _hold_keys(connection: Connection, targets: Collection[str]) -> None:
    _locked_keys(connection, targets)


def _without(policy: Policy, target: str) -> Policy | Unchanged:
    """A policy that is not attached to something any more."""
    if target not in policy.attached_to:
        return UNCHANGED
    return replace(policy, attached_to=tuple(one for one in policy.attached_to if one != target))


def _where_it_permits(policy: Policy) -> Needs:
    """What is asked before a policy is taken off something, or ends."""
    return Needs(way_back=lockout.permits(policy.cedar))


def _locked_keys(connection: Connection, targets: Collection[str]) -> list[tuple[str, bytes]]:
    """The keys among the targets, with their uids. They are locked before the change gets its number, as they are by
    whoever changes a key: the other way about, two could wait for each other."""
    keys = [target for target in targets if collection_of(target) == "keys"]
    return policy_store.lock_keys(connection, keys) if keys else []
