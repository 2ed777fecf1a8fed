"""`algorithms`: every spec's operations through gRPC, beside the same operation called directly.

Direct is one thread that calls `cryptography` in a loop: what one core can do when nobody asks it to authenticate,
authorize and record. The crypto service has a core to itself, the same that direct calls run on; the other services and
the load are on the others. Software cases alone have a direct side; those of the token are compared with each other.

The two figures that have targets are the service's as it is deployed, with a worker for each of two cores, which on a
machine of two it shares with everything else, and the load: still against what one core does directly.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import grpc
from google.protobuf.message import Message

from bench.cores import Cores, confined
from bench.load import Load, Method, Shape
from bench.report import BenchmarkError, Report, Target
from bench.workers import crypto_workers
from deploy.dev.configs import ACCOUNT
from deploy.dev.mesh import Mesh, MeshOptions
from deploy.dev.topology import SERVICES
from services.crypto.primitives import ciphers, macs, private_keys, public_key_encryption, public_keys, signatures
from services.crypto.primitives.algorithms import ALGORITHMS
from strongroom.access.v1.session_service_pb2 import CertificateCredential, CreateSessionRequest
from strongroom.access.v1.session_service_pb2_grpc import SessionServiceStub
from strongroom.crypto.v1 import crypto_pb2 as pb
from strongroom.keystore.v1 import key_pb2 as k
from strongroom.keystore.v1.key_service_pb2 import CreateKeyRequest
from strongroom.keystore.v1.key_service_pb2_grpc import KeyServiceStub

NAME = "algorithms"
TARGETS = {
    "rsa2048_sign_vs_direct": Target(0.7),
    "mldsa65_sign_vs_direct": Target(0.5),
    "hsm_rsa2048_sign_8_vs_1": Target(1.4),
}

_SERVICE = "/strongroom.crypto.v1.CryptoService/"
_MESSAGE = bytes(range(64))
_SHAPE = Shape(connections=4, streams=8)
# Long calls: with few in flight their answers come evenly.
_BATCHES = Shape(connections=2, streams=1)
_ALONE = Shape(connections=1, streams=1)
_EIGHT = Shape(connections=8, streams=1)
# A worker owns connections, not calls: enough of them that the kernel's choice evens out.
_TWO_WORKERS = Shape(connections=16, streams=2)
_FIRST_CALLS = 40
_TIMEOUT_SECONDS = 30.0
_VARYING_BYTES = 8
_BATCH_ITEMS = 64

_SOFTWARE, _HSM = k.PROTECTION_LEVEL_SOFTWARE, k.PROTECTION_LEVEL_HSM
_ENCRYPT, _SIGN, _MAC = k.KEY_USAGE_ENCRYPT_DECRYPT, k.KEY_USAGE_SIGN_VERIFY, k.KEY_USAGE_GENERATE_VERIFY_MAC
_AGAINST_ONE_CORE = {"rsa2048_sign": k.KEY_SPEC_RSA_2048, "mldsa65_sign": k.KEY_SPEC_ML_DSA_65}
_SIGNING = tuple(spec for spec, usage in ALGORITHMS if usage == _SIGN)
_IN_TOKEN = (
    (k.KEY_SPEC_AES_256, _ENCRYPT),
    (k.KEY_SPEC_HMAC_256, _MAC),
    (k.KEY_SPEC_RSA_2048, _SIGN),
    (k.KEY_SPEC_EC_P256, _SIGN),
)


@dataclass(frozen=True)
class Case:
    """One operation of one key."""

    name: str
    spec: k.KeySpec.ValueType
    usage: k.KeyUsage.ValueType
    method: str
    request: Callable[[str], Message]
    direct: Callable[[], object] | None = None
    level: k.ProtectionLevel.ValueType = _SOFTWARE
    items: int = 1
    """Operations of one call."""


def run(*, quick: bool) -> Report:
    """Measures everything. Raises BenchmarkError when a call failed."""
    rounds, seconds = (2, 0.25) if quick else (3, 1.5)
    cores = Cores.of_this_machine()
    with tempfile.TemporaryDirectory(prefix="strongroom-bench-") as directory, _mesh(Path(directory), cores) as mesh:
        subject = _Subject(mesh, cores, rounds, seconds)
        figures: dict[str, float] = {}
        for case in _software_cases():
            figures |= subject.measured(case)
        if mesh.provider == "pkcs11":
            for case in _token_cases():
                figures |= subject.measured(case)
            figures["hsm_rsa2048_sign_8_vs_1"] = subject.ratio_of_shapes(_token_cases()[2], _EIGHT, _ALONE)
        with crypto_workers(mesh, 2, cores.two_servers):
            for name, spec in _AGAINST_ONE_CORE.items():
                figures[f"{name}_per_s"], figures[f"{name}_vs_direct"] = subject.with_two_workers(_signing(spec))
    return Report(NAME, figures, TARGETS)


class _Subject:
    """The crypto service of a running mesh, and its caller."""

    def __init__(self, mesh: Mesh, cores: Cores, rounds: int, seconds: float) -> None:
        self._mesh = mesh
        self._cores = cores
        self._rounds = rounds
        self._seconds = seconds
        self._load, self._load_beside_two = Load(cores.others), Load(cores.beside_two)
        self._keys: dict[tuple[int, int, int], str] = {}
        with mesh.channel("keystore") as channel:
            request = CreateSessionRequest(certificate=CertificateCredential())
            self._token = SessionServiceStub(channel).CreateSession(request, timeout=_TIMEOUT_SECONDS).token

    def measured(self, case: Case) -> dict[str, float]:
        """Calls a second through gRPC, directly, and their ratio."""
        rates, directly = self._beside_direct(case, _SHAPE if case.items == 1 else _BATCHES, self._load)
        figures = {f"{case.name}_per_s": median(rates)}
        if directly:
            figures[f"{case.name}_direct_per_s"] = median(directly)
            figures[f"{case.name}_vs_direct"] = _ratio(rates, directly)
        return figures

    def with_two_workers(self, case: Case) -> tuple[float, float]:
        """Calls a second when crypto has two workers, and their ratio to direct ones on one core."""
        rates, directly = self._beside_direct(case, _TWO_WORKERS, self._load_beside_two)
        return median(rates), _ratio(rates, directly)

    def ratio_of_shapes(self, case: Case, many: Shape, few: Shape) -> float:
        """How many times as many calls a second `many` in flight get done as `few` do."""
        method, answer_bytes = self._tried(case)
        ratios = []
        for _ in range(self._rounds):
            base = self._rate(method, answer_bytes, few, self._load)
            ratios.append(self._rate(method, answer_bytes, many, self._load) / base)
        return median(ratios)

    def _beside_direct(self, case: Case, shape: Shape, load: Load) -> tuple[list[float], list[float]]:
        method, answer_bytes = self._tried(case)
        rates, directly = [], []
        for _ in range(self._rounds):
            rates.append(self._rate(method, answer_bytes, shape, load) * case.items)
            if case.direct is not None:
                with confined(self._cores.server):
                    directly.append(_rate_of(case.direct, self._seconds))
        return rates, directly

    def _tried(self, case: Case) -> tuple[Method, int]:
        """The call, and the size of its answer: that of one made with a real client."""
        address = self._mesh.address("crypto", "public")
        message = case.request(self._key(case)).SerializeToString()
        method = Method(address, _SERVICE + case.method, message, self._token)
        with self._mesh.channel("crypto", "public", self._mesh.trust) as channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method.path)
            metadata = (("authorization", f"Bearer {self._token}"),)
            return method, len(call(message, timeout=_TIMEOUT_SECONDS, metadata=metadata))

    def _rate(self, method: Method, answer_bytes: int, shape: Shape, load: Load) -> float:
        first = load.full(method, _FIRST_CALLS, shape)
        calls = max(int(first.per_second * self._seconds), _FIRST_CALLS)
        outcome = load.full(method, calls, shape)
        # A refusal has no message. ECDSA's signatures differ by a few bytes.
        if outcome.data_bytes < len(outcome.answers) * (answer_bytes - _VARYING_BYTES):
            raise BenchmarkError(f"{method.path}: calls were refused")
        return outcome.per_second

    def _key(self, case: Case) -> str:
        wanted = (case.spec, case.usage, case.level)
        if wanted not in self._keys:
            key = k.Key(spec=case.spec, usage=case.usage, protection_level=case.level)
            with self._mesh.channel("keystore") as channel:
                request = CreateKeyRequest(parent=f"accounts/{ACCOUNT}", key=key)
                self._keys[wanted] = KeyServiceStub(channel).CreateKey(request, timeout=_TIMEOUT_SECONDS).name
        return self._keys[wanted]


def _software_cases() -> list[Case]:
    cases = []
    for spec, size in ciphers.KEY_BYTES.items():
        cipher = ciphers.in_software(spec, os.urandom(size))
        cases.append(
            Case(_name("encrypt", spec), spec, _ENCRYPT, "Encrypt", _encrypt, _bound(cipher.encrypt, _MESSAGE, b""))
        )
    for spec, size in macs.KEY_BYTES.items():
        mac = macs.SoftwareMacKey(os.urandom(size), ALGORITHMS[spec, _MAC][0])
        cases.append(Case(_name("mac", spec), spec, _MAC, "GenerateMac", _mac, _bound(mac.compute, _MESSAGE)))
    for spec in _SIGNING:
        case = _signing(spec)
        cases.append(case)
        if spec == k.KEY_SPEC_RSA_2048:
            name = _name("batch_sign", spec)
            cases.append(replace(case, name=name, method="BatchSign", request=_batch_sign, items=_BATCH_ITEMS))
    for spec in (k.KEY_SPEC_RSA_2048, k.KEY_SPEC_ML_KEM_768, k.KEY_SPEC_X_WING):
        stored = private_keys.generate(spec)
        public = public_keys.load(spec, private_keys.public_key(spec, stored))
        algorithm = ALGORITHMS[spec, _ENCRYPT][0]
        direct = _bound(public_key_encryption.encrypt, public, algorithm, _MESSAGE, b"")
        cases.append(Case(_name("public_key_encrypt", spec), spec, _ENCRYPT, "AsymmetricEncrypt", _encrypt_to, direct))
    return cases


def _signing(spec: k.KeySpec.ValueType) -> Case:
    private = private_keys.load(spec, private_keys.generate(spec))
    signer = signatures.signer(private, private.public_key())
    algorithm = ALGORITHMS[spec, _SIGN][0]
    direct = _bound(signer.sign, algorithm, signatures.Input(_MESSAGE))
    return Case(_name("sign", spec), spec, _SIGN, "Sign", _sign, direct)


def _token_cases() -> list[Case]:
    requests = {_ENCRYPT: ("Encrypt", _encrypt), _MAC: ("GenerateMac", _mac), _SIGN: ("Sign", _sign)}
    return [
        Case(_name(f"hsm_{method.lower()}", spec), spec, usage, method, request, level=_HSM)
        for spec, usage in _IN_TOKEN
        for method, request in (requests[usage],)
    ]


def _encrypt(key: str) -> Message:
    return pb.EncryptRequest(key=key, plaintext=_MESSAGE)


def _mac(key: str) -> Message:
    return pb.GenerateMacRequest(key=key, message=_MESSAGE)


def _sign(key: str) -> Message:
    return pb.SignRequest(key=key, message=_MESSAGE)


def _batch_sign(key: str) -> Message:
    return pb.BatchSignRequest(key=key, items=[pb.SignItem(message=_MESSAGE)] * _BATCH_ITEMS)


def _encrypt_to(key: str) -> Message:
    return pb.AsymmetricEncryptRequest(key=key, plaintext=_MESSAGE)


def _name(operation: str, spec: k.KeySpec.ValueType) -> str:
    return f"{operation}_{k.KeySpec.Name(spec).removeprefix('KEY_SPEC_').lower()}"


def _bound(function: Callable[..., object], *arguments: object) -> Callable[[], object]:
    return lambda: function(*arguments)


def _ratio(subject: list[float], baseline: list[float]) -> float:
    return median(mine / base for mine, base in zip(subject, baseline, strict=True))


def _rate_of(function: Callable[[], object], seconds: float) -> float:
    calls, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        function()
        calls += 1
    return calls / elapsed


def _mesh(directory: Path, cores: Cores) -> Mesh:
    # The services' own defaults, not what `make run` sets to be looked into.
    settings = {service: {"telemetry": {"sample_ratio": None, "span_directory": None}} for service in SERVICES}
    cpus = {"redis": cores.others, **dict.fromkeys(SERVICES, cores.others), "crypto": cores.server}
    return Mesh(directory, MeshOptions(settings=settings, cpus=cpus, log_level="WARNING"))
