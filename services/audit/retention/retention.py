"""How long events are at hand, and readable: into the archive, made unreadable by destroying their sealing keys, and
what stands against it.

The leaves stay: the log verifies as before.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from dataclasses import dataclass, replace

from services.audit.keys.sealing import DAY_US, Sealer
from services.audit.keys.store import WrappedKeys
from services.audit.log.changes import Changes
from services.audit.log.sequencer import Log
from services.audit.retention.archive import Archive
from services.audit.retention.store import LegalHold, RetentionPolicy, RetentionStore
from services.runtime import background
from services.runtime.background import Background
from services.runtime.call import Call, Principal
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError, invalid, required
from services.runtime.storage.editing import require_current

log = logging.getLogger(__name__)

DEFAULT_ARCHIVE_DAYS = 400
ARCHIVE_DAYS = range(30, 3_661)
POLICY_PATHS = ("archive_after", "shred_after")
HOLD_PATHS = ("active", "reason")

_LOOK_SECONDS = 600.0
# Of a whole log, whose leaves are counted and moved.
_LONGEST_SECONDS = 3_600.0
_SELF = Principal("services/audit", "")


@dataclass(frozen=True, slots=True)
class Shredded:
    """What is unreadable from now on, or would be."""

    event_count: int
    key_count: int


class Retention:
    """Of the accounts whose events are in one log."""

    def __init__(
        self,
        store: RetentionStore,
        archive: Archive,
        keys: WrappedKeys,
        source: Log,
        changes: Changes,
        sealer: Sealer,
        clock: Clock,
    ) -> None:
        self._store = store
        self._archive = archive
        self._keys = keys
        self._log = source
        self._changes = changes
        self._sealer = sealer
        self._clock = clock
        self._lock = threading.Lock()

    def policy(self, account: str) -> RetentionPolicy:
        """An account's policy, or the default."""
        return self._store.policy(account) or RetentionPolicy(account, DEFAULT_ARCHIVE_DAYS, 0)

    def update_policy(self, call: Call, wanted: RetentionPolicy, paths: Collection[str], etag: str) -> RetentionPolicy:
        """The policy as it is from now on. Raises FIELD_INVALID, ETAG_MISMATCH, and LEGAL_HOLD for events that would
        become unreadable earlier."""
        with self._lock:
            present = self.policy(wanted.account)
            require_current(f"accounts/{wanted.account}/retentionPolicy", present.revision, etag)
            changed = replace(
                present,
                archive_after_days=wanted.archive_after_days
                if "archive_after" in paths
                else present.archive_after_days,
                shred_after_days=wanted.shred_after_days if "shred_after" in paths else present.shred_after_days,
                updated_us=self._now_us(),
                revision=present.revision + 1,
            )
            _require_possible(changed)
            if _is_earlier(changed.shred_after_days, present.shred_after_days):
                self._require_no_hold(wanted.account)
            with self._changes.recorded(call) as connection:
                self._store.put_policy(connection, changed)
            return changed

    def hold(self, account: str) -> LegalHold:
        """An account's legal hold, also where there is none in force."""
        return self._store.hold(account) or LegalHold(account)

    def update_hold(self, call: Call, wanted: LegalHold, paths: Collection[str], etag: str) -> LegalHold:
        """The legal hold as it is from now on. Raises ETAG_MISMATCH, FIELD_REQUIRED."""
        with self._lock:
            present = self.hold(wanted.account)
            require_current(f"accounts/{wanted.account}/legalHold", present.revision, etag)
            changed = replace(
                present,
                active=wanted.active if "active" in paths else present.active,
                reason=wanted.reason if "reason" in paths else present.reason,
                changed_by=wanted.changed_by,
                updated_us=self._now_us(),
                revision=present.revision + 1,
            )
            if changed.active and not changed.reason:
                raise required("legal_hold.reason")
            call.events[0].attributes.update({"active": str(changed.active).lower(), "comment": changed.reason})
            with self._changes.recorded(call) as connection:
                self._store.put_hold(connection, changed)
            return changed

    def shred(self, call: Call, account: str, before_us: int | None, *, validate_only: bool = False) -> Shredded:
        """Makes the account's events unreadable: all up to now, or those sealed on days (UTC) that ended before a time.
        Raises LEGAL_HOLD."""
        self._require_no_hold(account)
        end_us = self._now_us() + 1 if before_us is None else before_us // DAY_US * DAY_US
        keys = self._store.keys_before(account, end_us)
        shredded = Shredded(self._store.count_sealed(keys) + self._archive.count_sealed(keys), len(keys))
        call.events[0].attributes["event_count"] = str(shredded.event_count)
        if keys and not validate_only:
            self._store.prepare_to_destroy()
            tombstones = self._sealer.tombstones(keys)
            with self._changes.recorded(call) as connection:
                if not self._store.destroy(connection, account, tombstones):
                    raise _held()
                # Nothing is appended yet, and no leaf may be sealed under a key that is gone, or may be: COMMIT may
                # happen and not be answered.
                self._sealer.forget(account)
            self._log.exclusively(self._store.after_destruction)
        return shredded

    def shred_due(self) -> list[str]:
        """Makes unreadable what policies say, and records that; the accounts concerned."""
        accounts = []
        for policy in self._store.policies():
            _require_possible(policy)
            end_us = self._now_us() - policy.shred_after_days * DAY_US
            if self.hold(policy.account).active or not self._store.keys_before(
                policy.account, end_us // DAY_US * DAY_US
            ):
                continue
            call = Call(
                "strongroom.audit.v1.AuditService",
                "ShredAccountEvents",
                "audit:ShredAccountEvents",
                principal=_SELF,
            )
            event = call.record(call.action, f"accounts/{policy.account}/log", policy.account)
            event.attributes["comment"] = f"retention of {policy.shred_after_days} days"
            try:
                self.shred(call, policy.account, end_us)
            except StrongroomError as error:
                # The next account's are as due; this one's are tried again.
                log.warning(
                    "events of an account could not be shredded yet, though their time is over",
                    extra={"fields": {"reason": error.reason}},
                )
                continue
            accounts.append(policy.account)
        return accounts

    def archive_due(self) -> int:
        """Moves bundles to the archive whose accounts' periods have all passed; how many."""
        now_us, moved, start = self._now_us(), 0, 0
        while True:
            found = self._archive.candidates(start, now_us - ARCHIVE_DAYS.start * DAY_US)
            if found is None:
                return moved
            number, latest = found
            if all(time_us < now_us - self._archive_days(key) * DAY_US for key, time_us in latest.items()):
                bundle = self._archive.packed(number)
                # Nothing is appended meanwhile: two writers would wait for each other.
                with self._log.changing() as connection:
                    self._archive.move(connection, bundle)
                moved += 1
            start = number + 1

    def _archive_days(self, key_id: bytes) -> int:
        key = self._keys.sealing_key(key_id)
        return self.policy(key.account).archive_after_days if key else DEFAULT_ARCHIVE_DAYS

    def _require_no_hold(self, account: str) -> None:
        if self.hold(account).active:
            raise _held()

    def _now_us(self) -> int:
        return self._clock.now_us()


