"""Messages that may be encrypted under keys whose nonces are random and 96 bits long: 2^32 of a key version, over all
workers (NIST SP 800-38D, section 8.3).

Keystore counts, in blocks: a worker reserves one before it encrypts, so no crash lets a version exceed the limit.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.channels import KEYSTORE, MeshChannel
from strongroom.keystore.v1.key_record_service_pb2 import ReportUsageRequest, ReportUsageResponse, VersionUsage
from strongroom.keystore.v1.key_record_service_pb2_grpc import KeyRecordServiceStub

# The first block is small, so that little is lost of a key that is seldom used; each further one is twice as large.
_FIRST_BLOCK = 256
_LARGEST_BLOCK = 16_384
_TIMEOUT_SECONDS = 1.0


class _Reserve:
    """What this worker has reserved of one key version, and not used."""

    __slots__ = ("block", "lock", "remaining")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.remaining = 0
        self.block = _FIRST_BLOCK


class MessageLimit:
    """Hands out messages. `capacity`: key versions whose reserve is kept; the rest of the one
    unused for longest is lost when there are more."""

    def __init__(self, keystore: MeshChannel, capacity: int) -> None:
        self._report_usage = KEYSTORE.method(keystore, KeyRecordServiceStub, "ReportUsage", _TIMEOUT_SECONDS)
        self._capacity = capacity
        self._reserves: OrderedDict[tuple[bytes, int], _Reserve] = OrderedDict()
        self._lock = threading.Lock()

    def spend(self, uid: bytes, version: int, count: int) -> None:
        """Takes messages of a key version. Raises KEY_STATE_INVALID when it has none left, KEYSTORE_UNREACHABLE."""
        reserve = self._reserve(uid, version)
        with reserve.lock:
            if reserve.remaining < count:
                block = max(reserve.block, count)
                reserve.remaining += self._reserved(uid, version, block)
                reserve.block = min(2 * block, _LARGEST_BLOCK)
            if reserve.remaining < count:
                raise StrongroomError(
                    Reason.KEY_STATE_INVALID,
                    f"version {version} of the key has encrypted 2^32 messages: it only decrypts now",
                    state="RETIRED",
                )
            reserve.remaining -= count

    def _reserve(self, uid: bytes, version: int) -> _Reserve:
        with self._lock:
            reserve = self._reserves.get((uid, version))
            if reserve is None:
                reserve = self._reserves[uid, version] = _Reserve()
                if len(self._reserves) > self._capacity:
                    self._reserves.popitem(last=False)
            else:
                self._reserves.move_to_end((uid, version))
            return reserve

    def _reserved(self, uid: bytes, version: int, block: int) -> int:
        usage = VersionUsage(key_uid=uid, version=version, message_count=block)
        answer: ReportUsageResponse = self._report_usage(ReportUsageRequest(usages=[usage]))
        return int(answer.allowances[0].granted_count)
