"""Signing keys of issuers: how often they are fetched, how long they are kept, and who waits."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from sqlalchemy import Engine

from services.keystore.access.accounts import new_accounts
from services.keystore.access.credentials import issuer_keys, later_notes
from services.keystore.access.credentials.https_documents import DocumentError
from services.keystore.access.credentials.issuer_keys import (
    FRESH_SECONDS,
    KEPT_SECONDS,
    RETRY_SECONDS,
    SEEK_SECONDS,
    IssuerKeys,
)
from services.keystore.access.credentials.later_notes import ClientKeyUses, IssuerFetches
from services.keystore.access.editing import kinds
from services.keystore.access.editing.editing import insert
from services.keystore.access.records.resources import Account, OidcProvider
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.database import open_database, transaction
from tests.support import databases
from tests.support.clocks import StillClock
from tests.support.oidc_issuer import public_jwk
from tests.support.sealing import sealed

PROVIDER = OidcProvider(
    "accounts/acme/oidcProviders/cluster", "https://issuer", ("a",), "https://issuer/keys", "", "", "", revision=1
)


class Site:
    """What the issuer answers, and the time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.fetched = 0
        self.away = False
        self.gate = threading.Event()
        self.gate.set()
        self.keys: list[dict[str, Any]] = []
        self.publish("one")

    def publish(self, *key_ids: str) -> None:
        made = (public_jwk(ed25519.Ed25519PrivateKey.generate()) for _ in key_ids)
        self.keys = [{**key, "kid": key_id} for key, key_id in zip(made, key_ids, strict=True)]

    def get(self, url: str, ca_certificates: str) -> Mapping[str, Any]:
        assert (url, ca_certificates) == ("https://issuer/keys", "")
        self.fetched += 1
        assert self.gate.wait(10)
        if self.away:
            raise DocumentError("away")
        return {"keys": self.keys}


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = sealed(open_database(Database(url=f"sqlite:///{tmp_path / 'keystore.db'}")))
    databases.migrate(engine, "keystore")
    yield engine
    engine.dispose()


@pytest.fixture
def keys(engine: Engine, site: Site) -> IssuerKeys:
    return IssuerKeys(IssuerFetches(engine), site.get, StillClock(), lambda: site.now)


def found(keys: IssuerKeys, key_id: str) -> bool:
    return keys.find(PROVIDER, {"alg": "EdDSA", "kid": key_id}) is not None


def unreachable(keys: IssuerKeys) -> None:
    with pytest.raises(StrongroomError) as refusal:
        keys.find(PROVIDER, {"alg": "EdDSA", "kid": "one"})
    assert refusal.value.reason is Reason.OIDC_PROVIDER_UNREACHABLE
    # Whoever asks is nobody yet.
    assert "away" not in refusal.value.message


def test_keys_are_fetched_again_when_they_are_old(keys: IssuerKeys, site: Site) -> None:
    assert found(keys, "one")
    site.now += FRESH_SECONDS
    assert found(keys, "one")
    assert site.fetched == 1
    site.now += 1
    assert found(keys, "one")
    assert site.fetched == 2


def test_a_key_that_the_issuer_took_back_is_gone_at_the_next_fetch(keys: IssuerKeys, site: Site) -> None:
    assert found(keys, "one")
    site.publish("two")
    site.now += FRESH_SECONDS + 1
    assert not found(keys, "one")


def test_a_new_key_is_sought_at_once_and_then_only_now_and_then(keys: IssuerKeys, site: Site) -> None:
    assert found(keys, "one")
    site.publish("one", "two")
    assert found(keys, "two")
    site.publish("one", "two", "three")
    assert not found(keys, "three")
    assert site.fetched == 2
    site.now += SEEK_SECONDS + 1
    assert found(keys, "three")


