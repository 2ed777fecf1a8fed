"""Command lines over a mesh that answers everything with nothing, and the requests that they send."""

from __future__ import annotations

import inspect
import io
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from strongroom.access.v1 import access_service_pb2, session_service_pb2
from strongroom.audit.v1 import audit_service_pb2
from strongroom.cli.command import COMMON_OPTIONS, _flags
from strongroom.cli.request_fields import Typed
from strongroom.crypto.v1 import crypto_pb2
from strongroom.errors import StrongroomError
from strongroom.keystore.v1 import key_service_pb2
from strongroom.secrets.v1 import secret_service_pb2
from strongroom.transport import Answer, Endpoint
from tests.support.cli import commands, parser

EVENT = "0198c7c4-1a2b-7c3d-8e4f-5a6b7c8d9e0"
FILES = (
    access_service_pb2,
    session_service_pb2,
    audit_service_pb2,
    crypto_pb2,
    key_service_pb2,
    secret_service_pb2,
)

# Two values for each word in capitals.
VALUES: Mapping[str, tuple[str, str]] = {
    "ACCOUNT": ("main", "shop"),
    "ACTION": ("crypto:Decrypt", "crypto:Encrypt"),
    "ADDRESS": ("10.0.0.1", "10.0.0.2"),
    "ALGORITHM": ("ED25519", "ECDSA_SHA_256"),
    "ALIAS": ("current", "other"),
    "AUDIENCE": ("a", "b"),
    "BASE64": ("AQID", "AQIE"),
    "CLIENT_KEY": ("ck-1", "ck-2"),
    "COUNT": ("16", "17"),
    "DATABASE": ("a", "b"),
    "DAY": ("MONDAY", "SUNDAY"),
    "DIMENSION": ("principal", "action"),
    "EVENT": (f"{EVENT}1", f"{EVENT}2"),
    "FILE": ("file-1", "file-2"),
    "FILE|MODE": ("verify-ca", "disabled"),
    "FIELD": ("a", "b"),
    "FILTER": ("state = ENABLED", "state = DISABLED"),
    "FORMAT": ("jsonl", "ocsf"),
    "GRANT": ("g-1", "g-2"),
    "HH:MM": ("02:00", "03:00"),
    "HOST": ("a.example", "b.example"),
    "ID": ("one", "two"),
    "KEY": ("payments", "orders"),
    "KIND": ("IDENTITY", "RESOURCE"),
    "LEVEL": ("SOFTWARE", "HSM"),
    "LOG": ("logs/a", "logs/b"),
    "METHOD": ("RSA_OAEP_4096_SHA256", "RSA_OAEP_3072_SHA256"),
    "NAME": ("one", "two"),
    "NAME=VALUE": ("a=1", "b=2"),
    "NUMBER": ("1", "2"),
    "ORIGIN": ("STRONGROOM", "EXTERNAL"),
    "OUTCOME": ("ALLOWED", "DENIED"),
    "PATH": ("-", "-"),
    "PLACE": ("a.example", "b.example"),
    "POLICY": ("use", "other"),
    "PORT": ("1001", "1002"),
    "PRINCIPAL": ("users/ann", "users/bob"),
    "PROVIDER": ("cluster", "other"),
    "PROVIDER=SUBJECT": ("cluster=a", "cluster=b"),
    "RATE": ("1", "2"),
    "RESOURCE": ("keys/payments", "keys/orders"),
    "ROLE": ("reader", "writer"),
    "RULE": ("length=24", "length=32"),
    "SECRET": ("db", "other"),
    "SERVICE": ("services/secrets", "services/audit"),
    "SPAN": ("30d", "40d"),
    "SPEC": ("AES_128", "HMAC_256"),
    "SPIFFE_ID": ("spiffe://a/b", "spiffe://a/c"),
    "STAGE": ("Mine", "Yours"),
    "TARGET": ("users/ann", "users/bob"),
    "TEXT": ("text-1", "text-2"),
    "TIME": ("2027-01-01", "2028-01-01"),
    "TYPE": ("GENERIC", "CLIENT_KEY"),
    "URL": ("https://a.example", "https://b.example"),
    "USAGE": ("ENCRYPT_DECRYPT", "SIGN_VERIFY"),
    "USER": ("ann", "bob"),
    "VERSION": ("payments/versions/2", "payments/versions/3"),
    "ZONE": ("Europe/Berlin", "Europe/Paris"),
}
TARGET_FILES = ("target-1", "target-2")
NEW_FILES = ("new-1", "new-2")
OF_SECRETS = ("db/versions/2", "db/versions/3")

