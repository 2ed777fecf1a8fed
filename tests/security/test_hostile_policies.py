"""Policies that were written to end a process, to stop others, or to pass for what they are not."""

from __future__ import annotations

import json
import threading
import time
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import cedarpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.keystore.access.editing import lockout
from services.keystore.access.policies import policy_text
from services.runtime import encryption_context
from services.runtime.access import cedar_text
from services.runtime.access.cedar import TOO_COSTLY, Parsed
from services.runtime.access.cedar_cost import CALL, MAX_DECISION
from services.runtime.access.cedar_sets import problems_of, statements_of
from services.runtime.access.decisions import (
    NO_POLICIES,
    Account,
    Decider,
    Decision,
    Question,
    Resource,
    resource_policies,
)
from services.runtime.call import Principal
from strongroom.access.v1.access_record_service_pb2 import AccountAccess, PolicyRecord, PrincipalRecord
from strongroom.access.v1.policy_pb2 import POLICY_KIND_IDENTITY, PROBLEM_SEVERITY_ERROR

ANN, EVE = "accounts/acme/users/ann", "accounts/acme/users/eve"
KEY = Resource("Key", "accounts/acme/keys/payments", "acme", 7, attributes={"protection_level": "HSM"})
EVERYTHING = "permit (principal, action, resource);"

SHAPES: dict[str, Callable[[int], str]] = {
    "brackets": lambda n: "(" * n + "true" + ")" * n,
    "not": lambda n: "!" * n + "true",
    "not in brackets": lambda n: "!(" * n + "true" + ")" * n,
    "minus": lambda n: "-(" * n + "1" + ")" * n + " == 1",
    "then": lambda n: "if true then " * n + "true" + " else false" * n,
    "if": lambda n: "if " * n + "true" + " then true else false" * n,
    "sets": lambda n: "[" * n + "1" + "]" * n + ".isEmpty()",
    "records": lambda n: "{a:" * n + "1" + "}" * n + " == 1",
    "attributes": lambda n: "context" + ".a" * n + " == 1",
    "indexes": lambda n: "context" + '["a"]' * n + " == 1",
    "methods": lambda n: "[1]" + ".isEmpty()" * n,
    "contains": lambda n: "[1].contains(" * n + "1" + ")" * n,
    "extensions": lambda n: "ip(" * n + '"1"' + ")" * n,
    "or": lambda n: " || ".join(["true"] * n),
    "and": lambda n: " && ".join(["true"] * n),
    "plus": lambda n: " + ".join(["1"] * n) + " == 1",
    "has": lambda n: "context has " + ".".join(["a"] * n),
    "has with comments": lambda n: "context has " + ".//)\n".join(["a"] * n),
    "list": lambda n: "1 in [" + ",".join(["1"] * n) + "]",
    "whens": lambda n: "true }" + " when { true }" * n + " when { true",
    "type": lambda n: "principal is " + "A::" * n + "B",
    "pattern": lambda n: f'"{"a" * n}" like "{"*a" * n}"',
    "unbalanced": lambda n: "(" * n,
}


def when(condition: str, effect: str = "permit") -> str:
    return f"{effect} (principal, action, resource) when {{ {condition} }};"


def errors(cedar: str) -> list[str]:
    found = policy_text.check(cedar, POLICY_KIND_IDENTITY, "acme")
    return [one.message for one in found if one.severity == PROBLEM_SEVERITY_ERROR]


def account(*policies: tuple[str, str], parsed: Parsed | None = None) -> Account:
    """With Ann and Eve, and policies on them: target and text, for everybody without a target."""
    records = [
        PolicyRecord(name=f"accounts/acme/policies/p{number}", cedar=text, attached_to=[target] if target else [])
        for number, (target, text) in enumerate(policies)
    ]
    people = [PrincipalRecord(name=name) for name in (ANN, EVE)]
    return Account(AccountAccess(account="acme", principals=people, policies=records), parsed or Parsed())


