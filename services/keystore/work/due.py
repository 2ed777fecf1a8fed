"""What keystore does when its time has come: versions by rotation policy, the destruction of keys and versions, and
the end of imported material."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from sqlalchemy import Connection, Engine

from services.keystore.keys import message_limit
from services.keystore.keys.imports import Imports
from services.keystore.keys.key_versions import KeyVersions
from services.keystore.keys.lifecycle import Lifecycle
from services.keystore.own_calls import own_call
from services.keystore.root_key.rotation import RootKey
from services.keystore.store import due as due_store
from services.keystore.store import store
from services.keystore.store.due import DueKey
from services.keystore.store.model import Key
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.database import reading, transaction
from services.runtime.storage.outbox import Outbox
from services.runtime.telemetry import Telemetry
from services.runtime.work import fair_choice
from services.runtime.work.due_work import FORWARD_AT_ONCE
from services.runtime.work.schedule import Claim
from services.runtime.work.tellings import Tellings
from strongroom.audit.v1.event_pb2 import OUTCOME_FAILED
from strongroom.keystore.v1.key_pb2 import KEY_VERSION_ORIGIN_AUTOMATIC, KEY_VERSION_ORIGIN_MESSAGE_LIMIT

_ROTATE = "rotate"
_DELETE = "delete"
_EXPIRE = "expire"
_DESTROY = "destroy"
_LIMIT = "limit"
_ROOT = "root"

_FILL_LIMIT = 10_000
# Long enough to be worth a claim, short enough to stop soon.
_ROOT_SECONDS = 5.0
# A rotation of the root key waits so long after its last blob.
_SETTLES_US = 60_000_000
# How many of each kind are looked at, and of one account.
_LOOK_LIMIT = 10_000
_LOOK_SHARE = 500
# Anything may stand in Redis.
_ITEM = re.compile(f"(?:{_ROTATE}|{_DELETE}|{_DESTROY}|{_EXPIRE}|{_LIMIT}):[0-9a-f]{{32}}")

_METHODS = {
    _ROTATE: "CreateKeyVersion",
    _DELETE: "DestroyKey",
    _DESTROY: "DestroyKeyVersion",
    _EXPIRE: "DeleteImportedKeyMaterial",
    _LIMIT: "CreateKeyVersion",
}


class DueKeys:
    """What is due of keystore's, and how it is done, for `DueWork`."""

    def __init__(
        self,
        engine: Engine,
        lifecycle: Lifecycle,
        versions: KeyVersions,
        imports: Imports,
        root_key: RootKey,
        clock: Clock,
        outbox: Outbox,
        telemetry: Telemetry,
    ) -> None:
        self._engine = engine
        self._lifecycle = lifecycle
        self._versions = versions
        self._imports = imports
        self._root_key = root_key
        self._clock = clock
        self._used_up: set[str] = set()
        self._outbox = outbox
        self._tellings: Tellings[str] = Tellings()
        self._overdue = telemetry.meter.create_counter(
            "keystore.schedule.overdue", description="rotations, deletions and expiries that Redis kept back"
        )

    def due(self, until_us: int) -> Mapping[str, int]:
        """Items by their due time, as the database says."""
        return {item: key.due_us for item, key in self._due(until_us, _FILL_LIMIT).items()}

    def _due(self, until_us: int, limit: int, share: int | None = None) -> dict[str, DueKey]:
        with reading(self._engine) as connection:
            asked = (connection, until_us, limit, share)
            found = {
                _DELETE: due_store.deletions_due(*asked),
                _ROTATE: due_store.rotations_due(*asked),
                _EXPIRE: due_store.expiries_due(*asked),
                _DESTROY: due_store.destructions_due(*asked),
            }
            used_up = due_store.near_message_limit(connection, message_limit.NEAR, limit)
        now_us = self._clock.now_us()
        found[_LIMIT] = [replace(key, due_us=now_us) for key in used_up]
        return {f"{kind}:{key.uid.hex()}": key for kind, due in found.items() for key in due}

    def due_now(self) -> Mapping[str, int]:
        """The rotation of the root key, while there is one."""
        return {_ROOT: self._clock.now_us()} if self._root_key.is_rotating() else {}

    def overdue(
        self, before_us: int, limit: int = FORWARD_AT_ONCE, in_hand: Collection[str] = frozenset()
    ) -> list[Claim]:
        """Of what was due before then, as the database says, some besides what is in hand: claims of its own, told in
        the metric and in events. Whatever it is, who comes second finds it done."""
        due = self._due(before_us, _LOOK_LIMIT, _LOOK_SHARE)
        used_up = {item for item in due if item.startswith(f"{_LIMIT}:")}
        # Since when they are is not known, but for how many looks.
        owned = [(key.account, item) for item, key in due.items() if item not in used_up or item in self._used_up]
        self._used_up = used_up
        if self._root_key.is_overdue(before_us - _SETTLES_US):
            owned.append(("", _ROOT))
        fresh = [(account, item) for account, item in owned if item not in in_hand]
        if fresh:
            self._overdue.add(len(fresh))
        # Some of each account, and others the next time.
        chosen = fair_choice.choose(fresh, limit)
        self._record(chosen)
        return [Claim(item, self._clock.now_us()) for item in chosen]

    def handle(self, claim: Claim) -> float | None:
        """Does what an item stands for; what stands for nothing is done with."""
        if claim.item == _ROOT:
            self._root_key.work(_ROOT_SECONDS)
        elif _ITEM.fullmatch(claim.item):
            self._handle_key(claim.item)
        return None

    def _record(self, items: Sequence[str]) -> None:
        """An event for each that was kept back; now and then, for it stays so until Redis is put right."""
        untold = self._tellings.untold(item for item in items if item != _ROOT)
        if not untold:
            return
        with transaction(self._engine) as connection:
            for item in untold:
                key = None
                kind, _, uid = item.partition(":")
                # One that somebody else changed keeps no other back: whoever works on it says so.
                with suppress(StrongroomError):
                    key = store.key_by_uid(connection, bytes.fromhex(uid))
                if key is not None:
                    call = own_call(_METHODS[kind], key.name)
                    call.conclude(OUTCOME_FAILED, Reason.SCHEDULE_OVERDUE)
                    self._outbox.put(connection, call)

    def _handle_key(self, item: str) -> None:
        kind, _, uid = item.partition(":")
        with reading(self._engine) as connection:
            key = store.key_by_uid(connection, bytes.fromhex(uid))
        now_us = self._clock.now_us()
        if key is not None and kind == _DELETE:
            self._lifecycle.destroy_due(own_call("DestroyKey", key.name), key)
        elif key is not None and kind == _DESTROY:
            self._versions.destroy_due(own_call("DestroyKeyVersion", key.name), key)
        elif key is not None and kind == _EXPIRE:
            self._imports.expire_due(own_call("DeleteImportedKeyMaterial", key.name), key)
        elif key is not None and kind == _LIMIT:
            call = own_call("CreateKeyVersion", key.name)
            self._versions.rotate(call, key, KEY_VERSION_ORIGIN_MESSAGE_LIMIT, still_due=_is_used_up)
        elif key is not None and kind == _ROTATE and key.rotation_is_due(now_us):
            call = own_call("CreateKeyVersion", key.name)
            self._versions.rotate(
                call, key, KEY_VERSION_ORIGIN_AUTOMATIC, still_due=lambda _, present: present.rotation_is_due(now_us)
            )


def _is_used_up(connection: Connection, key: Key) -> bool:
    primary = store.version(connection, key.uid, key.primary_version)
    return primary is not None and primary.message_count >= message_limit.NEAR
