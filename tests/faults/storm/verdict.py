"""What is left of what was acknowledged, by means that do not trust the mesh's own word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.dev.configs import ACCOUNT
from strongroom import Client, StrongroomError
from strongroom.tlog.tiles import tiles_between
from tests.faults.storm.load import Steady
from tests.support.clients import until
from tests.support.independent_log import open_proof, verify_folder

_PROOFS = 40
_ROTATED_SECONDS = 60.0


@dataclass
class Verdict:
    """What is wrong, in words; nothing where all is well."""

    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    writes: int = 0
    events: int = 0


def judge(client: Client, callers: Sequence[Steady], directory: Path) -> Verdict:
    """Looks for everything that callers were told was done."""
    verdict = Verdict()
    _judge_keys(client, callers, verdict)
    for caller in callers:
        verdict.wrong += caller.wrong
        verdict.lost += caller.lost()
        _judge_versions(client, caller, verdict)
        _judge_sealed(client, caller, verdict)
        _judge_values(client, caller, verdict)
        _judge_rotations(client, caller, verdict)
    _judge_texts(client, callers, verdict)
    _judge_events(client, callers, verdict, directory)
    return verdict


def _judge_keys(client: Client, callers: Sequence[Steady], verdict: Verdict) -> None:
    there = Counter(key.name for key in client.keys.list())
    for caller in callers:
        verdict.writes += len(caller.made.keys)
        verdict.lost += [f"key {name}" for name in caller.made.keys if not there[name]]
        # A key that its caller was told nothing of, and that it did not ask for in vain either.
        known = {name.rpartition("/")[2] for name in caller.made.keys} | set(caller.made.undecided_keys)
        ids = (name.rpartition("/")[2] for name in there)
        verdict.duplicated += [f"key {one}" for one in ids if one.startswith(f"{caller.name}-") and one not in known]
    verdict.duplicated += [f"key {name}" for name, count in there.items() if count > 1]


def _judge_versions(client: Client, caller: Steady, verdict: Verdict) -> None:
    for key, acknowledged in caller.made.key_versions.items():
        verdict.writes += acknowledged
        found = len(list(client.keys.versions.list(key)))
        if found < acknowledged:
            verdict.lost.append(f"version {acknowledged} of {key}")
        if found > acknowledged:
            verdict.duplicated.append(f"{key} has {found} versions, and {acknowledged} were asked for")


def _judge_sealed(client: Client, caller: Steady, verdict: Verdict) -> None:
    for ciphertext, plaintext in caller.made.sealed:
        try:
            answer = client.decrypt(ciphertext).plaintext
        except StrongroomError as error:
            verdict.lost.append(f"ciphertext of {plaintext!r}: {error}")
            continue
        if answer != plaintext:
            verdict.wrong.append(f"ciphertext of {plaintext!r} decrypts to {answer!r}")


def _judge_values(client: Client, caller: Steady, verdict: Verdict) -> None:
    for secret, acknowledged in caller.made.values.items():
        verdict.writes += len(acknowledged)
        numbers = [int(one.name.rpartition("/")[2]) for one in client.secrets.versions.list(secret)]
        found = {number: client.secrets.get_value(secret, version=number).value for number in numbers}
        for number, value in acknowledged.items():
            if found.get(number) != value:
                verdict.lost.append(f"version {number} of {secret}: {value!r}")
        times = Counter(found.values())
        verdict.duplicated += [f"{secret}: {value!r}" for value, count in times.items() if count > 1]
        unknown = set(found.values()) - set(acknowledged.values()) - set(caller.made.undecided_values[secret])
        verdict.wrong += [f"{secret}: {value!r} was never put" for value in unknown]


def _judge_rotations(client: Client, caller: Steady, verdict: Verdict) -> None:
    """Each goes on to its end by itself."""
    verdict.writes += len(caller.made.rotations)
    if not caller.made.rotations:
        return
    secret = caller.made.rotations[0].rpartition("/rotations/")[0]

    def states() -> dict[str, str]:
        return {one.name: one.state for one in client.secrets.rotations.list(secret)}

    until(lambda: set(states().values()) == {"SUCCEEDED"}, _ROTATED_SECONDS)
    found = states()
    verdict.lost += [f"rotation {name}" for name in caller.made.rotations if name not in found]
    verdict.duplicated += [f"{name} was begun twice" for name, n in Counter(caller.made.rotations).items() if n > 1]


def _judge_texts(client: Client, callers: Sequence[Steady], verdict: Verdict) -> None:
    for user, text in (one for caller in callers for one in caller.made.users.items()):
        description = client.access.principals.get(user).description
        if not text.may_be(description):
            verdict.lost.append(f"{user}: {description!r}, not {text.acknowledged!r}")
    reason, holds = client.audit.retention.get_legal_hold().reason, callers[0].made.holds
    if not holds.may_be(reason):
        verdict.lost.append(f"the legal hold: {reason!r}, not {holds.acknowledged!r}")


def _judge_events(client: Client, callers: Sequence[Steady], verdict: Verdict, directory: Path) -> None:
    kept = Counter(event.id for event in client.audit.events.list(timeout=30))
    acknowledged = [event for caller in callers for event in caller.made.events]
    verdict.events = len(acknowledged)
    verdict.lost += [f"event {event}" for event in acknowledged if not kept[event]]
    verdict.duplicated += [f"event {event}" for event, count in kept.items() if count > 1]
    verdict.duplicated += [
        f"event {event} was given to two calls" for event, n in Counter(acknowledged).items() if n > 1
    ]
    checkpoint = client.audit.logs.get_checkpoint()
    (log,) = client.audit.logs.list(account=ACCOUNT)
    vkey = log.keys[0].verifier_key
    for path in tiles_between(0, checkpoint.tree_size):
        file = directory / str(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(client.audit.logs.get_tile(str(path)))
    (directory / "checkpoint").write_bytes(checkpoint.note)
    size, entries = verify_folder(directory, vkey)
    places = set()
    for event in acknowledged[:: max(len(acknowledged) // _PROOFS, 1)]:
        found = client.audit.logs.get_inclusion_proof(event)
        places.add(open_proof(found.proof, found.leaf, vkey)[0])
        if found.leaf not in entries:
            verdict.lost.append(f"event {event} is not in the log's tiles")
    if len(entries) != size or len(places) < min(len(acknowledged), _PROOFS):
        verdict.wrong.append("the log's own proofs")