# What a command, or one of its parameters, does not go without.
BESIDE: Mapping[str, tuple[str, ...]] = {
    "account update": ("--display-name", "x"),
    "account update display_name": (),
    "audit export": ("--format", "jsonl"),
    "audit export form": (),
    "audit export log": (),
    "decrypt": ("--text", "AQ=="),
    "decrypt text": (),
    "decrypt input_file": (),
    "key material parameters public_key": ("--force",),
    "mac verify": ("--mac", "AAAA", "--text", "x"),
    "mac verify mac": ("--text", "x"),
    "mac verify mac_file": ("--text", "x"),
    "mac verify text": ("--mac", "AAAA"),
    "mac verify input_file": ("--mac", "AAAA"),
    "oidc-provider update": ("--description", "x"),
    "oidc-provider update description": (),
    "policy update": ("--description", "x"),
    "policy update description": (),
    "principal update": ("--description", "x"),
    "principal update description": (),
    "re-encrypt": ("--text", "AQ=="),
    "re-encrypt text": (),
    "re-encrypt input_file": (),
    "quota set burst": ("--requests-per-second", "1"),
    "secret create": ("--text", "x"),
    "secret create text": (),
    "secret create value_file": (),
    "secret create no_value": (),
    "secret create keep_newline": (),
    "secret create principal": (),
    "secret create lifetime": ("--principal", "users/ann"),
    **{
        f"secret create {name}": ("--text", "x", "--type", "MYSQL", "--host", "h", "--user", "u")
        for name in ("port", "tls", "database", "master", "skip_target_check")
    },
    "secret create host": ("--text", "x", "--type", "MYSQL", "--user", "u"),
    "secret create user": ("--text", "x", "--type", "MYSQL", "--host", "h"),
    "secret create host_keys": ("--text", "x", "--type", "SSH_KEY_PAIR", "--host", "h", "--user", "u"),
    "secret put": ("--text", "x"),
    "secret put text": (),
    "secret put value_file": (),
    "secret put keep_newline": (),
    "secret rotate": ("db", "--no-follow"),
    "secret rotate secret": ("--no-follow",),
    "secret rotate tag": ("--now", "--no-follow"),
    **{f"secret rotation-policy {name}": ("--window", "01:00") for name in ("window_length", "day", "time_zone")},
    "secret update": ("--description", "x"),
    "secret update description": (),
    "secret update skip_target_check": ("--host", "h"),
    "verify": ("--signature", "AAAA", "--text", "x"),
    "verify signature": ("--text", "x"),
    "verify signature_file": ("--text", "x"),
    "verify text": ("--signature", "AAAA"),
    "verify input_file": ("--signature", "AAAA"),
}


@dataclass
class Outcome:
    """What came of a command: its status, all that it wrote, and its requests' fields by method and path."""

    status: int
    written: str
    sent: dict[str, dict[str, object]] = field(default_factory=dict)

    @property
    def fields(self) -> set[tuple[str, str]]:
        """The fields that were sent."""
        return {(method, path) for method, fields in self.sent.items() for path in fields}

    def changed(self, other: Outcome) -> set[tuple[str, str]]:
        """The fields that differ, of methods that both called."""
        return {
            (method, path)
            for method in self.sent.keys() & other.sent.keys()
            for path in self.sent[method].keys() | other.sent[method].keys()
            if self.sent[method].get(path) != other.sent[method].get(path)
        }


