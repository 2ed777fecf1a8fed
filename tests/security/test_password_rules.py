"""A rule for passwords is changed by who may not read them: it must not tell which the next one is."""

from __future__ import annotations

import string

import pytest

from services.runtime.errors import StrongroomError
from services.secrets.values.passwords import check_rule
from strongroom.secrets.v1.password_rule_pb2 import PasswordRule


def only(characters: str, length: int) -> PasswordRule:
    """The rule of passwords of these digits and lower-case letters."""
    left_out = "".join(sorted(set(string.digits + string.ascii_lowercase) - set(characters)))
    return PasswordRule(
        length=length,
        exclude_uppercase=True,
        exclude_punctuation=True,
        exclude_characters=left_out,
        allow_missing_kinds=True,
    )


@pytest.mark.parametrize(("characters", "length"), [("9", 8), ("9", 4096), ("01", 26), ("01", 8), ("a", 0), ("abc", 8)])
def test_a_rule_that_leaves_a_handful_of_passwords_is_refused(characters: str, length: int) -> None:
    with pytest.raises(StrongroomError, match="PASSWORD_RULE_INVALID"):
        check_rule(only(characters, length))


@pytest.mark.parametrize(("characters", "length"), [("0123456789", 8), ("01", 27), ("abc", 17)])
def test_a_rule_of_few_characters_may_make_up_for_it_by_length(characters: str, length: int) -> None:
    check_rule(only(characters, length))
