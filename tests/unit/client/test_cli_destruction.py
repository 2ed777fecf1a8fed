"""What a command ends for good it asks about first; whoever adds a command has to say whether it ends something."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from strongroom.cli.complaints import Status
from tests.support.cli import commands, parsed, run

# What a command line ends for good, or takes away whole: each asks, with any of these words and no others of its own.
ASKS: Mapping[str, tuple[str, ...]] = {
    "account update": (
        "--no-tags",
        "--no-spiffe-ids",
    ),
    "alias delete": ("x",),
    "audit hold": ("--lift",),
    "audit retention": ("--shred-after 31d",),
    "client-key delete": ("x",),
    "grant retire": ("x",),
    "grant revoke": ("x",),
    "key material delete": ("x",),
    "key version destroy": ("x/versions/1",),
    "oidc-provider delete": ("x",),
    "policy delete": ("x",),
    "principal delete": ("users/x",),
    "principal set-roles": ("users/x",),
    "principal set-tags": ("users/x",),
    "principal update": ("users/x --no-identities",),
    "profile delete": ("x",),
    "root rotate": ("",),
    "secret delete": ("x --force",),
    "secret update": (
        "x --retained-versions 2",
        "x --no-tags",
    ),
}
# What is to be typed once more asks more than a yes.
TYPED_AGAIN = {"audit shred": "--confirm"}
# What changes something, and the command that takes it back or says it anew.
TAKEN_BACK: Mapping[str, str] = {
    "account create": "account disable x",
    "account disable": "account enable x",
    "account enable": "account disable x",
    "account update": "account update --display-name x",
    "alias create": "alias delete x",
    "alias move": "alias move x y",
    "audit hold": "audit hold --lift",
    "audit retention": "audit retention --archive-after 400d",
    "client-key create": "client-key delete x",
    "client-key disable": "client-key enable x",
    "client-key enable": "client-key disable x",
    "client-key update": "client-key update x --description y",
    "file rewrap": "file rewrap x --recipient y",
    "grant create": "grant revoke x",
    "key cancel-deletion": "key schedule-deletion x",
    "key create": "key schedule-deletion x",
    "key disable": "key enable x",
    "key enable": "key disable x",
    "key material import": "key material delete x",
    "key material import-wrapped": "key material delete x",
    "key protect": "key unprotect x",
    "key rotate": "key version set-primary x/versions/1",
    "key rotation-policy": "key rotation-policy x --every 0",
    "key schedule-deletion": "key cancel-deletion x",
    "key tag": "key untag x a",
    "key unprotect": "key protect x",
    "key untag": "key tag x a=b",
    "key update": "key update x --description y",
    "key version cancel-destruction": "key version destroy x/versions/1",
    "key version disable": "key version enable x/versions/1",
    "key version enable": "key version disable x/versions/1",
    "key version set-primary": "key version set-primary x/versions/2",
    "login": "logout",
    "logout": "login",
    "migrate aws-sm": "secret delete x",
    "migrate vault": "secret delete x",
    "oidc-provider create": "oidc-provider delete x",
    "oidc-provider disable": "oidc-provider enable x",
    "oidc-provider enable": "oidc-provider disable x",
    "oidc-provider update": "oidc-provider update x",
    "policy attach": "policy detach x users/y",
    "policy create": "policy delete x",
    "policy detach": "policy attach x users/y",
    "policy update": "policy update x y",
    "principal create": "principal delete users/x",
    "principal disable": "principal enable users/x",
    "principal enable": "principal disable users/x",
    "principal revoke-sessions": "login",
    "principal set-roles": "principal set-roles users/x y",
    "principal set-tags": "principal set-tags users/x a=b",
    "principal update": "principal update users/x --spiffe-id y",
    "profile create": "profile delete x",
    "profile edit": "profile edit x",
    "profile use": "profile use x",
    "quota reset": "quota set --requests-per-second 1",
    "quota set": "quota reset",
    "role create": "principal delete roles/x",
    "role trust": "role trust x --trust-policy y",
    "secret cancel-rotation": "secret rotate x",
    "secret create": "secret delete x",
    "secret delete": "secret restore x",
    "secret disable-version": "secret enable-version x/versions/1",
    "secret enable-version": "secret disable-version x/versions/1",
    "secret put": "secret stage x Current --to x/versions/1",
    "secret repair": "secret rotate x",
    "secret restore": "secret delete x",
    "secret resume-rotation": "secret cancel-rotation x",
    "secret rotate": "secret rotate x",
    "secret rotation-policy": "secret rotation-policy x --every 0",
    "secret stage": "secret stage x Current --to x/versions/1",
    "secret update": "secret update x",
}
# What changes nothing in the mesh: it reads, computes, or writes new files of this machine.
CHANGES_NOTHING = frozenset(
    """access schema|access simulate|access why|account describe|account list|alias list|assume-role|audit checkpoint
    audit events|audit export|audit logs|audit prove|audit report|audit tail|audit verify|audit witness
    client-key describe|client-key list|data-key|decrypt|encrypt|file decrypt|file encrypt|file inspect
    grant describe|grant list|help|key describe|key list|key material parameters|key version list|mac generate
    mac verify|oidc-provider describe|oidc-provider list|policy describe|policy list|policy validate
    principal describe|principal list|profile list|profile show|public-key decrypt|public-key encrypt|public-key get
    quota get|quota list|random|re-encrypt|role describe|role list|root status|run|secret describe|secret get
    secret list|secret random-password|secret readers|secret rotation|secret versions|secret watch|sign|status|trace
    verify|whoami""".replace("\n", "|")
    .replace("    ", "")
    .split("|")
)


def test_every_command_says_whether_it_ends_something() -> None:
    said = {*ASKS, *TYPED_AGAIN, *TAKEN_BACK, *CHANGES_NOTHING}
    assert sorted(commands().keys() - said) == [], "say what it ends, what takes it back, or that it changes nothing"
    assert sorted(said - commands().keys()) == []
    assert not CHANGES_NOTHING & {*ASKS, *TYPED_AGAIN, *TAKEN_BACK}


def test_what_asks_is_what_says_that_it_destroys() -> None:
    can_be_told_yes = {
        name for name, command in commands().items() if any(parameter.name == "yes" for parameter in command.params)
    }
    assert can_be_told_yes == set(ASKS)
    for command, option in TYPED_AGAIN.items():
        assert any(option in parameter.opts and parameter.required for parameter in commands()[command].params)


@pytest.mark.parametrize(("command", "words"), [(command, words) for command in ASKS for words in ASKS[command]])
def test_what_ends_for_good_asks_and_says_what_it_ends(command: str, words: str) -> None:
    refused = run(*command.split(), *words.split(), "--profile", "none")
    assert (refused.exit_code, refused.stdout) == (Status.USAGE, "")
    assert "--yes" in refused.stderr
    assert "nobody can be asked: this " in refused.stderr
    with_yes = run(*command.split(), *words.split(), "--yes", "--profile", "none")
    assert "--yes" not in with_yes.stderr
    assert (with_yes.exit_code, "(PROFILE_NOT_FOUND)" in with_yes.stderr) == (Status.REFUSED, True)


# Parameters whose words say that something goes, and that need not ask: why.
GOES_ON = {
    ("key create", "--deletion-protection"): "it refuses",
    ("key untag", "name"): "each is named, and `key tag` says it anew",
    ("principal set-roles", "role"): "asked about where none is named",
    ("principal set-tags", "tag"): "asked about where none is named",
    ("secret stage", "--to"): "a stage is named, and said anew",
}
ENDS = re.compile(r"\b(?:lifts?|take[sn]? .*away|take back|for good|remove|destroy|delete)", re.IGNORECASE)


def test_every_option_that_ends_something_is_asked_about() -> None:
    for command, found in commands().items():
        for parameter in found.params:
            words = getattr(parameter, "help", None) or ""
            option = parameter.opts[0]
            if not ENDS.search(words) or option in ("--yes", "--force") or (command, option) in GOES_ON:
                continue
            asked = any(option in given.split() for given in ASKS.get(command, ()))
            assert asked or command in TYPED_AGAIN or ASKS.get(command) == ("x",), (command, option, words)


@pytest.mark.parametrize("command", TAKEN_BACK)
def test_what_takes_a_change_back_is_a_command_and_no_change_is_asked_about(command: str) -> None:
    parsed(f"strongroom {TAKEN_BACK[command]}")
    if command not in ASKS:
        assert not any(parameter.name == "yes" for parameter in commands()[command].params)


@pytest.mark.parametrize(
    "line",
    [
        "secret delete x",
        "secret update x --description y",
        "audit retention --archive-after 90d",
        "audit retention --never-shred",
        "principal set-roles users/x reader",
        "principal set-tags users/x a=b",
        "principal update users/x --description y",
        "account update --display-name x",
        "account update --tag a=b --give-spiffe-id spiffe://a/",
        "audit hold",
        "audit hold --reason x",
        "secret update x --tag a=b",
    ],
)
def test_what_ends_nothing_is_not_asked_about(line: str) -> None:
    assert "--yes" not in run(*line.split(), "--profile", "none").stderr