def decision(
    of: Account, who: str = ANN, resource: Resource = KEY, pairs: Mapping[str, str] = MappingProxyType({})
) -> Decision:
    context = encryption_context.of(pairs)
    question = Question(Principal(who, "acme"), "crypto:Encrypt", resource, context, time=1_800_000_000)
    return Decider(question, of, NO_POLICIES, []).decide(question)[1]


@pytest.mark.parametrize("count", [61, 62, 485, 1_000, 10_000])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_text_ends_a_process_and_what_is_accepted_is_evaluated(shape: str, count: int) -> None:
    text = when(SHAPES[shape](count))[: policy_text.MAX_BYTES]
    answers: list[list[str]] = []
    # As in a service: not on the main thread.
    thread = threading.Thread(target=lambda: answers.append(errors(text)))
    thread.start()
    thread.join()
    (found,) = answers
    assert found or not any(problems_of(text))
    # One that an older version stored denies by itself.
    of = account((EVE, text), (ANN, EVERYTHING))
    assert decision(of).allowed
    decision(of, EVE)
    assert lockout.forbids(text) in (True, False)


def test_a_permit_that_cannot_be_evaluated_permits_nothing_and_is_named() -> None:
    for count in (62, 485, 1_000):
        of = account(("", when(SHAPES["or"](count)) + EVERYTHING))
        assert decision(of) == Decision(True, "accounts/acme/policies/p0#1")
        alone = account(("", when(SHAPES["or"](count))))
        assert decision(alone) == Decision(False, "accounts/acme/policies/p0, default-deny")


def test_a_forbid_that_cannot_be_evaluated_forbids_what_its_scope_covers() -> None:
    scope = 'forbid (principal, action == Strongroom::Action::"crypto:{}", resource) when {{ {} }};'
    deep = SHAPES["or"](62)
    assert not decision(account(("", scope.format("Encrypt", deep)), ("", EVERYTHING))).allowed
    assert decision(account(("", scope.format("Decrypt", deep)), ("", EVERYTHING))).allowed


def test_a_text_that_cannot_be_read_forbids_all_of_its_attachment_and_nothing_else() -> None:
    parsed = Parsed()
    of = account((EVE, "permit ("), ("", EVERYTHING), parsed=parsed)
    assert decision(of, EVE) == Decision(False, "accounts/acme/policies/p0#unusable")
    assert decision(of, ANN).allowed
    assert parsed.unusable == {"accounts/acme/policies/p0": "unexpected end of input"}


# --- one parser -------------------------------------------------------------------------------------------------

FOREIGN = 'permit (principal == Strongroom::User::"accounts/other/users/eve", action, resource);'
SEPARATORS = ["\r", "\n", "\r\n", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\t", "\u00a0", "//", "//;", '// "', '"']
FRAGMENTS = [
    EVERYTHING,
    FOREIGN,
    FOREIGN.replace("==", "in").replace("User", "Role"),
    when('"a;b\\"" == "//"'),
    when('"\\u{2028}" like "*;*"'),
    "permit (principal in ?principal, action, resource);",
    '@id("; //")',
    "forbid",
    ";",
    *SEPARATORS,
]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join))
def test_what_is_checked_is_what_is_evaluated(text: str) -> None:
    found = errors(text)
    evaluated = statements_of("p", text)
    try:
        whole = cedarpy.PolicySet.from_str(text)
    except ValueError:
        assert found
        assert [one.effect for one in evaluated] == ["forbid"]
        return
    if not whole.templates():
        assert len(whole) == len(evaluated)
        bodies = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"].values()
        assert [json.loads(one.body) for one in evaluated] == list(bodies)
    if whole.templates() or not len(whole) or "accounts/other" in "".join(one.body for one in evaluated):
        assert found


