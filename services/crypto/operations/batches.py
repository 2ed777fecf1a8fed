"""Batches: many items in one call, an outcome for each.

A batch asks for permission once for each key version and encryption context among its items, and leaves one event for
each, with the number of items that it stands for and how many of them have no result. When no item has a key that the
caller may use, the call as a whole fails.

A key that was refused under some contexts, by a decision that is the same under every context, is not asked for again:
what else the batch has under it is refused with those, and one event tells of all.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any, Generic, TypeVar

from services.crypto.keys.key_uses import KeyUse
from services.crypto.operations import inputs
from services.crypto.operations.encryption import Decryptor, Encryption, Encryptor, check_plaintext
from services.crypto.primitives import ciphertexts
from services.crypto.primitives.ciphertexts import Ciphertext
from services.crypto.primitives.signatures import Signer
from services.runtime import encryption_context, event_bounds
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError, required, too_large
from services.runtime.requests import checksums
from strongroom.audit.v1.event_pb2 import Event, Outcome
from strongroom.crypto.v1 import crypto_pb2 as pb
from strongroom.crypto.v1.algorithm_pb2 import Algorithm

_MAX_ITEMS = 1000
_MAX_BYTES = 4 << 20
_DECRYPT = "crypto:Decrypt"
_ASKED_IN_VAIN = 8

U = TypeVar("U", Encryptor, Decryptor)
Item = TypeVar("Item")


@dataclass(slots=True)
class _Refusals:
    """Of one key, by decisions that are the same under every encryption context."""

    groups: list[Hashable] = field(default_factory=list)
    """Those that were asked for."""
    contexts: list[bytes] = field(default_factory=list)
    """The digests of the contexts that were refused with them."""


class _Uses(Generic[U]):
    """The key uses of one batch, each opened once, and what became of the items."""

    def __init__(self, call: Call, action: str) -> None:
        self._call = call
        self._action = action
        self._opened: dict[Hashable, U | StrongroomError] = {}
        self._events: dict[Hashable, list[Event]] = {}
        """Two where a ciphertext is under another account's key: its refusal there, and here."""
        self._groupless: Counter[Reason] = Counter()
        self._refusals: defaultdict[Hashable, _Refusals] = defaultdict(_Refusals)

    def use(
        self, key: Hashable, group: Hashable, context: Mapping[str, str], open_use: Callable[[], U], items: int = 1
    ) -> U:
        """The use of a key under a context that items of this group share, for so many more of them. Raises what
        opening it raised."""
        opened = self._opened.get(group)
        if opened is None:
            refusals = self._refusals[key]
            if len(refusals.groups) < _ASKED_IN_VAIN:
                opened = self._opened[group] = self._open(group, open_use)
                if isinstance(opened, StrongroomError) and self._call.refused_whatever:
                    refusals.groups.append(group)
            else:
                refusals.contexts.append(event_bounds.context_digest(context))
                opened = self._opened[group] = self._opened[refusals.groups[0]]
                self._events[group] = self._events[refusals.groups[0]]
        for event in self._events.get(group, ()):
            event.item_count += items
        if isinstance(opened, StrongroomError):
            raise opened.renewed()
        return opened

    def failed(self, error: StrongroomError, group: Hashable | None) -> pb.ItemError:
        """Counts an item that has no result, and says why. `group` is None for one that did not get as far."""
        events = self._events.get(group)
        if not events:
            self._groupless[error.reason] += 1
        for event in events or ():
            event.failed_item_count += 1
        return item_error(error)

    def conclude(self, admit: Callable[[Call], None]) -> None:
        """Records what belongs to no group. Raises the first group's error when no group could be opened at all. Where
        no item got as far as a key nobody was asked whether the caller may: `admit` asks whether it may do anything."""
        for refusals in self._refusals.values():
            if refusals.contexts:
                asked = [self._events[group] for group in refusals.groups]
                event_bounds.merge_refusals(self._call.events, asked, refusals.contexts)
        errors = [opened for opened in self._opened.values() if isinstance(opened, StrongroomError)]
        if errors and len(errors) == len(self._opened):
            raise errors[0].renewed()
        if not self._opened:
            admit(self._call)
        for reason, count in self._groupless.items():
            event = self._call.record(self._action, "", self._call.principal.account, item_count=count)
            event.outcome, event.reason, event.failed_item_count = Outcome.OUTCOME_FAILED, reason, count

    def _open(self, group: Hashable, open_use: Callable[[], U]) -> U | StrongroomError:
        before, self._call.refused_whatever = len(self._call.events), False
        try:
            opened: U | StrongroomError = open_use()
        except StrongroomError as error:
            opened = error
        for event in self._call.events[before:]:
            event.item_count = 0
            self._events.setdefault(group, []).append(event)
            if isinstance(opened, StrongroomError) and event.outcome == Outcome.OUTCOME_UNSPECIFIED:
                event.outcome, event.reason = Outcome.OUTCOME_FAILED, opened.reason
        return opened


