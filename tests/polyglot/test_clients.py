"""Clients in other languages: the tests and lints that each has."""

from __future__ import annotations

import pytest

from tests.polyglot.languages import LANGUAGES, Language


@pytest.fixture(params=LANGUAGES, ids=lambda language: language.name, scope="module")
def language(request: pytest.FixtureRequest) -> Language:
    found: Language = request.param
    found.built()
    return found


def test_its_own_tests_pass(language: Language) -> None:
    language.run(language.test)


def test_its_lints_pass(language: Language) -> None:
    language.run(language.lint)
