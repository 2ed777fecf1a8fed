"""`strongroom sign`, `verify`, `mac`, `public-key` and `re-encrypt`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli import choices
from strongroom.cli.command import Report, Session, command, facts_report, fields_of
from strongroom.cli.forms import warn
from strongroom.cli.inputs import (
    Context,
    Force,
    InputFile,
    KeyName,
    OutputFile,
    ciphertext_of,
    decoded,
    given_bytes,
    pairs_of,
    read_bytes,
)
from strongroom.cli.outputs import bytes_report
from strongroom.cli.parser import Group
from strongroom.cli.versions import decrypted_with, verified_with
from strongroom.errors import StrongroomError

if TYPE_CHECKING:
    from strongroom.calls.crypto.signatures import Verification

macs = typer.Typer(name="mac", cls=Group, help="Message authentication codes.", no_args_is_help=True)
public_keys = typer.Typer(
    name="public-key", cls=Group, help="Public keys, and encryption to them.", no_args_is_help=True
)

_MAX_BYTES = 65_536
_MAX_CIPHERTEXT_BYTES = 131_072

Text = Annotated[str | None, typer.Option("--text", metavar="TEXT", help="Take this text (UTF-8).")]
Algorithm = Annotated[str, choices.one_of(choices.SIGNING_ALGORITHMS, "The key's default where not given", "ALGORITHM")]
Digest = Annotated[bool, typer.Option("--digest", help="The input is the message's digest, raw.")]


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    command(app, "sign", "strongroom sign signing --in report.pdf > report.sig")(sign)
    command(app, "verify", "strongroom verify signing --signature-file report.sig --in report.pdf")(verify)
    command(app, "re-encrypt", "strongroom re-encrypt payments-2027 < ciphertext > moved")(re_encrypt)
    app.add_typer(macs)
    app.add_typer(public_keys)


def sign(
    session: Session,
    key: KeyName,
    text: Text = None,
    input_file: InputFile = None,
    digest: Digest = False,
    algorithm: Algorithm = "",
    output_file: OutputFile = None,
    force: Force = False,
) -> Report:
    """Sign up to 64 KiB, by default from standard input, and print the signature in base64."""
    data = read_bytes(text, input_file, _MAX_BYTES, "message")
    message, hashed = (None, data) if digest else (data, None)
    result = session.client.sign(key, message, digest=hashed, algorithm=algorithm)
    return bytes_report(
        fields_of(result),
        "signature",
        result.signature,
        output_file,
        force=force,
        encoded=True,
        note=f"signed by {session.client.names.relative(result.key_version)}",
    )


def verify(
    session: Session,
    key: KeyName,
    signature: Annotated[str, typer.Option(metavar="BASE64", help="The signature.")] = "",
    signature_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The signature, as it is, in base64 or as JSON.")
    ] = None,
    text: Text = None,
    input_file: InputFile = None,
    digest: Digest = False,
    algorithm: Algorithm = "",
) -> Report:
    """Verify a signature, and say which version of the key made it; exit with 1 when none did.

    A key that was rotated is tried with each version that is enabled, its primary one first.
    """
    data = read_bytes(text, input_file, _MAX_BYTES, "message")
    message, hashed = (None, data) if digest else (data, None)
    made = given_bytes(signature, signature_file, "--signature", "signature", _MAX_BYTES)

    def check(version: str) -> Verification:
        return session.client.verify(version, made, message, digest=hashed, algorithm=algorithm)

    return _checked(session, key, check)


@command(macs, "generate", "strongroom mac generate tags --in message > message.mac")
def generate_mac(
    session: Session,
    key: KeyName,
    text: Text = None,
    input_file: InputFile = None,
    output_file: OutputFile = None,
    force: Force = False,
) -> Report:
    """Compute the MAC of up to 64 KiB, by default from standard input, and print it in base64."""
    result = session.client.generate_mac(key, read_bytes(text, input_file, _MAX_BYTES, "message"))
    made_by = f"made by {session.client.names.relative(result.key_version)}"
    return bytes_report(fields_of(result), "mac", result.mac, output_file, force=force, encoded=True, note=made_by)


@command(macs, "verify", "strongroom mac verify tags --mac-file message.mac --in message")
def verify_mac(
    session: Session,
    key: KeyName,
    mac: Annotated[str, typer.Option(metavar="BASE64", help="The MAC.")] = "",
    mac_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The MAC, as it is, in base64 or as JSON.")
    ] = None,
    text: Text = None,
    input_file: InputFile = None,
) -> Report:
    """Verify a MAC, and say which version of the key made it; exit with 1 when none did."""
    made = given_bytes(mac, mac_file, "--mac", "mac", _MAX_BYTES)
    message = read_bytes(text, input_file, _MAX_BYTES, "message")
    return _checked(session, key, lambda version: session.client.verify_mac(version, message, made))


@command(public_keys, "get", "strongroom public-key get signing --out signing.pem")
def get_public_key(
    session: Session,
    key: KeyName,
    der: Annotated[bool, typer.Option("--der", help="DER in place of PEM.")] = False,
    output_file: OutputFile = None,
    force: Force = False,
) -> Report:
    """Print a key version's public key, as PEM."""
    found = session.client.asymmetric.get_public_key(key)
    document = {**fields_of(found), "fingerprint": found.fingerprint.hex()}
    encoded = found.der if der or not found.pem else found.pem.encode()
    return bytes_report(document, "public_key", encoded, output_file, force=force, encoded=False)


