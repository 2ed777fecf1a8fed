"""What the audit log shows of itself: checkpoints, tiles, proofs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from strongroom.audit.v1 import audit_service_pb2 as pb
from strongroom.audit.v1 import log_pb2
from strongroom.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from strongroom.calls.base import Part
from strongroom.convert import moment


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log at one size.

    `note` is the signed note; `strongroom.tlog.checkpoints` opens it with the log's public keys.
    """

    log: str
    tree_size: int
    root_hash: bytes
    note: bytes
    time: datetime | None
    cosignature_count: int
    published: bool


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """Shows that an event is in a log.

    `proof` is all of it as a C2SP tlog-proof, to be kept and checked offline; `leaf` is the sealed event.
    """

    log: str
    index: int
    leaf: bytes
    leaf_hash: bytes
    hashes: Sequence[bytes]
    checkpoint: Checkpoint
    proof: bytes


@dataclass(frozen=True, slots=True)
class ConsistencyProof:
    """Shows that a log of `from_size` is the beginning of the one that the checkpoint tells of."""

    log: str
    from_size: int
    from_root_hash: bytes
    hashes: Sequence[bytes]
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class LogKey:
    """A key that a log signs or signed with; `end_time` is None for the one in use."""

    verifier_key: str
    start_time: datetime | None
    end_time: datetime | None


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness of a log, and how it did last: `error_reason` is empty when it went well."""

    verifier_key: str
    url: str
    cosigned_size: int
    cosign_time: datetime | None
    error_reason: str
    error_detail: str


@dataclass(frozen=True, slots=True)
class Log:
    """A log: `size` leaves are durable, `published_size` of them are covered by a published checkpoint."""

    name: str
    origin: str
    size: int
    published_size: int
    publish_time: datetime | None
    keys: Sequence[LogKey]
    witnesses: Sequence[Witness]
    witness_quorum: int


class Logs(Part[AuditServiceStub]):
    """Reads logs and what proves them. `log` is `logs/{log}`, and may be left out where the mesh has one."""

    def get_checkpoint(
        self, log: str = "", *, include_unpublished: bool = False, timeout: float | None = None
    ) -> Checkpoint:
        """Answers the newest checkpoint that was published, or with `include_unpublished` the newest of all.

        Raises CHECKPOINT_NOT_FOUND while there is none.
        """
        request = pb.GetCheckpointRequest(log=log, include_unpublished=include_unpublished)
        return _checkpoint(self._service.call(self._service.stub.GetCheckpoint, request, timeout).response)

    def get_inclusion_proof(self, event: str, *, tree_size: int = 0, timeout: float | None = None) -> InclusionProof:
        """Answers the proof that an event, by its id or full name, is in its log.

        It leads to the newest checkpoint, or to the one of `tree_size`; the call waits for a checkpoint that covers
        the event. Raises EVENT_NOT_FOUND, EVENT_UNPUBLISHED, TREE_SIZE_INVALID.
        """
        request = pb.GetInclusionProofRequest(name=self._names.event(event), tree_size=tree_size)
        found = self._service.call(self._service.stub.GetInclusionProof, request, timeout).response
        return InclusionProof(
            log=found.log,
            index=found.index,
            leaf=found.leaf,
            leaf_hash=found.leaf_hash,
            hashes=list(found.hashes),
            checkpoint=_checkpoint(found.checkpoint),
            proof=found.proof,
        )

    def get_consistency_proof(
        self, from_size: int, to_size: int = 0, log: str = "", *, timeout: float | None = None
    ) -> ConsistencyProof:
        """Answers the proof that a log only grew from one size to another, or to the newest for 0.

        Raises TREE_SIZE_INVALID.
        """
        request = pb.GetConsistencyProofRequest(log=log, from_size=from_size, to_size=to_size)
        found = self._service.call(self._service.stub.GetConsistencyProof, request, timeout).response
        return ConsistencyProof(
            log=found.log,
            from_size=found.from_size,
            from_root_hash=found.from_root_hash,
            hashes=list(found.hashes),
            checkpoint=_checkpoint(found.checkpoint),
        )

    def get_tile(self, path: str, log: str = "", *, timeout: float | None = None) -> bytes:
        """Answers a tile or entry bundle by its path, `tile/0/x001/234`. Raises TILE_NOT_FOUND."""
        request = pb.GetTileRequest(log=log, path=path)
        return self._service.call(self._service.stub.GetTile, request, timeout).response.data

    def get(self, name: str, *, timeout: float | None = None) -> Log:
        """Answers a log by its name. Raises LOG_NOT_FOUND."""
        request = pb.GetLogRequest(name=name)
        return _log(self._service.call(self._service.stub.GetLog, request, timeout).response)

    def list(self, *, account: str = "", timeout: float | None = None) -> Sequence[Log]:
        """Lists every log, or the one that an account's events are in; `account` is a full name."""
        request = pb.ListLogsRequest(filter=f'account = "{account}"' if account else "")
        return [_log(log) for log in self._service.call(self._service.stub.ListLogs, request, timeout).response.logs]

    def add_cosignatures(
        self, tree_size: int, cosignatures: Sequence[str], log: str = "", *, timeout: float | None = None
    ) -> Checkpoint:
        """Adds a witness's cosignature lines to the checkpoint of a size. Raises COSIGNATURE_INVALID."""
        request = pb.AddCosignaturesRequest(log=log, tree_size=tree_size, cosignatures=cosignatures)
        return _checkpoint(self._service.call(self._service.stub.AddCosignatures, request, timeout).response)


def _checkpoint(checkpoint: log_pb2.Checkpoint) -> Checkpoint:
    return Checkpoint(
        log=checkpoint.log,
        tree_size=checkpoint.tree_size,
        root_hash=checkpoint.root_hash,
        note=checkpoint.note,
        time=moment(checkpoint.time),
        cosignature_count=checkpoint.cosignature_count,
        published=checkpoint.published,
    )


def _log(log: log_pb2.Log) -> Log:
    return Log(
        name=log.name,
        origin=log.origin,
        size=log.size,
        published_size=log.published_size,
        publish_time=moment(log.publish_time),
        keys=[LogKey(key.verifier_key, moment(key.start_time), moment(key.end_time)) for key in log.keys],
        witnesses=[
            Witness(
                verifier_key=witness.verifier_key,
                url=witness.url,
                cosigned_size=witness.cosigned_size,
                cosign_time=moment(witness.cosign_time),
                error_reason=witness.error_reason,
                error_detail=witness.error_detail,
            )
            for witness in log.witnesses
        ],
        witness_quorum=log.witness_quorum,
    )
