"""Which version of a key made a signature: found among those that there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from strongroom.calls.crypto.results import Decrypted
from strongroom.calls.crypto.signatures import Verification
from strongroom.cli.versions import decrypted_with, verified_with
from strongroom.errors import StrongroomError

KEY = "accounts/main/keys/k"


def names(*numbers: int) -> list[str]:
    return [f"{KEY}/versions/{number}" for number in numbers]


def client(*numbers: int, denied: bool = False) -> Any:
    def listed(key: str, *, limit: int) -> list[Any]:
        assert (key, limit) == ("k", 100)
        if denied:
            raise StrongroomError("PERMISSION_DENIED", "no", code="PERMISSION_DENIED")
        return [SimpleNamespace(name=name) for name in names(*numbers)]

    return SimpleNamespace(keys=SimpleNamespace(versions=SimpleNamespace(list=listed)))


def check_of(
    signer: int, primary: int, refused: Mapping[int, str] | None = None
) -> tuple[Callable[[str], Verification], list[str]]:
    tried: list[str] = []

    def check(version: str) -> Verification:
        number = int(version.rpartition("/")[2]) if "/versions/" in version else primary
        tried.append(version)
        if number in (refused or {}):
            raise StrongroomError((refused or {})[number], f"version {number} of key {KEY} is not usable")
        return Verification(number == signer, f"{KEY}/versions/{number}", "ED25519", "event")

    return check, tried


def test_the_primary_version_is_tried_first_and_alone_when_it_made_it() -> None:
    check, tried = check_of(3, 3)
    assert verified_with(client(3, 2, 1), "k", check)[0].key_version == names(3)[0]
    assert tried == ["k"]


@pytest.mark.parametrize("denied", [False, True])
def test_an_older_version_that_made_it_is_found(denied: bool) -> None:
    check, tried = check_of(1, 3, {2: "KEY_DISABLED"})
    found, passed_over = verified_with(client(3, 2, 1, denied=denied), "k", check)
    assert (found.valid, found.key_version, passed_over) == (True, names(1)[0], ())
    assert tried == ["k", *names(2, 1)]


def test_a_newer_version_that_is_not_primary_is_found() -> None:
    check, _ = check_of(5, 2)
    assert verified_with(client(5, 4, 3, 2, 1), "k", check)[0].key_version == names(5)[0]


def test_what_none_made_is_not_valid_and_says_what_was_not_tried() -> None:
    check, _ = check_of(9, 3, {1: "KEY_DISABLED", 2: "KEY_VERSION_NOT_FOUND"})
    found, passed_over = verified_with(client(3, 2, 1), "k", check)
    assert (found.valid, found.key_version, passed_over) == (False, names(3)[0], tuple(names(1)))


def test_a_version_that_was_named_is_the_only_one() -> None:
    check, tried = check_of(1, 3)
    assert not verified_with(client(), "k/versions/2", check)[0].valid
    assert tried == ["k/versions/2"]


def test_other_errors_are_told() -> None:
    check, _ = check_of(1, 3, {2: "ALGORITHM_INVALID"})
    with pytest.raises(StrongroomError, match="ALGORITHM_INVALID"):
        verified_with(client(3, 2, 1), "k", check)


@pytest.mark.parametrize("reason", ["KEY_DISABLED", "KEY_STATE_INVALID"])
@pytest.mark.parametrize("denied", [False, True])
def test_a_primary_version_that_is_disabled_hides_no_other(reason: str, denied: bool) -> None:
    check, _ = check_of(1, 3, {3: reason, 4: "KEY_VERSION_NOT_FOUND"})
    found, untried = verified_with(client(3, 2, 1, denied=denied), "k", check)
    assert (found.valid, found.key_version, untried) == (True, names(1)[0], ())
    check, tried = check_of(9, 3, {3: reason, 4: "KEY_VERSION_NOT_FOUND"})
    with pytest.raises(StrongroomError, match=reason):
        verified_with(client(3, 2, 1, denied=denied), "k", check)
    assert tried == ["k", *names(2, 1), *(names(4) if denied else ())]


def test_of_a_key_that_is_disabled_no_version_is_tried() -> None:
    tried: list[str] = []

    def check(version: str) -> Verification:
        tried.append(version)
        raise StrongroomError("KEY_DISABLED", f"key {KEY} is DISABLED")

    with pytest.raises(StrongroomError, match="KEY_DISABLED"):
        verified_with(client(3, 2, 1), "k", check)
    assert tried == ["k"]


def test_whoever_may_not_list_versions_is_found_a_newer_one_than_the_primary() -> None:
    check, tried = check_of(4, 2, {3: "KEY_STATE_INVALID"})
    found, untried = verified_with(client(denied=True), "k", check)
    assert (found.valid, found.key_version, untried) == (True, names(4)[0], ())
    assert tried == ["k", *names(1, 3, 4)]


def test_whoever_may_not_list_versions_is_told_which_could_not_be_tried() -> None:
    check, tried = check_of(9, 2, {3: "KEY_DISABLED", 4: "KEY_VERSION_NOT_FOUND"})
    found, untried = verified_with(client(denied=True), "k", check)
    assert (found.valid, untried, tried) == (False, tuple(names(3)), ["k", *names(1, 3, 4)])


@pytest.mark.parametrize("denied", [False, True])
def test_that_there_are_more_versions_than_are_tried_is_told(denied: bool) -> None:
    check, tried = check_of(1, 250, {251: "KEY_VERSION_NOT_FOUND"})
    found, untried = verified_with(client(*range(250, 150, -1), denied=denied), "k", check)
    assert (found.valid, len(set(tried)) - denied) == (False, 101 if denied else 100)
    assert untried == (f"{KEY}/versions/1 to {149 if denied else 150}",)


def decrypting(owner: int, primary: int) -> tuple[Callable[[str], Decrypted], list[str]]:
    tried: list[str] = []

    def decrypt(version: str) -> Decrypted:
        tried.append(version)
        number = int(version.rpartition("/")[2]) if "/versions/" in version else primary
        if number != owner:
            raise StrongroomError("CIPHERTEXT_INVALID" if number < 4 else "KEY_VERSION_NOT_FOUND", "no")
        return Decrypted(b"x", KEY, f"{KEY}/versions/{number}", "event")

    return decrypt, tried


def with_public_key(client: Any, *, denied: bool = False) -> Any:
    def get(_: str) -> Any:
        if denied:
            raise StrongroomError("PERMISSION_DENIED", "no", code="PERMISSION_DENIED")
        return SimpleNamespace(key_version=names(3)[0])

    client.asymmetric = SimpleNamespace(get_public_key=get)
    return client


@pytest.mark.parametrize("denied", [False, True])
def test_what_was_encrypted_to_an_older_version_is_decrypted_by_it(denied: bool) -> None:
    decrypt, tried = decrypting(1, 3)
    found, untried = decrypted_with(with_public_key(client(3, 2, 1, denied=denied)), "k", decrypt)
    assert isinstance(found, Decrypted)
    assert (found.key_version, untried, tried) == (names(1)[0], (), ["k", *names(2, 1)])


def test_what_no_version_decrypts_is_the_error_of_the_primary_one() -> None:
    decrypt, tried = decrypting(9, 3)
    found, untried = decrypted_with(with_public_key(client(3, 2, 1)), "k", decrypt)
    assert isinstance(found, StrongroomError)
    assert (found.reason, untried, tried) == ("CIPHERTEXT_INVALID", (), ["k", *names(2, 1)])
    decrypt, tried = decrypting(1, 3)
    found, untried = decrypted_with(with_public_key(client(denied=True), denied=True), "k", decrypt)
    assert isinstance(found, StrongroomError)
    assert (tried, len(untried)) == (["k"], 1)
    with pytest.raises(StrongroomError, match="CIPHERTEXT_INVALID"):
        decrypted_with(client(), "k/versions/2", decrypt)
