"""What whoever typed a command can do about an error: the option that is at fault, and the next step."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from strongroom.cli.request_fields import Typed, described
from strongroom.errors import StrongroomError

NEXT_STEPS: Mapping[str, str] = {
    "FILE_EXISTS": "--force replaces it",
    "KEY_DISABLED": "`strongroom key describe KEY` shows the state, `strongroom key enable KEY` ends it",
    "KEY_STATE_INVALID": "`strongroom key describe KEY` shows the state",
    "KEY_NOT_FOUND": "`strongroom key list` shows those that you may use",
    "KEY_VERSION_NOT_FOUND": "`strongroom key version list KEY` shows them",
    "ALIAS_NOT_FOUND": "`strongroom alias list` shows those there are",
    "SECRET_NOT_FOUND": "`strongroom secret list` shows those that you may read",
    "SECRET_VERSION_NOT_FOUND": "`strongroom secret versions SECRET` shows them",
    "SECRET_VERSION_DISABLED": "`strongroom secret enable-version SECRET/versions/NUMBER` ends it",
    "SECRET_PENDING_DELETION": "`strongroom secret restore SECRET` takes the deletion back",
    "SECRET_FIELD_NOT_FOUND": "`strongroom secret get SECRET` prints the whole value",
    "PRINCIPAL_NOT_FOUND": "`strongroom principal list` shows those there are",
    "POLICY_NOT_FOUND": "`strongroom policy list` shows those there are",
    "POLICY_INVALID": "`strongroom policy validate FILE` names each line",
    "GRANT_NOT_FOUND": "`strongroom grant list --key KEY` shows those of a key",
    "CLIENT_KEY_NOT_FOUND": "`strongroom client-key list` shows those there are",
    "OIDC_PROVIDER_NOT_FOUND": "`strongroom oidc-provider list` shows those there are",
    "ACCOUNT_NOT_FOUND": "`strongroom account describe` shows your own",
    "DELETION_PROTECTED": "`strongroom key unprotect KEY` allows it",
    "CIPHERTEXT_INVALID": "give the whole ciphertext, and the key and the --context that it was encrypted with",
    "ALGORITHM_INVALID": "`strongroom public-key get KEY --json` lists the algorithms of an asymmetric key",
    "ROTATION_ACTIVE": "`strongroom secret rotation SECRET` shows how far it is",
    "TARGET_LOGIN_REFUSED": "`strongroom secret repair SECRET --dry-run` says which credential logs in",
    "PROFILE_NOT_FOUND": "`strongroom profile list` shows those there are",
    "UNREACHABLE": "is the mesh running, and is this its address? `strongroom profile list` shows it",
    "LOGIN_EXPIRED": "`strongroom login` begins another session",
    "TOKEN_EXPIRED": "`strongroom login` begins another session",
    "UNAUTHENTICATED": "`strongroom profile show` shows whom you call as, `strongroom login --help` how to change it",
    "QUOTA_EXCEEDED": "`strongroom quota get` shows the quota that holds, once a call is let through again",
    "PERMISSION_DENIED": "whoever may read the audit log sees why: `strongroom access why {event_id}`",
}
"""By the error's reason. What stands in braces is the error's own; without it there is no hint."""

_VERSION = re.compile(r"/versions/\d+|^version \d+ of key ")
# What an asymmetric key encrypts is encrypted by others.
_FOR_OTHERS = re.compile(r"\b(?:RSA_\d+|EC_\w+|X25519) for ENCRYPT_DECRYPT")
_USE_KEYS = ("encrypt", "decrypt", "data-key", "re-encrypt", "mac generate", "file ")
_UNREACHABLE: Mapping[str, str] = {
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not trusted here: --trust of `strongroom profile create` names a "
    "PEM file of the mesh's authorities",
    "security handshaker": "a PEM file of the profile cannot be read: --trust, --certificate and --key of `strongroom "
    "profile edit` name them",
}
"""What gRPC says of a connection that an address does not explain."""
_OF_VERSIONS: Mapping[str, str] = {
    "KEY_DISABLED": "`strongroom key version enable KEY/versions/NUMBER` ends it",
    "KEY_STATE_INVALID": "`strongroom key version list KEY` shows the state",
}
"""In place of the others where it is one version that the error is about."""


def hint_for(error: StrongroomError, typed: Typed) -> str:
    """The next step for whoever typed this command, or nothing."""
    told = [_field_hint(error, typed), _version_hint(error, typed), _wait(error), _next_step(error, typed)]
    hints = [hint for hint in told if hint]
    return "; ".join(hints or [f"`strongroom help {error.reason}` explains it"])


def _next_step(error: StrongroomError, typed: Typed) -> str:
    step = NEXT_STEPS.get(error.reason, "")
    if _VERSION.search(error.message):
        step = _OF_VERSIONS.get(error.reason, step)
    if error.reason == "UNREACHABLE":
        step = next((other for told, other in _UNREACHABLE.items() if told in error.message), step)
    if error.reason == "KEY_USAGE_INVALID" and _FOR_OTHERS.search(error.message):
        step = "whoever has its public key encrypts: `strongroom public-key encrypt`, `strongroom public-key decrypt`"
    if error.reason == "CIPHERTEXT_INVALID" and "source_context" in typed.flags:
        step = step.replace("--context", typed.flags["source_context"])
    if "{event_id}" in step:
        return step.format(event_id=error.event_id) if error.event_id else ""
    # The library says it already.
    return "" if step and step.split("`")[1:2] and step.split("`")[1] in error.message else step


def _wait(error: StrongroomError) -> str:
    """How long the service asks to wait, never less than it says."""
    tenths = math.ceil(error.retry_after_seconds * 10)
    return f"wait {tenths / 10:.1f} s" if tenths else ""


def _field_hint(error: StrongroomError, typed: Typed) -> str:
    """How a field that the message names is called on the command line."""
    last = error.field.rpartition(".")[2].partition("[")[0]
    if not last or (last != "update_mask" and not re.search(rf"\b{re.escape(last)}\b", error.message)):
        return ""
    told = described(typed, error.method, error.field)
    return "" if told.removeprefix("that is ") in error.message.split() else told


def _version_hint(error: StrongroomError, typed: Typed) -> str:
    """For a version where a key is meant, and the other way round."""
    if error.reason != "NAME_MALFORMED":
        return ""
    if _VERSION.search(error.message) and {"key", "destination"} & {*typed.flags}:
        if typed.command.startswith(_USE_KEYS):
            return "here the key is named without a version: `strongroom help versions` says where one may stand"
        return "here the key is named without a version; what changes one version begins with `strongroom key version`"
    if error.field in ("version", "resource_version") and "version" in typed.flags:
        return "a version is NAME/versions/NUMBER: `strongroom help versions`"
    if error.field in ("resource", "target"):
        return "its kind stands in front, such as keys/payments: `strongroom help names`"
    return "`strongroom help names` shows each form"
