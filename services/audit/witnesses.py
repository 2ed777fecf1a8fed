"""Asks witnesses for cosignatures (C2SP tlog-witness), and takes those that are brought.

With a quorum, a checkpoint counts as published only once so many witnesses cosigned it.
"""

from __future__ import annotations

import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from http import HTTPStatus

from services.audit.publication_store import PublicationStore, SignedCheckpoint
from services.audit.publishing import Publisher
from services.audit.tile_source import TileSource
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from strongroom.errors import StrongroomError as MalformedError
from strongroom.tlog import checkpoints, notes
from strongroom.tlog.notes import Signature, VerifierKey
from strongroom.tlog.witness import Submission

log = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 5.0
_AGAIN_SECONDS = 2.0
_MAX_ANSWER_BYTES = 1 << 16
_MAX_DETAIL = 256


@dataclass(frozen=True, slots=True)
class WitnessSettings:
    """A witness, by the key of its cosignatures, and where `add-checkpoint` is; empty for one that comes itself."""

    key: VerifierKey
    url: str


@dataclass(slots=True)
class WitnessState:
    """How it did last. `error_reason` is WITNESS_UNREACHABLE, WITNESS_CONFLICT, COSIGNATURE_INVALID, or empty."""

    settings: WitnessSettings
    cosigned_size: int = 0
    cosigned_us: int = 0
    error_reason: str = ""
    error_detail: str = ""


