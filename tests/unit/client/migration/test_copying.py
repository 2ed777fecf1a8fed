"""Secrets of other places are copied whole, once, and nothing that is here is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from strongroom.errors import StrongroomError
from strongroom.migration.copying import Copied, Found, Place, copy, secret_id_of
from tests.support.foreign_secrets import VAULT_TOKEN, Aws, Vault, serving

pytest.importorskip("hvac", reason="hvac is not installed")
pytest.importorskip("boto3", reason="boto3 is not installed")


class Here:
    """The account's secrets, as far as copying uses them."""

    def __init__(self) -> None:
        self.values: dict[str, list[bytes]] = {}
        self.made: dict[str, dict[str, Any]] = {}

    def get_value(self, secret: str) -> Any:
        if secret not in self.values:
            raise StrongroomError("SECRET_NOT_FOUND", "there is none")
        return Found(secret, self.values[secret][-1])

    def create(self, secret: str, value: bytes, *, dry_run: bool, **fields: Any) -> None:
        if not dry_run:
            self.values[secret] = [value]
            self.made[secret] = fields

    def put_value(self, secret: str, value: bytes) -> None:
        self.values[secret].append(value)


def copied(place: Place, here: Here, **options: Any) -> dict[str, Copied]:
    return {one.name: one for one in copy(place, here, **options)}  # type: ignore[arg-type]


def outcomes(place: Place, here: Here, **options: Any) -> dict[str, str]:
    return {name: one.outcome.value for name, one in copied(place, here, **options).items()}


class Elsewhere:
    """A place in memory."""

    title = "elsewhere"

    def __init__(self, values: dict[str, bytes]) -> None:
        self.values = values

    def names(self) -> Iterator[str]:
        yield from self.values

    def read(self, name: str) -> Found:
        return Found(name, self.values[name], tags={"team": "shop", "long": "x" * 300})


@pytest.mark.parametrize(
    ("name", "prefix", "expected"),
    [
        ("db", "", "db"),
        ("Team A/DB password", "", "team-a/db-password"),
        ("/prod//api_key/", "", "prod/api_key"),
        ("x", "Vault/", "vault/x"),
        ("größe", "", "gr-e"),
        ("-.db.-", "", "db"),
    ],
)
def test_a_foreign_name_becomes_an_id(name: str, prefix: str, expected: str) -> None:
    # Values may end in what ids may end in, and begin with what ids may begin with.
    assert secret_id_of(name, prefix) == expected


def test_a_copy_that_is_run_again_goes_on() -> None:
    place, here = Elsewhere({"a": b"1", "b": b"2"}), Here()
    here.values["a"] = [b"1"]
    assert outcomes(place, here) == {"a": "unchanged", "b": "created"}
    assert here.made["b"]["tags"] == {"team": "shop", "migrated-from": "elsewhere/b"}
    assert outcomes(place, here) == {"a": "unchanged", "b": "unchanged"}


def test_what_is_here_with_another_value_is_left_unless_it_may_be_replaced() -> None:
    place, here = Elsewhere({"a": b"new"}), Here()
    here.values["a"] = [b"old"]
    assert outcomes(place, here) == {"a": "different"}
    assert here.values["a"] == [b"old"]
    assert outcomes(place, here, overwrite=True, dry_run=True) == {"a": "updated"}
    assert here.values["a"] == [b"old"]
    assert outcomes(place, here, overwrite=True) == {"a": "updated"}
    assert here.values["a"] == [b"old", b"new"]


def test_a_dry_run_reads_everything_and_writes_nothing() -> None:
    place, here = Elsewhere({"a": b"1", "large": bytes(65_537), "empty": b""}), Here()
    found = copied(place, here, dry_run=True)
    assert {name: (one.outcome.value, one.reason) for name, one in found.items()} == {
        "a": ("created", ""),
        "large": ("failed", "FIELD_TOO_LARGE"),
        "empty": ("failed", "FIELD_REQUIRED"),
    }
    assert here.values == {}


def test_two_names_that_become_one_id_are_not_mixed_up() -> None:
    here = Here()
    found = copied(Elsewhere({"A": b"1", "a": b"2", "x" * 64: b"3"}), here)
    assert [(one.outcome.value, one.reason) for one in found.values()] == [
        ("created", ""),
        ("failed", "NAME_MALFORMED"),
        ("failed", "NAME_MALFORMED"),
    ]
    assert here.values == {"a": [b"1"]}


def test_no_value_is_in_what_is_shown() -> None:
    assert "hunter2" not in repr(Found("a", b"hunter2"))


