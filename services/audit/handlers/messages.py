"""What the domain knows, as the contract's messages."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from services.audit.keys.store import PublicSigningKey
from services.audit.logs.logs import OpenLog
from services.audit.publication.store import SignedCheckpoint
from services.audit.reading.transparency import Consistency, Inclusion
from services.audit.reading.usage import Row
from services.audit.retention.store import LegalHold, RetentionPolicy
from services.runtime.clock import from_microseconds
from strongroom.audit.v1 import log_pb2 as pb
from strongroom.audit.v1 import retention_pb2
from strongroom.audit.v1.audit_service_pb2 import UsageRow
from strongroom.tlog import merkle

_DAY_SECONDS = 86_400


def checkpoint(log: OpenLog, signed: SignedCheckpoint) -> pb.Checkpoint:
    """A checkpoint of a log."""
    return pb.Checkpoint(
        note=signed.note,
        log=log.name,
        tree_size=signed.tree_size,
        root_hash=signed.root_hash,
        time=from_microseconds(signed.signed_us),
        cosignature_count=signed.cosignatures.count("\n"),
        published=signed.published,
    )


def inclusion(log: OpenLog, found: Inclusion) -> pb.InclusionProof:
    """The proof for an event."""
    return pb.InclusionProof(
        proof=bytes(found.proof),
        leaf=found.leaf,
        log=log.name,
        index=found.proof.index,
        leaf_hash=merkle.leaf_hash(found.leaf),
        hashes=found.proof.hashes,
        checkpoint=checkpoint(log, found.checkpoint),
    )


def consistency(log: OpenLog, found: Consistency) -> pb.ConsistencyProof:
    """The proof that a log only grew."""
    return pb.ConsistencyProof(
        log=log.name,
        from_size=found.from_size,
        from_root_hash=found.from_root,
        hashes=found.hashes,
        checkpoint=checkpoint(log, found.checkpoint),
    )


def log_message(log: OpenLog) -> pb.Log:
    """A log as it stands."""
    published = log.publisher.published
    keys = log.signing_keys.known()
    return pb.Log(
        name=log.name,
        origin=log.origin,
        keys=[_key(key, keys[number - 1] if number else None) for number, key in enumerate(keys)],
        witnesses=[
            pb.Witness(
                verifier_key=str(state.settings.key),
                url=state.settings.url,
                cosigned_size=state.cosigned_size,
                cosign_time=from_microseconds(state.cosigned_us) if state.cosigned_us else None,
                error_reason=state.error_reason,
                error_detail=state.error_detail,
            )
            for state in log.witnesses.states
        ],
        witness_quorum=log.publisher.quorum,
        size=log.log.size,
        published_size=published.tree_size if published else 0,
        publish_time=from_microseconds(published.signed_us) if published else None,
    )


def retention_policy(policy: RetentionPolicy) -> retention_pb2.RetentionPolicy:
    """An account's policy."""
    return retention_pb2.RetentionPolicy(
        name=f"accounts/{policy.account}/retentionPolicy",
        archive_after=Duration(seconds=policy.archive_after_days * _DAY_SECONDS),
        shred_after=Duration(seconds=policy.shred_after_days * _DAY_SECONDS) if policy.shred_after_days else None,
        update_time=from_microseconds(policy.updated_us) if policy.updated_us else None,
        etag=str(policy.revision),
    )


def legal_hold(hold: LegalHold) -> retention_pb2.LegalHold:
    """An account's legal hold."""
    return retention_pb2.LegalHold(
        name=f"accounts/{hold.account}/legalHold",
        active=hold.active,
        reason=hold.reason,
        changed_by=hold.changed_by,
        update_time=from_microseconds(hold.updated_us) if hold.updated_us else None,
        etag=str(hold.revision),
    )


def usage_row(row: Row) -> UsageRow:
    """One row of a report."""
    return UsageRow(
        values=row.values,
        event_count=row.event_count,
        item_count=row.item_count,
        first_time=from_microseconds(row.first_us),
        last_time=from_microseconds(row.last_us),
    )


def _key(key: PublicSigningKey, successor: PublicSigningKey | None) -> pb.LogKey:
    return pb.LogKey(
        verifier_key=key.verifier_key,
        start_time=from_microseconds(key.created_us),
        end_time=from_microseconds(successor.created_us) if successor else None,
    )
