"""Policies are checked against the schema when they are written, and each problem has its place."""

from __future__ import annotations

import json
from itertools import pairwise

import cedarpy
import pytest

from services.keystore.access.policies import policy_text
from services.runtime.errors import Reason, StrongroomError
from services.runtime.rpc.pipeline import action_of
from strongroom.access.v1 import access_service_pb2, session_service_pb2
from strongroom.access.v1.policy_pb2 import (
    POLICY_KIND_IDENTITY,
    POLICY_KIND_RESOURCE,
    PROBLEM_SEVERITY_ERROR,
    PROBLEM_SEVERITY_WARNING,
)
from strongroom.audit.v1 import audit_service_pb2
from strongroom.crypto.v1 import crypto_pb2
from strongroom.keystore.v1 import key_service_pb2
from strongroom.secrets.v1 import secret_service_pb2

CONTRACTS = (access_service_pb2, audit_service_pb2, crypto_pb2, key_service_pb2, secret_service_pb2)
# The one is permitted as two actions, one on each key; the other is free to everybody.
WITHOUT_ACTION = {"crypto:ReEncrypt", "access:GetSchema"}
GOOD = """// what operators may
permit (principal, action in Strongroom::Action::"crypto", resource)
when { context.encryption_context.contains({key: "tenant", value: "a"}) }
unless { context has source_address && !context.source_address.isInRange(ip("10.0.0.0/8")) };
"""


def problems(cedar: str, kind: int = POLICY_KIND_IDENTITY) -> list[tuple[int, int, str]]:
    found = policy_text.check(cedar, kind, "acme")  # type: ignore[arg-type]
    return [(one.line, one.column, one.message) for one in found if one.severity == PROBLEM_SEVERITY_ERROR]


def test_the_schema_has_an_action_for_every_public_method() -> None:
    for contract in CONTRACTS:
        for service in contract.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                action = action_of(method)
                cedar = f'permit (principal, action == Strongroom::Action::"{action}", resource);'
                assert action in WITHOUT_ACTION or not problems(cedar), action
    assert "AssumeRole" in session_service_pb2.DESCRIPTOR.services_by_name["SessionService"].methods_by_name


def test_the_schema_says_the_same_as_json() -> None:
    schema = policy_text.schema()
    as_json = cedarpy.Schema.from_json_str(schema.json)
    kinds = json.loads(schema.json)["Strongroom"]["entityTypes"]
    scopes = [f'action == Strongroom::Action::"{action}", resource' for action in sorted(schema.actions)]
    on_kinds = [f'{scope} is Strongroom::{kind}) when {{ resource.hasTag("t") }}' for scope in scopes for kind in kinds]
    read = [f'{scope}) when {{ context.{name} == "x" }}' for scope in scopes for name in ("spec", "external_id")]
    everything = "".join(f"permit (principal is Strongroom::User, {one};" for one in (*on_kinds, *read))
    found, wanted = (cedarpy.validate_policies(everything, one) for one in (as_json, schema.parsed))
    told = [{(error.policy_id, error.error) for error in result.errors} for result in (found, wanted)]
    assert told[0] == told[1]
    assert told[0]


def test_a_good_policy_has_no_problems() -> None:
    assert policy_text.check(GOOD, POLICY_KIND_IDENTITY, "acme") == []


@pytest.mark.parametrize(
    ("statement", "line", "column", "message"),
    [
        ("permit (principal, action, resource)\nwhen { 1 + };", 6, 12, "unexpected token `}`"),
        ("permit (principal, action, resource)\nwhen { foo };", 6, 8, "invalid variable: foo"),
        ('permit (principal, action, resource)\nwhen { "a;b };', 6, 8, "invalid token"),
        ("permt (principal, action, resource);", 5, 1, "invalid policy effect: permt"),
        ("permit (principal, action, resource)", 5, 37, "unexpected end of input"),
        ("permit (principal in ?principal, action, resource);", 5, 1, "templates are not supported"),
        (
            'permit (principal, action == Strongroom::Action::"crypto:Encryp", resource);',
            5,
            30,
            'unrecognized action `Strongroom::Action::"crypto:Encryp"`',
        ),
        (
            'permit (principal, action in Strongroom::Action::"crypto", resource)\nwhen { resource.colour == "red" };',
            6,
            17,
            "attribute `colour` on entity type `Strongroom::Key` not found",
        ),
    ],
)
def test_a_problem_has_its_line_and_column(statement: str, line: int, column: int, message: str) -> None:
    assert (line, column, message) in problems(GOOD + statement)


