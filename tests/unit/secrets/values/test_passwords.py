"""Random passwords: as the rule says, and rules that nothing can satisfy."""

from __future__ import annotations

import shlex
import string
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.runtime.errors import StrongroomError
from services.secrets.values.passwords import check_rule, generate
from strongroom.secrets.v1.password_rule_pb2 import PasswordRule

KINDS = (string.ascii_lowercase, string.ascii_uppercase, string.digits, string.punctuation)


@given(
    length=st.integers(8, 64),
    left_out=st.tuples(*[st.booleans()] * 4),
    space=st.booleans(),
    excluded=st.text(st.sampled_from(string.printable), max_size=20),
    loose=st.booleans(),
    every=st.booleans(),
)
def test_every_password_is_as_its_rule_says(
    length: int, left_out: tuple[bool, ...], space: bool, excluded: str, loose: bool, every: bool
) -> None:
    rule = PasswordRule(
        length=length,
        exclude_lowercase=left_out[0],
        exclude_uppercase=left_out[1],
        exclude_digits=left_out[2],
        exclude_punctuation=left_out[3],
        include_space=space,
        exclude_characters=excluded,
        allow_missing_kinds=loose,
        all_punctuation=every,
    )
    try:
        check_rule(rule)
    except StrongroomError:
        assume(False)
    password = generate(rule)

    assert len(password) == length
    assert not set(password) & set(excluded)
    assert password == password.strip(" ")
    for kind, out in zip(KINDS, left_out, strict=True):
        present = bool(set(password) & set(kind))
        assert not (present and out)
        assert present or out or loose
    assert space or " " not in password


@pytest.mark.parametrize(
    "rule",
    [
        PasswordRule(length=7),
        PasswordRule(length=4097),
        PasswordRule(exclude_characters="x" * 129),
        PasswordRule(exclude_characters=string.digits),
        PasswordRule(exclude_lowercase=True, exclude_uppercase=True, exclude_digits=True, exclude_punctuation=True),
        PasswordRule(exclude_characters="".join(KINDS), allow_missing_kinds=True, include_space=True),
    ],
)
def test_a_rule_that_nothing_can_satisfy_is_refused(rule: PasswordRule) -> None:
    with pytest.raises(StrongroomError, match="PASSWORD_RULE_INVALID"):
        check_rule(rule)


def test_the_default_is_40_characters_that_need_no_quotes() -> None:
    for _ in range(200):
        password = generate(PasswordRule())
        assert len(password) == 40
        assert all(set(password) & set(kind) for kind in (*KINDS[:3], "-_."))
        assert quote(password, safe="") == password
        assert shlex.quote(password) == password
        assert password[0].isalnum()
        assert password[-1].isalnum()


def test_every_punctuation_is_had_where_it_is_asked_for() -> None:
    drawn = "".join(generate(PasswordRule(length=4096, all_punctuation=True)) for _ in range(2))
    assert set(string.punctuation) <= set(drawn)
