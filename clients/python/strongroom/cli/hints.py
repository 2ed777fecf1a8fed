"""What whoever typed a command can do about an error: the option that is at fault, and the next step."""

from __future__ import annotations

import re
from collections.abc import Mapping

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
    "QUOTA_EXCEEDED": "`strongroom quota get` shows the quota that holds",
    "PERMISSION_DENIED": "`strongroom access why {event_id}` says why",
}
"""By the error's reason. What stands in braces is the error's own; without it there is no hint."""

# Fields of requests that have another name on the command line.
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "encryption_context": ("context",),
    "plaintext": ("text", "input_file"),
    "message": ("text", "input_file"),
    "rotation_policy": ("rotate_every", "every"),
    "period": ("rotate_every", "every"),
    "pending_window": ("after",),
    "recovery_window": ("after",),
    "waiting_period": ("after",),
    "import_method": ("method",),
    "number_of_bytes": ("byte_count",),
    "expire_time": ("expires",),
    "client_key_lifetime": ("lifetime",),
    "max_session_duration": ("max_session",),
    "session_policy": ("policy_file", "session_policy"),
    "grace_period": ("grace",),
    "duration": ("duration",),
    "archive_after": ("archive_after",),
    "shred_after": ("shred_after",),
    "audiences": ("audience",),
    "tags": ("tag",),
    "resource_version": ("version",),
}
_VERSION = re.compile(r"/versions/\d+")
_OF_VERSIONS: Mapping[str, str] = {
    "KEY_DISABLED": "`strongroom key version enable KEY/versions/NUMBER` ends it",
    "KEY_STATE_INVALID": "`strongroom key version list KEY` shows the state",
}
"""In place of the others where it is one version that the error is about."""


def hint_for(error: StrongroomError, flags: Mapping[str, str]) -> str:
    """The next step, or nothing. `flags` are the command's own options, by the names of their parameters."""
    told = [_flag_hint(error, flags), _version_hint(error, flags), _wait(error), _next_step(error)]
    hints = [hint for hint in told if hint]
    return "; ".join(hints or [f"`strongroom help {error.reason}` explains it"])


def _next_step(error: StrongroomError) -> str:
    step = NEXT_STEPS.get(error.reason, "")
    if _VERSION.search(error.message):
        step = _OF_VERSIONS.get(error.reason, step)
    if error.reason == "UNREACHABLE" and "CERTIFICATE_VERIFY_FAILED" in error.message:
        step = "its certificate is not trusted here: --trust of `strongroom profile create` names the mesh's authority"
    if "{event_id}" in step:
        return step.format(event_id=error.event_id) if error.event_id else ""
    # The library says it already.
    return "" if step and step.split("`")[1:2] and step.split("`")[1] in error.message else step


def _wait(error: StrongroomError) -> str:
    """How long the service asks to wait."""
    return f"wait {error.retry_after_seconds:.1f} s" if error.retry_after_seconds >= 0.1 else ""


def _flag_hint(error: StrongroomError, flags: Mapping[str, str]) -> str:
    """How a field that the message names is called on the command line, where that is something else."""
    for part in reversed(error.field.split(".")):
        if part and part in error.message:
            for name in (part, *_OPTIONS.get(part, ())):
                flag = flags.get(name, "")
                if flag and flag not in error.message and flag.lstrip("-").replace("-", "_").lower() != part:
                    return f"that is {flag}"
    return ""


def _version_hint(error: StrongroomError, flags: Mapping[str, str]) -> str:
    """For a version where a key is meant, and the other way round."""
    if error.reason != "NAME_MALFORMED":
        return ""
    if _VERSION.search(error.message) and "key" in flags:
        return "here the key is named without a version; what changes one version begins with `strongroom key version`"
    if error.field in ("version", "resource_version") and "version" in flags:
        return "a version is NAME/versions/NUMBER: `strongroom help versions`"
    if error.field in ("resource", "target"):
        return "its kind stands in front, such as keys/payments: `strongroom help names`"
    return "`strongroom help names` shows each form"
