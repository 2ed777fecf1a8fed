"""JSON values keep every byte that nobody asked to change."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.errors import Reason, StrongroomError
from services.runtime.sensitive import SensitiveBytes
from services.secrets.values.json_fields import ambiguity_of, field_of, with_members
from services.secrets.values.shapes import check_shape
from strongroom.secrets.v1.secret_pb2 import SECRET_TYPE_GENERIC, SECRET_TYPE_POSTGRESQL

EXACT = (
    "1.10",
    "12345678901234567.89",
    "1e400",
    "-0",
    "1E5",
    "9" * 5000,
    '{"b" :  [1.0,\t2.50 ]}',
    "[ ]",
    "null",
    "true",
)
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def read(text: str, field: str) -> str:
    """A field of a JSON text."""
    return field_of(SensitiveBytes(text.encode()), field).reveal().decode()


def changed(text: str, **changes: Any) -> str:
    """A JSON text with other members."""
    return with_members(SensitiveBytes(text.encode()), changes).reveal().decode()


def refused(text: str, field: str) -> Reason:
    """Why a field cannot be read."""
    with pytest.raises(StrongroomError) as caught:
        read(text, field)
    return caught.value.reason


@pytest.mark.parametrize("exact", EXACT)
def test_a_field_is_read_as_it_was_written(exact: str) -> None:
    assert read(f' {{ "first":"a", "it"  : {exact} , "last": 1}} ', "it") == exact
    assert read(f'{{"list":["]}}", {exact}]}}', "/list/1") == exact
    assert read(f"[[0, {exact}]]", "/0/1") == exact


@pytest.mark.parametrize("exact", EXACT)
def test_a_rotation_keeps_the_bytes_of_what_it_does_not_change(exact: str) -> None:
    before = f'{{"port":{exact},  "password":"old",\n"x":"\\u00e9\\/"}}\n'
    assert changed(before, password="new", username=None) == before.replace('"old"', '"new"')


def test_a_string_is_read_as_its_text() -> None:
    assert read('{"a": "\\u00e9\\ud83d\\ude00\\"/"}', "a") == 'é😀"/'
    assert read('{"a/b": {"~": "x"}}', "/a~1b/~0") == "x"


def test_a_value_that_stays_the_same_keeps_how_it_is_escaped() -> None:
    assert (
        changed('{"username":"\\u0061b", "port": 5432}', username="ab", port=5432)
        == '{"username":"\\u0061b", "port": 5432}'
    )


def test_members_are_added_and_left_out() -> None:
    assert changed("{}", a=1) == '{"a": 1}'
    assert changed('{"a":1}', b="é") == '{"a":1, "b": "é"}'
    assert changed('{"a":1, "b":2, "c":3}', b=None) == '{"a":1, "c":3}'
    assert changed('{"a":1, "b":2}', b=None, a=None) == "{}"
    assert changed("no JSON", a=1) == '{"a": 1}'


def test_every_occurrence_of_a_member_is_changed() -> None:
    assert changed('{"password":"a","x":1.0,"password":"b"}', password="n") == '{"password":"n","x":1.0,"password":"n"}'


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"a":1,"a":2}', "a"),
        ('{"a":"\\ud800"}', "a"),
        ('{"a":NaN}', "a"),
        ('{"a":Infinity}', "a"),
        ('{"a":1', "a"),
        ("[1]", "/1"),
        ("[1]", "/00"),
        ("[1]", "/" + "9" * 400),
        ('"text"', "a"),
        ("[" * 100_000, "/0"),
        ("", "a"),
    ],
)
def test_what_has_no_such_field_says_so(text: str, field: str) -> None:
    assert refused(text, field) is Reason.SECRET_FIELD_NOT_FOUND


def test_other_members_are_read_beside_a_doubtful_one() -> None:
    assert read('{"a":1,"a":2,"b":3.0,"c":"\\ud800"}', "b") == "3.0"


@pytest.mark.parametrize(
    "doubtful", ['"x":1,"x":2', '"x":"\\udc00"', '"x":{"\\ud800":1}', '"x":NaN', '"x":[-Infinity]']
)
def test_a_login_that_readers_would_not_agree_on_is_not_taken(doubtful: str) -> None:
    value = SensitiveBytes(f'{{"username":"u","password":"p",{doubtful}}}'.encode())
    assert ambiguity_of(value)
    with pytest.raises(StrongroomError) as caught:
        check_shape(SECRET_TYPE_POSTGRESQL, value)
    assert caught.value.reason is Reason.FIELD_INVALID
    check_shape(SECRET_TYPE_GENERIC, value)


@given(st.dictionaries(st.text(), DATA, max_size=5), st.text(), st.text(), st.sampled_from([None, 1, " "]))
def test_changes_agree_with_a_dictionary_s(content: dict[str, Any], name: str, new: str, indent: Any) -> None:
    text = json.dumps(content, indent=indent)
    after = with_members(SensitiveBytes(text.encode()), {name: new}).reveal().decode()
    assert json.loads(after) == content | {name: new}
    without = with_members(SensitiveBytes(after.encode()), {name: None}).reveal().decode()
    assert json.loads(without) == {key: item for key, item in content.items() if key != name}


@given(st.dictionaries(st.text(min_size=1).filter(lambda name: name[0] != "/"), DATA, min_size=1, max_size=5))
def test_fields_agree_with_a_dictionary_s(content: dict[str, Any]) -> None:
    text = json.dumps(content)
    for name, item in content.items():
        assert read(text, name) == (item if isinstance(item, str) else json.dumps(item))
