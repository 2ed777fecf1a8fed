"""A right on databases by pattern covers what the server lets it cover, and nothing else."""

from __future__ import annotations

import pytest

from services.secrets.rotation.rotators.mysql_scopes import Scopes


def holds(on: str, where: str, *, literal: bool = False) -> bool:
    return Scopes(frozenset([("SELECT", on)]), literal=literal).has("SELECT", where)


@pytest.mark.parametrize(
    ("on", "where"),
    [
        ("*.*", "`app`.`t`"),
        ("`%%`.*", "`app`.*"),
        ("`%%`.*", "PACKAGE BODY `app`.`f`"),
        ("`app\\_%%`.*", "`app_1`.`t`"),
        ("`app\\_%%`.*", "`app\\_%%`.*"),
        ("`app%%`.*", "`app\\_%%`.*"),
        ("`app%%`.*", "`app`.*"),
        ("`a_p`.*", "`app`.`t`"),
        ("`a_p`.*", "`a_p`.*"),
        ("`%%a%%b%%`.*", "`xaxbx`.*"),
        ("`my.db`.*", "`my.db`.`t`"),
        ("`my``.db`.*", "`my``.db`.`t`"),
        ("`my%%db`.*", "FUNCTION `my``.db`.`f`"),
        ("`a`.`t`", "`a`.`t`"),
    ],
)
def test_it_covers(on: str, where: str) -> None:
    assert holds(on, where)


@pytest.mark.parametrize(
    ("on", "where"),
    [
        ("`app`.*", "*.*"),
        ("`%%`.*", "*.*"),
        ("`app\\_%%`.*", "`app1`.`t`"),
        ("`app\\_%%`.*", "`app_1`.*"),
        ("`app\\_%%`.*", "`app%%`.*"),
        ("`a_p`.*", "`a%%p`.*"),
        ("`a_p`.*", "`ap`.*"),
        ("`a`.`t`", "`a`.*"),
        ("`a`.`t`", "`a`.`u`"),
        ("`my`.*", "`my.db`.`t`"),
        ("`app`.*", "`APP`.*"),
    ],
)
def test_it_does_not(on: str, where: str) -> None:
    assert not holds(on, where)


def test_where_names_are_no_patterns_they_are_themselves() -> None:
    assert not holds("`%%`.*", "`app`.*", literal=True)
    assert not holds("`a_p`.*", "`app`.`t`", literal=True)
    assert holds("`a_p`.*", "`a_p`.`t`", literal=True)


def test_of_the_databases_that_match_the_closest_counts() -> None:
    scopes = Scopes(frozenset([("INSERT", "`%%`.*"), ("SELECT", "`app%%`.*")]), literal=False)
    assert scopes.has("SELECT", "`app1`.*")
    assert not scopes.has("INSERT", "`app1`.*")
    assert scopes.has("INSERT", "`shop`.*")


def test_long_names_take_no_time() -> None:
    assert not holds("`" + "%%_" * 60 + "b`.*", "`" + "a" * 64 + "`.`t`")