class Recorder:
    """Runs command lines, and keeps what they send."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._sent: dict[str, dict[str, object]] = {}
        monkeypatch.setattr(Endpoint, "call", self._call)
        monkeypatch.setattr(Endpoint, "stream", self._stream)

    def run(self, words: list[str], given: bytes = b"given\n") -> Outcome:
        """What comes of a command."""
        self._sent = {}
        for name in NEW_FILES:
            Path(name).unlink(missing_ok=True)
        standard = io.TextIOWrapper(io.BytesIO(given))
        kept = io.BytesIO()
        out, err = io.TextIOWrapper(kept), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr("sys.stdin", standard)
            status = parser().main(list(words), standalone_mode=False)
            out.flush()
        return Outcome(status, kept.getvalue().decode(errors="replace") + err.getvalue(), self._sent)

    def _call(self, method: object, request: Message, timeout: float | None = None) -> Answer[Any]:
        del method, timeout
        return Answer(self._answer(request), EVENT + "3")

    def _stream(self, method: object, request: Message, *rest: object) -> Any:
        del method, rest
        self._answer(request)
        raise StrongroomError("KEY_DISABLED", "this far and no further", code="FAILED_PRECONDITION")

    def _answer(self, request: Message) -> Message:
        name = request.DESCRIPTOR.name.removesuffix("Request")
        self._sent.setdefault(name, {}).update(leaves(request))
        return answer_of(request, name)


def leaves(message: Message, prefix: str = "") -> dict[str, object]:
    """Every field of a message that is set, by its path."""
    found: dict[str, object] = {}
    for one, value in message.ListFields():
        path = prefix + one.name
        inner = one.message_type
        if inner is None or one.is_repeated or inner.full_name.startswith("google."):
            found[path] = str(value)
        else:
            # A message without a field says something, too.
            found |= leaves(value, f"{path}.") or {path: ""}
    return found


def answer_of(request: Message, name: str) -> Message:
    """What a method answers: nothing, but where a command could not go on with that."""
    services = [service for file in FILES for service in file.DESCRIPTOR.services_by_name.values()]
    method = next(one for service in services for one in service.methods if one.input_type is request.DESCRIPTOR)
    answer: Message = GetMessageClass(method.output_type)()
    _filled(answer, name)
    return answer


def _filled(answer: Any, name: str) -> None:
    if name == "GetParametersForImport":
        answer.public_key, answer.import_token = WRAPPING, b"token"
    if name == "GetSecret":
        answer.type = 2
        answer.target.database.address.host = "before.example"
    if name in ("CreateClientKey", "CreateAccount", "AssumeRole", "CreateSession"):
        for secret in ("secret", "client_key_secret", "token"):
            if secret in answer.DESCRIPTOR.fields_by_name and answer.DESCRIPTOR.fields_by_name[secret].type == 9:
                setattr(answer, secret, "made")


WRAPPING = (
    rsa.generate_private_key(65537, 2048)
    .public_key()
    .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
)


def metavar_of(parameter: Any) -> str:
    """The word in capitals for a parameter's value."""
    metavar: str = parameter.metavar or parameter.name.upper()
    return metavar.removesuffix("...").strip("[]")


def own_parameters(command: str) -> Iterator[Any]:
    """A command's parameters but those of every command."""
    for parameter in commands()[command].params:
        if parameter.name not in (*COMMON_OPTIONS, "help", "yes"):
            yield parameter


def is_flag(parameter: Any) -> bool:
    """Whether a parameter takes no value."""
    return bool(getattr(parameter, "is_flag", False))


def words_for(command: str, parameter: Any, which: int) -> list[str]:
    """A parameter with the first or second of its values."""
    if is_flag(parameter):
        return [parameter.opts[0]]
    metavar = metavar_of(parameter)
    values = OF_SECRETS if metavar == "VERSION" and command.startswith(("secret", "audit")) else VALUES[metavar]
    if metavar == "FILE" and (parameter.help or "").startswith("Write"):
        values = NEW_FILES
    elif metavar == "FILE" and parameter.name == "target":
        values = TARGET_FILES
    return [values[which]] if parameter.param_type_name == "argument" else [parameter.opts[0], values[which]]


def line_of(command: str, name: str, which: int | None, beside: Mapping[str, tuple[str, ...]] = BESIDE) -> list[str]:
    """The shortest command line with a parameter, or without it for None, and what has to stand beside it."""
    words = command.split()
    for parameter in own_parameters(command):
        if parameter.name == name:
            words += words_for(command, parameter, which) if which is not None else []
        elif parameter.required:
            words += words_for(command, parameter, 0)
    words += beside.get(f"{command} {name}", beside.get(command, ()))
    return [*words, "--yes"] if any(one.name == "yes" for one in commands()[command].params) else words


def typed_of(command: str, words: list[str]) -> Typed:
    """What hints know of a command line."""
    found = commands()[command]
    context = found.make_context(command, list(words[len(command.split()) :]))
    flags = _flags(list(inspect.signature(found.callback).parameters.values()))
    return Typed(flags, dict(context.params), command, COMMON_OPTIONS)


def surroundings(folder: Path) -> None:
    """The files that the values name."""
    for name in ("file-1", "file-2"):
        (folder / name).write_text(f"ssh-ed25519 {name}\n")
    for name in TARGET_FILES:
        (folder / name).write_text(f'{{"grpc": {{"address": "{name}:1"}}}}')
