"""`peers`: the same work asked of Strongroom and of OpenBao, each with all of its processes on one core, the same one.

Both speak TLS and keep an audit log of every call. The load comes from the other cores, from as many connections, and
takes turns between the two, so that both have the same machine. OpenBao runs already, as `bench/openbao.py` has it:

    taskset --cpu-list 0 .venv/bin/python -m tools.openbao serve FOLDER
    .venv/bin/python -m bench peers --openbao FOLDER

What is asked for: 64 bytes encrypted under an AES-256 key, 256 times 64 bytes in a batch, and data keys of 64 bytes
that come as plaintext and ciphertext. That each of our calls was done is read from the audit log afterwards.
"""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path

from bench.cores import Cores, confined
from bench.doors import HttpCall, measured
from bench.load import Load, Method, Outcome, Sent
from bench.openbao import OpenBao
from bench.report import BenchmarkError, Report, Target
from bench.subject import BATCH_ITEMS, PLAINTEXT_BYTES, Subject
from deploy.dev.mesh import Mesh, MeshOptions
from deploy.dev.topology import SERVICES

NAME = "peers"
TARGETS = {f"{name}_vs_openbao": Target(5.0) for name in ("encrypt", "data_key", "batch")}

_CALLS, _CALLS_QUICK = 12_000, 3_000
_BATCHES, _BATCHES_QUICK = 600, 128
_KEY = "bench-peers"


def run(*, quick: bool, openbao: Path | None = None) -> Report:
    """Measures each in turns. Raises BenchmarkError without a folder that describes an OpenBao."""
    if openbao is None:
        raise BenchmarkError(
            "peers needs --openbao FOLDER: a running OpenBao, as `python -m tools.openbao serve` starts"
        )
    other = OpenBao.in_folder(openbao)
    other.prepare(_KEY, _KEY, {"a": "b"})
    cores = Cores.of_this_machine()
    calls, batches = (_CALLS_QUICK, _BATCHES_QUICK) if quick else (_CALLS, _BATCHES)
    plaintext = base64.b64encode(bytes(range(PLAINTEXT_BYTES))).decode()
    figures: dict[str, float] = {}
    with (
        confined(cores.others),
        tempfile.TemporaryDirectory(prefix="strongroom-bench-") as directory,
        _mesh(Path(directory), cores) as mesh,
    ):
        subject = Subject(mesh)
        subject.try_out()
        load = Load(cores.others)

        def noted(way: Sent, calls: int) -> None:
            if isinstance(way, Method):
                subject.sent(way, calls)

        batch = {"batch_input": [{"plaintext": plaintext}] * BATCH_ITEMS}
        for name, ours, theirs, number in (
            ("encrypt", subject.encrypt, _call(other, "encrypt", {"plaintext": plaintext}), calls),
            ("data_key", subject.data_key, _call(other, "datakey/plaintext", {"bits": 8 * PLAINTEXT_BYTES}), calls),
            ("batch", subject.batch_encrypt, _call(other, "encrypt", batch), batches),
        ):
            by_us, by_them = measured(load, [ours, theirs], number, sent=noted)
            figures |= _figures(name, by_us, by_them)
        subject.verify()
    return Report(NAME, figures, TARGETS)


def _figures(name: str, ours: Outcome, theirs: Outcome) -> dict[str, float]:
    return {
        f"{name}_per_s": ours.per_second,
        f"{name}_p99_ms": ours.latency_ms(0.99),
        f"{name}_openbao_per_s": theirs.per_second,
        f"{name}_openbao_p99_ms": theirs.latency_ms(0.99),
        f"{name}_vs_openbao": ours.per_second / theirs.per_second,
    }


def _call(other: OpenBao, what: str, body: object) -> HttpCall:
    return HttpCall(f"{other.address}/v1/transit/{what}/{_KEY}", other.token, json.dumps(body).encode())


def _mesh(directory: Path, cores: Cores) -> Mesh:
    # The services' own defaults, not what `make run` sets to be looked into; and the native listener where it is built.
    own = {"telemetry": {"sample_ratio": None, "span_directory": None}, "listeners": {"engine": "auto"}}
    return Mesh(
        directory,
        MeshOptions(
            provider="local",
            cpus=dict.fromkeys((*SERVICES, "redis"), cores.server),
            settings=dict.fromkeys(SERVICES, own),
            log_level="WARNING",
        ),
    )
