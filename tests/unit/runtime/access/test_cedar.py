"""Policies taken apart: what they read, what they cannot do without, and which of them can bear on a request."""

from __future__ import annotations

import pytest

from services.runtime.access.cedar import EVERYTHING, Evaluator, Parsed, Statement, StatementIndex, Verdict, uid
from strongroom.access.v1.access_record_service_pb2 import PolicyRecord

KEY = "accounts/acme/keys/payments"
REQUEST = {
    "principal": uid("User", "accounts/acme/users/ann"),
    "action": uid("Action", "crypto:Encrypt"),
    "resource": uid("Key", KEY),
}


def statements(cedar: str, name: str = "p") -> list[Statement]:
    return Parsed().statements(PolicyRecord(name=name, cedar=cedar))


def when(condition: str) -> Statement:
    (statement,) = statements(f"permit (principal, action, resource) when {{ {condition} }};")
    return statement


@pytest.mark.parametrize(
    ("condition", "reads"),
    [
        ("true", set()),
        ('resource.hasTag("context") && resource.getTag("context") == "time"', set()),
        ('principal == Strongroom::User::"context"', set()),
        ('context.via_service == "services/secrets"', {"via_service"}),
        ('context has source_address && context.source_address.isInRange(ip("10.0.0.0/8"))', {"source_address"}),
        ('if context.time > datetime("2026-01-01") then true else resource.hasTag("x")', {"time"}),
        ('context.encryption_context.contains({key: "a", value: resource.getTag("b")})', {"encryption_context"}),
        ('[{Value: context.via_service, ".": "x"}].contains({Value: "y", ".": "x"})', {"via_service"}),
        ('[context.via_service, "x"].contains("x") || context.time == context.time', {"via_service", "time"}),
        ('context == {via_service: ""}', {EVERYTHING}),
        ("[context].isEmpty()", {EVERYTHING}),
    ],
)
def test_what_a_condition_reads_of_the_context_is_known(condition: str, reads: set[str]) -> None:
    assert when(condition).reads == reads


def test_an_unless_reads_as_a_when_does() -> None:
    (statement,) = statements('permit (principal, action, resource) unless { context.via_service == "" };')
    assert statement.reads == {"via_service"}


PAIR = 'context.encryption_context.contains({key: "tenant", value: "a"})'


@pytest.mark.parametrize(
    ("condition", "pair"),
    [
        (PAIR, ("tenant", "a")),
        (f'resource.hasTag("x") && ({PAIR} && context.via_service == "")', ("tenant", "a")),
        (f'{PAIR} || resource.hasTag("x")', None),
        (f"!{PAIR}", None),
        ('context.encryption_context.contains({key: "tenant", value: resource.getTag("t")})', None),
        ('context.session_tags.contains({key: "tenant", value: "a"})', None),
    ],
)
def test_a_pair_that_a_condition_needs_is_known(condition: str, pair: tuple[str, str] | None) -> None:
    assert when(condition).required_pair == pair


def test_statements_are_named_by_their_number_where_there_are_several() -> None:
    assert [one.name for one in statements("permit (principal, action, resource);")] == ["p"]
    both = "permit (principal, action, resource); forbid (principal, action, resource);"
    assert [one.name for one in statements(both)] == ["p#0", "p#1"]


@pytest.mark.parametrize(
    ("scope", "matches"),
    [
        ("action, resource", True),
        ('action == Strongroom::Action::"crypto:Encrypt", resource', True),
        ('action in Strongroom::Action::"crypto", resource', True),
        ('action in [Strongroom::Action::"crypto:Encrypt", Strongroom::Action::"crypto"], resource', True),
        ('action == Strongroom::Action::"crypto:Decrypt", resource', False),
        ('action in Strongroom::Action::"keystore", resource', False),
        (f'action, resource == Strongroom::Key::"{KEY}"', True),
        ('action, resource == Strongroom::Key::"accounts/acme/keys/other"', False),
        ('action, resource in Strongroom::Account::"accounts/acme"', True),
    ],
)
def test_only_what_the_scope_admits_is_looked_at(scope: str, matches: bool) -> None:
    index = StatementIndex(statements(f"permit (principal, {scope});"))
    found = index.matching("crypto:Encrypt", KEY)
    assert len(found) == matches


def evaluator(cedar: str) -> Evaluator:
    return Evaluator(statements(cedar), REQUEST, [{"uid": REQUEST["resource"], "attrs": {}, "parents": []}])


def test_an_evaluator_puts_together_what_holds_always_and_what_depends_on_the_context() -> None:
    one = evaluator(
        "permit (principal, action, resource);"
        f"permit (principal, action, resource) when {{ {PAIR} }};"
        'forbid (principal, action, resource) when { context.via_service == "services/secrets" };'
    )
    pairs = [("tenant", "a")]
    context = {"via_service": "", "encryption_context": [{"key": "tenant", "value": "a"}]}
    assert one.reads == {"encryption_context", "via_service"}
    assert one.verdict(context, pairs) == Verdict(("p#0", "p#1"))
    assert one.verdict({**context, "encryption_context": []}, []) == Verdict(("p#0",))
    assert one.verdict({**context, "via_service": "services/secrets"}, pairs) == Verdict(("p#0", "p#1"), ("p#2",))


def test_a_statement_that_fails_neither_permits_nor_forbids() -> None:
    verdict = evaluator('forbid (principal, action, resource) when { resource.getTag("none") == "x" };').verdict({}, [])
    assert (verdict.permits, verdict.forbids) == ((), ())
    ((name, message),) = verdict.errors
    assert name == "p"
    assert "none" in message
