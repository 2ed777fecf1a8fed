"""`strongroom audit`: the log itself, proved and verified."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli.command import Report, Session, command, facts_report
from strongroom.cli.complaints import Status
from strongroom.cli.inputs import STANDARD, Force, OutputFile, read_file, read_text, text_within, write_bytes
from strongroom.cli.tables import Table, table
from strongroom.errors import StrongroomError

if TYPE_CHECKING:
    from strongroom.calls.audit.logs import Log, Witness
    from strongroom.tlog.notes import VerifierKey
    from strongroom.tlog.verification import Trust

LogName = Annotated[str, typer.Option("--log", metavar="LOG", help="logs/{log}, where there are several.")]
Keys = Annotated[
    list[str],
    typer.Option("--key", metavar="VERIFIER", help="A verifier key of the log, or a file of them. May be repeated."),
]
Witnesses = Annotated[
    list[str] | None,
    typer.Option(
        "--witness", metavar="VERIFIER", help="A verifier key of a witness, or a file of them. May be repeated."
    ),
]
# What a check answers of a log or proof that is not what it was. Wrong keys, and files that are missing or something
# else altogether, are no answer.
_NOT_TRUE = frozenset({"LOG_ALTERED", "LOG_INCONSISTENT", "SIGNATURE_INVALID"})
# Of a log's own files, in a folder.
_NOT_TRUE_OF_A_LOG = _NOT_TRUE | {"LOG_DATA_MALFORMED"}
# What JSON and YAML take for a text beyond its own bytes, and beside it.
_WRITTEN = 2
_BESIDE_BYTES = 4096
Quorum = Annotated[int, typer.Option(metavar="COUNT", min=0, max=1000, help="How many witnesses must have cosigned.")]


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    command(app, "logs", "strongroom audit logs")(logs)
    command(app, "checkpoint", "strongroom audit checkpoint --out checkpoint")(checkpoint)
    command(app, "prove", "strongroom audit prove 0198c7c4-1a2b-7c3d-8e4f-5a6b7c8d9e0f --out proof")(prove)
    command(app, "verify", "strongroom audit verify log --key log/keys --older checkpoint")(verify)


def logs(session: Session) -> Report:
    """Show the logs: their sizes, their keys, their witnesses."""
    found = list(session.client.audit.logs.list())
    return Report({"logs": found}, lambda: _table(found))


def checkpoint(session: Session, log: LogName = "", out: OutputFile = None, force: Force = False) -> Report:
    """Print the newest checkpoint, a signed note: keep one, and `verify` shows later that nothing before it changed."""
    found = session.client.audit.logs.get_checkpoint(log)
    if out is not None and out != STANDARD:
        write_bytes(out, found.note, force=force)
        return Report({"checkpoint": found, "file": out}, note=f"checkpoint of {found.tree_size} in {out}")
    return Report({"checkpoint": found, "note": found.note.decode()}, raw=found.note)


def prove(
    session: Session,
    event: Annotated[str, typer.Argument(metavar="EVENT", help="The event's id, as every answer tells it.")],
    out: OutputFile = None,
    force: Force = False,
) -> Report:
    """Get the proof that an event is in the log: a C2SP tlog-proof, for `verify` and anyone else."""
    from strongroom.tlog import proofs
    from strongroom.tlog.notes import parse_verifier_key

    found = session.client.audit.logs.get_inclusion_proof(event)
    keys = [parse_verifier_key(key.verifier_key) for key in session.client.audit.logs.get(found.log).keys]
    proofs.parse(found.proof).verify(found.leaf, keys)
    document = {"event": event, "log": found.log, "index": found.index, "tree_size": found.checkpoint.tree_size}
    if out is None or out == STANDARD:
        return Report({**document, "proof": found.proof.decode()}, raw=found.proof)
    write_bytes(out, found.proof, force=force)
    return Report({**document, "file": out}, note=f"event {found.index} of {found.checkpoint.tree_size} in {out}")


def verify(
    session: Session,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder of tiles, or a file that `prove` wrote.")],
    key: Keys,
    older: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A checkpoint of before, which must be the log's beginning.")
    ] = None,
    witness: Witnesses = None,
    quorum: Quorum = 0,
) -> Report:
    """Verify offline, trusting nothing but the keys: every entry and tile of a log, or the proof of one event.

    Names the first entry that is wrong, and exits with 1.
    """
    from strongroom.tlog.verification import Trust

    trust = Trust(keys_of(key, "--key"), keys_of(witness or [], "--witness"), quorum)
    is_log = path.is_dir()
    if older and not is_log and (path == STANDARD or path.exists()):
        raise typer.BadParameter("goes with a folder of tiles: a proof has no beginning", param_hint="--older")
    before = _before(older, trust) if older else None
    try:
        return _verified_log(session, path, trust, before) if is_log else _verified_proof(path, trust)
    except StrongroomError as error:
        if error.reason not in (_NOT_TRUE_OF_A_LOG if is_log else _NOT_TRUE):
            raise
        answer = {"verified": False, "reason": error.reason, "problem": error.message, **error.metadata}
        return facts_report({**answer, **_what_else(error)}, exit_code=Status.NO)


def _what_else(error: StrongroomError) -> dict[str, str]:
    """What an honest reason for the answer would be, where there is one."""
    from strongroom.tlog.verification import OLDER_SIZE

    if OLDER_SIZE not in error.metadata:
        return {}
    return {
        "hint": "it may be that this copy was merely made before that checkpoint: `strongroom audit export` brings it "
        "up to date; a log that is still too short then was cut"
    }


def _before(older: Path, trust: Trust) -> bytes:
    """A note that `checkpoint` wrote. One that is none, or that no key of ours signed, says nothing of the log."""
    from strongroom.tlog.notes import MAX_NOTE_BYTES

    note = text_within(read_file(older, MAX_NOTE_BYTES * _WRITTEN + _BESIDE_BYTES), "note")
    trust.open(note)
    return note


def _verified_log(session: Session, path: Path, trust: Trust, before: bytes | None) -> Report:
    from strongroom.cli.show import progress
    from strongroom.tlog.verification import TileFolder, verify_log

    with progress("verifying", quiet=session.quiet) as advance:
        checkpoint = verify_log(TileFolder(path), trust, before, advance)
    return facts_report(
        {"verified": True, "origin": checkpoint.origin, "entries": checkpoint.size, "root_hash": checkpoint.root.hex()}
    )


def _verified_proof(path: Path, trust: Trust) -> Report:
    from strongroom.tlog import proofs

    written = read_file(path, proofs.MAX_PROOF_BYTES * _WRITTEN + _BESIDE_BYTES)
    _require_no_checkpoint(path, text_within(written, "note"))
    proof = proofs.parse(text_within(written, "proof"))
    checkpoint = proof.verify(proof.extra, trust.keys, trust.witnesses, trust.quorum)
    return facts_report({"verified": True, "origin": checkpoint.origin, "entry": proof.index, "of": checkpoint.size})


def _require_no_checkpoint(path: Path, content: bytes) -> None:
    """A usage error for a signed note: it proves nothing by itself."""
    from strongroom.tlog import checkpoints, notes

    try:
        checkpoints.parse_text(notes.parse(content).text)
    except StrongroomError:
        return
    raise typer.BadParameter(
        f"{path} is a checkpoint, which is compared with a copy of the log: `strongroom audit verify FOLDER --key "
        f"VERIFIER --older {path}`, where `strongroom audit export FOLDER` makes the copy",
        param_hint="PATH",
    )


def keys_of(given: list[str], option: str) -> list[VerifierKey]:
    """Verifier keys, each given as it is or in a file. A usage error for what is neither."""
    from strongroom.tlog.notes import parse_verifier_key

    found = []
    for one in given:
        path = Path(one)
        if one == str(STANDARD) or path.is_file():
            lines = read_text(path).split()
        elif path.is_dir():
            raise typer.BadParameter(
                f"{one} is a folder: give the file of keys in it, {path / 'keys'}", param_hint=option
            )
        elif "+" not in one:
            raise typer.BadParameter(
                f"there is no file {one}, and a key itself is NAME+HASH+BASE64: `strongroom audit logs` shows them",
                param_hint=option,
            )
        else:
            lines = [one]
        found += [parse_verifier_key(line) for line in lines]
    if given and not found:
        raise typer.BadParameter("there is no key in it", param_hint=option)
    return found


def _table(found: list[Log]) -> Table:
    rows = [
        (
            log.name,
            log.origin,
            log.size,
            log.published_size,
            "\n".join(key.verifier_key for key in log.keys),
            "\n".join(map(_witness, log.witnesses)),
        )
        for log in found
    ]
    headings = ("log", "origin", "size", "published", "keys, newest first", "witnesses")
    return table(headings, rows)


def _witness(witness: Witness) -> str:
    name = witness.verifier_key.partition("+")[0]
    return f"{name}: {witness.error_reason or f'cosigned {witness.cosigned_size}'}"