@pytest.mark.parametrize("version", [1, 2])
def test_vault_is_read_folder_by_folder(version: int) -> None:
    from strongroom.migration.vault import VaultPlace

    vault = Vault(
        {
            "shop/db": {"username": "u", "password": "p"},
            "shop/eu/api": {"value": "one text"},
            "Other": {"number": 7},
        },
        version=version,
    )
    here = Here()
    with serving(vault) as url:
        assert outcomes(VaultPlace(url, VAULT_TOKEN, version=version), here) == dict.fromkeys(vault.secrets, "created")
        below = VaultPlace(url, VAULT_TOKEN, version=version, path="shop/eu")
        assert list(below.names()) == ["shop/eu/api"]
    assert json.loads(here.values["shop/db"][0]) == {"username": "u", "password": "p"}
    assert here.values["shop/eu/api"] == [b"one text"]
    assert json.loads(here.values["other"][0]) == {"number": 7}
    assert here.made["shop/db"]["tags"]["migrated-from"] == "vault:secret/shop/db"


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('{"price":1.10,"big":12345678901234567.89}', None),
        ('{"huge": 1e400, "small":-0.0, "long":123456789012345678901234567890}', None),
        ('{ "b": 1,\n "a": "\\u00e9\\/", "a": 2 }', None),
        ('{"value":7.0}', None),
        ('{"value":null}', None),
        ('{"value":"gr\u00fc\u00df\\n"}', "grüß\n"),
        ('{"value":"\\ud800"}', None),
        ('{"nested":{"value":[1.50,{"x":1E5}]},"data":{"data":1}}', None),
        ("{}", None),
    ],
)
def test_what_vault_writes_keeps_its_bytes(version: int, written: str, value: str | None) -> None:
    from strongroom.migration.vault import VaultPlace

    vault = Vault({"s": {}}, version=version)
    vault.written["s"] = written
    with serving(vault) as url:
        found = VaultPlace(url, VAULT_TOKEN, version=version).read("s")
    assert found.value == (value if value is not None else written).encode()


@pytest.mark.parametrize("version", [1, 2])
def test_an_answer_that_is_no_json_is_told(version: int) -> None:
    from strongroom.migration.vault import VaultPlace

    vault = Vault({"s": {}}, version=version)
    vault.written["s"] = '{"a": NaN}'
    with serving(vault) as url, pytest.raises(StrongroomError, match="no JSON"):
        VaultPlace(url, VAULT_TOKEN, version=version).read("s")


def test_what_vault_does_not_give_is_told_of_that_secret_alone() -> None:
    from strongroom.migration.vault import VaultPlace

    vault = Vault({"a": {"value": "1"}, "b": {"value": "2"}, "gone": None})
    vault.unreadable.add("b")
    with serving(vault) as url:
        found = copied(VaultPlace(url, VAULT_TOKEN), Here())
    assert {name: (one.outcome.value, one.reason) for name, one in found.items()} == {
        "a": ("created", ""),
        "b": ("failed", "PERMISSION_DENIED"),
        "gone": ("failed", "SECRET_VERSION_DESTROYED"),
    }


def test_a_vault_that_lets_nobody_in_or_is_not_there_is_named() -> None:
    from strongroom.migration.vault import VaultPlace

    with serving(Vault({"a": {"value": "1"}})) as url:
        refused = refusal_of(VaultPlace(url, "hvs.wrong"))
    assert (refused.reason, "hvs.wrong" in refused.message) == ("PERMISSION_DENIED", False)
    assert refusal_of(VaultPlace(url, VAULT_TOKEN)).reason == "UNREACHABLE"


def test_aws_is_read_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    from strongroom.migration.aws import AwsPlace

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    aws = Aws({"prod/a": "text", "prod/b": b"\x00\xff", "prod/c": '{"k": 1}', "dev/d": "x", "prod/none": None})
    here = Here()
    with serving(aws) as url:
        found = copied(AwsPlace(region="eu-central-1", prefix="prod/", endpoint=url), here)
    assert {name: (one.outcome.value, one.reason) for name, one in found.items()} == {
        "prod/a": ("created", ""),
        "prod/b": ("created", ""),
        "prod/c": ("created", ""),
        "prod/none": ("failed", "SECRET_NOT_FOUND"),
    }
    assert here.values == {"prod/a": [b"text"], "prod/b": [b"\x00\xff"], "prod/c": [b'{"k": 1}']}
    assert here.made["prod/a"]["description"] == "about prod/a"
    assert here.made["prod/a"]["tags"] == {"team": "shop", "migrated-from": "aws-sm:eu-central-1/prod/a"}


def test_aws_without_credentials_or_region_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from strongroom.migration.aws import AwsPlace

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StrongroomError) as refused:
        AwsPlace()
    assert refused.value.reason == "FIELD_REQUIRED"
    assert refusal_of(AwsPlace(region="eu-central-1")).reason == "UNAUTHENTICATED"


def refusal_of(place: Place) -> StrongroomError:
    with pytest.raises(StrongroomError) as refused:
        list(place.names())
    return refused.value