class RetentionWork:
    """Does what policies say, by and by."""

    def __init__(self, retentions: Collection[Retention]) -> None:
        self._retentions = retentions
        self._work = Background(
            "audit-retention",
            self._look,
            "retention of the audit log could not be applied",
            every=_LOOK_SECONDS,
            first=_LOOK_SECONDS,
            takes=_LONGEST_SECONDS,
        )

    def start(self) -> None:
        """Begins."""
        self._work.start()

    def stop(self) -> None:
        """Ends."""
        self._work.stop()

    def _look(self) -> None:
        background.each(work for retention in self._retentions for work in (retention.archive_due, retention.shred_due))


def _require_possible(policy: RetentionPolicy) -> None:
    if policy.archive_after_days not in ARCHIVE_DAYS:
        raise invalid("retention_policy.archive_after", "is not 30 to 3,660 whole days")
    if policy.shred_after_days and policy.shred_after_days <= policy.archive_after_days:
        raise invalid("retention_policy.shred_after", "is not longer than archive_after")


def _is_earlier(changed_days: int, present_days: int) -> bool:
    return bool(changed_days) and (not present_days or changed_days < present_days)


def _held() -> StrongroomError:
    return StrongroomError(Reason.LEGAL_HOLD, "a legal hold keeps the account's events readable")
