"""What is missing answers 404 with `errors`, whatever is asked of it; what is there and does not do that, 405."""

from __future__ import annotations

import pytest
import requests

from deploy.dev.doors import Doors

METHODS = ("GET", "LIST", "POST", "PUT", "PATCH", "DELETE")
NOWHERE = (
    "transit/nothing",
    "transit/nothing/x",
    "transit/encrypt",
    "transit/decrypt/x/y",
    "transit/keys/x/nothing",
    "transit/keys/x/rotate/y",
    "transit/wrapping_key/x",
    "transit/random/platform/8/x",
    "transit/hash/sha2-256/x",
    "transit/sign",
    "transit/datakey/plaintext",
    "secret/nothing/x",
    "auth/token/nothing",
    "auth/nothing/login/x",
    "sys/nothing",
    "nowhere/x",
)
OTHERWISE = (
    ("GET", "transit/encrypt/x"),
    ("DELETE", "transit/random"),
    ("POST", "transit/wrapping_key"),
    ("PATCH", "transit/keys/x"),
    ("GET", "transit/keys/x/rotate"),
    ("POST", "transit/keys"),
    ("LIST", "secret/data/x"),
    ("PATCH", "kv/x"),
    ("DELETE", "auth/token/lookup-self"),
)


@pytest.mark.parametrize("path", NOWHERE)
def test_what_is_missing_is_404_by_every_method(plain_doors: Doors, token: str, path: str) -> None:
    for method in METHODS:
        url = f"{plain_doors.address}/v1/{path}"
        answer = requests.request(method, url, headers={"X-Vault-Token": token}, timeout=10)
        assert (answer.status_code, list(answer.json())) == (404, ["errors"]), method


@pytest.mark.parametrize(("method", "path"), OTHERWISE)
def test_what_does_not_do_that_is_405(plain_doors: Doors, token: str, method: str, path: str) -> None:
    url = f"{plain_doors.address}/v1/{path}"
    answer = requests.request(method, url, headers={"X-Vault-Token": token}, timeout=10)
    assert (answer.status_code, list(answer.json())) == (405, ["errors"])
