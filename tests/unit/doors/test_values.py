from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.doors.listening.exchange import HttpError
from services.doors.vault.kv import values
from services.doors.vault.requests import seconds_of
from services.doors.vault.transit import forms
from services.doors.vault.transit.algorithms import from_jws, to_jws
from strongroom.crypto.v1.algorithm_pb2 import Algorithm
from strongroom.secrets.v1.secret_pb2 import SecretValue

_NAMES = st.sampled_from(["a", "b", "", "ü", '"', "\\"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(_NAMES, _VALUES, max_size=4)


def shown(value: bytes) -> str:
    return values.shown(SecretValue(value=value)).text


@pytest.mark.parametrize("text", ['{"a":1.10}', '{ "b" : [1e400, -0] }', '{"a":"\\u00e9"}', "{}"])
def test_a_json_object_is_shown_as_it_was_written(text: str) -> None:
    assert shown(text.encode()) == text


@given(st.binary(max_size=40))
def test_whatever_a_value_is_its_answer_is_json(value: bytes) -> None:
    assert isinstance(json.loads(shown(value)), dict)


@pytest.mark.parametrize(
    "value", [b'{"a":1}}', b'{"a":1},"x":{', b'{"a":NaN}', b"[1]", b'"text"', b"plain", b"{" * 9999]
)
def test_what_is_no_object_cannot_break_out_of_the_answer(value: bytes) -> None:
    assert json.loads(shown(value)) == {"value": value.decode()}


def test_bytes_are_shown_in_base64() -> None:
    assert json.loads(shown(b"\xff\x00")) == {"value": "/wA=", "encoding": "base64"}


def test_a_patch_is_a_merge_patch_and_keeps_numbers() -> None:
    before = '{"keep": 1.10, "drop": 1, "deep": {"a": 1E5, "b": 2}, "list": [1, 2]}'
    patch = '{"drop": null, "deep": {"b": null, "c": 12345678901234567890123}, "list": [3], "new": {"x": null}}'
    assert values.merged(before, patch) == (
        '{"keep":1.10,"deep":{"a":1E5,"c":12345678901234567890123},"list":[3],"new":{}}'
    )


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [
        ('{ "a" : 1.10 }', "{}", '{ "a" : 1.10 }'),
        ('{ "a" : 1.10 }', '{"b": null}', '{ "a" : 1.10 }'),
        ('{ "a" : 1.10 }', '{"a": 1.10}', '{ "a" : 1.10 }'),
        ('{"a": [1, 2.50,  "\\u00e9\\/"], "b": 1}', '{"b": 2.0}', '{"a":[1, 2.50,  "\\u00e9\\/"],"b":2.0}'),
        ('{"\\u0061": { "x" : 1E5 }, "b": 1}', '{"b": null}', '{"\\u0061":{ "x" : 1E5 }}'),
        ('{"a": 1, "a": 2, "b": 3}', '{"b": 4}', '{"a":1,"a":2,"b":4}'),
        ('{"a": 1, "a": 2, "b": 3}', '{"a": 4}', '{"a":4,"b":3}'),
        (
            '{"deep": { "keep" : 1e400, "x": 1 }, "o": {  }}',
            '{"deep": {"x": 2}}',
            '{"deep":{"keep":1e400,"x":2},"o":{  }}',
        ),
        ('{"a": "text"}', '{"a": {"b": null, "c": 1.0}}', '{"a":{"c":1.0}}'),
        ("{}", '{"a": "\\ud800"}', '{"a":"\\ud800"}'),
    ],
)
def test_what_a_patch_does_not_name_keeps_its_bytes(before: str, patch: str, after: str) -> None:
    assert values.merged(before, patch) == after


@given(DOCUMENTS, DOCUMENTS, st.sampled_from([None, 1]))
def test_a_patch_means_what_the_rfc_says(before: Any, patch: Any, indent: int | None) -> None:
    made = values.merged(json.dumps(before, indent=indent), json.dumps(patch, indent=indent))
    assert json.loads(made) == merge_patched(before, patch)


def merge_patched(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = merge_patched(target.get(name), value)
    return target


def test_a_patch_that_is_nested_too_deeply_is_refused() -> None:
    deep = '{"a":' * 5000 + "1" + "}" * 5000
    with pytest.raises(HttpError):
        values.merged(deep, deep.replace("1", "2"))


@pytest.mark.parametrize("text", [None, "null", "[]", '"a"', "1", '{"a":"' + "x" * 65_536 + '"}'])
def test_data_that_cannot_be_stored_are_refused(text: str | None) -> None:
    with pytest.raises(HttpError):
        values.stored(text)


def test_a_ciphertext_names_its_version() -> None:
    text = forms.written(b"\x01\x02", "accounts/a/keys/k/versions/12")
    assert text == "vault:v12:AQI="
    assert forms.read(text, "ciphertext") == (12, b"\x01\x02")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vault",
        "vault:v0:AQI=",
        "vault:v-1:AQI=",
        "vault:v1",
        "vault:v1:",
        "vault:v1:A",
        "vault:v1:AQI=\n",
        "v1:AQI=",
        "vault:v9999999999:AQI=",
        "vault:v1:A" * 200_000,
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_ciphertext_is_refused(text: str) -> None:
    with pytest.raises(HttpError) as caught:
        forms.read(text, "ciphertext")
    assert caught.value.status == 400


def test_what_context_binds_does_not_depend_on_how_it_is_written() -> None:
    assert forms.context_of({"associated_data": "YQ==", "context": ""}) == {"associated_data": "YQ=="}
    for wrong in ("YQ", "not base64!", 5):
        with pytest.raises(HttpError):
            forms.context_of({"context": wrong})


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (0, 0),
        (300, 300),
        ("300", 300),
        ("720h", 2_592_000),
        ("30d", 2_592_000),
        # What Go's clients make of 5m and of 90m.
        ("5m0s", 300),
        ("1h30m0s", 5400),
        ("1.5h", 5400),
        ("0s", 0),
        # Whoever wants an answer wrapped for so short a time wants it wrapped.
        ("500ms", 1),
        ("1ns", 1),
    ],
)
def test_a_time_is_taken_as_clients_write_it(given: object, seconds: int) -> None:
    assert seconds_of(given) == seconds


@pytest.mark.parametrize(
    "given", [-1, True, 1.5, None, "", "s", "5 m", "-5m", "5m-1s", "1.5", "1e3s", "5x", "9" * 10, "1s" * 8, "\u0665s"]
)
def test_what_is_no_time_is_refused(given: object) -> None:
    with pytest.raises(HttpError):
        seconds_of(given)


def test_jws_signatures_are_the_two_numbers() -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    signature = ec.generate_private_key(ec.SECP256R1()).sign(b"m", ec.ECDSA(hashes.SHA256()))
    text = to_jws(signature, Algorithm.ALGORITHM_ECDSA_SHA_256)
    assert len(text) == 86
    assert from_jws(text, Algorithm.ALGORITHM_ECDSA_SHA_256) == signature