@pytest.mark.parametrize(
    "statement",
    [
        'permit (principal == Strongroom::User::"accounts/other/users/ann", action, resource);',
        'permit (principal in Strongroom::Account::"accounts/other", action, resource);',
        'permit (principal, action, resource) when { principal in [Strongroom::Role::"accounts/other/roles/r"] };',
        'permit (principal is Strongroom::User in Strongroom::Account::"accounts/other", action, resource);',
    ],
)
def test_only_a_resource_policy_names_principals_of_another_account(statement: str) -> None:
    assert "accounts/other" in problems(statement)[0][2]
    assert problems(statement, POLICY_KIND_RESOURCE) == []
    assert problems(statement.replace("other", "acme")) == []


def test_what_never_applies_is_a_warning() -> None:
    (problem,) = policy_text.check("permit (principal, action, resource) when { false };", POLICY_KIND_IDENTITY, "acme")
    assert problem.severity == PROBLEM_SEVERITY_WARNING
    policy_text.require_valid("permit (principal, action, resource) when { false };", POLICY_KIND_IDENTITY, "acme", "x")


def test_several_problems_come_in_the_order_of_their_places() -> None:
    found = problems("permit (principal) ;\n\npermit (principal, action, resource) when { foo };\n$;")
    assert [line for line, _, _ in found] == [1, 3, 4]
    assert all(first[:2] <= second[:2] for first, second in pairwise(found))


@pytest.mark.parametrize(
    ("cedar", "reason"),
    [
        ("", Reason.FIELD_REQUIRED),
        ("  \n", Reason.FIELD_REQUIRED),
        ("// nothing\n", Reason.POLICY_INVALID),
        ("permit (principal, action, resource);" * 101, Reason.POLICY_INVALID),
        ("//" + "x" * policy_text.MAX_BYTES, Reason.FIELD_TOO_LARGE),
    ],
)
def test_what_is_no_policy_is_refused(cedar: str, reason: Reason) -> None:
    with pytest.raises(StrongroomError) as refused:
        policy_text.require_valid(cedar, POLICY_KIND_IDENTITY, "acme", "policy.cedar")
    assert (refused.value.reason, refused.value.field) == (reason, "policy.cedar")


def test_a_refusal_names_the_place() -> None:
    with pytest.raises(StrongroomError) as refused:
        policy_text.require_valid(
            "permit (principal, action, resource)\nwhen { foo };", POLICY_KIND_IDENTITY, "acme", "p"
        )
    told = refused.value.metadata
    assert (told["line"], told["column"], told["error"]) == ("2", "8", "invalid variable: foo")


def test_a_trust_policy_is_about_assuming_the_role_alone() -> None:
    trust = """permit (principal, action == Strongroom::Action::"access:AssumeRole", resource)
    when { principal in Strongroom::Account::"accounts/isv" && context.external_id == "e" };"""
    policy_text.require_valid_trust(trust, "acme", "trust_policy")
    both = '[Strongroom::Action::"access:AssumeRole", Strongroom::Action::"access:TagSession"]'
    policy_text.require_valid_trust(f"permit (principal, action in {both}, resource);", "acme", "trust_policy")
    with pytest.raises(StrongroomError) as refused:
        policy_text.require_valid_trust(
            'permit (principal, action == Strongroom::Action::"crypto:Encrypt", resource);', "acme", "trust_policy"
        )
    assert refused.value.reason is Reason.POLICY_INVALID
