"""`strongroom sign`, `verify`, `mac`, `public-key` and `re-encrypt`."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error
from pathlib import Path
from typing import Annotated

import typer

from strongroom.bounded import read_file
from strongroom.cli.command import Report, Session, command, facts_report
from strongroom.cli.inputs import (
    Context,
    Force,
    InputFile,
    OutputFile,
    ciphertext_of,
    pairs_of,
    read_bytes,
)
from strongroom.cli.keys import KeyName
from strongroom.cli.outputs import bytes_report
from strongroom.cli.plain import plain

macs = typer.Typer(name="mac", help="Message authentication codes.", no_args_is_help=True)
public_keys = typer.Typer(name="public-key", help="Public keys, and encryption to them.", no_args_is_help=True)

_MAX_BYTES = 65_536
_MAX_CIPHERTEXT_BYTES = 131_072

Text = Annotated[str | None, typer.Option("--text", metavar="TEXT", help="Take this text (UTF-8).")]
Algorithm = Annotated[str, typer.Option(help="Such as RSASSA_PSS_SHA_384; the key's default where not given.")]
Digest = Annotated[bool, typer.Option("--digest", help="The input is the message's digest, raw.")]


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    command(app, "sign")(sign)
    command(app, "verify")(verify)
    command(app, "re-encrypt")(re_encrypt)
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
    return bytes_report(plain(result), "signature", result.signature, output_file, force=force, encoded=True)


def verify(
    session: Session,
    key: KeyName,
    signature: Annotated[str, typer.Option(metavar="BASE64", help="The signature.")] = "",
    signature_file: Annotated[Path | None, typer.Option(metavar="FILE", help="The signature, raw.")] = None,
    text: Text = None,
    input_file: InputFile = None,
    digest: Digest = False,
    algorithm: Algorithm = "",
) -> Report:
    """Verify a signature; exit with 1 when it is not valid."""
    data = read_bytes(text, input_file, _MAX_BYTES, "message")
    message, hashed = (None, data) if digest else (data, None)
    made = _given_bytes(signature, signature_file, "--signature")
    result = session.client.verify(key, made, message, digest=hashed, algorithm=algorithm)
    return facts_report(plain(result), exit_code=0 if result.valid else 1)


@command(macs, "generate")
def generate_mac(session: Session, key: KeyName, text: Text = None, input_file: InputFile = None) -> Report:
    """Compute the MAC of up to 64 KiB, by default from standard input, and print it in base64."""
    result = session.client.generate_mac(key, read_bytes(text, input_file, _MAX_BYTES, "message"))
    return bytes_report(plain(result), "mac", result.mac, None, force=False, encoded=True)


@command(macs, "verify")
def verify_mac(
    session: Session,
    key: KeyName,
    mac: Annotated[str, typer.Option(metavar="BASE64", help="The MAC.")],
    text: Text = None,
    input_file: InputFile = None,
) -> Report:
    """Verify a MAC; exit with 1 when it is not valid."""
    message = read_bytes(text, input_file, _MAX_BYTES, "message")
    result = session.client.verify_mac(key, message, _given_bytes(mac, None, "--mac"))
    return facts_report(plain(result), exit_code=0 if result.valid else 1)


@command(public_keys, "get")
def get_public_key(
    session: Session,
    key: KeyName,
    der: Annotated[bool, typer.Option("--der", help="DER in place of PEM.")] = False,
    output_file: OutputFile = None,
    force: Force = False,
) -> Report:
    """Print a key version's public key, as PEM."""
    found = session.client.asymmetric.get_public_key(key)
    document = {**plain(found), "fingerprint": found.fingerprint.hex()}
    encoded = found.der if der or not found.pem else found.pem.encode()
    return bytes_report(document, "public_key", encoded, output_file, force=force, encoded=False)


@command(public_keys, "encrypt")
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
    return bytes_report(plain(result), "ciphertext", result.ciphertext, output_file, force=force, encoded=True)


@command(public_keys, "decrypt")
def decrypt_from(
    session: Session,
    key: KeyName,
    ciphertext: Annotated[str, typer.Option("--text", metavar="BASE64", help="The ciphertext.")] = "",
    input_file: InputFile = None,
    context: Context = None,
    output_file: OutputFile = None,
    force: Force = False,
) -> Report:
    """Decrypt what was encrypted to an asymmetric key: base64, or raw from a file."""
    sealed = _given_bytes(ciphertext, input_file, "--text")
    result = session.client.asymmetric.decrypt(key, sealed, pairs_of(context))
    return bytes_report(plain(result), "plaintext", result.plaintext, output_file, force=force, encoded=False)


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
    return bytes_report(plain(result), "ciphertext", result.ciphertext, output_file, force=force, encoded=True)


def _given_bytes(encoded: str, path: Path | None, option: str) -> bytes:
    if bool(encoded) == (path is not None):
        raise typer.BadParameter("give either base64 or a file", param_hint=option)
    if path is not None:
        return read_file(path, _MAX_BYTES)
    try:
        return b64decode(encoded, validate=True)
    except Error:
        raise typer.BadParameter("is no base64", param_hint=option) from None
