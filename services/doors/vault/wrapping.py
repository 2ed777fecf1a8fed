"""Response wrapping: an answer that whoever holds its token is given once, and the door forgets meanwhile.

The answer is kept in secrets, in the caller's account, under a key that is in the token alone. The token carries a
session of the caller's, too, which stays within that one secret and ends with the time to live: what it opens is gone
once it was opened, and it opens nothing else.
"""

from __future__ import annotations

import binascii
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.duration_pb2 import Duration

from services.doors.listening.exchange import WITHOUT_BODY, Head, HttpError, Response
from services.doors.mesh.calls import Mesh
from services.doors.mesh.sessions import Caller, Session, Sessions
from services.doors.vault import answers, errors
from services.doors.vault.answers import Raw, is_object
from services.doors.vault.callers import token_of
from services.doors.vault.requests import Operation, Request, seconds_of, text_in
from services.runtime.clock import Clock, microseconds
from services.runtime.errors import StrongroomError
from strongroom.access.v1.session_service_pb2 import NarrowSessionRequest
from strongroom.secrets.v1 import secret_service_pb2 as pb
from strongroom.secrets.v1.secret_pb2 import Secret, SecretState, ValueFormat

FOLDER = "wrapping"
"""Where an account's wrapped answers are among its secrets."""

_HEADER = "x-vault-wrap-ttl"
_LONGEST_SECONDS = 12 * 3600
_KEY_BYTES, _NONCE_BYTES, _TAG_BYTES, _STATUS_BYTES = 32, 12, 16, 3
_MAX_BYTES = 65_536 - _NONCE_BYTES - _TAG_BYTES - _STATUS_BYTES
_MAX_PATH = 512
_TOKEN = re.compile(r"wrap\.([0-9]{10}-[0-9a-f]{32})\.([A-Za-z0-9_-]{43})\.([A-Za-z0-9_.-]{1,7000})")
_STATUS = re.compile(rb"[2-5][0-9]{2}")
_TTL = re.compile(r"[0-9]{1,6}")
_SECOND_US = 1_000_000
# A session that was begun so shortly before is not begun again to last longer.
_ABOUT_NEW_SECONDS = 30
_NOBODY = Session("", "", "", 0)
# Each wrapped answer looks for so many that nobody has opened: they are never more than those that can be opened still.
_SWEPT = 2
_LOOKED_AT = 20
_ENDS = re.compile(rf"/{FOLDER}/([0-9]{{10}})-[0-9a-f]{{32}}$")


@dataclass(frozen=True, slots=True)
class _Kept:
    """A wrapped answer: where it is, what opens it, and who may."""

    caller: Caller
    name: str
    key: bytes = field(repr=False)


