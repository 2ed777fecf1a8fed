"""What principals are known by: SPIFFE ids and OIDC subjects, each of which stands for one principal.

Which SPIFFE ids an account's principals may be known by is for the mesh's administrators to say: they give accounts
ids, or prefixes of them, since the first account to bind another's workload would else be who that workload acts as.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from sqlalchemy import Connection

from services.keystore.access.editing import kinds
from services.keystore.access.editing.editing import already_exists, update
from services.keystore.access.records import given_ids, principal_store, store
from services.keystore.access.records.resources import Account, OidcBinding, account_of
from services.runtime.errors import Reason, StrongroomError, invalid, too_large

MAX_IDENTITIES = 16
_MAX_PREFIXES = 64
_MAX_SPIFFE_ID = 2048
_PATH = re.compile(r"(/[A-Za-z0-9._-]+)+")
_SERVICES = "/service/"


class SpiffeIds:
    """Reads SPIFFE ids of one trust domain (the SPIFFE-ID specification, section 2)."""

    def __init__(self, trust_domain: str) -> None:
        self._prefix = f"spiffe://{trust_domain}"

    def checked(self, asked: Collection[str], field: str) -> tuple[str, ...]:
        """The ids, sorted. Raises FIELD_TOO_LARGE beyond 16; FIELD_INVALID for what is no SPIFFE id of the trust
        domain, for one that comes twice, and for those of the mesh's own services."""
        _require_few(asked, MAX_IDENTITIES, field)
        for spiffe_id in asked:
            self._require_path(spiffe_id, spiffe_id, field)
        return tuple(sorted(asked))

    def checked_prefixes(self, asked: Collection[str], field: str) -> tuple[str, ...]:
        """SPIFFE ids, or with `/` at the end all below, sorted. Raises FIELD_TOO_LARGE beyond 64; FIELD_INVALID for
        what `checked` would not take, as it is or with a name behind it."""
        _require_few(asked, _MAX_PREFIXES, field)
        for prefix in asked:
            self._require_path(prefix, f"{prefix}x" if prefix.endswith("/") else prefix, field)
        return tuple(sorted(asked))

    def _require_path(self, asked: str, spiffe_id: str, field: str) -> None:
        path = spiffe_id.removeprefix(self._prefix)
        if path == spiffe_id or not _PATH.fullmatch(path) or len(asked) > _MAX_SPIFFE_ID:
            raise invalid(field, f"holds what is not of the form {self._prefix}/…")
        if path.startswith(_SERVICES):
            raise invalid(field, "holds the SPIFFE id of a service of the mesh")


def require_free_spiffe_ids(
    connection: Connection, principal: str, spiffe_ids: Iterable[str], field: str, *, everywhere: bool = False
) -> None:
    """Raises ALREADY_EXISTS for a SPIFFE id that is bound to another principal of the account; with `everywhere`, which
    is for the mesh's administrators, of whatever account."""
    account = account_of(principal)
    for spiffe_id in spiffe_ids:
        owners = [principal_store.identity_owner_within(connection, account, spiffe_id)]
        if everywhere:
            owners.append(principal_store.identity_owner(connection, spiffe_id))
        if any(owner not in (None, principal) for owner in owners):
            raise already_exists(f"a principal that {spiffe_id} stands for", field)
        if everywhere and given_ids.holder(connection, spiffe_id) not in (None, account):
            raise already_exists(f"an account that {spiffe_id} was given to", field)


def require_given(connection: Connection, account: str, spiffe_ids: Iterable[str], field: str) -> None:
    """Raises SPIFFE_ID_NOT_GIVEN for a SPIFFE id that the mesh's administrators did not give to the account."""
    for spiffe_id in spiffe_ids:
        if given_ids.holder(connection, spiffe_id) != account:
            raise StrongroomError(
                Reason.SPIFFE_ID_NOT_GIVEN,
                f"accounts/{account} was not given {spiffe_id}: an administrator of the mesh gives it, or a prefix of"
                " it, to the account",
                field=field,
            )


def require_free_prefixes(connection: Connection, account: str, prefixes: Iterable[str], field: str) -> None:
    """Raises ALREADY_EXISTS for what another account was given; for the mesh's administrators, who may know."""
    for prefix in prefixes:
        if given_ids.owner(connection, prefix) not in (None, account):
            raise already_exists(f"an account that {prefix} was given to", field)


def settle(connection: Connection, given_to: Account, operator: str, field: str, now_us: int) -> None:
    """Makes SPIFFE ids that an account was given stand for its own principals that they are bound to, and for no other
    account's. Raises ALREADY_EXISTS where one stands for an administrator of the mesh, in the account `operator`."""
    account = account_of(given_to.name)
    bound = {name for prefix in given_to.spiffe_id_prefixes for name in principal_store.bound_below(connection, prefix)}
    # An id is taken from those who have it before it is anybody else's.
    for name in sorted(bound, key=lambda name: (account_of(name) == account, name)):
        store.lock_account(connection, account_of(name))
        principal = kinds.PRINCIPAL.require(connection, name)
        lost = [
            spiffe_id
            for spiffe_id in principal.spiffe_ids
            if principal_store.identity_owner(connection, spiffe_id) == name
            and given_ids.holder(connection, spiffe_id) not in (None, account_of(name))
        ]
        if lost and account_of(name) == operator:
            raise already_exists(f"a principal of accounts/{operator} that {lost[0]} stands for", field)
        update(connection, kinds.PRINCIPAL, principal.ending_sessions(now_us) if lost else principal, now_us)


def require_free_subjects(connection: Connection, principal: str, bindings: Iterable[OidcBinding], field: str) -> None:
    """Raises ALREADY_EXISTS for an OIDC subject that stands for another principal."""
    for binding in bindings:
        owner = principal_store.subject_owner(connection, binding.provider, binding.subject)
        if owner not in (None, principal):
            raise already_exists(f"a principal that {binding.subject} of {binding.provider} stands for", field)


def _require_few(asked: Collection[str], limit: int, field: str) -> None:
    if len(asked) > limit:
        raise too_large(field, limit, "entries")
    if len(set(asked)) != len(asked):
        raise invalid(field, "names the same SPIFFE id twice")
