"""Rotators at work: with the credentials that they need, and with errors that hold none of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Engine

from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError
from services.runtime.sensitive import SensitiveBytes
from services.runtime.storage.database import reading
from services.secrets.core import store
from services.secrets.core.destinations import require_may_go
from services.secrets.core.model import CURRENT, SealedVersion, Secret
from services.secrets.core.states import SecretEvent, VersionEvent, next_state, no_secret, no_version
from services.secrets.kinds.known import is_outside, place_of
from services.secrets.rotation.rotators.reach import EVERY_ACCOUNT, NetworkRules, Reach, TargetRule
from services.secrets.rotation.rotators.rotator import Credential, RotationContext, Rotator
from services.secrets.rotation.targets.checks import TargetChecks, Waiters
from services.secrets.rotation.targets.redaction import redacted
from services.secrets.values.sealing import NewValue, Sealer
from services.secrets.values.shapes import check_login, check_texts
from strongroom.secrets.v1.secret_pb2 import SecretType

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """Which try of which rotation asks; none of one for a check or a repair."""

    rotation: str = ""
    attempt: int = 0
    fencing_token: int = 0
    until: float | None = None
    """When whoever asked waits no longer, by `time.monotonic`."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The values of a secret that a step may need, as far as there are such, and the target's master."""

    context: RotationContext
    pending: Credential | None
    current: Credential | None
    previous: Credential | None

    def all(self) -> Iterator[Credential]:
        """Those that there are."""
        for credential in (self.pending, self.current, self.previous, self.context.master):
            if credential is not None:
                yield credential


class TargetAccess:
    """Opens credentials and hands them to rotators. Values are read on the call's principal's behalf."""

    def __init__(
        self,
        engine: Engine,
        sealer: Sealer,
        rotators: Mapping[SecretType.ValueType, Rotator],
        waiters: Waiters | None = None,
        checks: TargetChecks | None = None,
        *,
        network: NetworkRules | None = None,
    ) -> None:
        """Without `checks` a call's own thread checks a target, for as long as that takes. `network`: where targets may
        be; None for anywhere."""
        self._engine = engine
        self._sealer = sealer
        self._rotators = rotators
        self._waiters = waiters or Waiters()
        self._checks = checks
        self._network = network or NetworkRules(rules=(TargetRule((EVERY_ACCOUNT,), ("0.0.0.0/0", "::/0")),))

    def rotator(self, kind: SecretType.ValueType) -> Rotator:
        """The rotator of a type of secret."""
        return self._rotators[kind]

    def credentials(
        self, call: Call, secret: Secret, step: Step, *, pending: int = 0, current: int = 0, previous: int = 0
    ) -> Credentials:
        """The values of these versions (0 for none), and the master's. Raises what crypto raises; a value that is
        destroyed counts as absent, a disabled one is still what the target accepts."""
        return Credentials(
            self.context(call, secret, step),
            self.of_version(call, secret, pending),
            self.of_version(call, secret, current),
            self.of_version(call, secret, previous),
        )

    def read(self, call: Call, found: SealedVersion) -> SensitiveBytes:
        """A version's value for the call's principal, as GetSecretValue reads it."""
        return self._sealer.open(call, found)

    def context(self, call: Call, secret: Secret, step: Step) -> RotationContext:
        """What every step is told. Raises SECRET_NOT_FOUND and the like for the master secret, what crypto raises,
        DESTINATION_NOT_ALLOWED."""
        place = place_of(secret)
        master = self._master_of(secret)
        sent = [owner for owner in (secret, master) if owner is not None]
        for owner in sent:
            require_may_go(owner, place)
        listed = tuple(owner.allowed_destinations for owner in sent if owner.allowed_destinations)
        reach = Reach(secret.name.account, self._network, listed)
        lent = self._lent(call, master) if master is not None else None
        return RotationContext(secret, step.rotation, step.attempt, step.fencing_token, lent, reach, step.until)

    def of_version(self, call: Call, secret: Secret, number: int) -> Credential | None:
        """The value of a version; None for 0 and where it is destroyed."""
        if not number:
            return None
        with reading(self._engine) as connection:
            found = store.sealed_version(connection, secret, number)
        if found is None or not found.sealed:
            return None
        value = self._sealer.open(call, found, VersionEvent.ROTATE)
        # Also one from before values were checked, or of a rotator's own making.
        check_texts(secret.type, value, str(found.version.name))
        return Credential(str(found.version.name), value, found.version.format)

    def check(self, call: Call, secret: Secret, value: NewValue | None) -> None:
        """Finds out whether a rotation of the secret could work, with `value` as its current one."""
        context = self.context(call, secret, Step())
        current = (
            Credential(str(secret.version_name(secret.latest_version)), value.value, value.format) if value else None
        )
        self._check(call, Credentials(context, None, current, None))

    def check_current(self, call: Call, secret: Secret) -> None:
        """Finds out whether a rotation of the secret could work, as it is now."""
        self._check(call, self.credentials(call, secret, Step(), current=secret.stages.get(CURRENT, 0)))

    @contextmanager
    def asked_by(self, call: Call, secret: Secret) -> Iterator[float | None]:
        """Until when a call's thread may wait for the secret's target; None where it has none that may be slow. Raises
        OVERLOADED where too many of the account's calls wait for targets already."""
        if not is_outside(secret.type):
            yield None
            return
        with self._waiters.until(call, secret.name.account) as until:
            yield until

    def _check(self, call: Call, known: Credentials) -> None:
        context, current = known.context, known.current

        def run() -> None:
            with without_credentials(known):
                self.rotator(context.secret.type).check(context, current)

        if self._checks is None or not is_outside(context.secret.type):
            run()
        else:
            self._checks.check(call, context, current, run)

    def _master_of(self, secret: Secret) -> Secret | None:
        name = secret.master
        if name is None:
            return None
        with reading(self._engine) as connection:
            master = store.secret(connection, name)
        if master is None:
            raise no_secret(name)
        next_state(master, SecretEvent.READ)
        return master

    def _lent(self, call: Call, master: Secret) -> Credential:
        found = self.of_version(call, master, master.stages.get(CURRENT, 0))
        if found is None:
            raise no_version(master.name)
        try:
            check_login(found.value, str(master.name))
        except StrongroomError as error:
            raise StrongroomError(Reason.MASTER_LOGIN_REFUSED, error.message, incurable="true") from None
        return found


@contextmanager
def without_credentials(known: Credentials) -> Iterator[None]:
    """Takes every known credential out of the errors of the block; what is unexpected becomes ROTATOR_FAILED."""
    try:
        yield
    except StrongroomError as error:
        raise error.saying(redacted(error.message, [credential.value for credential in known.all()])) from None
    except Exception as error:  # noqa: BLE001  # a library's, or a fault of a rotator's
        # Neither its message nor its traceback goes any further: both may hold anything.
        log.error("a rotator failed unexpectedly", extra={"fields": {"error": type(error).__name__}})  # noqa: TRY400
        raise StrongroomError(Reason.ROTATOR_FAILED, f"the rotator failed with {type(error).__name__}") from None
