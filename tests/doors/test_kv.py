"""KV by hvac, unchanged."""

from __future__ import annotations

import json

import hvac
import pytest
import requests
from hvac.exceptions import InvalidPath, InvalidRequest

from deploy.dev.doors import Doors
from strongroom import Client

# hvac's own patch reads in a way that it advises others against.
pytestmark = pytest.mark.filterwarnings("ignore:.*raise_on_deleted_version:DeprecationWarning")


def put(vault: hvac.Client, path: str, secret: dict[str, object], cas: int | None = None) -> int:
    made = vault.secrets.kv.v2.create_or_update_secret(path=path, secret=secret, cas=cas)
    return int(made["data"]["version"])


def read(vault: hvac.Client, path: str, version: int | None = None) -> dict[str, object]:
    answer = vault.secrets.kv.v2.read_secret_version(path=path, version=version, raise_on_deleted_version=True)
    data: dict[str, object] = answer["data"]["data"]
    return data


def test_a_secret_is_written_and_read_by_version(vault: hvac.Client, name: str) -> None:
    path = f"team/{name}"
    assert [put(vault, path, {"n": number}) for number in (1, 2, 3)] == [1, 2, 3]
    assert read(vault, path) == {"n": 3}
    assert read(vault, path, 1) == {"n": 1}
    with pytest.raises(InvalidPath):
        read(vault, path, 9)
    with pytest.raises(InvalidPath):
        read(vault, f"{path}-absent")


def test_json_is_kept_byte_for_byte(plain_doors: Doors, token: str, name: str) -> None:
    written = '{ "z":1.10, "a" : 12345678901234567890123, "e":1E400, "u":"\\u00e9\\ud83d\\ude00", "n":{"b":[ ]} }'
    url = f"{plain_doors.address}/v1/secret/data/{name}"
    headers = {"X-Vault-Token": token}
    requests.post(url, data=f'{{"data":{written}}}', headers=headers, timeout=10).raise_for_status()
    assert f'"data":{written},' in requests.get(url, headers=headers, timeout=10).text


def test_check_and_set_writes_only_over_what_was_read(vault: hvac.Client, name: str) -> None:
    assert put(vault, name, {"a": 1}, cas=0) == 1
    for wrong in (0, 2):
        with pytest.raises(InvalidRequest, match="check-and-set"):
            put(vault, name, {"a": 2}, cas=wrong)
    assert put(vault, name, {"a": 2}, cas=1) == 2
    with pytest.raises(InvalidRequest, match="check-and-set"):
        put(vault, f"{name}-absent", {"a": 1}, cas=3)


def test_a_patch_changes_members_alone(vault: hvac.Client, name: str) -> None:
    put(vault, name, {"keep": 1, "change": 1})
    vault.secrets.kv.v2.patch(path=name, secret={"change": 2, "new": {"a": 1}})
    assert read(vault, name) == {"keep": 1, "change": 2, "new": {"a": 1}}
    with pytest.raises(InvalidPath):
        vault.secrets.kv.v2.patch(path=f"{name}-absent", secret={"a": 1})


def test_patch_by_merge_patch_is_one_call(plain_doors: Doors, token: str, name: str) -> None:
    url = f"{plain_doors.address}/v1/secret/data/{name}"
    headers = {"X-Vault-Token": token, "Content-Type": "application/merge-patch+json"}
    requests.post(url, json={"data": {"a": 1, "b": 2}}, headers=headers, timeout=10).raise_for_status()
    patched = requests.patch(url, json={"data": {"b": None}, "options": {"cas": 1}}, headers=headers, timeout=10)
    assert patched.json()["data"]["version"] == 2
    assert requests.get(url, headers=headers, timeout=10).json()["data"]["data"] == {"a": 1}
    late = requests.patch(url, json={"data": {"b": 3}, "options": {"cas": 1}}, headers=headers, timeout=10)
    assert (late.status_code, "check-and-set" in late.text) == (400, True)


def test_secrets_are_listed_as_folders(vault: hvac.Client, name: str) -> None:
    for path in (f"{name}/a", f"{name}/b/c", f"{name}/b/d/e", name):
        put(vault, path, {"x": 1})
    kv = vault.secrets.kv.v2

    def keys(path: str) -> list[str]:
        found: list[str] = kv.list_secrets(path=path)["data"]["keys"]
        return found

    assert keys(name) == ["a", "b/"]
    assert keys(f"{name}/b") == ["c", "d/"]
    assert {name, f"{name}/"} <= set(keys(""))
    with pytest.raises(InvalidPath):
        keys(f"{name}/nothing")


