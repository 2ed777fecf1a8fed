"""Whether a caller may bring values and a destination together: only who can read those values.

This is the one place that asks. What it answers goes along with the change to `editing.write`, which refuses a change
that makes any other pair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.runtime import clock
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.secrets.core import store
from services.secrets.core.destinations import require_may_go
from services.secrets.core.editing import SecretEditor
from services.secrets.core.model import CURRENT, Secret
from services.secrets.core.pairs import NONE, Pair, Permitted, destination, new_pairs
from services.secrets.core.states import VersionEvent, next_version_state, no_version
from services.secrets.kinds.known import place_of
from services.secrets.rotation.targets.access import TargetAccess
from services.secrets.values.data_keys import encryption_context
from strongroom.audit.v1.event_pb2 import Event
from strongroom.secrets.v1.secret_pb2 import TargetBinding

_MAX_AUTHORITY = 1024
# What is told to those alone who may read it.
_UNUSABLE = (
    Reason.DESTINATION_NOT_ALLOWED,
    Reason.SECRET_NOT_FOUND,
    Reason.SECRET_PENDING_DELETION,
    Reason.SECRET_VERSION_DESTROYED,
    Reason.SECRET_VERSION_DISABLED,
    Reason.SECRET_VERSION_NOT_FOUND,
)


@dataclass(frozen=True, slots=True)
class Bound:
    """Pairs that a caller may make, and what is recorded of that."""

    permitted: Permitted
    record: TargetBinding | None
    """None where the destination is what it was."""


class PairPermissions:
    """Asks whether callers may read what a change would have the service send somewhere."""

    def __init__(self, editor: SecretEditor, access: TargetAccess) -> None:
        self._editor = editor
        self._access = access

    def permit(self, call: Call, wanted: Secret, before: Secret | None = None) -> Bound:
        """The new pairs, once the caller has been found able to read each credential in them exactly as by
        GetSecretValue, crypto asked on its behalf; a new secret's own value is the caller's already.

        Raises PERMISSION_DENIED, SECRET_NOT_FOUND, SECRET_PENDING_DELETION, SECRET_VERSION_DISABLED, what crypto
        raises, DESTINATION_NOT_ALLOWED.
        """
        already = len(call.events)
        moves = destination(wanted) != (destination(before) if before is not None else b"")
        if moves:
            self._permit_destination(call, wanted, before)
        elif before is not None and before.key != wanted.key:
            # Also where there is no value yet.
            self._editor.permit(call, "secrets:GetSecretValue", before.name, before)
        permitted: dict[Pair, int] = {}
        for pair in sorted(self._made(before, wanted), key=lambda pair: str(pair.credential)):
            if pair.credential == wanted.master:
                permitted[pair] = self._read_master(call, pair.credential, wanted)
            elif before is not None:
                self._read(call, before, pair.credential.version)
                permitted[pair] = 0
        if not moves:
            return Bound(permitted or NONE, None)
        authority = _authority(call.events[already:])
        now = clock.from_microseconds(call.time_us)
        return Bound(permitted, TargetBinding(principal=call.principal.name, authority=authority, time=now))

    def permit_choice(self, call: Call, secret: Secret) -> None:
        """Whether the caller may choose a value that the service sets at the secret's target: rotation, a repair or a
        rotation that is taken back log in there with the master's or the secret's own authority, so it is for who can
        read those. What the service cannot use itself needs no permission. Raises as `permit`."""
        if not destination(secret):
            return
        current = secret.stages.get(CURRENT, 0)
        if secret.master is not None:
            master = secret.master
            _unless_unusable(lambda: self._read_master(call, master, secret))
        if current:
            _unless_unusable(lambda: self._read(call, secret, current))

    def _made(self, before: Secret | None, wanted: Secret) -> frozenset[Pair]:
        lent = before is not None and before.stages != wanted.stages and self._editor.is_master(before)
        return new_pairs(before, wanted, lent=lent)

    def _permit_destination(self, call: Call, wanted: Secret, before: Secret | None) -> None:
        if before is not None:
            # Also where there is no value yet: rotation makes one, and sends it there.
            self._editor.permit(call, "secrets:GetSecretValue", before.name, before)
        if wanted.principal and (before is None or wanted.principal != before.principal):
            self._editor.permit_client_keys(call, wanted.principal)
        require_may_go(wanted, place_of(wanted))

    def _read_master(self, call: Call, name: ResourceName, wanted: Secret) -> int:
        def present() -> Secret | None:
            with self._editor.reading() as connection:
                return store.secret(connection, name)

        # Whoever may not read it learns nothing of it, not even that there is none.
        found = self._editor.found(call, "secrets:GetSecretValue", name, present)
        _, master = self._editor.permit(call, "secrets:GetSecretValue", name, found)
        number = master.stages.get(CURRENT, 0)
        if not number:
            raise no_version(name)
        self._read(call, master, number, permitted=call.events[-1])
        require_may_go(master, place_of(wanted))
        return number

    def _read(self, call: Call, secret: Secret, number: int, permitted: Event | None = None) -> None:
        """Reads a version as the caller, and forgets it."""
        event = self._editor.permit_reading(call, secret, number, permitted)
        with self._editor.reading() as connection:
            sealed = store.sealed_version(connection, secret, number)
        if sealed is None or not sealed.sealed:
            # There is nothing left of it that could be sent.
            return
        next_version_state(sealed.version, VersionEvent.READ)
        event.secret_version = str(sealed.version.name)
        event.encryption_context.update(encryption_context(sealed.version.name))
        self._access.read(call, sealed)


def _unless_unusable(read: Callable[[], object]) -> None:
    try:
        read()
    except StrongroomError as error:
        if error.reason not in _UNUSABLE:
            raise


def _authority(events: Sequence[Event]) -> str:
    """What permitted them, each policy or grant once."""
    return ", ".join(dict.fromkeys(event.decided_by for event in events if event.decided_by))[:_MAX_AUTHORITY]
