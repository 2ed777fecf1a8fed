"""What passwords look like, as it is said in words: `length=24,no-punctuation`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from strongroom.secrets.v1.password_rule_pb2 import PasswordRule

_OPTION = "--password-rule"
# The words that stand alone, and what each sets.
_WORDS = {
    "no-lowercase": "exclude_lowercase",
    "no-uppercase": "exclude_uppercase",
    "no-digits": "exclude_digits",
    "no-punctuation": "exclude_punctuation",
    "all-punctuation": "all_punctuation",
    "spaces": "include_space",
    "any-kinds": "allow_missing_kinds",
}
_CONTRARY = {"no-punctuation": "all-punctuation", "all-punctuation": "no-punctuation"}
_LENGTH, _EXCLUDE, _DEFAULT = "length=", "exclude=", "default"

PasswordRuleText = Annotated[
    str,
    typer.Option(
        metavar="RULE",
        help=f"What rotation's passwords look like, words with commas between them: length=24, {', '.join(_WORDS)}, and"
        f" last exclude=CHARACTERS; {_DEFAULT} for the default.",
    ),
]


def password_rule_of(text: str) -> PasswordRule:
    """The rule that is said in words, or is a PasswordRule in JSON. A usage error that lists the words."""
    from strongroom.secrets.v1.password_rule_pb2 import PasswordRule

    if text.lstrip().startswith("{"):
        from strongroom.cli.messages import message_of

        return message_of(text, PasswordRule(), _OPTION)
    rule, left, seen = PasswordRule(), text, set[str]()
    while left:
        # Last, since a comma may be among the characters.
        if left.startswith(_EXCLUDE):
            rule.exclude_characters = left.removeprefix(_EXCLUDE)
            break
        word, _, left = left.partition(",")
        _require_first(word.strip(), seen)
        _apply(word.strip(), rule)
        left = left.lstrip()
    return rule


def words_of(rule: PasswordRule) -> str:
    """The words that say a rule."""
    words = [f"{_LENGTH}{rule.length}"] if rule.length else []
    words += [word for word, field in _WORDS.items() if getattr(rule, field)]
    words += [f"{_EXCLUDE}{rule.exclude_characters}"] if rule.exclude_characters else []
    return ",".join(words) or _DEFAULT


def _require_first(word: str, seen: set[str]) -> None:
    """A usage error for what was said already, or otherwise."""
    kind = _LENGTH if word.startswith(_LENGTH) else word
    for other in (kind, _CONTRARY.get(kind, "")):
        if other in seen:
            told = "comes twice" if other == kind else f"does not go with {other}"
            raise typer.BadParameter(f"{word} {told}", param_hint=_OPTION)
    seen.add(kind)


def _apply(word: str, rule: PasswordRule) -> None:
    if word.startswith(_LENGTH):
        digits = word.removeprefix(_LENGTH)
        if not re.fullmatch("[1-9][0-9]{0,3}", digits) or not 8 <= int(digits) <= 4096:
            raise typer.BadParameter(f"{word}: a length is 8 to 4096 characters", param_hint=_OPTION)
        rule.length = int(digits)
    elif word in _WORDS:
        setattr(rule, _WORDS[word], True)
    elif word != _DEFAULT:
        _refuse(word)


def _refuse(word: str) -> NoReturn:
    known = f"{_LENGTH}24, {', '.join(_WORDS)}, {_DEFAULT}, and last {_EXCLUDE}CHARACTERS"
    raise typer.BadParameter(f"there is no {word!s}: there are {known}", param_hint=_OPTION)
