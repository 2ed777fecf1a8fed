"""How a secret comes to be: with a first value, with one that its rotator makes, or without any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from services.runtime.access.authorization import Authorizer, account_resource
from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError, required
from services.runtime.requests.names import ResourceName
from services.runtime.storage.database import reading, transaction
from services.runtime.storage.outbox import Outbox
from services.runtime.storage.request_ids import Repeatable
from services.secrets.core import store
from services.secrets.core.editing import REQUEST_IDS, SecretEditor
from services.secrets.core.model import CURRENT, Secret
from services.secrets.core.pairs import own_pair, require_permitted
from services.secrets.core.states import no_secret
from services.secrets.kinds.known import declaration_of
from services.secrets.life.binding import Bound, PairPermissions
from services.secrets.rotation import transitions
from services.secrets.rotation.policy import next_due_us, require_outlives
from services.secrets.rotation.requests import Hasten
from services.secrets.rotation.targets.access import TargetAccess
from services.secrets.values.json_fields import json_object
from services.secrets.values.sealing import NewValue, Sealer
from services.secrets.values.shapes import check_shape
from services.secrets.values.vault import ATTEMPTS, Vault, before, too_many
from strongroom.secrets.v1.password_rule_pb2 import PasswordRule
from strongroom.secrets.v1.rotation_pb2 import ROTATION_TRIGGER_CREATION, RotationPolicy
from strongroom.secrets.v1.secret_pb2 import SECRET_STATE_ENABLED, SECRET_VERSION_ORIGIN_PUT, SecretType
from strongroom.secrets.v1.target_pb2 import RotationTarget


@dataclass(frozen=True, slots=True)
class NewSecret:
    """What a caller asks a new secret to be."""

    name: ResourceName
    type: SecretType.ValueType
    key: str
    description: str
    tags: Mapping[str, str]
    retained_versions: int
    target: RotationTarget | None
    password_rule: PasswordRule | None
    rotation_policy: RotationPolicy | None
    grace_period_s: int
    allowed_destinations: tuple[str, ...] = ()


class Creation:
    """Makes secrets."""

    def __init__(
        self,
        engine: Engine,
        sealer: Sealer,
        vault: Vault,
        editor: SecretEditor,
        access: TargetAccess,
        authorizer: Authorizer,
        outbox: Outbox,
        clock: Clock,
        hasten: Hasten,
    ) -> None:
        self._engine = engine
        self._sealer = sealer
        self._vault = vault
        self._editor = editor
        self._access = access
        self._pairs = PairPermissions(editor, access)
        self._authorizer = authorizer
        self._outbox = outbox
        self._clock = clock
        self._hasten = hasten

    def create(
        self,
        call: Call,
        new: NewSecret,
        value: NewValue | None,
        repeatable: Repeatable | None = None,
        *,
        dry_run: bool = False,
        check_target: bool = True,
    ) -> Secret:
        """A new secret, with `value` as its version 1 at Current; a type with a target makes its own without one.

        Raises ALREADY_EXISTS, REQUEST_ID_REUSED, FIELD_REQUIRED where the rotator needs a value, FIELD_INVALID for one
        that is not of the type, ROTATION_UNSUPPORTED, what crypto raises, and what the target says. A dry run finds out
        the same and stores nothing.
        """
        wished = _created(new, has_value=False, now_us=0)
        bound = self._permit(call, wished)
        kind = declaration_of(wished)
        if value is not None:
            check_shape(new.type, value.value)
            if wished.principal:
                self._editor.permit_replacement(call, (json_object(value.value) or {})["client_key"])
        elif kind.needs_value and wished.master is None:
            raise required("value")
        require_outlives(wished)
        for _ in range(ATTEMPTS):
            known, present = before(self._engine, new.name, repeatable, self._now_us())
            if known is not None:
                self._vault.require_same(call, known, value)
                return self._present(known.without_version)
            if present is not None:
                raise StrongroomError(
                    Reason.ALREADY_EXISTS, f"{new.name} exists, or existed, already", field="secret_id"
                )
            created = _created(new, has_value=value is not None, now_us=self._now_us(), bound=bound)
            if check_target if kind.target is not None else new.rotation_policy is not None:
                self._access.check(call, created, value)
            stored = self._stored(call, created, value, repeatable, bound, dry_run=dry_run)
            if stored is not None:
                return stored
        raise too_many(new.name)

    def _permit(self, call: Call, new: Secret) -> Bound:
        account = account_resource(new.name.account)
        actions = ("secrets:CreateSecret", "secrets:TagSecret") if new.tags else ("secrets:CreateSecret",)
        for action in actions:
            # Permitted on the account; the event says which secret it was for.
            self._authorizer.authorize(call, action, account).resource = str(new.name)
        return self._pairs.permit(call, new)

    def _stored(
        self,
        call: Call,
        created: Secret,
        value: NewValue | None,
        repeatable: Repeatable | None,
        bound: Bound,
        *,
        dry_run: bool,
    ) -> Secret | None:
        """Commits a new secret with its event; None when another call took the name or the request id."""
        first = None
        if value is not None:
            name = created.version_name(1)
            first = self._sealer.seal(call, name, created.key, value, SECRET_VERSION_ORIGIN_PUT)
        if dry_run:
            return created
        now_us = created.created_us
        try:
            with transaction(self._engine) as connection:
                if REQUEST_IDS.made_before(connection, created.name.account, repeatable, now_us) is not None:
                    return None
                require_permitted(connection, None, created, {**bound.permitted, **own_pair(created, 1)})
                store.insert_secret(connection, created)
                if first is not None:
                    store.insert_version(connection, first)
                    store.set_stages(connection, created.name, created.stages, {})
                elif declaration_of(created).target is not None:
                    created, _ = transitions.begin(
                        connection, created, ROTATION_TRIGGER_CREATION, call.principal.name, now_us, now_us
                    )
                    store.update_secret(connection, created)
                made = str(created.version_name(created.latest_version))
                REQUEST_IDS.remember(connection, created.name.account, repeatable, made, now_us)
                self._outbox.put(connection, call)
        except IntegrityError:
            return None
        if created.active_rotation:
            self._hasten(created.name)
        return created

    def _present(self, name: ResourceName) -> Secret:
        with reading(self._engine) as connection:
            secret = store.secret(connection, name)
        if secret is None:
            raise no_secret(name)
        return secret

    def _now_us(self) -> int:
        return self._clock.now_us()


def _created(new: NewSecret, *, has_value: bool, now_us: int, bound: Bound | None = None) -> Secret:
    return Secret(
        new.name,
        new.type,
        SECRET_STATE_ENABLED,
        new.key,
        new.description,
        new.tags,
        new.retained_versions,
        latest_version=1 if has_value else 0,
        revision=1,
        created_us=now_us,
        updated_us=now_us,
        stages={CURRENT: 1} if has_value else {},
        standing={1: 1} if has_value else {},
        target=new.target,
        password_rule=new.password_rule,
        rotation_policy=new.rotation_policy,
        grace_period_s=new.grace_period_s,
        next_rotate_us=next_due_us(new.rotation_policy, now_us),
        allowed_destinations=new.allowed_destinations,
        target_binding=bound.record if bound is not None else None,
    )
