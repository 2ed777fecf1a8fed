"""The values that options allow, written down here so that help needs no contract to be loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

SPECS = (
    "AES_256",
    "AES_128",
    "SM4",
    "HMAC_256",
    "HMAC_384",
    "HMAC_512",
    "RSA_2048",
    "RSA_3072",
    "RSA_4096",
    "EC_P256",
    "EC_P384",
    "EC_P521",
    "EC_SECP256K1",
    "X25519",
    "ED25519",
    "ML_DSA_44",
    "ML_DSA_65",
    "ML_DSA_87",
    "ML_KEM_768",
    "ML_KEM_1024",
    "X_WING",
)
USAGES = ("ENCRYPT_DECRYPT", "SIGN_VERIFY", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT", "KEY_ENCAPSULATION")
LEVELS = ("SOFTWARE", "HSM")
ORIGINS = ("STRONGROOM", "EXTERNAL")
IMPORT_METHODS = (
    "RSA_AES_KEY_WRAP_4096_SHA256",
    "RSA_AES_KEY_WRAP_3072_SHA256",
    "RSA_OAEP_4096_SHA256",
    "RSA_OAEP_3072_SHA256",
)
SIGNING_ALGORITHMS = (
    "RSASSA_PSS_SHA_256",
    "RSASSA_PSS_SHA_384",
    "RSASSA_PSS_SHA_512",
    "RSASSA_PKCS1_V1_5_SHA_256",
    "RSASSA_PKCS1_V1_5_SHA_384",
    "RSASSA_PKCS1_V1_5_SHA_512",
    "ECDSA_SHA_256",
    "ECDSA_SHA_384",
    "ECDSA_SHA_512",
    "ED25519",
    "ML_DSA_44",
    "ML_DSA_65",
    "ML_DSA_87",
)
OUTCOMES = ("ALLOWED", "DENIED", "FAILED")
POLICY_KINDS = ("IDENTITY", "RESOURCE")
SECRET_TYPES = ("GENERIC", "POSTGRESQL", "MYSQL", "REDIS_ACL", "SSH_KEY_PAIR", "CLIENT_KEY", "GRPC")
WEEKDAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")
DIMENSIONS = ("resource", "principal", "action", "outcome", "version", "hour", "day")
EXPORT_FORMATS = ("tiles", "jsonl", "ocsf")


def one_of(values: tuple[str, ...], about: str, metavar: str, *names: str, **more: Any) -> Any:
    """An option that takes one of `values`, in any case and with `-` for `_`, and lists them in its help; or none,
    where its default is empty.
    """
    return typer.Option(
        *names,
        metavar=metavar,
        help=f"{about}: {', '.join(values[:-1])} or {values[-1]}.",
        callback=_choice(values),
        autocompletion=lambda incomplete: [value for value in values if value.lower().startswith(incomplete.lower())],
        **more,
    )


def an_action(about: str, *names: str) -> Any:
    """An option that takes an action, such as crypto:Decrypt, or several."""
    return typer.Option(*names, metavar="ACTION", help=about, callback=_actions)


def _actions(value: Any) -> Any:
    for text in value if isinstance(value, list | tuple) else (value,):
        if text and ":" not in text:
            raise typer.BadParameter(
                f"'{text}' is no action such as crypto:{text}: `strongroom access schema` lists all"
            )
    return value


def _choice(values: tuple[str, ...]) -> Callable[[Any], Any]:
    def choose(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [_chosen(one, values) for one in value]
        return _chosen(value, values) if value else value

    return choose


def _chosen(text: str, values: tuple[str, ...]) -> str:
    for value in values:
        if value.lower() == text.lower().replace("-", "_"):
            return value
    raise typer.BadParameter(f"'{text}' is none of {', '.join(values)}")