@pytest.mark.parametrize("separator", ["\r", "\n", "\r\n"])
def test_a_statement_behind_a_comment_is_checked(separator: str) -> None:
    assert "accounts/other" in errors(f"{EVERYTHING} // harmless{separator}{FOREIGN}")[0]


# --- cost -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cedar", "limit"),
    [
        (when(SHAPES["or"](51)), "more than 50 terms within terms"),
        (when('"a" like "' + "*a" * 9 + '"'), "more than 8 wildcards in a pattern"),
        (when('"a" like "' + "a" * 257 + '"'), "more than 256 characters in a pattern"),
        (when('"a" like "*a*a*a*a*"') * 21, "more than 100 wildcards"),
        (when(f'"{"a" * 1_025}" == "a"'), "more than 1024 characters in a string"),
        (when("[" + "1," * 2_000 + "1].contains(1)"), "more than 2000 terms"),
        (when("(" * 2_048 + "true" + ")" * 2_048), "more than 2048 opening brackets"),
        (when(SHAPES["has"](66)), "more than 64 attributes by dots"),
        (EVERYTHING * 101, "more than 100 policies"),
    ],
)
def test_a_limit_is_named_where_a_policy_is_written(cedar: str, limit: str) -> None:
    assert any(limit in message for message in errors(cedar)), errors(cedar)


DENSE = when('"a" like "*' + "a" * 255 + '"') * 3 + when('ip("1.2.3.4").isInRange(ip("10.0.0.0/8"))') * 30


def test_what_would_cost_too_much_is_not_evaluated() -> None:
    assert not errors(DENSE)
    few, many = account(("", DENSE), ("", EVERYTHING)), account(*[("", DENSE)] * 50, ("", EVERYTHING))
    assert few.highest_cost(PrincipalRecord(name=ANN)) < MAX_DECISION < many.highest_cost(PrincipalRecord(name=ANN))
    assert decision(few).allowed
    began = time.process_time()
    assert decision(many) == Decision(False, TOO_COSTLY)
    assert time.process_time() - began < 1.0


EVERY_ACTION = ", ".join(f'Strongroom::Action::"{action}"' for action in sorted(policy_text.schema().actions))
OTHER_ROLES = ", ".join(f'Strongroom::Role::"accounts/acme/roles/r{number}"' for number in range(60))
# What does not apply, so that all of it is looked at; the last is about as costly for its units as Cedar has anything.
DEAR = {
    "every action": f"permit (principal, action in [{EVERY_ACTION}], resource) when {{ 1 == 2 }};",
    "every action, alone": f"permit (principal, action in [{EVERY_ACTION}], resource);",
    "every action, the context": f"""permit (principal, action in [{EVERY_ACTION}], resource)
        when {{ context.encryption_context.isEmpty() && context has source_address }};""",
    "every action, the time": f"""forbid (principal, action in [{EVERY_ACTION}], resource)
        when {{ context.time == datetime("2020-01-01") }};""",
    "every action in a condition": when(f"!(action in [{EVERY_ACTION}])"),
    "types and accounts": """permit (
        principal is Strongroom::User in Strongroom::Account::"accounts/acme", action,
        resource is Strongroom::Key in Strongroom::Account::"accounts/acme") when { 1 == 2 };""",
    "is": when("principal is Strongroom::Role && resource is Strongroom::Key || 1 == 2"),
    "tags": when('resource.hasTag("t") && resource.getTag("t") == "x" || principal.hasTag("t")'),
    "records": when("{a: {b: {c: {d: 1}}}}.a.b.c.d == 2 || {a: 1, b: 2} == {a: 1, b: 3}"),
    "sets": when("[[1, 2], [3, 4]].contains([5]) || [1, 2, 3].containsAll([4]) || [1 + 1, 2 + 2].containsAny([5])"),
    "strings": when(f'"{"a" * 1_000}" == "{"a" * 999}b"'),
    "addresses": when('context has source_address && context.source_address.isInRange(ip("10.0.0.0/8"))'),
    "errors": when("9223372036854775807 + 1 == 1"),
    "patterns": when('"' + "a" * 1_000 + '" like "*' + "a*" * 7 + 'b"'),
    "conditions": when("true } when { true } unless { false } when { false"),
    "entities": when(f"principal in [{OTHER_ROLES}]"),
}


