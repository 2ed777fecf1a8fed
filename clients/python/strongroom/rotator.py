"""For who implements a RotatorService: who calls, and for which account's secret.

The secrets service rotates for every account of the mesh. A rotator that looks at its certificate alone can be driven
by any of them: another account names it as a target, and has it set a password that this account then reads. So every
method begins with `verify`, which needs `pip install strongroom[rotator]`:

    def SetCredential(self, request, context):
        verify(context, request.context, service_id=SECRETS, audience="rotator.example:7443", accounts=["payments"])
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import grpc
from cryptography import x509

if TYPE_CHECKING:
    from strongroom.secrets.v1.rotator_service_pb2 import RotationContext

METADATA = "strongroom-rotation-token"
_TYPE = "strongroom-rotation+jwt"
_ALGORITHMS = ["EdDSA", "ES256", "ES384", "PS256"]
_LEEWAY_SECONDS = 5
_URI_NAMES = "x509_subject_alternative_name"
_REQUIRED = ["iss", "aud", "sub", "account", "step", "iat", "exp", "jti"]


@dataclass(frozen=True, slots=True)
class RotationCall:
    """A call that was verified."""

    account: str
    secret: str
    step: str
    """The method, such as `SetCredential`."""


class ServerContext(Protocol):
    """What is asked of gRPC's `ServicerContext`."""

    def auth_context(self) -> Any:
        """What TLS found out of the caller."""

    def invocation_metadata(self) -> Any:
        """What came with the call."""

    def abort(self, code: Any, details: str) -> Any:
        """Ends the call."""


def verify(
    context: ServerContext,
    told: RotationContext,
    *,
    service_id: str,
    audience: str,
    accounts: Collection[str],
    step: str = "",
) -> RotationCall:
    """The call, once it is the secrets service's for a secret of one of `accounts`; else it is ended with
    PERMISSION_DENIED or UNAUTHENTICATED.

    `service_id` is the service's SPIFFE id, `spiffe://{trust domain}/service/secrets`; `audience` this rotator's
    address as targets name it, `host:port`; `step`, where given, the method that was called. The server must want a
    client certificate of the mesh's trust.
    """
    import jwt

    peer = context.auth_context()
    if [value.decode() for value in peer.get(_URI_NAMES, ())].count(service_id) == 0:
        raise _ended(context, grpc.StatusCode.PERMISSION_DENIED, "the caller is not the secrets service")
    certificate = x509.load_pem_x509_certificate(peer["x509_pem_cert"][0])
    tokens = _values(context.invocation_metadata())
    if len(tokens) != 1:
        raise _ended(context, grpc.StatusCode.UNAUTHENTICATED, f"{METADATA} is missing")
    try:
        claims = jwt.decode(
            tokens[0],
            certificate.public_key(),  # type: ignore[arg-type]  # of a kind that signs tokens, or it is refused
            algorithms=_ALGORITHMS,
            audience=audience,
            issuer=service_id,
            leeway=_LEEWAY_SECONDS,
            options={"require": _REQUIRED, "strict_aud": True},
        )
        kind = jwt.get_unverified_header(tokens[0]).get("typ")
    except (jwt.PyJWTError, TypeError, ValueError):
        raise _ended(context, grpc.StatusCode.UNAUTHENTICATED, f"{METADATA} is not valid here") from None
    call = RotationCall(str(claims["account"]), str(claims["sub"]), str(claims["step"]))
    of_secret = call.secret == told.secret and call.secret.startswith(f"accounts/{call.account}/secrets/")
    if kind != _TYPE or not of_secret or (step and call.step != step):
        raise _ended(context, grpc.StatusCode.UNAUTHENTICATED, f"{METADATA} is of another call")
    if call.account not in accounts:
        raise _ended(context, grpc.StatusCode.PERMISSION_DENIED, "secrets of this account are not rotated here")
    return call


def _values(metadata: Iterable[tuple[str, str | bytes]]) -> list[str]:
    return [value for key, value in metadata if key == METADATA and isinstance(value, str)]


def _ended(context: ServerContext, code: grpc.StatusCode, why: str) -> Exception:
    # It raises by itself; what a stand-in does not is raised here.
    context.abort(code, why)
    return PermissionError(why)
