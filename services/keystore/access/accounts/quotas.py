"""Quotas: how many requests are let through for an account and for each of its principals."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from sqlalchemy import Connection

from services.keystore.access.editing import kinds
from services.keystore.access.editing.editing import AccessEditor
from services.keystore.access.records import quota_store
from services.keystore.access.records.resources import Quota, account_of, collection_of
from services.keystore.store import changes
from services.runtime.access.authorization import Resource
from services.runtime.call import Call
from services.runtime.config import DefaultQuotas
from services.runtime.storage.editing import require_current
from strongroom.keystore.v1.key_record_service_pb2 import CHANGE_KIND_QUOTA


class Quotas:
    """The quotas of all accounts. `mesh` is what an account's own quota is changed on, and `defaults` what holds where
    none was set: revision 0 says so. `target` is an account or principal, by name. Methods raise PERMISSION_DENIED,
    ACCOUNT_NOT_FOUND, PRINCIPAL_NOT_FOUND."""

    def __init__(self, editor: AccessEditor, mesh: Resource, defaults: DefaultQuotas) -> None:
        self._editor = editor
        self._mesh = mesh
        self._defaults = defaults

    def get(self, call: Call, target: str) -> Quota:
        """The quota that holds."""
        self._permit(call, "access:GetQuota", target)
        with self._editor.reading() as connection:
            return self._effective(connection, target)

    def page(self, call: Call, account: str, after: str, limit: int) -> list[Quota]:
        """The quotas that were set in an account, its own first, then by principal, from the first behind `after`."""
        self._permit(call, "access:ListQuotas", f"accounts/{account}")
        with self._editor.reading() as connection:
            return quota_store.quotas_page(connection, account, after, limit)

    def update(self, call: Call, wanted: Quota, paths: Collection[str], etag: str) -> Quota:
        """Sets the fields of `paths` to those of `wanted`. Raises ETAG_MISMATCH."""
        # There is always room: who fills an account would keep others from slowing it down.
        self._permit_change(call, "access:UpdateQuota", wanted.target)
        with self._editor.changing_in_turn(call, account_of(wanted.target), removes=True) as connection:
            _require_there(connection, wanted.target)
            present = quota_store.quota(connection, wanted.target) or Quota(wanted.target)
            require_current(_name(wanted.target), present.revision, etag)
            changed = replace(
                present,
                **{path: getattr(wanted, path) for path in paths},
                revision=_note(connection, wanted.target),
                updated_us=self._editor.now_us(),
            )
            quota_store.put_quota(connection, changed)
            self._editor.record(connection, call)
        return changed

    def reset(self, call: Call, target: str) -> Quota:
        """Takes back what `update` set; the quota that holds then."""
        self._permit_change(call, "access:ResetQuota", target)
        with self._editor.changing_in_turn(call, account_of(target), removes=False) as connection:
            _require_there(connection, target)
            if quota_store.delete_quota(connection, target):
                _note(connection, target)
                self._editor.record(connection, call)
            return self._effective(connection, target)

    def _effective(self, connection: Connection, target: str) -> Quota:
        found = quota_store.quota(connection, target)
        if found is not None:
            return found
        if not collection_of(target):
            default = self._defaults.account
        else:
            of_account = quota_store.quota(connection, f"accounts/{account_of(target)}")
            if of_account is not None and of_account.default_principal_requests_per_second is not None:
                return Quota(target, of_account.default_principal_requests_per_second)
            default = self._defaults.principal
        return Quota(target) if default is None else Quota(target, default.requests_per_second, default.burst)

    def _permit(self, call: Call, action: str, target: str) -> None:
        if collection_of(target):
            self._editor.permitted(call, action, kinds.PRINCIPAL, target)
        else:
            self._editor.permitted(call, action, kinds.ACCOUNT, target)

    def _permit_change(self, call: Call, action: str, target: str) -> None:
        if collection_of(target):
            self._permit(call, action, target)
        else:
            self._editor.authorize(call, action, self._mesh, target)


def _require_there(connection: Connection, target: str) -> None:
    # An account that is not there fails before.
    if collection_of(target):
        kinds.PRINCIPAL.require(connection, target)


def _note(connection: Connection, target: str) -> int:
    return changes.note(connection, CHANGE_KIND_QUOTA, _name(target), account_of(target))


def _name(target: str) -> str:
    return f"{target}/quota"
