"""One message format: what each language writes every other reads, and all refuse the same for the same reason."""

from __future__ import annotations

import io
import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from deploy.dev.mesh import Mesh
from deploy.dev.topology import SERVICES, free_port
from strongroom import Client, ClientKeySession, StrongroomError
from strongroom.encryption import EncryptionClient
from strongroom.encryption.message.body import MessageKeys
from strongroom.encryption.message.header import Header, WrappedKey
from tests.conftest import SQLITE_LOCAL
from tests.polyglot.languages import LANGUAGES, Language
from tests.support import access
from tests.support.clients import client_by, client_of, reason_of, until

pytestmark = pytest.mark.parametrize("mesh", [SQLITE_LOCAL], indirect=True)

CONTENT = secrets.token_bytes(200_000)  # four chunks, of which the last is not full
TENANT = {"tenant": "a", "größe": "3 €"}

Context = Mapping[str, str] | None


@dataclass(frozen=True)
class Account:
    """An account of these tests alone, and the profile of its administrator, who calls with a client key."""

    client: Client
    profile: Path
    key: str
    other: str
    disabled: str


class Python:
    """The reference, in this process."""

    name = "python"

    def encrypt(self, account: Account, keys: Sequence[str], context: Context, *, store_context: bool = False) -> bytes:
        encryption = EncryptionClient(account.client, keys=keys, store_context=store_context)
        return encryption.encrypt(CONTENT, context)

    def decrypt(self, account: Account, keys: Sequence[str], context: Context, message: bytes) -> bytes:
        return EncryptionClient(account.client, keys=keys).open_decrypting(io.BytesIO(message), context).read()


class Another:
    """A program in another language."""

    def __init__(self, language: Language) -> None:
        self._language = language
        self.name = language.name

    def encrypt(self, account: Account, keys: Sequence[str], context: Context, *, store_context: bool = False) -> bytes:
        stored = ["--store-context"] if store_context else []
        return self._run(account.profile, ["encrypt", *self._options(keys, context), *stored], CONTENT)

    def decrypt(self, account: Account, keys: Sequence[str], context: Context, message: bytes) -> bytes:
        return self._run(account.profile, ["decrypt", *self._options(keys, context)], message)

    def _run(self, profile: Path, arguments: Sequence[str], given: bytes) -> bytes:
        self._language.built()
        done = self._language.run_crypt(arguments, given, profile)
        if done.returncode != 0:
            reason, _, message = done.stderr.decode().partition(":")
            raise StrongroomError(reason, message.strip())
        return done.stdout

    @staticmethod
    def _options(keys: Sequence[str], context: Context) -> list[str]:
        options = [part for key in keys for part in ("--key", key)]
        return options + [part for name, value in (context or {}).items() for part in ("--context", f"{name}={value}")]


Program = Python | Another
PROGRAMS: Sequence[Program] = (Python(), *map(Another, LANGUAGES))
OTHERS = PROGRAMS[1:]


def named(program: Program) -> str:
    return program.name


@pytest.fixture(scope="module")
def account(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    name = f"polyglot-{secrets.token_hex(4)}"
    folder = tmp_path_factory.mktemp("profiles")
    with client_of(mesh) as administrator:
        made = administrator.access.accounts.create(name)
    (folder / "secret").write_text(f"{made.client_key_secret}\n")
    with client_by(mesh, ClientKeySession(made.client_key, made.client_key_secret), account=name) as client:
        key, other, disabled = (new_key(client, id_) for id_ in ("payments", "other", "disabled"))
        profile = folder / "profiles.toml"
        caller = {"client_key": made.client_key, "client_key_secret_file": "secret"}
        write_profile(
            profile, mesh, {"account": name, **caller}, {one: mesh.address(one, "public") for one in SERVICES}
        )
        yield Account(client, profile, key, other, disabled)


def new_key(client: Client, id_: str) -> str:
    """A key that every worker knows."""
    key = client.keys.create(id_).name
    until(lambda: reason_of(lambda: client.encrypt(key, b"a")) == "")
    return key


def write_profile(path: Path, mesh: Mesh, caller: Mapping[str, str], endpoints: Mapping[str, str]) -> None:
    lines = [f"{name} = {json.dumps(value)}" for name, value in {**caller, "trust": str(mesh.authority.trust)}.items()]
    lines += ["[profiles.test.endpoints]", *(f"{name} = {json.dumps(value)}" for name, value in endpoints.items())]
    path.write_text("\n".join(('current = "test"', "[profiles.test]", *lines, "")))


@pytest.mark.parametrize("writer", PROGRAMS, ids=named)
@pytest.mark.parametrize("reader", PROGRAMS, ids=named)
def test_each_reads_what_each_wrote(account: Account, writer: Program, reader: Program) -> None:
    message = writer.encrypt(account, ["other", "payments"], TENANT)
    assert reader.decrypt(account, ["payments"], TENANT, message) == CONTENT
    message = writer.encrypt(account, ["payments"], TENANT, store_context=True)
    assert reader.decrypt(account, [account.key], None, message) == CONTENT


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.name)
def test_the_first_example_prints_what_the_readme_says(account: Account, language: Language) -> None:
    language.built()
    if "my-key" not in {key.name.rpartition("/")[2] for key in account.client.keys.list()}:
        new_key(account.client, "my-key")
    (shown,) = re.findall(r"^\d+ (bytes .*hold: .+)$", (language.folder / "README.md").read_text(), re.MULTILINE)
    assert re.fullmatch(rf"\d+ {re.escape(shown)}\n", language.run_example(account.profile))


