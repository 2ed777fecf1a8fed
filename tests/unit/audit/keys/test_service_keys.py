"""Audit's part in a rotation of the root key: an old version is not done with before crypto has shown that nothing
needs it, whatever the database says."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text

from services.audit.keys.service_keys import Wrapped
from services.audit.logs.logs import OpenLog
from services.runtime.errors import Reason, StrongroomError
from services.runtime.sensitive import SensitiveBytes
from services.runtime.storage import database
from tests.support.audit_logs import OwnRoot, event


class Rotated(OwnRoot):
    """Crypto, once it has a second version of the root key."""

    newest = 1

    def wrap(self, purpose: str, key: SensitiveBytes) -> Wrapped:
        return Wrapped(super().wrap(purpose, key).blob, self.newest)


@pytest.fixture
def crypto() -> Rotated:
    return Rotated()


def change(engine: Engine, statement: str) -> None:
    with database.transaction(engine) as connection:
        connection.execute(text(statement))


def test_every_key_is_wrapped_anew_though_the_database_says_that_it_was(
    open_log: OpenLog, engine: Engine, crypto: Rotated
) -> None:
    keys = open_log.service_keys
    open_log.log.append([event()])
    with database.reading(engine) as connection:
        before = set(connection.execute(text("SELECT wrapped FROM service_keys")).scalars())
    change(engine, "UPDATE service_keys SET root_version = 1000000")
    crypto.newest = 2
    assert keys.rewrap(2, 3) == 3
    assert keys.rewrap(2, 200) == len(before) - 3
    assert keys.rewrap(2, 200) == 0
    with database.reading(engine) as connection:
        rows = connection.execute(text("SELECT wrapped, root_version FROM service_keys")).all()
    assert not before & {row.wrapped for row in rows}
    assert {row.root_version for row in rows} == {2}
    # What was put back since is not taken for what was shown.
    change(engine, "UPDATE service_keys SET wrapped = x'00' WHERE purpose = 'audit index key'")
    with pytest.raises(StrongroomError) as refused:
        keys.rewrap(2, 200)
    assert refused.value.reason is Reason.KEY_MATERIAL_REFUSED


@pytest.mark.parametrize("purpose", ["audit sealing root", "audit log signing key"])
def test_the_rotation_waits_for_a_key_that_was_taken_away(open_log: OpenLog, engine: Engine, purpose: str) -> None:
    open_log.log.append([event()])
    change(engine, f"DELETE FROM service_keys WHERE purpose = '{purpose}'")  # noqa: S608  # the test's own words
    assert open_log.service_keys.rewrap(1, 200)
    with pytest.raises(StrongroomError) as refused:
        open_log.service_keys.rewrap(1, 200)
    assert refused.value.reason is Reason.AUDIT_RECORD_REFUSED
