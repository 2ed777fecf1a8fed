"""How much of a service's status somebody is told."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from services.runtime.access import identity
from services.runtime.access.authorization import Authorizer
from services.runtime.access.identity import Identities
from services.runtime.call import Principal
from services.runtime.config import InternalListener
from services.runtime.errors import StrongroomError
from services.runtime.mesh.forwarding import AUTHORIZATION, BEARER
from services.runtime.rpc.status import View

ViewOf = Callable[[grpc.ServicerContext], View]


def only_whether_it_serves(_context: grpc.ServicerContext) -> View:
    """For a server that tells no callers apart."""
    return View.SERVES


class StatusViews:
    """Principals of one account, the mesh's own, and services of the mesh see everything; whoever else has a credential
    that holds sees which components work, which refusals tell as well; a stranger sees whether the service serves.

    What hangs must not hide why: where a credential cannot be looked up, what was last known of it decides, and a
    certificate of the mesh's authority shows the components.
    """

    def __init__(
        self,
        identities: Identities,
        require_standing: Callable[[Principal], None],
        internal: InternalListener,
        account: str,
    ) -> None:
        self._identities = identities
        self._require_standing = require_standing
        self._services = frozenset(internal.may_forward).union(internal.may_pass_on, *internal.allow.values())
        self._account = account

    @classmethod
    def by(
        cls, identities: Identities, authorizer: Authorizer, internal: InternalListener, account: str
    ) -> StatusViews:
        """The views of a service, made of its parts. Principals of `account` see everything."""
        return cls(identities, authorizer.require_standing, internal, account)

    def __call__(self, context: grpc.ServicerContext) -> View:
        """How much this caller may see."""
        authorization = identity.header(context.invocation_metadata(), AUTHORIZATION)
        if authorization:
            return self._of_token(authorization.removeprefix(BEARER))
        spiffe_id = identity.spiffe_id_of(context)
        if spiffe_id in self._services:
            return View.WHOLE
        return self._of_certificate(spiffe_id) if spiffe_id else View.SERVES

    def _of_token(self, token: str) -> View:
        try:
            return self._of(self._identities.from_token(token))
        except StrongroomError as error:
            known = self._identities.last_known(token) if error.is_unavailable else None
            return self._of(known) if known is not None else View.SERVES

    def _of_certificate(self, spiffe_id: str) -> View:
        try:
            return self._of(self._identities.from_certificate(spiffe_id))
        except StrongroomError as error:
            if not error.is_unavailable:
                return View.SERVES
            known = self._identities.remembered_certificate(spiffe_id)
            return self._of(known) if known is not None else View.COMPONENTS

    def _of(self, principal: Principal) -> View:
        try:
            self._require_standing(principal)
        except StrongroomError as error:
            if not error.is_unavailable:
                return View.SERVES
        return View.WHOLE if principal.account == self._account else View.COMPONENTS
