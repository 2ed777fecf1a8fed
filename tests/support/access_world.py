"""Access records as keystore would answer them, from what a test puts in; and the changes that tell of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.runtime.access.authorization import Authorizer
from services.runtime.access.grants import admits
from services.runtime.call import Call, Principal
from services.runtime.changes import Change, ChangeFeed, Changes
from strongroom.access.v1.access_record_service_pb2 import (
    AccountAccess,
    GrantRecord,
    PolicyRecord,
    PrincipalRecord,
    TokenKey,
)
from strongroom.keystore.v1.key_record_service_pb2 import ChangeKind
from tests.support.clocks import ClockOf


class World:
    """Accounts with what is in them. Each change is told to the feed at once."""

    def __init__(self) -> None:
        self.accounts: dict[str, AccountAccess] = {}
        self.policies: dict[str, list[PolicyRecord]] = {}
        self.grants: dict[str, list[GrantRecord]] = {}
        self.changes: list[Change] = []
        self.reads: list[str] = []
        self.now = 1_000_000.0
        self.feed = ChangeFeed(self.list_changes)
        self.authorizer = Authorizer(self, self.feed, ClockOf(lambda: int(self.now * 1e6)))
        self.feed.poll()

    def principal(self, name: str, roles: Sequence[str] = (), tags: Mapping[str, str] | None = None) -> PrincipalRecord:
        """Adds a principal, and its account where that is new."""
        record = PrincipalRecord(name=name, roles=roles, tags=tags)
        self._access(name.split("/")[1]).principals.append(record)
        self._changed(ChangeKind.CHANGE_KIND_PRINCIPAL, name)
        return self._access(name.split("/")[1]).principals[-1]

    def policy(self, name: str, cedar: str, *attached_to: str) -> None:
        """Adds an identity policy; attached to nothing, it is everybody's in the account."""
        self._access(name.split("/")[1]).policies.add(name=name, cedar=cedar, attached_to=attached_to)
        self._changed(ChangeKind.CHANGE_KIND_POLICY, name)

    def resource_policy(self, resource: str, name: str, cedar: str) -> None:
        """Adds a policy that is attached to a key or secret."""
        self.policies.setdefault(resource, []).append(PolicyRecord(name=name, cedar=cedar))
        self._access(resource.split("/")[1])
        self._changed(ChangeKind.CHANGE_KIND_KEY, resource)

    def grant(self, key: str, key_uid: bytes, grant: GrantRecord) -> None:
        """Adds a grant on a key."""
        self.grants.setdefault(key, []).append(grant)
        self._changed(ChangeKind.CHANGE_KIND_GRANT, grant.grantee, key_uid)

    def revoke(self, key: str, key_uid: bytes, name: str) -> None:
        """Removes a grant."""
        (ended,) = (grant for grant in self.grants[key] if grant.name == name)
        self.grants[key].remove(ended)
        self._changed(ChangeKind.CHANGE_KIND_GRANT, ended.grantee, key_uid)

    def edited(self, account: str) -> AccountAccess:
        """An account's access, to change in place; `told` makes the change known."""
        return self._access(account)

    def told(self, account: str) -> None:
        """Tells the feed that an account has changed."""
        self._changed(ChangeKind.CHANGE_KIND_ACCOUNT, f"accounts/{account}")

    def account_access(self, account: str) -> tuple[AccountAccess | None, int]:
        return self.accounts.get(account), len(self.changes)

    def resource_policies(self, resource: str) -> tuple[Sequence[PolicyRecord], int]:
        return self.policies.get(resource, []), len(self.changes)

    def find_grants(
        self, key: str, principal: str, action: str, pairs: Mapping[str, str], limit: int
    ) -> tuple[Sequence[GrantRecord], int]:
        self.reads.append(action)
        everybody = (one for access in self.accounts.values() for one in access.principals)
        roles = next((one.roles for one in everybody if one.name == principal), ())
        held = [grant for grant in self.grants.get(key, []) if grant.grantee in (principal, *roles)]
        if action:
            held = [grant for grant in held if action in grant.operations and admits(grant.constraint, pairs)]
        lasting = [grant for grant in held if not grant.HasField("expire_time") or grant.expire_time.seconds > self.now]
        return lasting[:limit], len(self.changes)

    def resolve_identity(self, spiffe_id: str) -> tuple[str | None, int]:
        raise NotImplementedError

    def token_keys(self) -> tuple[Sequence[TokenKey], int]:
        raise NotImplementedError

    def list_changes(self, since: int, /, *, timeout: float) -> Changes:
        changes = self.changes[since:] if since >= 0 else []
        return Changes(len(self.changes), changes)

    def _access(self, account: str) -> AccountAccess:
        return self.accounts.setdefault(account, AccountAccess(account=account))

    def _changed(self, kind: ChangeKind.ValueType, resource: str, key_uid: bytes = b"") -> None:
        parts = resource.split("/")
        account = parts[1] if parts[0] == "accounts" else ""
        # What is changed in place must not be seen through what was read before.
        for name, access in self.accounts.items():
            copied = AccountAccess()
            copied.CopyFrom(access)
            self.accounts[name] = copied
        self.changes.append(
            Change(revision=len(self.changes) + 1, kind=kind, resource=resource, account=account, key_uid=key_uid)
        )
        self.feed.poll()


def call_of(principal: Principal | str, action: str = "crypto:Encrypt", **made: str) -> Call:
    """A call by a principal."""
    if isinstance(principal, str):
        principal = Principal(principal, principal.split("/")[1] if principal.startswith("accounts/") else "")
    service = f"strongroom.{action.split(':', maxsplit=1)[0]}.v1.Service"
    return Call(service, action.split(":")[1], action, principal=principal, **made)  # type: ignore[arg-type]