def encrypt(encryption: Encryption, call: Call, request: pb.BatchEncryptRequest) -> pb.BatchEncryptResponse:
    """Encrypts each item under the key's primary version. Whole lists at a time: a batch is there to be quick."""
    action = "crypto:Encrypt"
    uses: _Uses[Encryptor] = _Uses(call, action)
    items = list(checked(request.items, attrgetter("plaintext")))
    plaintexts = [item.plaintext for item in items]
    summed = [item.HasField("plaintext_crc32c") for item in items]
    faults = _faults(items, plaintexts, summed)
    outcomes: list[dict[str, Any]] = [{} for _ in items]
    answer: dict[str, Any] = {}
    for context, group in _by_context(items).items():
        sound = [position for position in group if position not in faults] if faults else group
        try:
            bound = encryption_context.of(dict(context))
            open_use = partial(encryption.encryptor, call, action, request.key, bound)
            encryptor = uses.use(request.key, context, bound.pairs, open_use, len(group))
            encrypted = encryptor.encrypt_all([plaintexts[position] for position in sound])
        except StrongroomError as error:
            for position in group:
                outcomes[position]["error"] = uses.failed(error, context)
            continue
        for position, ciphertext in zip(sound, encrypted, strict=True):
            outcomes[position]["ciphertext"] = ciphertext
            if summed[position]:
                outcomes[position]["ciphertext_crc32c"] = checksums.crc32c(ciphertext)
        if len(sound) < len(group):
            for position in set(group).intersection(faults):
                outcomes[position]["error"] = uses.failed(faults[position], context)
        answer = {
            "key": encryptor.use.key_name,
            "key_version": encryptor.use.version_name,
            "algorithm": encryptor.algorithm,
        }
    uses.conclude(encryption.require_standing)
    return pb.BatchEncryptResponse(outcomes=outcomes, **answer)  # type: ignore[arg-type]  # dicts do for messages


def decrypt(encryption: Encryption, call: Call, request: pb.BatchDecryptRequest) -> pb.BatchDecryptResponse:
    """Decrypts each item under the key version that it names."""
    uses: _Uses[Decryptor] = _Uses(call, _DECRYPT)
    response = pb.BatchDecryptResponse()
    for item in checked(request.items, attrgetter("ciphertext")):
        context = item.encryption_context
        group: Hashable = None
        try:
            if not item.ciphertext:
                raise required("ciphertext")
            given = item.HasField("ciphertext_crc32c")
            if given:
                checksums.verify(item.ciphertext, item.ciphertext_crc32c, "ciphertext_crc32c")
            parsed = ciphertexts.parse(item.ciphertext)
            group = (parsed.key_uid, parsed.key_version, frozenset(context.items()))
            open_use = partial(_decryptor, encryption, call, parsed, context, request.key)
            decryptor = uses.use(parsed.key_uid, group, context, open_use)
            plaintext = decryptor.decrypt(parsed)
        except StrongroomError as error:
            response.outcomes.add(error=uses.failed(error, group))
            continue
        response.outcomes.add(
            decrypted=pb.DecryptedItem(
                plaintext=plaintext,
                key_version=decryptor.use.version_name,
                plaintext_crc32c=checksums.crc32c(plaintext) if given else None,
            )
        )
    uses.conclude(encryption.require_standing)
    return response


def sign(use: KeyUse[Signer], algorithm: Algorithm.ValueType, items: Sequence[pb.SignItem]) -> pb.BatchSignResponse:
    """Signs each item with one key version."""
    response = pb.BatchSignResponse(key_version=use.version_name, algorithm=algorithm)
    use.event.item_count = len(items)
    for item in items:
        try:
            data = inputs.item_to_sign(item)
            data.check(algorithm)
            response.outcomes.add(signature=use.material.sign(algorithm, data))
        except StrongroomError as error:
            use.event.failed_item_count += 1
            response.outcomes.add(error=item_error(error))
    return response


def item_error(error: StrongroomError) -> pb.ItemError:
    """Why one item of several has no result."""
    return pb.ItemError(reason=error.reason, message=error.message)


def _decryptor(
    encryption: Encryption, call: Call, ciphertext: Ciphertext, context: Mapping[str, str], key_name: str
) -> Decryptor:
    return encryption.decryptor(call, _DECRYPT, ciphertext, encryption_context.of(context), key_name)


def checked(items: Sequence[Item], content: Callable[[Item], bytes]) -> Sequence[Item]:
    """The items; raises FIELD_REQUIRED without any, FIELD_TOO_LARGE beyond 1,000, or 4 MiB of content in all."""
    if not items:
        raise required("items")
    if len(items) > _MAX_ITEMS:
        raise too_large("items", _MAX_ITEMS, "items")
    if sum(len(content(item)) for item in items) > _MAX_BYTES:
        raise too_large("items", _MAX_BYTES, "bytes in all")
    return items


def _by_context(items: Sequence[pb.EncryptItem]) -> Mapping[frozenset[tuple[str, str]], Sequence[int]]:
    """The positions of the items that share an encryption context."""
    contexts = [item.encryption_context for item in items]
    if not any(contexts):
        return {frozenset(): range(len(items))}
    groups: defaultdict[frozenset[tuple[str, str]], list[int]] = defaultdict(list)
    for position, context in enumerate(contexts):
        groups[frozenset(context.items())].append(position)
    return groups


def _faults(
    items: Sequence[pb.EncryptItem], plaintexts: Sequence[bytes], summed: Sequence[bool]
) -> dict[int, StrongroomError]:
    """What is wrong with plaintexts, by position."""
    sizes = list(map(len, plaintexts))
    faults: dict[int, StrongroomError] = {}
    if any(summed) or not min(sizes) or max(sizes) > ciphertexts.MAX_PLAINTEXT_BYTES:
        for position, (item, plaintext) in enumerate(zip(items, plaintexts, strict=True)):
            try:
                check_plaintext(plaintext)
                if summed[position]:
                    checksums.verify(plaintext, item.plaintext_crc32c, "plaintext_crc32c")
            except StrongroomError as error:
                faults[position] = error
    return faults