class Wrapping:
    """Wraps answers, and answers `sys/wrapping/`."""

    def __init__(self, mesh: Mesh, sessions: Sessions, clock: Clock) -> None:
        self._mesh = mesh
        self._sessions = sessions
        self._clock = clock

    def asked(self, head: Head) -> int:
        """For how many seconds an answer is to be kept; 0 where it is not to be wrapped. Raises HttpError."""
        return seconds_of(head.headers.get(_HEADER, "") or 0)

    def is_token(self, token: str) -> bool:
        """Whether a token has the form of those that wrap an answer, and so stands for nobody."""
        return _TOKEN.fullmatch(token) is not None

    def wrap(self, caller: Caller, head: Head, answer: Response, seconds: int) -> Response:
        """What is answered in place of an answer. Raises HttpError, StrongroomError: then nobody is given it."""
        if not answer.body:
            return answer
        if len(answer.body) > _MAX_BYTES:
            raise errors.unsupported(f"wrapping an answer of more than {_MAX_BYTES} bytes")
        # No name of another account's: the caller's own is where its answers are.
        caller = replace(caller, session=replace(caller.session, account=caller.session.principal.split("/")[1]))
        seconds = min(seconds, _LONGEST_SECONDS)
        if self._left(caller) < min(seconds, self._sessions.seconds - _ABOUT_NEW_SECONDS):
            caller.renew()
        wrap_id = f"{self._clock.now_us() // _SECOND_US + seconds:010d}-{secrets.token_hex(16)}"
        name = f"accounts/{caller.account}/secrets/{FOLDER}/{wrap_id}"
        within = NarrowSessionRequest(session_policy=_policy(name), duration=Duration(seconds=seconds))
        opening = self._mesh.ask(caller, "NarrowSession", within)
        key, path = secrets.token_bytes(_KEY_BYTES), "/".join(head.path[1:])[:_MAX_PATH]
        ttl = max(0, (microseconds(opening.expire_time) - self._clock.now_us()) // _SECOND_US)
        request = pb.CreateSecretRequest(
            parent=f"accounts/{caller.account}",
            secret_id=f"{FOLDER}/{wrap_id}",
            secret=Secret(description=f"{ttl} {path}"),
            value=_sealed(key, name, f"{answer.status:03d}".encode() + answer.body),
            format=ValueFormat.VALUE_FORMAT_BINARY,
        )
        made: Secret = self._mesh.ask(caller, "CreateSecret", request)
        self._sweep(caller)
        token = f"wrap.{wrap_id}.{urlsafe_b64encode(key).decode().rstrip('=')}.{opening.token}"
        return answers.wrapped(token, wrap_id, ttl, answers.moment(made.create_time), path)

    def answer(
        self, head: Head, path: tuple[str, ...], operation: Operation, body: bytes, own: Caller | None
    ) -> Response:
        """What is below `sys/wrapping/`; `own` is the caller by a token of the mesh, where it has one. Raises
        HttpError, StrongroomError."""
        known = {"wrap": self._wrap, "unwrap": self._unwrap, "lookup": self._lookup, "rewrap": self._rewrap}
        found = known.get(path[0]) if len(path) == 1 else None
        if found is None:
            raise errors.not_found()
        if operation is not Operation.WRITE and (path, operation) != (("lookup",), Operation.READ):
            raise errors.no_operation()
        if path != ("wrap",) and self.asked(head):
            raise errors.unsupported("wrapping what sys/wrapping answers")
        request = Request(own or Caller(_NOBODY, head.address), operation, path, head, body)
        return found(request)

    def _wrap(self, request: Request) -> Response:
        seconds = self.asked(request.head)
        if not seconds:
            raise errors.invalid("endpoint requires response wrapping to be used")
        _require_own(request.caller)
        request.parameters  # noqa: B018  # says what is wrong with it
        given = request.body.decode().strip(" \t\r\n") or "{}"
        return self.wrap(request.caller, request.head, answers.bare_data(Raw(given)), seconds)

    def _unwrap(self, request: Request) -> Response:
        return self._taken(self._kept(request))

    def _lookup(self, request: Request) -> Response:
        seconds, path, created = self._told(self._kept(request))
        return answers.data({"creation_path": path, "creation_time": created, "creation_ttl": seconds})

    def _rewrap(self, request: Request) -> Response:
        """Keeps an answer under another token; the one before is worth nothing then."""
        _require_own(request.caller)
        kept = self._kept(request)
        seconds, path, _ = self._told(kept)
        head = replace(request.head, path=("v1", *path.split("/")))
        again = self.wrap(request.caller, head, self._opened(kept), seconds)
        # Whoever opens it meanwhile is the one who has it: then nobody is given the other token.
        self._consume(kept)
        return again

    def _told(self, kept: _Kept) -> tuple[int, str, str]:
        """For how many seconds an answer was wrapped, to what, and when."""
        secret: Secret = self._asked(kept, "GetSecret", pb.GetSecretRequest(name=kept.name))
        if secret.state != SecretState.SECRET_STATE_ENABLED:
            raise _not_valid()
        ttl, _, path = secret.description.partition(" ")
        seconds = int(ttl) if _TTL.fullmatch(ttl) else 1
        return min(max(seconds, 1), _LONGEST_SECONDS), path[:_MAX_PATH], answers.moment(secret.create_time)

    def _kept(self, request: Request) -> _Kept:
        """What a token wraps: that in the body, or the one that the request comes by."""
        token = text_in(request.parameters, "token") or token_of(request.head)
        found = _TOKEN.fullmatch(token)
        if found is None:
            raise _not_valid()
        try:
            caller = self._sessions.of_token(found[3], request.head.address)
        except StrongroomError as error:
            _raise(error)
        name = f"accounts/{caller.account}/secrets/{FOLDER}/{found[1]}"
        try:
            key = urlsafe_b64decode(f"{found[2]}=")
        except binascii.Error:
            raise _not_valid() from None
        return _Kept(caller, name, key)

    def _taken(self, kept: _Kept) -> Response:
        """A wrapped answer, for the first who asks."""
        answer = self._opened(kept)
        self._consume(kept)
        return answer

    def _opened(self, kept: _Kept) -> Response:
        value = self._asked(kept, "GetSecretValue", pb.GetSecretValueRequest(name=kept.name)).value
        try:
            opened = AESGCM(kept.key).decrypt(value[:_NONCE_BYTES], value[_NONCE_BYTES:], kept.name.encode())
        except (InvalidTag, ValueError):
            raise _not_valid() from None
        return _answered(opened)

    def _consume(self, kept: _Kept) -> None:
        """Destroys what is kept; of several who do at once, all but one are refused."""
        self._asked(kept, "DeleteSecret", pb.DeleteSecretRequest(name=kept.name, force=True))
        self._sessions.forget(kept.caller.session.token)

    def _asked(self, kept: _Kept, method: str, request: Any) -> Any:
        try:
            return self._mesh.ask(kept.caller, method, request)
        except StrongroomError as error:
            _raise(error)

    def _left(self, caller: Caller) -> int:
        return (caller.session.expires_us - self._clock.now_us()) // _SECOND_US

    def _sweep(self, caller: Caller) -> None:
        """Destroys some of the account's wrapped answers that nobody has opened in their time, as far as the caller
        may."""
        request = pb.ListSecretsRequest(
            parent=f"accounts/{caller.account}", page_size=_LOOKED_AT, filter=f'id_prefix = "{FOLDER}/"'
        )
        with suppress(StrongroomError):
            # By name, and so by the time at which they end; what somebody else has put there is passed over.
            found = self._mesh.ask(caller, "ListSecrets", request).secrets
            for secret in [each for each in found if self._is_over(each)][:_SWEPT]:
                self._mesh.ask(caller, "DeleteSecret", pb.DeleteSecretRequest(name=secret.name, force=True))

    def _is_over(self, secret: Secret) -> bool:
        ends = _ENDS.search(secret.name)
        over = ends is not None and int(ends[1]) < self._clock.now_us() // _SECOND_US
        return over and secret.state == SecretState.SECRET_STATE_ENABLED


def _policy(name: str) -> str:
    """What whoever unwraps may: with one secret, and with its key for that secret."""
    actions = ", ".join(
        f'Strongroom::Action::"secrets:{method}"' for method in ("GetSecret", "GetSecretValue", "ForceDeleteSecret")
    )
    return (
        f'permit (principal, action in [{actions}], resource == Strongroom::Secret::"{name}");\n'
        'permit (principal, action == Strongroom::Action::"crypto:Decrypt", resource) when {'
        f' context.encryption_context.contains({{key: "strongroom:secret", value: "{name}"}}) }};'
    )


def _sealed(key: bytes, name: str, answer: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, answer, name.encode())


def _answered(opened: bytes) -> Response:
    """The answer that was wrapped. Whoever may make secrets in an account and a token of its own can have written what
    is opened: it is one that a door gives, or none."""
    status, body = opened[:_STATUS_BYTES], opened[_STATUS_BYTES:]
    try:
        whole = is_object(body.decode())
    except UnicodeDecodeError:
        whole = False
    if not whole or not _STATUS.fullmatch(status) or int(status) in WITHOUT_BODY:
        raise _not_valid()
    return Response(int(status), body)


def _require_own(caller: Caller) -> None:
    if caller.session is _NOBODY:
        raise HttpError(403, errors.PERMISSION_DENIED)


def _raise(error: StrongroomError) -> NoReturn:
    """Tells of a wrapping token that opens nothing, whatever the reason, in one way; of a mesh that is away in its
    own."""
    if errors.of_the_mesh(error).status in (429, 500, 503):
        raise error
    raise _not_valid() from None


def _not_valid() -> HttpError:
    return errors.invalid("wrapping token is not valid or does not exist")