class _FailedError(Exception):
    """A witness did not cosign."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Witnesses:
    """Those of one log."""

    def __init__(
        self,
        settings: Sequence[WitnessSettings],
        publisher: Publisher,
        store: PublicationStore,
        source: TileSource,
        clock: Clock,
    ) -> None:
        self.states = [WitnessState(one) for one in settings]
        self._publisher = publisher
        self._store = store
        self._source = source
        self._clock = clock
        self._lock = threading.Lock()
        self._signed = threading.Condition()
        self._asked = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="audit-witnesses", daemon=True)

    def start(self) -> None:
        """Begins to ask, where there is one to ask."""
        if any(state.settings.url for state in self.states):
            self._publisher.listen(on_signed=[self._wake])
            self._thread.start()

    def stop(self) -> None:
        """Ends."""
        with self._signed:
            self._stopping = True
            self._signed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=_TIMEOUT_SECONDS)

    def add(self, tree_size: int, lines: Sequence[str]) -> SignedCheckpoint:
        """Keeps cosignatures on the checkpoint of a size. Raises COSIGNATURE_INVALID."""
        try:
            signatures = [one for line in lines for one in notes.parse_signatures(line.rstrip("\n") + "\n")]
        except MalformedError as error:
            raise _invalid(error.message) from error
        return self._keep(tree_size, signatures)

    def _keep(self, tree_size: int, signatures: Iterable[Signature]) -> SignedCheckpoint:
        with self._lock:
            checkpoint = self._store.at(tree_size)
            if checkpoint is None:
                raise _invalid(f"the log signed no checkpoint of {tree_size}")
            text = notes.parse(checkpoint.signed).text
            lines = {line.split(" ")[1]: line for line in checkpoint.cosignatures.splitlines()}
            for signature in signatures:
                state = self._state_of(signature)
                if state is None:
                    raise _invalid(f"{signature.name} is no witness of this log")
                if not checkpoints.verifier(state.settings.key).verifies(text, signature.signature):
                    raise _invalid(f"the signature of {signature.name} is not one on this checkpoint")
                lines[signature.name] = str(signature).rstrip("\n")
                if tree_size >= state.cosigned_size:
                    state.cosigned_size = tree_size
                    state.cosigned_us = checkpoints.cosignature_time(signature.signature) * 1_000_000
                state.error_reason = state.error_detail = ""
            cosigned = replace(
                checkpoint,
                cosignatures="".join(f"{line}\n" for line in lines.values()),
                published=checkpoint.published or len(lines) >= self._publisher.quorum,
            )
            self._publisher.cosigned(cosigned)
            return cosigned

    def _state_of(self, signature: Signature) -> WitnessState | None:
        for state in self.states:
            key = state.settings.key
            if (key.name, key.key_id) == (signature.name, signature.key_id):
                return state
        return None

    def _wake(self, _: SignedCheckpoint) -> None:
        with self._signed:
            self._signed.notify()

    def _run(self) -> None:
        asked = [state for state in self.states if state.settings.url]
        with ThreadPoolExecutor(len(asked), thread_name_prefix="audit-witness") as pool:
            while not self._stopping:
                newest = self._publisher.signed
                done = newest is None or all(pool.map(self._ask, asked, [newest] * len(asked)))
                self._wait(newest.tree_size if newest else 0, None if done else _AGAIN_SECONDS)

    def _wait(self, asked_size: int, seconds: float | None) -> None:
        """Until there is a newer checkpoint to ask about, or that long."""
        with self._signed:
            self._signed.wait_for(lambda: self._stopping or self._newer_than(asked_size), seconds)

    def _newer_than(self, size: int) -> bool:
        newest = self._publisher.signed
        return newest is not None and newest.tree_size > size

    def _ask(self, state: WitnessState, checkpoint: SignedCheckpoint) -> bool:
        """Whether the witness has cosigned the checkpoint; what went wrong is noted."""
        if state.cosigned_size >= checkpoint.tree_size:
            return True
        try:
            self._keep(checkpoint.tree_size, self._cosignatures(state, checkpoint))
        except _FailedError as failure:
            state.error_reason, state.error_detail = failure.reason, failure.detail[:_MAX_DETAIL]
        except (StrongroomError, MalformedError) as error:
            state.error_reason, state.error_detail = Reason.COSIGNATURE_INVALID, error.message[:_MAX_DETAIL]
        else:
            return True
        fields = {"witness": state.settings.key.name, "reason": state.error_reason, "detail": state.error_detail}
        log.warning("a witness did not cosign", extra={"fields": fields})
        return False

    def _cosignatures(self, state: WitnessState, checkpoint: SignedCheckpoint) -> list[Signature]:
        """What the witness answers, asked once more where it says from which size on it knows the log."""
        old_size = state.cosigned_size
        for _ in range(2):
            status, body = self._post(state, checkpoint, old_size)
            if status == HTTPStatus.OK:
                own = state.settings.key
                return [
                    one
                    for one in notes.parse_signatures(body.decode(errors="replace"))
                    if (one.name, one.key_id) == (own.name, own.key_id)
                ]
            if status != HTTPStatus.CONFLICT or not body.strip().isdigit():
                break
            old_size = int(body)
            if old_size > checkpoint.tree_size:
                raise _FailedError("WITNESS_CONFLICT", f"it has cosigned {old_size} leaves, and the log has fewer")
        reason = "WITNESS_CONFLICT" if status == HTTPStatus.UNPROCESSABLE_ENTITY else "WITNESS_UNREACHABLE"
        raise _FailedError(reason, f"{status}: {body.decode(errors='replace').strip()}")

    def _post(self, state: WitnessState, checkpoint: SignedCheckpoint, old_size: int) -> tuple[int, bytes]:
        proof = self._source.proofs(checkpoint.tree_size).consistency(old_size)
        request = urllib.request.Request(  # noqa: S310  # the URL's scheme is checked in the settings
            f"{state.settings.url.rstrip('/')}/add-checkpoint",
            bytes(Submission(old_size, proof, checkpoint.signed)),
            {"Content-Type": "text/plain; charset=utf-8"},
            method="POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310  # as above
                return answer.status, answer.read(_MAX_ANSWER_BYTES)
        except urllib.error.HTTPError as error:
            return error.code, error.read(_MAX_ANSWER_BYTES)
        except (OSError, ValueError) as error:
            raise _FailedError("WITNESS_UNREACHABLE", str(error)) from error


def _invalid(message: str) -> StrongroomError:
    return StrongroomError(Reason.COSIGNATURE_INVALID, message, field="cosignatures")
