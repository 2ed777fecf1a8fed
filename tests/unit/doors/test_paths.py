from __future__ import annotations

import pytest

from services.doors.listening.exchange import HttpError
from services.doors.listening.paths import parts_of, query_of


@pytest.mark.parametrize(
    ("raw", "parts", "is_folder"),
    [
        (b"/v1/secret/data/a", ("v1", "secret", "data", "a"), False),
        (b"/v1/secret/metadata/", ("v1", "secret", "metadata"), True),
        (b"/v1/secret/data/a%20b", ("v1", "secret", "data", "a b"), False),
        ("/v1/secret/data/é".encode(), ("v1", "secret", "data", "é"), False),
        (b"/v1/secret/data/%C3%A9", ("v1", "secret", "data", "é"), False),
        (b"/v1/secret/data/..a", ("v1", "secret", "data", "..a"), False),
    ],
)
def test_a_path_has_parts(raw: bytes, parts: tuple[str, ...], is_folder: bool) -> None:
    assert parts_of(raw) == (parts, is_folder)


@pytest.mark.parametrize(
    "raw",
    [
        b"v1/secret",
        b"*",
        b"/",
        b"//v1/secret",
        b"/v1//secret",
        b"/v1/secret//",
        b"/v1/./secret",
        b"/v1/secret/data/../x",
        b"/v1/secret/data/%2e%2e/x",
        b"/v1/secret/data/%2E/x",
        b"/v1/secret%2fdata/x",
        b"/v1/secret/data/a%2Fb",
        b"/v1/secret/data/a%5cb",
        b"/v1/secret/data/a\\b",
        b"/v1/secret/data/a%00",
        b"/v1/secret/data/a%0a",
        b"/v1/secret/data/a%7f",
        b"/v1/secret/data/%c2%85",
        b"/v1/secret/data/%ff",
        b"/v1/secret/data/%",
        b"/v1/secret/data/%zz",
        b"/v1/secret/data/%e2%80%a8",
        b"/" + b"a" * 3000,
    ],
)
def test_a_path_that_could_be_read_in_two_ways_is_refused(raw: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        parts_of(raw)
    assert caught.value.status in (400, 414)


def test_a_query_has_each_field_once() -> None:
    assert query_of(b"list=true&version=2") == {"list": "true", "version": "2"}
    for raw in (b"a=1&a=2", b"a", b"=&", b"a=%ff", b"&".join(b"a%d=1" % n for n in range(20))):
        with pytest.raises(HttpError):
            query_of(raw)
