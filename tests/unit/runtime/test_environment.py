"""A variable that is to override a setting, and is misspelt, is told with the one that is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.crypto.settings import CryptoSettings
from services.keystore.settings import KeystoreSettings
from services.runtime import config
from services.runtime.environment import unknown_variables

KNOWN = (
    "STRONGROOM_KEYSTORE__TELEMETRY__LOG_LEVEL",
    "STRONGROOM_KEYSTORE__TELEMETRY",
    "strongroom_keystore__telemetry__log_level",
    "STRONGROOM_KEYSTORE__LISTENERS__PUBLIC__ADDRESS",
    "STRONGROOM_KEYSTORE__REDIS__URL_FILE",
)
OF_OTHERS = (
    "STRONGROOM_CRYPTO__TELEMETRY__LOG_LEVEL",
    "STRONGROOM_AUDIT__NO_SUCH_SECTION__X",
    "STRONGROOM_DOORS__TLS__TRUST",
    "STRONGROOM_WORKER",
    "STRONGROOM_KEYSTORE_KEY",
    "STRONGROOM_KEYSTORE_IMAGE",
    "STRONGROOM_CRYPT__DATABASE__URL",
    "STRONGROOM_CONFIG",
    "STRONGROOM_FAULT_RUNS",
    "STRONGROOM_KEYSTORE_PIN",
    "STRONGROOM_KEYSTORE_SERVICE_HOST",
    "STRONGROOM_KEYSTORE_SERVICE_PORT_GRPC",
    "STRONGROOM_KEYSTORE_PORT",
    "STRONGROOM_KEYSTORE_PORT_7100_TCP_ADDR",
    # What a deployment may carry a secret in.
    "STRONGROOM_KEYSTORE_REDIS_PASSWORD",
    "PATH",
)
MISSPELT = {
    "STRONGROOM_KEYSTORE__TELEMTRY__LOG_LEVEL": "STRONGROOM_KEYSTORE__TELEMETRY__LOG_LEVEL",
    "STRONGROOM_KEYSTORE__TELEMETRY__LOGLEVEL": "STRONGROOM_KEYSTORE__TELEMETRY__LOG_LEVEL",
    "STRONGROOM_KEYSTORE__TELEMETRY_LOG_LEVEL": "STRONGROOM_KEYSTORE__TELEMETRY__LOG_LEVEL",
    "STRONGROOM_KEYSTORE_TELEMETRY__LOG_LEVEL": "STRONGROOM_KEYSTORE__TELEMETRY__LOG_LEVEL",
    "STRONGROOM_KEYSTORE_TELEMETRY_LOG_LEVEL": "STRONGROOM_KEYSTORE__TELEMETRY__LOG_LEVEL",
    "STRONGROOM_KEYSTORE_TELEMETRY_LOG_LEVL": "STRONGROOM_KEYSTORE__TELEMETRY__LOG_LEVEL",
    "STRONGROOM_KEYSTORE_DATABSE_URL": "STRONGROOM_KEYSTORE__DATABASE__URL",
    "STRONGROOM_KEYSTORE_LOG_LEVL": "STRONGROOM_KEYSTORE__TELEMETRY__LOG_LEVEL",
    "STRONGROOM_DATABASE__URL": "STRONGROOM_KEYSTORE__DATABASE__URL",
    "STRONGROOM_TELEMETRY__LOG_LEVEL": "STRONGROOM_KEYSTORE__TELEMETRY__LOG_LEVEL",
    "STRONGROOM_KEYSTROE__REDIS__URL": "STRONGROOM_KEYSTORE__REDIS__URL",
    "STRONGROOM_KEYSTORE__REDI__URL": "STRONGROOM_KEYSTORE__REDIS__URL",
    "STRONGROOM_KEYSTORE__LISTNERS__PUBLIC__ADDRESS": "STRONGROOM_KEYSTORE__LISTENERS__PUBLIC__ADDRESS",
}


@pytest.mark.parametrize("name", [*KNOWN, *OF_OTHERS])
def test_settings_and_what_is_nobodys_here_pass(name: str) -> None:
    assert unknown_variables(KeystoreSettings, "keystore", {name: "x"}) == []


@pytest.mark.parametrize("name", MISSPELT)
def test_a_misspelt_name_is_told_with_the_one_that_is_meant(name: str) -> None:
    (problem,) = unknown_variables(KeystoreSettings, "keystore", {name: "x", **dict.fromkeys(KNOWN, "x")})
    assert problem == f"{name}: there is no such setting; {MISSPELT[name]} is near"


def test_what_is_near_to_nothing_is_told_too() -> None:
    (problem,) = unknown_variables(KeystoreSettings, "keystore", {"STRONGROOM_KEYSTORE__X": "1"})
    assert problem == "STRONGROOM_KEYSTORE__X: there is no such setting"


@pytest.mark.parametrize("name", ["STRONGROOM_BACKUP__DATABASE__URL", "STRONGROOM_KS__DATABASE__URL"])
def test_a_setting_behind_what_is_no_service_is_only_logged(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert unknown_variables(KeystoreSettings, "keystore", {name: "hunter2"}) == []
    assert f"{name}: there is no such setting; STRONGROOM_KEYSTORE__DATABASE__URL is near" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("name", ["REDIS__PASSWORD", "REDIS__PASSWORDLES", "BIND_ANY_SPIFFE_IDS", "DATABASE__PLAINTEX"])
def test_nobody_is_told_to_turn_a_check_off(name: str) -> None:
    (problem,) = unknown_variables(KeystoreSettings, "keystore", {f"STRONGROOM_KEYSTORE__{name}": "x"})
    assert "there is no such setting" in problem
    told = problem.partition("; ")[2]
    assert not any(one in told for one in ("PASSWORDLESS", "BIND_ANY", "PLAINTEXT"))


def test_what_turns_a_check_off_can_be_set_all_the_same() -> None:
    given = {f"STRONGROOM_KEYSTORE__{name}": "true" for name in ("REDIS__PASSWORDLESS", "BIND_ANY_SPIFFE_ID")}
    assert unknown_variables(KeystoreSettings, "keystore", given) == []


def test_the_kinds_of_a_section_are_known() -> None:
    given = {f"STRONGROOM_CRYPTO__PROVIDER__{name}": "x" for name in ("KIND", "PIN_FILE", "MODULE", "ROOT_KEY_FILE")}
    problems = unknown_variables(CryptoSettings, "crypto", given)
    assert all("PIN_FILE" not in problem for problem in problems)


def test_a_service_does_not_begin_with_a_misspelt_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keystore.toml"
    path.write_text("")
    monkeypatch.setenv("STRONGROOM_KEYSTORE__TELEMTRY__LOG_LEVEL", "DEBUG")
    with pytest.raises(SystemExit) as ended:
        config.load(KeystoreSettings, "keystore", path)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "STRONGROOM_KEYSTORE__TELEMETRY__LOG_LEVEL is near" in told
    assert "listeners: Field required" in told
