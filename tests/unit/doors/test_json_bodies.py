from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.doors.listening import json_bodies
from services.doors.listening.exchange import HttpError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON, max_size=6), st.sampled_from([None, 2]))
def test_members_are_found_as_they_are_written(members: dict[str, object], indent: int | None) -> None:
    text = json.dumps(members, indent=indent)
    found = json_bodies.texts(text)
    assert {name: json.loads(written) for name, written in found.items()} == json_bodies.parse(text.encode())
    assert all(written in text for written in found.values())


def test_a_number_keeps_its_digits() -> None:
    text = ' {"data" : {"n": 1.10, "big": 12345678901234567890123, "e":1E+2, "u":"\\u00e9"} , "options":{} } '
    found = json_bodies.texts(text)
    assert found["data"] == '{"n": 1.10, "big": 12345678901234567890123, "e":1E+2, "u":"\\u00e9"}'
    assert found["options"] == "{}"


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"1",
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1',
        b'{"a":1} trailing',
        b'{"\xff":1}',
        b'{"a":"\\ud800"}',
        b'{"a":{"\\uDFFF":1}}',
        b'{"a":["\\udc00\\ud800"]}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":' + b"[" * 65 + b"]" * 65 + b"}",
        b'{"a":' + b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":[' + b"0," * 60_000 + b"0]}",
        b'{"a":[' + b"[]" * 60_000 + b"]}",
        b"\x00",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_no_plain_json_object_is_refused_soon(body: bytes) -> None:
    started = time.process_time()
    with pytest.raises(HttpError) as caught:
        json_bodies.parse(body)
    assert caught.value.status == 400
    assert time.process_time() - started < 1


def test_brackets_in_texts_are_not_depth() -> None:
    text = json.dumps({"a": "[" * 5000 + '"' + "{" * 5000})
    assert json_bodies.parse(text.encode()) == json.loads(text)


def test_a_text_that_never_ends_costs_no_more_than_its_length() -> None:
    started = time.process_time()
    with pytest.raises(HttpError):
        json_bodies.parse(b'{"a":"' + b'\\"' * 4_000_000)
    assert time.process_time() - started < 2


def test_no_body_is_an_empty_object() -> None:
    assert json_bodies.parse(b"") == json_bodies.parse(b" \n") == {}
