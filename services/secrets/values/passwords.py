"""Random passwords by rule.

Every character comes from the system's generator. Those that the rule insists on (one of each kind) are had by drawing
whole passwords until one has them, so that all passwords that the rule allows are equally likely.
"""

from __future__ import annotations

import math
import string
from secrets import SystemRandom

from services.runtime.errors import Reason, StrongroomError
from strongroom.secrets.v1.password_rule_pb2 import PasswordRule

DEFAULT_LENGTH = 40
MIN_LENGTH = 8
MAX_LENGTH = 4096

_MAX_EXCLUDED = 128
# Those of as many digits as a password has characters at least.
_MIN_BITS = MIN_LENGTH * math.log2(10)
_SPACE = " "
# They mean nothing in a URL, an .env file, my.cnf or a shell, but in front or at the end.
_PLAIN_PUNCTUATION = "-_."


def check_rule(rule: PasswordRule, field: str = "password_rule") -> None:
    """Raises PASSWORD_RULE_INVALID, naming the field of the rule, for one that nothing can satisfy, or so
    few passwords that whoever may change it, and not read, could tell the next."""
    if rule.length and not MIN_LENGTH <= rule.length <= MAX_LENGTH:
        raise _invalid(f"{field}.length", f"must be from {MIN_LENGTH} to {MAX_LENGTH}")
    if len(rule.exclude_characters) > _MAX_EXCLUDED:
        raise _invalid(f"{field}.exclude_characters", f"has more than {_MAX_EXCLUDED} characters")
    kinds = _kinds(rule)
    if not rule.allow_missing_kinds and not all(kinds):
        raise _invalid(f"{field}.exclude_characters", "leaves nothing of a kind that is wanted")
    if not any(kinds):
        raise _invalid(field, "leaves no characters but the space")
    if (rule.length or DEFAULT_LENGTH) * math.log2(len("".join(kinds))) < _MIN_BITS:
        raise _invalid(field, f"leaves fewer than 10^{MIN_LENGTH} passwords: who sets it would know them")


def generate(rule: PasswordRule) -> str:
    """A password of a rule that `check_rule` has passed."""
    kinds = _kinds(rule)
    every = "".join(kinds)
    ends = every if rule.all_punctuation else every.rstrip(string.punctuation) or every
    middle = every + _SPACE if rule.include_space and _SPACE not in rule.exclude_characters else every
    wanted = [] if rule.allow_missing_kinds else [set(kind) for kind in kinds]
    length = rule.length or DEFAULT_LENGTH
    random = SystemRandom()
    while True:
        drawn = [random.choice(ends), *random.choices(middle, k=length - 2), random.choice(ends)]
        if all(kind.intersection(drawn) for kind in wanted):
            return "".join(drawn)


def _kinds(rule: PasswordRule) -> list[str]:
    kinds = (
        (rule.exclude_lowercase, string.ascii_lowercase),
        (rule.exclude_uppercase, string.ascii_uppercase),
        (rule.exclude_digits, string.digits),
        (rule.exclude_punctuation, string.punctuation if rule.all_punctuation else _PLAIN_PUNCTUATION),
    )
    excluded = set(rule.exclude_characters)
    return ["".join(c for c in kind if c not in excluded) for left_out, kind in kinds if not left_out]


def _invalid(field: str, why: str) -> StrongroomError:
    return StrongroomError(Reason.PASSWORD_RULE_INVALID, f"{field} {why}", field=field)
