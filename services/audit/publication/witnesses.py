"""Asks witnesses for cosignatures (C2SP tlog-witness), and takes those that are brought.

With a quorum, a checkpoint counts as published only once so many witnesses cosigned it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus

from services.audit.publication.publishing import Publisher
from services.audit.publication.store import PublicationStore, SignedCheckpoint
from services.audit.publication.tile_source import TileSource
from services.runtime.background import NEVER, Background
from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.outside.outgoing_http import ExchangeError, Request, exchange
from strongroom.errors import StrongroomError as MalformedError
from strongroom.tlog import checkpoints, notes
from strongroom.tlog.notes import Signature, VerifierKey
from strongroom.tlog.witness import Submission

log = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 5.0
_AGAIN_SECONDS = 2.0
_MAX_ANSWER_BYTES = 1 << 16
_MAX_DETAIL = 256
_AHEAD_US = 5 * 60 * 1_000_000
"""By which a witness's clock may be ahead of ours."""
_MAX_SIZE_DIGITS = 19
"""Of a tree's size, which is below 2^63."""


@dataclass(frozen=True, slots=True)
class WitnessSettings:
    """A witness, by the key of its cosignatures, and where `add-checkpoint` is; empty for one that comes itself."""

    key: VerifierKey
    url: str


@dataclass(slots=True)
class WitnessState:
    """How it did last. `error_reason` is WITNESS_UNREACHABLE, WITNESS_CONFLICT, COSIGNATURE_INVALID, INTERNAL, or
    empty; `error_detail` is printable."""

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
    """Those of one log. Each that is asked has a thread and a time limit of its own: one that is slow, or answers
    nonsense, delays nobody's cosignature but its own."""

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
        self._stopping = False
        self._threads = [
            Background(
                f"audit-witness-{state.settings.key.name}",
                partial(self._look_after, state),
                "a witness could not be asked to cosign",
                every=0.0,
                again=_AGAIN_SECONDS,
                takes=NEVER,
            )
            for state in self.states
            if state.settings.url
        ]

    def start(self) -> None:
        """Begins to ask, where there is one to ask."""
        if self._threads:
            self._publisher.listen(on_signed=[self._wake])
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends."""
        with self._signed:
            self._stopping = True
            self._signed.notify_all()
        for thread in self._threads:
            thread.end()
        for thread in self._threads:
            thread.join(_TIMEOUT_SECONDS)

    def add(self, call: Call, tree_size: int, lines: Sequence[str]) -> SignedCheckpoint:
        """Keeps cosignatures on the checkpoint of a size. Raises COSIGNATURE_INVALID."""
        try:
            signatures = [one for line in lines for one in notes.parse_signatures(line.rstrip("\n") + "\n")]
        except MalformedError as error:
            raise _invalid(error.message) from error
        return self._keep(tree_size, signatures, call)

    def _keep(self, tree_size: int, signatures: Iterable[Signature], call: Call | None = None) -> SignedCheckpoint:
        with self._lock:
            checkpoint = self._store.at(tree_size)
            if checkpoint is None:
                raise _invalid(f"the log signed no checkpoint of {tree_size}")
            text = notes.parse(checkpoint.signed).text
            lines = {line.split(" ")[1]: line for line in checkpoint.cosignatures.splitlines()}
            cosigned_us: list[tuple[WitnessState, int]] = []
            for signature in signatures:
                state = self._state_of(signature)
                if state is None:
                    raise _invalid(f"{signature.name} is no witness of this log")
                if not checkpoints.verifier(state.settings.key).verifies(text, signature.signature):
                    raise _invalid(f"the signature of {signature.name} is not one on this checkpoint")
                time_us = checkpoints.cosignature_time(signature.signature) * 1_000_000
                if time_us > self._clock.now_us() + _AHEAD_US:
                    raise _invalid(f"the signature of {signature.name} is of a time to come")
                lines[signature.name] = str(signature).rstrip("\n")
                cosigned_us.append((state, time_us))
            cosigned = replace(
                checkpoint,
                cosignatures="".join(f"{line}\n" for line in lines.values()),
                published=checkpoint.published or len(lines) >= self._publisher.quorum,
            )
            self._publisher.cosigned(cosigned, call)
            # Not before it is durable: whoever counts as having cosigned is not asked again.
            for state, time_us in cosigned_us:
                if tree_size >= state.cosigned_size:
                    state.cosigned_size, state.cosigned_us = tree_size, time_us
                state.error_reason = state.error_detail = ""
            return cosigned

    def _state_of(self, signature: Signature) -> WitnessState | None:
        for state in self.states:
            key = state.settings.key
            if (key.name, key.key_id) == (signature.name, signature.key_id):
                return state
        return None

    def _wake(self, _: SignedCheckpoint) -> None:
        with self._signed:
            self._signed.notify_all()

    def _look_after(self, state: WitnessState) -> None:
        newest = self._publisher.signed
        done = newest is None or self._ask(state, newest)
        self._wait(newest.tree_size if newest else 0, None if done else _AGAIN_SECONDS)

    def _wait(self, asked_size: int, seconds: float | None) -> None:
        """Until there is a newer checkpoint to ask about, or that long."""
        with self._signed:
            if seconds is None:
                self._signed.wait_for(lambda: self._stopping or self._newer_than(asked_size))
            else:
                # A witness that just failed is not asked again at once, whatever is signed meanwhile.
                self._signed.wait_for(lambda: self._stopping, seconds)

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
            _note(state, failure.reason, failure.detail)
        except StrongroomError as error:
            _note(state, error.reason, error.message)
        except MalformedError as error:
            _note(state, Reason.COSIGNATURE_INVALID, error.message)
        except Exception as unexpected:
            # Whatever a witness can say, it is asked again.
            log.exception("asking a witness to cosign failed unexpectedly")
            _note(state, Reason.INTERNAL, type(unexpected).__name__)
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
            if status != HTTPStatus.CONFLICT or not _is_size(body.strip()):
                break
            old_size = int(body)
            if old_size > checkpoint.tree_size:
                raise _FailedError("WITNESS_CONFLICT", f"it has cosigned {old_size} leaves, and the log has fewer")
        reason = "WITNESS_CONFLICT" if status == HTTPStatus.UNPROCESSABLE_ENTITY else "WITNESS_UNREACHABLE"
        raise _FailedError(reason, f"{status}: {body[:_MAX_DETAIL].decode(errors='replace').strip()}")

    def _post(self, state: WitnessState, checkpoint: SignedCheckpoint, old_size: int) -> tuple[int, bytes]:
        proof = self._source.proofs(checkpoint.tree_size).consistency(old_size)
        request = Request(
            f"{state.settings.url.rstrip('/')}/add-checkpoint",
            "POST",
            bytes(Submission(old_size, proof, checkpoint.signed)),
            {"Content-Type": "text/plain; charset=utf-8"},
        )
        try:
            return exchange(request, seconds=_TIMEOUT_SECONDS, max_bytes=_MAX_ANSWER_BYTES, plaintext=True)
        except ExchangeError as error:
            raise _FailedError("WITNESS_UNREACHABLE", str(error)) from error


def _is_size(text: bytes) -> bool:
    return text.isdigit() and len(text) <= _MAX_SIZE_DIGITS


def _note(state: WitnessState, reason: str, detail: str) -> None:
    # A witness's words reach the log, and whoever asks for the status.
    printable = "".join(character if character.isprintable() else "?" for character in detail[:_MAX_DETAIL])
    state.error_reason, state.error_detail = reason, printable


def _invalid(message: str) -> StrongroomError:
    return StrongroomError(Reason.COSIGNATURE_INVALID, message, field="cosignatures")
