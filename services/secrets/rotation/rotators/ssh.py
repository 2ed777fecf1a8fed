"""SSH key pairs: the new public key is installed with the old key, and the old one removed after the grace period.

Lines of the authorized_keys file that Strongroom installs end in a comment that names the version. The new line begins
with the options (`from=`, `command=`, …) of the line that it takes the place of. The file is replaced as a whole, over
SFTP, so that a reader sees the old one or the new one.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncssh

from services.runtime.errors import Reason, StrongroomError
from services.secrets.kinds.declaration import DEFAULT_TIMEOUT_SECONDS
from services.secrets.kinds.declared.ssh_key_pair import PORT
from services.secrets.kinds.ssh_keys import DEFAULT_KEY_TYPE, KEY_TYPES, host_keys, public_key
from services.secrets.rotation.rotators.failures import failure
from services.secrets.rotation.rotators.rotator import (
    Credential,
    RotationContext,
    Rotator,
    Supplies,
    login_value,
    require_credential,
    require_plain,
)
from services.secrets.values.sealing import NewValue

_DEFAULT_PATH = ".ssh/authorized_keys"
_MODE = 0o600
# How often a file is read again that somebody else has changed meanwhile.
_TRIES = 5
_ALGORITHMS = frozenset(algorithm.decode() for algorithm in asyncssh.public_key.get_public_key_algs()) | {
    "ssh-rsa",
    "ssh-dss",
}
_SFTP_STATUSES = frozenset(range(32))
_DISCONNECTS = frozenset(range(1, 16))

Edit = Callable[[list[str]], list[str]]


class SshRotator:
    """The rotator of SSH key pairs."""

    def check(self, context: RotationContext, current: Credential | None) -> None:
        """Finds out, without changing anything, whether a rotation could work."""
        if current is not None:
            self.test(context, current)

    def create(self, context: RotationContext, current: Credential | None) -> NewValue:
        """A new value; the target does not hear of it."""
        target = context.target.ssh
        key = asyncssh.generate_private_key(**KEY_TYPES[target.key_type or DEFAULT_KEY_TYPE])
        return login_value(
            current,
            host=target.host,
            port=target.port or PORT,
            username=target.username,
            private_key=key.export_private_key("openssh").decode(),
            public_key=key.export_public_key("openssh").decode().strip(),
        )

    def set(
        self,
        context: RotationContext,
        pending: Credential,
        current: Credential | None,
        previous: Credential | None,
    ) -> None:
        """Makes the target accept `pending`."""
        old = require_credential(current, context.secret)

        def install(lines: list[str]) -> list[str]:
            if any(_blob(pending) in line for line in lines):
                return lines
            replaced = _line_of(lines, old)
            if replaced is None:
                # The key is let in from elsewhere, under options that are not known: it would get more without them.
                raise StrongroomError(
                    Reason.TARGET_CHANGE_REFUSED,
                    f"{context.target.ssh.authorized_keys_path or _DEFAULT_PATH} has no line of the key that is"
                    " replaced: name the file that lets it in as authorized_keys_path",
                    incurable="true",
                )
            options = _options(replaced, _blob(old)) or ""
            return [*lines, f"{options}{_key_text(pending)} {_comment(pending.version)}"]

        _run(_edited(context, old, install))

    def test(self, context: RotationContext, credential: Credential) -> None:
        """Logs in."""
        _run(_logged_in(context, credential))

    def finish(self, context: RotationContext, current: Credential, previous: Credential | None) -> None:
        """Makes the target refuse what is older, as far as that is wanted; `current` is the new value by now."""
        ours = _comment(f"{context.secret.name}/versions/")
        replaced = _blob(previous) if previous is not None else ""

        def remove(lines: list[str]) -> list[str]:
            return [
                line
                for line in lines
                if _blob(current) in line or not (ours in line or (replaced and replaced in line))
            ]

        _run(_edited(context, current, remove))


def rotator(_supplies: Supplies) -> Rotator:
    """The rotator of SSH_KEY_PAIR."""
    return SshRotator()


async def _logged_in(context: RotationContext, credential: Credential) -> None:
    async with _login(context, credential):
        pass


async def _edited(context: RotationContext, as_whom: Credential, edit: Edit) -> None:
    path = context.target.ssh.authorized_keys_path or _DEFAULT_PATH
    async with _login(context, as_whom) as connection:
        try:
            async with connection.start_sftp_client() as sftp:
                await _replace_lines(sftp, path, edit)
        except (asyncssh.SFTPError, asyncssh.ChannelOpenError) as error:
            raise failure(Reason.TARGET_CHANGE_REFUSED, f"{path} was not changed", error, _code(error)) from None


async def _replace_lines(sftp: asyncssh.SFTPClient, path: str, edit: Edit) -> None:
    for _ in range(_TRIES):
        before, lines = await _read_lines(sftp, path)
        wanted = edit(lines)
        if wanted == lines:
            return
        temporary = f"{path}.strongroom-{secrets.token_hex(6)}"
        mode = before.permissions or _MODE
        try:
            await _write_lines(sftp, temporary, wanted, mode & 0o777)
            if _stamp((await _read_lines(sftp, path))[0]) == _stamp(before):
                await sftp.posix_rename(temporary, path)
                return
        finally:
            if await sftp.exists(temporary):
                await sftp.remove(temporary)
    raise asyncssh.SFTPFailure("others keep changing it")


async def _read_lines(sftp: asyncssh.SFTPClient, path: str) -> tuple[asyncssh.SFTPAttrs, list[str]]:
    try:
        found = await sftp.stat(path)
        async with sftp.open(path, encoding="utf-8", errors="surrogateescape") as file:
            # Nothing else ends a line to sshd, and what options hold stays as it is.
            return found, (await file.read()).removesuffix("\n").split("\n")
    except asyncssh.SFTPNoSuchFile:
        return asyncssh.SFTPAttrs(), []


async def _write_lines(sftp: asyncssh.SFTPClient, path: str, lines: Sequence[str], mode: int) -> None:
    attributes = asyncssh.SFTPAttrs(permissions=mode)
    async with sftp.open(path, "x", attributes, encoding="utf-8", errors="surrogateescape") as file:
        await file.write("".join(line + "\n" for line in lines))
        await file.fsync()


def _stamp(found: asyncssh.SFTPAttrs) -> tuple[object, ...]:
    return found.size, found.mtime, found.mtime_ns


@asynccontextmanager
async def _login(context: RotationContext, credential: Credential) -> AsyncIterator[asyncssh.SSHClientConnection]:
    target = context.target.ssh
    seconds = target.timeout.ToTimedelta().total_seconds() or DEFAULT_TIMEOUT_SECONDS
    what = f"login of {target.username} at {target.host}"
    require_plain(target.host, target.username)
    address = context.address()
    try:
        # To validate an RSA key costs what its numbers make it cost, and what does not fit together does not log in.
        private_key = asyncssh.import_private_key(credential.fields["private_key"], unsafe_skip_rsa_key_validation=True)
    except (ValueError, asyncssh.Error):
        # Not handed on: what cannot be read may still be a key.
        raise StrongroomError(Reason.TARGET_LOGIN_REFUSED, f"{credential.version} holds no private key") from None
    try:
        async with asyncio.timeout(seconds):
            connection = await asyncssh.connect(
                address,
                target.port or PORT,
                username=target.username,
                client_keys=[private_key],
                known_hosts=(host_keys(target.host_keys), [], []),
                config=None,
                agent_path=None,
                preferred_auth="publickey",
                # A packet that is inflated is as large as the server likes.
                compression_algs=["none"],
            )
    except asyncssh.PermissionDenied as error:
        raise failure(Reason.TARGET_LOGIN_REFUSED, what, error, "refused") from None
    except (OSError, TimeoutError, asyncssh.Error) as error:
        raise failure(Reason.TARGET_UNREACHABLE, what, error, _code(error)) from None
    async with connection:
        yield connection


def _run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def _blob(credential: Credential) -> str:
    """The key itself, in base64, as it stands in a line."""
    return _key_text(credential).split()[1]


def _key_text(credential: Credential) -> str:
    """Algorithm and key, without a comment."""
    key = public_key(credential.fields["public_key"])
    return " ".join(key.export_public_key("openssh").decode().split()[:2])


def _code(error: Exception) -> str:
    """The name of what a server answered, where it is one that the protocol has."""
    if isinstance(error, asyncssh.SFTPError):
        return f"SFTP status {error.code}" if error.code in _SFTP_STATUSES else ""
    return (
        f"disconnect {error.code}" if isinstance(error, asyncssh.DisconnectError) and error.code in _DISCONNECTS else ""
    )


def _line_of(lines: Sequence[str], credential: Credential) -> str | None:
    """The line that lets a key in; None where there is none, or where it does not stand as a key of its own."""
    blob = _blob(credential)
    return next(
        (line for line in lines if not line.lstrip().startswith("#") and _options(line, blob) is not None), None
    )


def _options(line: str, blob: str) -> str | None:
    """What stands before algorithm and key, byte for byte; None where the line is not of this key. The key is looked
    for outside quotes, as sshd reads it: options may have anything in them."""
    begun, quoted, at = 0, False, 0
    fields: list[tuple[int, int]] = []
    while at <= len(line):
        character = line[at] if at < len(line) else " "
        if quoted and character == "\\" and line[at + 1 : at + 2] == '"':
            at += 2
            continue
        if character == '"':
            quoted = not quoted
        if (character in " \t" and not quoted) or at == len(line):
            if at > begun:
                fields.append((begun, at))
            begun = at + 1
        at += 1
    for (start, end), (key_start, key_end) in itertools.pairwise(fields):
        if line[key_start:key_end] == blob and line[start:end] in _ALGORITHMS:
            return line[:start]
    return None


def _comment(version: str) -> str:
    return f"strongroom:{version}"