def test_keys_outlast_their_issuer_for_a_while(keys: IssuerKeys, site: Site) -> None:
    assert found(keys, "one")
    site.away = True
    site.now += KEPT_SECONDS - 1
    assert found(keys, "one")
    site.now += RETRY_SECONDS + 1
    unreachable(keys)


def test_an_issuer_that_is_away_is_not_asked_by_every_token(keys: IssuerKeys, site: Site) -> None:
    site.away = True
    for _ in range(5):
        unreachable(keys)
    assert site.fetched == 1
    site.away = False
    site.now += RETRY_SECONDS + 0.1
    assert found(keys, "one")


def test_callers_that_come_at_once_share_one_fetch(keys: IssuerKeys, site: Site) -> None:
    site.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(found, keys, "one") for _ in range(8)]
        site.gate.set()
        assert all(caller.result() for caller in callers)
    assert site.fetched == 1


def test_a_slow_issuer_holds_no_more_than_its_accounts_share_of_the_threads(keys: IssuerKeys, site: Site) -> None:
    site.gate.clear()
    with ThreadPoolExecutor(20) as pool:
        callers = [pool.submit(found, keys, "one") for _ in range(20)]
        while sum(caller.done() for caller in callers) < 4:
            time.sleep(0.01)
        assert all(isinstance(caller.exception(), StrongroomError) for caller in callers if caller.done())
        site.gate.set()
        assert sum(caller.exception() is None for caller in callers) == 16


def test_keys_that_are_merely_old_are_used_while_nobody_can_wait(keys: IssuerKeys, site: Site) -> None:
    assert found(keys, "one")
    site.now += FRESH_SECONDS + 1
    site.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(found, keys, "one")
        while site.fetched < 2:
            time.sleep(0.01)
        assert found(keys, "one")
        site.gate.set()
        assert fetching.result()
    assert site.fetched == 2


def test_whoever_logs_in_waits_for_no_note_of_what_was_fetched(engine: Engine, site: Site) -> None:
    fetches = IssuerFetches(engine)
    keys = IssuerKeys(fetches, site.get, StillClock(), lambda: site.now)
    with closing(sqlite3.connect(str(engine.url.database))) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        assert found(keys, "one")
        assert time.monotonic() - began < 2.0
    insert_provider(engine)
    fetches.write()
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT fetched_us FROM oidc_providers").scalar() is not None


def insert_provider(engine: Engine) -> None:
    with transaction(engine) as connection:
        new_accounts.add(connection, Account("accounts/acme", "", {}), "admin", [], 1)
        insert(connection, kinds.OIDC_PROVIDER, PROVIDER, 1)


def test_few_notes_are_written_together_and_the_newest_of_each(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[list[tuple[str, int]]] = []

    @contextmanager
    def noting(_engine: Engine) -> Iterator[None]:
        written.append([])
        yield

    monkeypatch.setattr(later_notes, "transaction", noting)
    monkeypatch.setattr(later_notes, "_TOGETHER", 3)
    uses = ClientKeyUses(engine)
    monkeypatch.setattr(uses, "_write", lambda _, name, used_us: written[-1].append((name, used_us)))
    for number in range(7):
        uses.note(f"k{number}", 1)
        uses.note(f"k{number}", 2)
    uses.write()
    assert written == [[("k0", 2), ("k1", 2), ("k2", 2)], [("k3", 2), ("k4", 2), ("k5", 2)], [("k6", 2)]]
    uses.write()
    assert len(written) == 3


def test_many_providers_of_one_account_take_no_keys_of_others(
    engine: Engine, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "_CACHED_PROVIDERS", 4)
    keys = IssuerKeys(IssuerFetches(engine), site.get, StillClock(), lambda: site.now)
    assert found(keys, "one")
    for number in range(10):
        hostile = replace(PROVIDER, name=f"accounts/hostile/oidcProviders/p{number}")
        assert keys.find(hostile, {"alg": "EdDSA", "kid": "one"}) is not None
    site.away = True
    assert found(keys, "one")
    assert site.fetched == 11