# What is refused


def honest(account: Account) -> bytes:
    return Python().encrypt(account, [account.key], TENANT)


def flipped(message: bytes, at: int) -> bytes:
    altered = bytearray(message)
    altered[at] ^= 1
    return bytes(altered)


def forged(account: Account, key: str, flip: bool) -> bytes:
    """A message whose wrapped key names `key`, though it is under the other one, and may be altered."""
    made = account.client.generate_data_key(account.other, TENANT)
    encrypted = flipped(made.ciphertext, -1) if flip else made.ciphertext
    header = Header.of((WrappedKey(encrypted, key),), TENANT)
    keys = MessageKeys(made.plaintext, header.chunk_size_log2, header.context_digest)
    data = header.to_bytes()
    return keys.seal(b"content", data + keys.header_tag(data))


def under_disabled(account: Account) -> bytes:
    client, key = account.client, account.disabled
    client.keys.enable(key)
    until(lambda: reason_of(lambda: client.encrypt(key, b"a")) == "")
    message = Python().encrypt(account, [key], TENANT)
    client.keys.disable(key)
    until(lambda: reason_of(lambda: client.encrypt(key, b"a")) == "KEY_DISABLED")
    return message


@dataclass(frozen=True)
class Refusal:
    """A message that is refused, whatever reads it."""

    name: str
    reason: str
    message: Callable[[Account], bytes]
    key: str = "payments"
    context: Context = None


REFUSALS = (
    Refusal("nothing", "MESSAGE_NOT_RECOGNIZED", lambda _: b""),
    Refusal("another version", "MESSAGE_VERSION_UNKNOWN", lambda account: flipped(honest(account), 7)),
    Refusal("large chunks", "MESSAGE_CHUNK_SIZE_INVALID", lambda account: honest(account)[:8] + b"\x40\0\1\xff\xff"),
    Refusal("a cut header", "MESSAGE_ALTERED", lambda account: honest(account)[:100]),
    Refusal("another byte at the end", "MESSAGE_ALTERED", lambda account: flipped(honest(account), -1)),
    Refusal("a chunk less", "MESSAGE_ALTERED", lambda account: honest(account)[: -(200_000 % 65_536) - 16]),
    Refusal("another context", "CONTEXT_MISMATCH", honest, context={"tenant": "b"}),
    Refusal("a key that is not accepted", "KEY_NOT_ACCEPTED", honest, key="other"),
    Refusal("a hint that lies", "KEY_MISMATCH", lambda account: forged(account, account.key, flip=False)),
    Refusal(
        "a wrapped key altered",
        "CIPHERTEXT_INVALID",
        lambda account: forged(account, account.other, flip=True),
        "other",
    ),
    Refusal("a disabled key", "KEY_DISABLED", under_disabled, key="disabled"),
)


@pytest.mark.parametrize("refusal", REFUSALS, ids=[refusal.name for refusal in REFUSALS])
def test_all_refuse_for_the_same_reason(account: Account, refusal: Refusal) -> None:
    message = refusal.message(account)
    context = TENANT if refusal.context is None else refusal.context
    reasons = {
        reader.name: reason_of(lambda reader=reader: reader.decrypt(account, [refusal.key], context, message))  # type: ignore[misc]
        for reader in PROGRAMS
    }
    assert reasons == {reader.name: refusal.reason for reader in PROGRAMS}


# How a mesh is reached


DECRYPT = 'permit (principal, action == Strongroom::Action::"crypto:Decrypt", resource);'


@pytest.fixture(scope="module")
def reader(account: Account) -> Account:
    """An account by a profile whose caller assumes a role, which may only decrypt."""
    role = access.role(account.client, permits=DECRYPT)
    access.settle()
    profile = account.profile.with_name("reader.toml")
    named = f'[profiles.test]\nrole = "{role.rpartition("/")[2]}"\nsession_name = "reads"\n'
    profile.write_text(account.profile.read_text().replace("[profiles.test]\n", named))
    return replace(account, profile=profile)


@pytest.mark.parametrize("program", OTHERS, ids=named)
def test_the_role_of_a_profile_is_assumed(account: Account, reader: Account, program: Another) -> None:
    message = Python().encrypt(account, ["payments"], TENANT)
    assert program.decrypt(reader, ["payments"], TENANT, message) == CONTENT
    assert reason_of(lambda: program.encrypt(reader, ["payments"], TENANT)) == "PERMISSION_DENIED"


@pytest.mark.parametrize("program", OTHERS, ids=named)
def test_a_certificate_is_enough_and_the_next_address_is_tried(mesh: Mesh, program: Another, tmp_path: Path) -> None:
    files = mesh.administrator
    caller = {"account": "main", "certificate": str(files.certificate), "key": str(files.key)}
    nobody = f"127.0.0.1:{free_port()}"
    path = tmp_path / "profiles.toml"
    write_profile(path, mesh, caller, {one: f"{nobody},{mesh.address(one)}" for one in SERVICES})
    with client_of(mesh) as client:
        key = new_key(client, f"polyglot-{secrets.token_hex(4)}")
        there = Account(client, path, key, "", "")
        message = program.encrypt(there, [key], TENANT)
        assert Python().decrypt(there, [key], TENANT, message) == CONTENT
    write_profile(path, mesh, caller, dict.fromkeys(SERVICES, nobody))
    with pytest.raises(StrongroomError) as refused:
        program.decrypt(there, [key], TENANT, message)
    assert refused.value.reason == "UNREACHABLE"
    assert nobody in refused.value.message
    assert "strongroom status" in refused.value.message
