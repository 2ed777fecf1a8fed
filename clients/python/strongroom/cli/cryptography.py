"""`strongroom encrypt`, `decrypt`, `data-key` and `random`."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Annotated, Any

import typer

from strongroom.cli.command import WRITTEN, Report, Session, command, fields_of
from strongroom.cli.inputs import (
    Context,
    Force,
    InputFile,
    KeyName,
    OutputFile,
    ciphertext_of,
    pairs_of,
    read_bytes,
)
from strongroom.cli.outputs import bytes_report, files_report, require_all_told

MAX_PLAINTEXT_BYTES = 65_536
_MAX_ENCODED_BYTES = 131_072
_INSTEAD = "; `strongroom file encrypt` takes files of any size"


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    command(app, "encrypt", "strongroom encrypt payments --context tenant=a < order.txt > ciphertext")(encrypt)
    command(app, "decrypt", "strongroom decrypt --context tenant=a < ciphertext")(decrypt)
    command(app, "data-key", "strongroom data-key payments --plaintext-out key.bin --ciphertext-out key.sealed")(
        data_key
    )
    command(app, "random", "strongroom random 16 --hex")(random)


def encrypt(
    session: Session,
    key: KeyName,
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="Encrypt this text (UTF-8).")] = None,
    input_file: InputFile = None,
    context: Context = None,
    output_file: OutputFile = None,
    force: Force = False,
) -> Report:
    """Encrypt up to 64 KiB, by default from standard input, and print the ciphertext in base64."""
    plaintext = read_bytes(text, input_file, MAX_PLAINTEXT_BYTES, "plaintext", _INSTEAD)
    result = session.client.encrypt(key, plaintext, pairs_of(context))
    document = fields_of(result)
    return bytes_report(document, "ciphertext", result.ciphertext, output_file, force=force, encoded=True)


def decrypt(
    session: Session,
    text: Annotated[str | None, typer.Option(metavar="BASE64", help="Decrypt this ciphertext.")] = None,
    input_file: InputFile = None,
    key: Annotated[str, typer.Option(metavar="KEY", help="Accept a ciphertext under this key alone.")] = "",
    context: Context = None,
    output_file: OutputFile = None,
    base64: Annotated[bool, typer.Option("--base64", help="Print or write the plaintext in base64.")] = False,
    force: Force = False,
) -> Report:
    """Decrypt a ciphertext, raw or in base64, by default from standard input, and print the plaintext."""
    ciphertext = ciphertext_of(read_bytes(text, input_file, _MAX_ENCODED_BYTES, "ciphertext"))
    result = session.client.decrypt(ciphertext, pairs_of(context), key=key)
    content = b64encode(result.plaintext) + b"\n" if base64 else result.plaintext
    return bytes_report(fields_of(result), "plaintext", content, output_file, force=force, encoded=False)


def data_key(
    session: Session,
    key: KeyName,
    byte_count: Annotated[int, typer.Option("--bytes", metavar="COUNT", min=16, max=1024, help="Its length.")] = 32,
    without_plaintext: Annotated[bool, typer.Option("--without-plaintext", help="Answer it encrypted alone.")] = False,
    context: Context = None,
    plaintext_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the data key to a new file (mode 0600)."), WRITTEN
    ] = None,
    ciphertext_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the encrypted data key to a new file."), WRITTEN
    ] = None,
    force: Force = False,
) -> Report:
    """Make a data key: print it, and itself encrypted, in base64."""
    if without_plaintext and plaintext_out:
        raise typer.BadParameter("there is no plaintext to write", param_hint="--plaintext-out")
    # The encrypted one first: where the other cannot be written then, it can be decrypted still.
    paths = {"ciphertext": ciphertext_out, "plaintext": plaintext_out}
    if without_plaintext:
        del paths["plaintext"]
    require_all_told(paths, {"ciphertext": "--ciphertext-out", "plaintext": "--plaintext-out"})
    make: Any = session.client.generate_data_key
    if without_plaintext:
        make = session.client.data_keys.generate_without_plaintext
    result = make(key, pairs_of(context), byte_count=byte_count)
    return files_report(fields_of(result), {name: getattr(result, name) for name in paths}, paths, force=force)


def random(
    session: Session,
    byte_count: Annotated[int, typer.Argument(metavar="COUNT", min=1, max=1024, help="How many bytes.")] = 32,
    hex_digits: Annotated[bool, typer.Option("--hex", help="Print or write hex digits.")] = False,
    output_file: OutputFile = None,
    force: Force = False,
) -> Report:
    """Print random bytes from the service."""
    result = session.client.generate_random(byte_count)
    document = {**fields_of(result), **({"data": result.data.hex()} if hex_digits else {})}
    content = result.data.hex().encode() + b"\n" if hex_digits else result.data
    return bytes_report(document, "data", content, output_file, force=force, encoded=not hex_digits)
