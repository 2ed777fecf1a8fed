"""What a decision on another account's resource asks of keystore: as much of what there is as of what there is not.

What a worker has at hand is decided on sooner than what it has to ask for, and what does not exist it has never at
hand. A refusal that came sooner would tell that there is something. So whatever was at hand is asked for in vain before
a call is refused: once a call, as what is absent is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from secrets import token_hex
from typing import Any

from services.runtime.access import grants
from services.runtime.access.access_records import AccessRecords
from services.runtime.access.decisions import Account, Question
from services.runtime.call import Call
from services.runtime.changes import FreshCache

# What policies can be attached to.
WITH_POLICIES = ("Key", "Secret")
# What grants can be on, by either of its names; and what is decided on as a key where it is there.
_WITH_GRANTS = ("Key", "Alias")
_ONCE_THERE = (*WITH_POLICIES, "Alias", "Grant")
_UNKNOWN = object()


class Elsewhere:
    """Asks for accounts of others' resources, and in vain for what was not asked for."""

    def __init__(self, records: AccessRecords) -> None:
        self._records = records
        # Of which there is none, as nobody can guess.
        self._nowhere = f"nowhere-{token_hex(16)}"

    def account(
        self,
        call: Call,
        name: str,
        accounts: FreshCache[str, Account | None],
        read: Callable[[], tuple[Account | None, int]],
    ) -> Account | None:
        """The account of this name, if there is one: asked for once a call, whether or not there is."""
        at_hand = call.elsewhere.get(("account", name), _UNKNOWN)
        if at_hand is not _UNKNOWN:
            found: Account | None = at_hand
            return found
        found, asked = accounts.look(name, read)
        call.elsewhere["account", name] = found
        if asked:
            self.asked(call, "access", name)
        return found

    def asked(self, call: Call, what: str, name: str) -> None:
        """Notes what the call had to ask for."""
        call.elsewhere[what, name] = True

    def conceal_account(self, call: Call, name: str) -> None:
        """Takes as long as if the account of this name had been asked for."""
        self._once(call, ("access", name), lambda: self._records.account_access(self._nowhere))

    def conceal(self, call: Call, question: Question) -> None:
        """Takes as long as if everything that the refusal of a question rests on had been asked for."""
        if not is_elsewhere(question):
            return
        resource, principal = question.resource, question.principal.name
        self.conceal_account(call, resource.account)
        if resource.kind in _ONCE_THERE and resource.policies is None:
            secret = f"accounts/{self._nowhere}/secrets/nothing"
            self._once(call, ("policies", resource.name), lambda: self._records.resource_policies(secret))
        if resource.kind in _WITH_GRANTS and grants.is_grantable(question.action):
            key = f"accounts/{self._nowhere}/keys/nothing"
            self._once(
                call,
                ("grants", resource.name),
                lambda: self._records.find_grants(key, principal, "", {}, grants.FEW),
            )

    def _once(self, call: Call, what: tuple[Hashable, ...], ask: Callable[[], Any]) -> None:
        if what not in call.elsewhere:
            call.elsewhere[what] = True
            ask()


def is_elsewhere(question: Question) -> bool:
    """Whether the caller, of some account, asks about another one's resource."""
    return bool(question.principal.account) and question.resource.account != question.principal.account
