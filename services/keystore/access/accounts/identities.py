"""What principals are known by: SPIFFE ids and OIDC subjects, each of which stands for one principal."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from sqlalchemy import Connection

from services.keystore.access.editing.editing import already_exists
from services.keystore.access.records import principal_store
from services.keystore.access.records.resources import OidcBinding, account_of
from services.runtime.errors import invalid, too_large

MAX_IDENTITIES = 16
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
        if len(asked) > MAX_IDENTITIES:
            raise too_large(field, MAX_IDENTITIES, "entries")
        if len(set(asked)) != len(asked):
            raise invalid(field, "names the same SPIFFE id twice")
        for spiffe_id in asked:
            path = spiffe_id.removeprefix(self._prefix)
            if path == spiffe_id or not _PATH.fullmatch(path) or len(spiffe_id) > _MAX_SPIFFE_ID:
                raise invalid(field, f"holds what is not of the form {self._prefix}/…")
            if path.startswith(_SERVICES):
                raise invalid(field, "holds the SPIFFE id of a service of the mesh")
        return tuple(sorted(asked))


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


def require_free_subjects(connection: Connection, principal: str, bindings: Iterable[OidcBinding], field: str) -> None:
    """Raises ALREADY_EXISTS for an OIDC subject that stands for another principal."""
    for binding in bindings:
        owner = principal_store.subject_owner(connection, binding.provider, binding.subject)
        if owner not in (None, principal):
            raise already_exists(f"a principal that {binding.subject} of {binding.provider} stands for", field)
