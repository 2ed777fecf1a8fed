"""What a field of a request is called on the command line: an option, an argument, a file, or standard input.

A service names the field that it refuses, and whoever typed the command knows only what they typed. Here is said, once
for all commands, which parameters each field is made of; `tests/unit/client/test_cli_fields.py` compares that with what
every command really sends.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

_TARGETS = {
    f"secret.target.{kind}.{name}": f"{parameter} target"
    for kind, address in (("database", "address."), ("redis", "address."), ("ssh", ""))
    for name, parameter in (
        (f"{address}host", "host"),
        (f"{address}port", "port"),
        ("address.tls", "tls"),
        ("address.ca_pem", "tls"),
        ("database", "database"),
        ("username", "user"),
        ("master_secret", "master"),
        ("host_keys", "host_keys"),
    )
}
_TEXTS = "text input_file"

FIELDS: Mapping[str, str] = {
    # A request's own subject: whichever of these the command has.
    "name": "key version secret alias account role principal policy grant client_key provider target event",
    "filter": "filter principal tag",
    "page_size": "limit",
    "comment": "comment",
    # Cryptography.
    "key": "key destination",
    "plaintext": _TEXTS,
    "ciphertext": _TEXTS,
    "message": _TEXTS,
    "digest": _TEXTS,
    "signature": "signature signature_file",
    "mac": "mac mac_file",
    "algorithm": "algorithm",
    "encryption_context": "context",
    "source_encryption_context": "source_context",
    "destination_encryption_context": "context",
    "destination_key": "destination",
    "number_of_bytes": "byte_count",
    # Keys.
    "key_id": "key_id",
    "key.name": "key",
    "key.spec": "spec",
    "key.usage": "usage",
    "key.protection_level": "protection_level",
    "key.origin": "origin",
    "key.description": "description",
    "key.tags": "tag",
    "key.deletion_protection": "deletion_protection",
    "key.rotation_policy": "rotate_every",
    "tags": "tag",
    "tag_keys": "name",
    "pending_window": "after",
    "waiting_period": "now after",
    "import_method": "method",
    "import_token": "token",
    "encrypted_material": "source",
    "material_expire_time": "expires",
    "alias_id": "alias",
    "alias.name": "alias",
    "alias.key": "key",
    "alias.description": "description",
    # Secrets.
    "secret_id": "secret",
    "secret.name": "secret",
    "secret.type": "secret_type",
    "secret.key": "key",
    "secret.description": "description",
    "secret.tags": "tag",
    "secret.retained_versions": "retained_versions",
    "secret.target": "host target",
    **_TARGETS,
    "secret.target.client_key.principal": "principal target",
    "secret.target.client_key.client_key_lifetime": "lifetime target",
    "secret.target.grpc": "target",
    "secret.password_rule": "password_rule",
    "secret.rotation_policy": "rotate_every",
    "secret.grace_period": "grace",
    "secret.allowed_destinations": "allow_any_destination allow_destination",
    "value": "text value_file",
    "stages": "stage",
    "stage": "stage",
    "field": "field",
    "move_to_version": "to",
    "remove_from_version": "from_",
    "recovery_window": "after",
    "force": "force",
    "names": "secret",
    "validate_only": "dry_run",
    "skip_target_check": "skip_target_check",
    "rotation_policy": "every",
    "rotation_policy.jitter": "jitter",
    "rotation_policy.window": "window",
    "rotation_policy.window.start": "window",
    "rotation_policy.window.duration": "window_length",
    "rotation_policy.window.days": "day",
    "rotation_policy.window.time_zone": "time_zone",
    "rotation_policy.max_attempts": "max_attempts",
    "password_rule": "length",
    "password_rule.length": "length",
    "password_rule.exclude_characters": "exclude",
    "password_rule.exclude_punctuation": "no_punctuation",
    "password_rule.all_punctuation": "all_punctuation",
    # Accounts, principals and what they authenticate with.
    "account_id": "account_id",
    "account.name": "account",
    "account.display_name": "display_name",
    "account.tags": "no_tags tag",
    "account.spiffe_id_prefixes": "no_spiffe_ids give_spiffe_id",
    "administrator_id": "administrator",
    "administrator_spiffe_ids": "spiffe_id",
    "principal_id": "principal role",
    "principal.name": "principal role",
    "principal.kind": "principal role",
    "principal.description": "description",
    "principal.tags": "tag",
    "principal.roles": "role",
    "principal.spiffe_ids": "no_identities spiffe_id",
    "principal.oidc_bindings": "no_identities oidc",
    "principal.role_settings.trust_policy": "trust_policy",
    "principal.role_settings.max_session_duration": "max_session",
    "roles": "role",
    "client_key.name": "client_key",
    "client_key.principal": "principal",
    "client_key.description": "description",
    "client_key.expire_time": "expires lifetime",
    "oidc_provider_id": "provider",
    "oidc_provider.name": "provider",
    "oidc_provider.issuer": "issuer",
    "oidc_provider.audiences": "audience",
    "oidc_provider.jwks_uri": "jwks_uri",
    "oidc_provider.ca_certificates": "ca",
    "oidc_provider.static_jwks": "jwks",
    "oidc_provider.description": "description",
    "quota.name": "target",
    "quota.requests_per_second": "requests_per_second",
    "quota.burst": "burst",
    "quota.default_principal_requests_per_second": "each_principal",
    # Policies and grants.
    "policy_id": "policy",
    "policy.name": "policy",
    "policy.kind": "kind",
    "policy.cedar": "file",
    "policy.attached_to": "attach",
    "policy.description": "description",
    "cedar": "file",
    "kind": "kind",
    "target": "target",
    "grant.key": "key",
    "grant.grantee": "grantee",
    "grant.operations": "operation",
    "grant.constraint": "context_equals context_contains",
    "grant.constraint.context_equals": "context_equals",
    "grant.constraint.context_contains": "context_contains",
    "grant.retiring_principal": "retiring_principal",
    "grant.expire_time": "expires",
    "grant.description": "description",
    "grantee": "grantee",
    "retiring_principal": "retiring_principal",
    "principal": "principal",
    "action": "action",
    "resource": "resource secret",
    "source_address": "source_address",
    "time": "at",
    "via_service": "via_service",
    "resource_tags": "resource_tag",
    "session.session_tags": "session_tag",
    "session.session_policy": "session_policy",
    # The audit log.
    "start_time": "since",
    "end_time": "until",
    "outcome": "outcome",
    "trace_id": "trace_id",
    "text": "text",
    "order": "oldest_first",
    "resource_version": "version",
    "include_archive": "archive",
    "resume_token": "state",
    "dimensions": "by",
    "log": "log",
    "before_time": "before",
    "confirmation": "confirm",
    "retention_policy.archive_after": "archive_after",
    "retention_policy.shred_after": "never_shred shred_after",
    "legal_hold.reason": "reason",
    "legal_hold.active": "lift",
}
"""By the field's path, the parameters that it is made of: what was given first, and else the first that the command
has."""

OF_METHODS: Mapping[str, Mapping[str, str]] = {
    "CreateKeyVersion": {"parent": "key"},
    "GetInclusionProof": {"name": "event"},
    "GetLog": {"name": "log"},
    "ListKeyVersions": {"parent": "key"},
    "ListRotations": {"parent": "secret"},
    "ListSecretVersions": {"parent": "secret"},
    "UpdateAlias": {"alias.name": "alias"},
    "AssumeRole": {"role": "as_role"},
    "CreateSession": {},
}
"""What is called otherwise in the requests of one method. What a profile's credentials are exchanged with is no part of
the command that was typed."""

OF_COMMANDS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "assume-role": {
        "AssumeRole": {
            "role": "role",
            "session_name": "session_name",
            "external_id": "external_id",
            "duration": "duration",
            "session_policy": "policy_file",
            "session_tags": "tag",
        }
    },
    "login": {
        "CreateSession": {
            "client_key.client_key": "client_key",
            "client_key.secret": "secret_file",
            "oidc_token.token": "oidc_token_file",
            "session_name": "session_name",
        }
    },
    "file encrypt": {"GenerateDataKey": {"key": "key"}, "Encrypt": {"key": "recipient"}},
    "file rewrap": {"Decrypt": {"key": "key"}, "Encrypt": {"key": "recipient"}},
}
"""What is called otherwise in one command: whose own the credentials are, and which of several keys a call names."""

_ONLY_THESE = frozenset({"AssumeRole", "CreateSession"})
# What the client itself refuses before there is a request, by its own words for it.
_OF_THE_CLIENT: Mapping[str, str] = {
    "type": "secret_type",
    "oidc_provider": "provider",
    "expire_time": "expires",
    "client_key_lifetime": "lifetime",
    "secret": "secret_file secret",
    "source_key": "key",
    "audiences": "audience",
    "version": "version",
    "account": "account",
    "material": "source",
    "keys": "recipient key",
    "target": "target attach",
}
_UPDATE_MASK = "update_mask"
# These read standard input where nothing is given.
_OR_STANDARD_INPUT = frozenset({"input_file", "value_file", "source", "secret_file"})
_STANDARD_INPUT = "standard input"
_INDEX = re.compile(r"\[[^\]]*\]")
# Of what may be changed, these say nothing.
_NO_CHANGE = frozenset({"yes", "force", "skip_target_check"})


class Typed(NamedTuple):
    """One command as it was typed: its words, how each parameter is written, such as `--out` or `KEY`, and what was
    given for it."""

    flags: Mapping[str, str] = MappingProxyType({})
    values: Mapping[str, Any] = MappingProxyType({})
    command: str = ""
    common: frozenset[str] = frozenset()
    """The parameters of every command."""


def parameter_of(typed: Typed, method: str, path: str) -> str:
    """The parameter that a field of a request is made of, or the nearest field above it; nothing where the command has
    no such parameter. Without a method it is what the client itself refuses, by the name that it has for it.
    """
    path = whole = _INDEX.sub("", path)
    while path:
        for table in (OF_COMMANDS.get(typed.command, {}).get(method), OF_METHODS.get(method)):
            if table is not None and path in table:
                return _chosen(typed, table[path])
        found = "" if method in _ONLY_THESE else _chosen(typed, FIELDS.get(path, ""))
        if found:
            return found
        path = path.rpartition(".")[0]
    return "" if method in _ONLY_THESE else _by_last_part(typed, whole)


def described(typed: Typed, method: str, path: str) -> str:
    """Where a field of a request came from, for whoever typed the command: `--host`, `KEY`, a file, or standard input.
    Nothing where they typed nothing that it could be.
    """
    if path == _UPDATE_MASK:
        changes = [
            flag
            for name, flag in typed.flags.items()
            if flag.startswith("--") and name not in typed.common and name not in _NO_CHANGE
        ]
        return f"give one of {', '.join(changes)}" if changes else ""
    name = parameter_of(typed, method, path)
    if not name:
        return ""
    value = typed.values.get(name)
    if name in _OR_STANDARD_INPUT and value is None:
        return f"that is {_STANDARD_INPUT}"
    if isinstance(value, Path):
        return f"that is {_STANDARD_INPUT if str(value) == '-' else f'what {value} holds'}"
    return f"that is {typed.flags[name]}"


def _by_last_part(typed: Typed, path: str) -> str:
    """By its last word: services and client have one name for what is the same in several requests."""
    last = path.rpartition(".")[2]
    names = [_OF_THE_CLIENT.get(last, ""), last]
    names += [named for field, named in FIELDS.items() if field.rpartition(".")[2] == last]
    return next((found for each in names if (found := _chosen(typed, each))), "")


def _is_given(name: str, value: object) -> bool:
    """Whether a parameter's value was typed: most are empty texts or lists where nothing was, but for a text that may
    itself be empty."""
    return value is not None and value is not False and (value not in ("", [], ()) or name == "text")


def _chosen(typed: Typed, names: str) -> str:
    """Of several parameters the one that was given, or else the one that is read without being given, or the first that
    the command has."""
    known = [name for name in names.split() if name in typed.flags]
    given = [name for name in known if _is_given(name, typed.values.get(name))]
    if given:
        return given[0]
    if known == ["as_role"]:
        return ""
    return next((name for name in known if name in _OR_STANDARD_INPUT), known[0] if known else "")
