"""What shells offer: commands, options, and values of every kind, for bash, zsh and fish."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

# Completes as the script of the same name does, with a client that knows some names.
PROGRAM = """
import sys
from types import SimpleNamespace as Of
from strongroom.names import Names
import strongroom.client
def named(*names):
    return Of(list=lambda *_, **__: [Of(name=f"accounts/main/{name}") for name in names])
class Client:
    names = Names("main")
    keys = named("keys/payments", "keys/pay-2", "keys/other")
    keys.aliases = named("aliases/current")
    keys.versions = named("keys/payments/versions/1", "keys/payments/versions/2")
    secrets = named("secrets/payments/db", "secrets/web")
    access = Of(principals=named("users/ann", "workloads/api"), policies=named("policies/use"),
                client_keys=named("clientKeys/ck-1"), oidc_providers=named("oidcProviders/cluster"))
    @classmethod
    def from_profile(cls, profile, **_):
        if profile == "broken":
            raise OSError("no mesh")
        return cls()
    def __enter__(self): return self
    def __exit__(self, *_): pass
strongroom.client.Client = Client
sys.argv = ["strongroom"]
from strongroom.cli import main
main()
"""
PROFILES = 'current = "dev"\n[profiles.dev]\naccount = "main"\n[profiles.live]\naccount = "shop"\n'
Offered = Callable[[str], str]


def _bash(line: str) -> Mapping[str, str]:
    words = line.split(" ")
    return {"_STRONGROOM_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}


def _zsh(line: str) -> Mapping[str, str]:
    return {"_STRONGROOM_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": line}


def _fish(line: str) -> Mapping[str, str]:
    return {
        "_STRONGROOM_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }


SHELLS = {"bash": _bash, "zsh": _zsh, "fish": _fish}


@pytest.fixture(params=SHELLS)
def offered(request: pytest.FixtureRequest, tmp_path: Path) -> Offered:
    (tmp_path / "profiles.toml").write_text(PROFILES)

    def offer(line: str) -> str:
        environment = {
            **os.environ,
            "STRONGROOM_CONFIG": str(tmp_path / "profiles.toml"),
            **SHELLS[request.param](line),
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, check=False, capture_output=True, text=True
        )
        assert done.stderr == ""
        return done.stdout

    return offer


def test_every_shell_is_offered_values_of_every_kind(offered: Offered) -> None:
    for line, there, not_there in (
        ("strongroom key describe pay", ("payments", "pay-2"), "other"),
        ("strongroom secret get ", ("payments/db", "web"), "pay-2"),
        ("strongroom key create k --spec RSA", ("RSA_2048", "RSA_4096"), "AES_256"),
        ("strongroom key list --profile ", ("dev", "live"), "payments"),
        ("strongroom key version disable payments/versions/", ("payments/versions/2",), "other"),
        ("strongroom policy attach use use", ("users/ann",), "workloads"),
        ("strongroom secret create s --ty", ("--type",), "--tls"),
        ("strongroom al", ("alias",), "audit"),
    ):
        printed = offered(line)
        assert all(value in printed for value in there), (line, printed)
        assert not_there not in printed, (line, printed)


def test_a_mesh_that_is_away_offers_nothing_and_says_nothing(offered: Offered) -> None:
    assert "payments" not in offered("strongroom key describe --profile broken ")