def test_versions_are_deleted_undeleted_and_destroyed(vault: hvac.Client, name: str) -> None:
    kv = vault.secrets.kv.v2
    for number in (1, 2, 3):
        put(vault, name, {"n": number})
    kv.delete_latest_version_of_secret(path=name)
    with pytest.raises(InvalidPath):
        read(vault, name)
    gone = kv.read_secret_version(path=name, raise_on_deleted_version=False)["data"]
    assert gone["data"] is None
    assert gone["metadata"]["deletion_time"]
    assert not gone["metadata"]["destroyed"]
    kv.undelete_secret_versions(path=name, versions=[3])
    assert read(vault, name) == {"n": 3}
    kv.delete_secret_versions(path=name, versions=[1, 2, 99])
    kv.destroy_secret_versions(path=name, versions=[2])
    kv.undelete_secret_versions(path=name, versions=[1, 2])
    assert read(vault, name, 1) == {"n": 1}
    with pytest.raises(InvalidPath):
        read(vault, name, 2)
    metadata = kv.read_secret_metadata(path=name)["data"]
    assert [metadata["versions"][number]["destroyed"] for number in "123"] == [False, True, False]
    kv.delete_metadata_and_all_versions(path=name)
    with pytest.raises(InvalidPath):
        read(vault, name)
    with pytest.raises(InvalidRequest, match="never used again"):
        put(vault, name, {"n": 1})


def test_metadata_are_kept_and_versions_limited(vault: hvac.Client, administrator: Client, name: str) -> None:
    kv = vault.secrets.kv.v2
    put(vault, name, {"n": 1})
    kv.update_metadata(path=name, max_versions=3, custom_metadata={"owner": "team a", "tier": "gold"})
    read_back = kv.read_secret_version(path=name, raise_on_deleted_version=True)["data"]
    assert read_back["metadata"]["custom_metadata"] == {"owner": "team a", "tier": "gold"}
    vault.adapter.request("patch", f"/v1/secret/metadata/{name}", json={"custom_metadata": {"tier": "silver"}})
    for number in range(2, 6):
        put(vault, name, {"n": number})
    metadata = kv.read_secret_metadata(path=name)["data"]
    assert metadata["custom_metadata"] == {"owner": "team a", "tier": "silver"}
    assert (metadata["max_versions"], metadata["current_version"]) == (3, 5)
    assert [number for number, one in metadata["versions"].items() if not one["destroyed"]] == ["3", "4", "5"]
    assert administrator.secrets.get(name).tags == {"owner": "team a", "tier": "silver"}
    kv.update_metadata(path=name, max_versions=0)
    assert kv.read_secret_metadata(path=name)["data"]["max_versions"] == 10
    for wrong in ({"cas_required": True}, {"delete_version_after": "1h"}, {"max_versions": 1}):
        with pytest.raises(InvalidRequest):
            kv.update_metadata(path=name, **wrong)


def test_a_mount_is_configured_as_it_is(vault: hvac.Client) -> None:
    kv = vault.secrets.kv.v2
    kv.configure()
    assert kv.read_configuration()["data"]["max_versions"] == 10
    for wrong in ({"max_versions": 3}, {"cas_required": True}, {"delete_version_after": "1h"}):
        with pytest.raises(InvalidRequest, match="not supported by this door"):
            kv.configure(**wrong)


def test_a_secret_of_the_mesh_is_shown_and_one_of_kv_is_the_mesh_s(
    vault: hvac.Client, administrator: Client, name: str
) -> None:
    administrator.secrets.create(name, b"plain text")
    assert read(vault, name) == {"value": "plain text"}
    put(vault, f"{name}/json", {"username": "u", "password": "p"})
    assert administrator.secrets.get_value(f"{name}/json", field="password").value == b"p"


def test_version_1_reads_writes_and_lists(vault: hvac.Client, name: str) -> None:
    kv = vault.secrets.kv.v1
    kv.create_or_update_secret(path=f"{name}/a", secret={"n": 1}, mount_point="kv")
    kv.create_or_update_secret(path=f"{name}/a", secret={"n": 2}, mount_point="kv")
    assert kv.read_secret(path=f"{name}/a", mount_point="kv")["data"] == {"n": 2}
    assert kv.list_secrets(path=name, mount_point="kv")["data"]["keys"] == ["a"]
    with pytest.raises(InvalidPath):
        kv.read_secret(path=f"{name}/absent", mount_point="kv")


@pytest.mark.parametrize("path", ["Upper", "with space", "é", "a" * 64, "versions", "a/rotations/1", "-a"])
def test_a_path_that_no_secret_has_is_refused_and_told_why(vault: hvac.Client, path: str) -> None:
    with pytest.raises(InvalidRequest, match="a path has parts of"):
        put(vault, path, {"a": 1})


def test_a_value_larger_than_a_secret_s_is_refused(vault: hvac.Client, name: str) -> None:
    with pytest.raises(InvalidRequest, match="larger than 65536"):
        put(vault, name, {"a": "x" * 65_536})
    assert put(vault, name, {"a": "x" * (65_536 - len(json.dumps({"a": ""})))}) == 1
