"""What keystore does when its time has come: versions by rotation policy, the destruction of deleted keys, and the end
of imported material."""

from __future__ import annotations

import logging
import threading
import time

from redis.exceptions import RedisError
from sqlalchemy import Connection, Engine

from services.keystore import message_limit, store
from services.keystore.imports import Imports
from services.keystore.key_versions import KeyVersions
from services.keystore.lifecycle import Lifecycle
from services.keystore.own_calls import own_call
from services.keystore.records import Key
from services.keystore.root_key import RootKey
from services.runtime.clock import Clock
from services.runtime.database import reading
from services.runtime.errors import StrongroomError
from services.runtime.schedule import Claim, Schedule
from strongroom.keystore.v1.key_pb2 import KEY_VERSION_ORIGIN_AUTOMATIC, KEY_VERSION_ORIGIN_MESSAGE_LIMIT

log = logging.getLogger(__name__)

_ROTATE = "rotate"
_DELETE = "delete"
_EXPIRE = "expire"
_LIMIT = "limit"
_ROOT = "root"

_POLL_SECONDS = 1.0
_FILL_SECONDS = 30.0
# Looked ahead further than a fill takes to come round, so that nothing is late for want of one.
_HORIZON_US = 120_000_000
_FILL_LIMIT = 10_000
_CLAIM_LIMIT = 16
_LEASE_SECONDS = 60.0
_RETRY_SECONDS = 15.0
# Well within a lease.
_ROOT_SECONDS = 5.0


class DueWork:
    """A thread that claims what is due and does it."""

    def __init__(
        self,
        engine: Engine,
        schedule: Schedule,
        lifecycle: Lifecycle,
        versions: KeyVersions,
        imports: Imports,
        root_key: RootKey,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._schedule = schedule
        self._lifecycle = lifecycle
        self._versions = versions
        self._imports = imports
        self._root_key = root_key
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="due-work", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the item in work."""
        self._stopping.set()
        self._thread.join(timeout=_LEASE_SECONDS)

    def run_once(self, *, fill: bool) -> int:
        """Claims and does what is due, after putting in what the database says when `fill`; how many items it was."""
        if fill:
            self._fill()
        if self._root_key.is_rotating():
            self._schedule.fill({_ROOT: self._clock() // 1000})
        claims = self._schedule.claim(_CLAIM_LIMIT, _LEASE_SECONDS)
        for claim in claims:
            if self._stopping.is_set():
                break
            self._handle(claim)
        return len(claims)

    def _work(self) -> None:
        filled = -_FILL_SECONDS
        while not self._stopping.is_set():
            fill = time.monotonic() - filled >= _FILL_SECONDS
            more = False
            try:
                more = self.run_once(fill=fill) == _CLAIM_LIMIT
                filled = time.monotonic() if fill else filled
            except (RedisError, StrongroomError) as error:
                log.warning("cannot look for what is due", extra={"fields": {"error": type(error).__name__}})
            except Exception:
                # The next round may fare better; without a thread nothing would be done at all.
                log.exception("due work failed")
            if not more:
                self._stopping.wait(_POLL_SECONDS)

    def _fill(self) -> None:
        until_us = self._clock() // 1000 + _HORIZON_US
        with reading(self._engine) as connection:
            deletions = store.deletions_due(connection, until_us, _FILL_LIMIT)
            rotations = store.rotations_due(connection, until_us, _FILL_LIMIT)
            used_up = store.near_message_limit(connection, message_limit.NEAR, _FILL_LIMIT)
            expiries = store.expiries_due(connection, until_us, _FILL_LIMIT)
        due = {f"{_DELETE}:{uid.hex()}": at for uid, at in deletions}
        due |= {f"{_ROTATE}:{uid.hex()}": at for uid, at in rotations}
        due |= {f"{_LIMIT}:{uid.hex()}": until_us - _HORIZON_US for uid in used_up}
        due |= {f"{_EXPIRE}:{uid.hex()}": at for uid, at in expiries}
        self._schedule.fill(due)

    def _handle(self, claim: Claim) -> None:
        try:
            if claim.item == _ROOT:
                self._root_key.work(_ROOT_SECONDS)
            else:
                self._handle_key(claim.item)
        except StrongroomError as error:
            log.warning("due work failed", extra={"fields": {"item": claim.item, "reason": error.reason}})
            self._schedule.later(claim, _RETRY_SECONDS)
            return
        self._schedule.done(claim)

    def _handle_key(self, item: str) -> None:
        kind, _, uid = item.partition(":")
        with reading(self._engine) as connection:
            key = store.key_by_uid(connection, bytes.fromhex(uid))
        now_us = self._clock() // 1000
        if key is not None and kind == _DELETE:
            self._lifecycle.destroy_due(own_call("DestroyKey", key.name), key)
        elif key is not None and kind == _EXPIRE:
            self._imports.expire_due(own_call("DeleteImportedKeyMaterial", key.name), key)
        elif key is not None and kind == _LIMIT:
            call = own_call("CreateKeyVersion", key.name)
            self._versions.rotate(call, key, KEY_VERSION_ORIGIN_MESSAGE_LIMIT, still_due=_is_used_up)
        elif key is not None and key.rotation_is_due(now_us):
            call = own_call("CreateKeyVersion", key.name)
            self._versions.rotate(
                call, key, KEY_VERSION_ORIGIN_AUTOMATIC, still_due=lambda _, present: present.rotation_is_due(now_us)
            )


def _is_used_up(connection: Connection, key: Key) -> bool:
    primary = store.version(connection, key.uid, key.primary_version)
    return primary is not None and primary.message_count >= message_limit.NEAR
