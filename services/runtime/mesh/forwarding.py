"""Calls that a service makes for its own caller: who that is, said so that the service called can tell by itself.

A session goes on as its token, which the service called verifies as on its public listener: what narrows the session
narrows it there too, and a service that forwards cannot leave that out. A certificate cannot be handed on, so its
principal goes on by name, which only the services in `may_forward` may say.

A door acts for callers from outside the mesh. It passes on sessions alone (`may_pass_on`), so that it has no authority
but what its callers bring; a certificate, which it has seen TLS verify, it may only exchange for a session, and only
where `may_present_certificates` lists it.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.runtime.call import Call

AUTHORIZATION = "authorization"
ON_BEHALF_OF = "strongroom-on-behalf-of"
BEARER = "Bearer "
SOURCE_ADDRESS = "strongroom-source-address"
CERTIFICATE_ID = "strongroom-certificate-id"
CERTIFICATE_EXPIRES = "strongroom-certificate-expires"

Metadata = Sequence[tuple[str, str | bytes]]


def on_behalf_of(call: Call) -> tuple[tuple[str, str], ...]:
    """The metadata of a call to another service of the mesh that is made for the caller of `call`."""
    who = (AUTHORIZATION, BEARER + call.session_token) if call.session_token else (ON_BEHALF_OF, call.principal.name)
    return (who, (SOURCE_ADDRESS, call.source_address))


def passed_certificate(spiffe_id: str, expires_us: int) -> tuple[tuple[str, str], ...]:
    """The metadata by which a door presents the certificate of its own caller: whom it is for, and when it ends, in
    microseconds since the Unix epoch."""
    return ((CERTIFICATE_ID, spiffe_id), (CERTIFICATE_EXPIRES, str(expires_us)))