@command(public_keys, "encrypt", "strongroom public-key encrypt inbox --in letter > letter.sealed")
def encrypt_to(
    session: Session,
    key: KeyName,
    text: Text = None,
    input_file: InputFile = None,
    context: Context = None,
    output_file: OutputFile = None,
    force: Force = False,
) -> Report:
    """Encrypt to an asymmetric key, and print the ciphertext in base64."""
    plaintext = read_bytes(text, input_file, _MAX_BYTES, "plaintext")
    result = session.client.asymmetric.encrypt(key, plaintext, pairs_of(context))
    return bytes_report(
        fields_of(result),
        "ciphertext",
        result.ciphertext,
        output_file,
        force=force,
        encoded=True,
        note=f"encrypted to {session.client.names.relative(result.key_version)}",
    )


@command(public_keys, "decrypt", "strongroom public-key decrypt inbox --in letter.sealed")
def decrypt_from(
    session: Session,
    key: KeyName,
    text: Annotated[str | None, typer.Option("--text", metavar="BASE64", help="The ciphertext.")] = None,
    input_file: InputFile = None,
    context: Context = None,
    output_file: OutputFile = None,
    force: Force = False,
) -> Report:
    """Decrypt what was encrypted to an asymmetric key, by default from standard input, raw or in base64.

    It does not say by which version of the key: one that was rotated is tried with each, its primary one first.
    """
    sealed = decoded(read_bytes(text, input_file, _MAX_CIPHERTEXT_BYTES, "ciphertext"), "ciphertext")
    pairs = pairs_of(context)
    result, untried = decrypted_with(
        session.client, key, lambda version: session.client.asymmetric.decrypt(version, sealed, pairs)
    )
    if isinstance(result, StrongroomError):
        if untried:
            warn(_not_tried(session, untried))
            result.metadata["not_tried"] = ", ".join(untried)
        raise result
    return bytes_report(
        fields_of(result),
        "plaintext",
        result.plaintext,
        output_file,
        force=force,
        encoded=False,
        note=f"decrypted by {session.client.names.relative(result.key_version)}",
    )


def re_encrypt(
    session: Session,
    destination: Annotated[str, typer.Argument(metavar="KEY", help="The key to encrypt under.")],
    text: Annotated[str | None, typer.Option("--text", metavar="BASE64", help="The ciphertext.")] = None,
    input_file: InputFile = None,
    source_context: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="One pair of the context that it has.")
    ] = None,
    context: Context = None,
    output_file: OutputFile = None,
    force: Force = False,
) -> Report:
    """Move a ciphertext under another key or context; nobody sees the plaintext."""
    ciphertext = ciphertext_of(read_bytes(text, input_file, _MAX_CIPHERTEXT_BYTES, "ciphertext"))
    result = session.client.re_encrypt(
        ciphertext, destination, pairs_of(source_context, "--source-context"), pairs_of(context)
    )
    return bytes_report(fields_of(result), "ciphertext", result.ciphertext, output_file, force=force, encoded=True)


def _checked(session: Session, key: str, check: Callable[[str], Verification]) -> Report:
    """The outcome of a check, with the version that made what was checked."""
    result, untried = verified_with(session.client, key, check)
    if result.valid or not untried:
        return facts_report(result, exit_code=0 if result.valid else 1)
    report = facts_report(result, note=_not_tried(session, untried), exit_code=1)
    return replace(report, data={**report.data, "not_tried": list(untried)})


def _not_tried(session: Session, versions: tuple[str, ...]) -> str:
    return f"not tried: {', '.join(map(session.client.names.relative, versions))}"
