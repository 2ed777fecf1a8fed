"""What a command ends for good it asks about first; whoever adds a command has to say whether it ends something."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from strongroom.cli.complaints import Status
from tests.support.cli import commands, parsed, run

# What a command line ends for good, or takes away whole: each asks, with these words and no others of its own.
ASKS: Mapping[str, str] = {
    "alias delete": "x",
    "audit retention": "--shred-after 31d",
    "client-key delete": "x",
    "grant retire": "x",
    "grant revoke": "x",
    "key material delete": "x",
    "key version destroy": "x/versions/1",
    "oidc-provider delete": "x",
    "policy delete": "x",
    "principal delete": "users/x",
    "principal set-roles": "users/x",
    "principal set-tags": "users/x",
    "principal update": "users/x --no-identities",
    "profile delete": "x",
    "root rotate": "",
    "secret delete": "x --force",
    "secret update": "x --retained-versions 2",
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
    client-key describe|client-key list|data-key|decrypt|encrypt|file decrypt|file encrypt|file inspect|file rewrap
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


@pytest.mark.parametrize("command", ASKS)
def test_what_ends_for_good_asks_and_says_what_it_ends(command: str) -> None:
    refused = run(*command.split(), *ASKS[command].split(), "--profile", "none")
    assert (refused.exit_code, refused.stdout) == (Status.USAGE, "")
    assert "--yes" in refused.stderr
    assert "nobody can be asked: this " in refused.stderr
    with_yes = run(*command.split(), *ASKS[command].split(), "--yes", "--profile", "none")
    assert "--yes" not in with_yes.stderr
    assert (with_yes.exit_code, "(PROFILE_NOT_FOUND)" in with_yes.stderr) == (Status.REFUSED, True)


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
    ],
)
def test_what_ends_nothing_is_not_asked_about(line: str) -> None:
    assert "--yes" not in run(*line.split(), "--profile", "none").stderr
