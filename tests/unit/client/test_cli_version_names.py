"""A version is NAME/versions/NUMBER wherever one is named; how it was said before is taken, and taught nowhere."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from strongroom.calls.secrets.records import SecretValue
from strongroom.cli import command as commands_module
from strongroom.cli.complaints import Status
from strongroom.cli.topics import TOPICS
from strongroom.names import Names
from tests.support.cli import commands, run
from tests.support.recorded_cli import Recorder, surroundings
from tests.unit.client.test_cli_endings import PROFILES

ROOT = Path(__file__).resolve().parents[3]
FULL = "accounts/main/secrets/db"


class Secrets:
    """Keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def get_value(self, secret: str, *, stage: str, version: int, field: str) -> SecretValue:
        self.asked.append((secret, version, stage, field))
        fields: dict[str, Any] = dict.fromkeys(SecretValue.__dataclass_fields__)
        return SecretValue(**{**fields, "value": b"v"})

    def move_stage(self, secret: str, stage: str, *, to_version: int, from_version: int) -> Any:
        self.asked.append((secret, stage, to_version, from_version))
        raise KeyboardInterrupt


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Secrets:
    found = Secrets()
    client = SimpleNamespace(secrets=found, names=Names("main"))
    monkeypatch.setattr(commands_module.Session, "client", client)
    return found


@pytest.mark.parametrize(
    ("words", "version"),
    [(["db/versions/2"], 2), (["db/versions/02"], 2), (["db", "--version", "2"], 2), (["db"], 0)],
)
def test_a_value_is_read_by_the_name_of_its_version(secrets: Secrets, words: list[str], version: int) -> None:
    assert run("secret", "get", *words).stdout == "v"
    assert secrets.asked == [("db", version, "", "")]


@pytest.mark.parametrize("number", ["0", "00", "-1", "x", "", "1.0", "²", "٣", "2147483648", "9" * 30, "1/versions/2"])
@pytest.mark.parametrize(
    "line",
    [
        "secret get db/versions/{}",
        "secret get db --version={}",
        "secret stage db Current --to db/versions/{}",
        "secret stage db Current --to db/versions/1 --from db/versions/{}",
        "secret readers db/versions/{}",
        "audit events --version keys/k/versions/{}",
    ],
)
def test_what_is_the_number_of_no_version_is_refused(secrets: Secrets, line: str, number: str) -> None:
    ended = run(*line.format(number).split(" "))
    assert (ended.exit_code, ended.stdout, secrets.asked) == (Status.USAGE, "", []), ended.stderr


@pytest.mark.parametrize(
    ("words", "to", "at"),
    [
        (["--to", "db/versions/1", "--from", "db/versions/2"], 1, 2),
        (["--to", f"{FULL}/versions/1", "--from", "secrets/db/versions/2"], 1, 2),
        (["--to", "1", "--from", "2"], 1, 2),
        (["--to", "0", "--from", "2"], 0, 2),
        (["--from", "db/versions/2"], 0, 2),
        (["--to", "db/versions/1"], 1, 0),
    ],
)
def test_a_stage_is_moved_from_version_to_version(secrets: Secrets, words: list[str], to: int, at: int) -> None:
    run("secret", "stage", "db", "Current", *words)
    assert secrets.asked == [("db", "Current", to, at)]


def test_a_stage_moves_within_its_secret(secrets: Secrets) -> None:
    ended = run("secret", "stage", "db", "Current", "--to", "other/versions/1")
    assert (ended.exit_code, secrets.asked) == (Status.USAGE, [])
    assert "no version of db" in ended.stderr


def test_no_help_and_no_page_says_a_version_in_another_way() -> None:
    taught = [example for command in commands().values() for example in command.examples]
    taught += [line for page in ROOT.glob("docs/**/*.md") for line in page.read_text().splitlines()]
    for line in taught:
        if "strongroom " in line:
            assert not re.search(r"strongroom secret .*--(?:version|to|from) \d", line), line
    for command, found in commands().items():
        for parameter in found.params:
            if re.search(r"\bversion\b", getattr(parameter, "help", None) or "") and not parameter.hidden:
                assert parameter.metavar != "NUMBER" or command == "migrate vault", (command, parameter.name)


TAKES = (
    "sign V --text x",
    "verify V --signature AAAA --text x",
    "mac verify V --mac AAAA --text x",
    "public-key get V",
    "public-key encrypt V --text x",
    "public-key decrypt V --text AQ==",
    "key material import V",
    "key material delete V --yes",
)
TAKES_NONE = (
    "encrypt V --text x",
    "decrypt --text AQ== --key V",
    "re-encrypt V --text AQ==",
    "data-key V",
    "mac generate V --text x",
    "file encrypt V file-1",
)


@pytest.mark.parametrize("line", [*TAKES, *TAKES_NONE])
def test_where_a_version_may_stand_for_a_key_is_as_the_topic_says(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "profiles.toml").write_text(PROFILES)
    surroundings(tmp_path)
    monkeypatch.setenv("STRONGROOM_CONFIG", str(tmp_path / "profiles.toml"))
    monkeypatch.chdir(tmp_path)
    ended = Recorder(monkeypatch).run([word if word != "V" else "payments/versions/2" for word in line.split()])
    taken, taken_none = TOPICS["versions"][1].replace("\n", " ").split(" take a version ")
    words = re.match(r"public-key|key material|file|[a-z-]+(?: verify| generate)?", line)[0]  # type: ignore[index]
    if line in TAKES:
        assert "payments/versions/2" in str(ended.sent)
        assert f"`{words}`" in taken
    else:
        assert ended.sent == {}
        assert "`strongroom help versions` says where" in ended.written
        assert f"`{words}`" in taken_none
