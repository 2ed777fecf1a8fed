"""Options that go together, or do not: one that would be passed over silently is a usage error.

Here are those that depend on what else was typed. Where it depends on what something is, the command itself says so.
`tests/unit/client/test_cli_together.py` tries every option of every command without the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

EMPTY_MEANS_SOMETHING = frozenset({"TEXT", "FILTER", "NAME=VALUE"})
"""What may be empty: a description that is taken away, say. An empty name or number is a variable that nobody set."""
EMPTIED = frozenset({"jwks_uri"})
"""Parameters whose empty text takes away what there is."""


class Rule(NamedTuple):
    """What has to be so of all that was typed, by parameter, where this one was, and what is told else."""

    parameter: str
    holds: Callable[[Mapping[str, Any]], bool]
    told: str


def _needs(parameters: str, flag: str, *others: str) -> Sequence[Rule]:
    """Each of the parameters needs `flag`, or one of others."""
    names = [_name(one) for one in (flag, *others)]
    told = f"needs {flag}" + (f", or another of {', '.join(others)}" if others else "")
    return [Rule(one, lambda typed: any(_is_given(typed, name) for name in names), told) for one in parameters.split()]


def _without(parameters: str, flag: str) -> Sequence[Rule]:
    """Each of the parameters goes without `flag`."""
    name = _name(flag)
    return [Rule(one, lambda typed: not _is_given(typed, name), f"goes without {flag}") for one in parameters.split()]


def _is_given(typed: Mapping[str, Any], name: str) -> bool:
    return name in typed and typed[name] is not False


def _name(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


_PLACE = ("--target", "--port", "--user", "--tls", "--database", "--host-keys", "--master")
_OF_EVENTS = "since until action principal resource outcome"


def _is_tiles(typed: Mapping[str, Any]) -> bool:
    form: str = typed.get("form", "tiles")
    return form == "tiles"


RULES: Mapping[str, Sequence[Rule]] = {
    "account create": _without("secret_out", "--spiffe-id"),
    "account update": [*_without("tag", "--no-tags"), *_without("give_spiffe_id", "--no-spiffe-ids")],
    "audit export": [
        *(
            Rule(one, lambda typed: not _is_tiles(typed), "needs --format jsonl or ocsf: tiles are the whole log")
            for one in _OF_EVENTS.split()
        ),
        Rule("log", _is_tiles, "goes with --format tiles alone"),
    ],
    "audit verify": _needs("quorum", "--witness"),
    "file encrypt": _needs("store_context", "--context"),
    "key version destroy": _without("after", "--now"),
    "oidc-provider create": _without("jwks_uri ca", "--jwks"),
    "profile create": _needs("client_key_secret_file", "--client-key"),
    "quota set": _needs("burst", "--requests-per-second"),
    "secret create": [
        *_needs("lifetime", "--principal"),
        *_needs("skip_target_check", "--host", *_PLACE),
        *_without("text value_file keep_newline", "--no-value"),
    ],
    "secret delete": _without("after", "--force"),
    "secret random-password": _without("all_punctuation", "--no-punctuation"),
    "secret rotate": [Rule("timeout", lambda typed: typed.get("follow", True) is True, "goes without --no-follow")],
    "secret rotation-policy": _needs("window_length day time_zone", "--window"),
    "secret update": _needs("skip_target_check", "--host", *_PLACE),
}
"""By the words of the command."""


def complaint(command: str, typed: Mapping[str, Any], metavars: Mapping[str, str]) -> tuple[str, str] | None:
    """What is wrong with the options that were typed, as the parameter and what is told of it; None where nothing is.
    `metavars` says what each parameter takes, in the word of the help.
    """
    for name, value in typed.items():
        may_be_empty = metavars.get(name, "TEXT") in EMPTY_MEANS_SOMETHING or name in EMPTIED
        if not may_be_empty and "" in (value if isinstance(value, list | tuple) else (value,)):
            return name, "is empty: is a variable not set?"
    for rule in RULES.get(command, ()):
        if rule.parameter in typed and not rule.holds(typed):
            return rule.parameter, rule.told
    return None
