"""What targets say, without any credential in it."""

from __future__ import annotations

import json
from base64 import b64encode
from urllib.parse import quote

import pytest

from services.runtime.sensitive import SensitiveBytes
from services.secrets.rotation.targets.redaction import MAX_DETAIL, redacted

PASSWORD = "p/ä\\ss'w\"rd%"
VALUE = SensitiveBytes(json.dumps({"username": "app", "host": "db", "password": PASSWORD}).encode())


@pytest.mark.parametrize(
    "form",
    [
        PASSWORD,
        repr(PASSWORD),
        json.dumps(PASSWORD),
        quote(PASSWORD, safe=""),
        b64encode(PASSWORD.encode()).decode(),
        PASSWORD.encode().hex(),
    ],
)
def test_a_credential_is_taken_out_in_whatever_form(form: str) -> None:
    said = redacted(f"could not run SET PASSWORD = {form} for app on db", [VALUE])
    assert "[redacted]" in said
    assert form.strip("'\"") not in said
    assert said.endswith("for app on db")


def test_every_line_of_a_key_is_taken_out() -> None:
    key = SensitiveBytes(json.dumps({"private_key": "-----BEGIN-----\nAAAABBBB\nCCCCDDDD\n"}).encode())
    assert "CCCCDDDD" not in redacted("unexpected line CCCCDDDD", [key])


def test_a_value_that_is_no_json_is_taken_out_whole() -> None:
    assert redacted("got hunter2", [SensitiveBytes(b"hunter2")]) == "got [redacted]"


def test_what_is_said_is_cut() -> None:
    assert len(redacted("x" * 5000, [])) == MAX_DETAIL
