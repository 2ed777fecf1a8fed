"""Which token a configuration means: by label, by serial number, or both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.crypto.providers.pkcs11.tokens import NoSuchTokenError, TokenChoice, describe
from services.crypto.settings import Pkcs11ProviderSettings


@dataclass(frozen=True)
class FakeToken:
    """What of a token the choice looks at, padded as modules pad it."""

    label: str
    serial: bytes
    model: str = "model"


TOKENS: list[Any] = [FakeToken("strongroom", b"01\0\0"), FakeToken("strongroom   ", b"02"), FakeToken("other", b"03  ")]


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        (TokenChoice(label="other"), 2),
        (TokenChoice(serial="01"), 0),
        (TokenChoice(serial="02"), 1),
        (TokenChoice(label="strongroom", serial="02"), 1),
    ],
    ids=str,
)
def test_the_one_that_fits_is_chosen(choice: TokenChoice, chosen: int) -> None:
    assert choice.among(iter(TOKENS)) is TOKENS[chosen]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (
            TokenChoice(label="absent"),
            "no tokens fit token_label 'absent'; there are: strongroom 01 model; strongroom 02",
        ),
        (TokenChoice(serial="3"), "no tokens fit token_serial '3'; there are: "),
        (TokenChoice(label="other", serial="01"), "no tokens fit token_label 'other' and token_serial '01'"),
        (
            TokenChoice(label="strongroom"),
            "2 tokens fit token_label 'strongroom'; there are: strongroom 01 model; strong",
        ),
    ],
    ids=["label", "serial", "both", "several"],
)
def test_none_and_several_are_refused_with_what_there_is(choice: TokenChoice, message: str) -> None:
    with pytest.raises(NoSuchTokenError) as refused:
        choice.among(TOKENS)
    assert str(refused.value).startswith(message)


def test_no_token_at_all_is_said() -> None:
    with pytest.raises(NoSuchTokenError, match="there are: none"):
        TokenChoice(label="strongroom").among([])


def test_padding_is_no_part_of_a_description() -> None:
    assert describe(TOKENS[0]) == "strongroom 01 model"


def test_a_configuration_names_its_token() -> None:
    plain = {"kind": "pkcs11", "module": Path("/module.so"), "pin_file": Path("/pin")}
    with pytest.raises(ValidationError, match="token_label or token_serial is required"):
        Pkcs11ProviderSettings.model_validate(plain)
    for named in ({"token_label": "a"}, {"token_serial": "1"}, {"token_label": "a", "token_serial": "1"}):
        Pkcs11ProviderSettings.model_validate({**plain, **named})
