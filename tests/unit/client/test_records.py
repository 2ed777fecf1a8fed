"""What the contracts say of a thing, its record in the client has too: nothing that was set cannot be seen."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from strongroom.access.v1 import grant_pb2, policy_pb2, principal_pb2
from strongroom.audit.v1 import event_pb2, retention_pb2
from strongroom.calls.access.accounts import Account
from strongroom.calls.access.client_keys import ClientKey
from strongroom.calls.access.grants import Grant
from strongroom.calls.access.oidc_providers import OidcProvider
from strongroom.calls.access.policies import Policy
from strongroom.calls.access.principals import Principal
from strongroom.calls.access.quotas import Quota
from strongroom.calls.audit.events import Event
from strongroom.calls.audit.retention import LegalHold, RetentionPolicy
from strongroom.calls.keys.aliases import Alias
from strongroom.calls.keys.records import Key, KeyVersion
from strongroom.calls.secrets.records import RotationPolicy, Secret, SecretVersion, secret_of
from strongroom.calls.secrets.rotations import Rotation, RotationAttempt
from strongroom.cli.command import _print
from strongroom.cli.secrets import secret_document, secret_report
from strongroom.keystore.v1 import key_pb2
from strongroom.secrets.v1 import rotation_pb2, secret_pb2
from strongroom.secrets.v1.password_rule_pb2 import PasswordRule

# Fields of the contract that the record has by another name, or in parts.
RENAMED: dict[type, set[str]] = {
    Grant: {"constraint"},
    Key: {"rotation_policy"},
    Principal: {"role_settings"},
    RotationPolicy: {"window"},
    Secret: {"target_binding"},
    # Whether a value was given as text or as bytes is for those who read it as it was given.
    SecretVersion: {"format"},
}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Account, principal_pb2.Account),
        (Alias, key_pb2.Alias),
        (ClientKey, principal_pb2.ClientKey),
        (Event, event_pb2.Event),
        (Grant, grant_pb2.Grant),
        (Key, key_pb2.Key),
        (KeyVersion, key_pb2.KeyVersion),
        (LegalHold, retention_pb2.LegalHold),
        (OidcProvider, principal_pb2.OidcProvider),
        (Policy, policy_pb2.Policy),
        (Principal, principal_pb2.Principal),
        (Quota, principal_pb2.Quota),
        (RetentionPolicy, retention_pb2.RetentionPolicy),
        (Rotation, rotation_pb2.Rotation),
        (RotationAttempt, rotation_pb2.RotationAttempt),
        (RotationPolicy, rotation_pb2.RotationPolicy),
        (Secret, secret_pb2.Secret),
        (SecretVersion, secret_pb2.SecretVersion),
    ],
)
def test_every_field_of_the_contract_is_in_the_record(record: Any, message: Any) -> None:
    fields = {field.name for field in message.DESCRIPTOR.fields}
    assert fields - {field.name for field in dataclasses.fields(record)} == RENAMED.get(record, set())


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (PasswordRule(length=24, exclude_punctuation=True), "length=24,no-punctuation"),
        (PasswordRule(), "default"),
    ],
)
def test_the_rule_of_a_secrets_passwords_is_shown(rule: PasswordRule, words: str, capsys: Any) -> None:
    secret = secret_of(secret_pb2.Secret(name="accounts/main/secrets/db", password_rule=rule))
    document: Any = secret_document(secret)["password_rule"]
    assert document == ({"length": 24, "exclude_punctuation": True} if rule.length else {})
    session: Any = type("Session", (), {"form": "table", "wide": True, "trace_id": ""})()
    _print(secret_report(secret), session, {})
    assert f"password rule      {words}\n" in capsys.readouterr().out
    assert secret_document(secret_of(secret_pb2.Secret()))["password_rule"] is None