@pytest.mark.parametrize("shape", DEAR)
def test_units_bound_the_time_of_a_decision_whatever_a_statement_looks_like(shape: str) -> None:
    assert not errors(DEAR[shape])
    measured = seconds_a_unit(DEAR[shape])
    # On one machine, in one moment: with the actions of scopes not counted it was ten times as much.
    assert measured < 3 * seconds_a_unit(DEAR["entities"])


def seconds_a_unit(cedar: str) -> float:
    """What a unit of cost takes where as much of one kind of statement decides as is let through."""
    one = account(("", cedar)).highest_cost(PrincipalRecord(name=ANN)) - CALL
    of = account(*[("", cedar)] * ((MAX_DECISION - CALL) // one))
    question = Question(Principal(ANN, "acme"), "crypto:Encrypt", KEY, source_address="192.0.2.7", time=1_800_000_000)

    def seconds() -> float:
        decider = Decider(question, of, NO_POLICIES, [])
        began = time.thread_time()
        decider.decide(replace(question, source_address="192.0.2.8", time=1_800_000_001))
        Decider(question, of, NO_POLICIES, [])
        return time.thread_time() - began

    assert decision(of).decided_by != TOO_COSTLY
    return min(seconds() for _ in range(5)) / of.highest_cost(PrincipalRecord(name=ANN))


def test_a_statement_for_some_actions_decides_on_those_alone() -> None:
    """Its scope is not evaluated, but chosen by."""
    scope = "permit (principal, action in [{}], resource);"
    encrypt, group = (scope.format(f'Strongroom::Action::"{name}"') for name in ("crypto:Encrypt", "crypto"))
    for cedar, allowed in (
        (encrypt, True),
        (group, True),
        (group.replace("[", "").replace("]", ""), True),
        (encrypt.replace("Encrypt", "Decrypt"), False),
        (scope.format(""), False),
        (scope.format('Strongroom::Action::"keystore"'), False),
        # Not an action, as an older version may have stored it.
        (encrypt.replace("Strongroom::", "Other::"), False),
    ):
        assert decision(account(("", cedar))).allowed is allowed, cedar


def test_a_large_encryption_context_is_not_handed_to_every_policy() -> None:
    pair = 'context.encryption_context.contains({{key: "k{}", value: ""}})'
    text = [("", "".join(when(pair.format(number)) for number in range(at, at + 50))) for at in range(0, 1_000, 50)]
    of = account(*text)
    assert decision(of, pairs={"k5": ""}).allowed
    assert decision(of, pairs={f"k{number}": "" for number in range(900)}) == Decision(False, TOO_COSTLY)


def test_absent_resources_share_what_is_parsed() -> None:
    of = account(*[("", when(f'resource.hasTag("t{number}")') * 20) for number in range(20)])
    decision(of)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(200):
            absent = Resource("Key", f"accounts/acme/keys/absent-{number}", "acme")
            assert not decision(of, resource=absent).allowed
        assert tracemalloc.get_traced_memory()[0] - before < 1_000_000
    finally:
        tracemalloc.stop()


def test_an_account_that_is_read_again_is_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = Parsed()
    decision(account(("", EVERYTHING), parsed=parsed))
    monkeypatch.setattr(cedar_text, "statements", lambda _cedar: pytest.fail("parsed again"))
    monkeypatch.setattr(
        "services.runtime.access.cedar_sets._policy_set", lambda _statements: pytest.fail("compiled again")
    )
    assert decision(account(("", EVERYTHING), parsed=parsed)).allowed
    assert resource_policies([], parsed) is NO_POLICIES
