"""Two users that take turns have the same rights on the real servers, or the rotation fails, says what is missing, and
leaves Current working."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from deploy.dev.topology import HOST
from services.runtime.errors import StrongroomError
from services.secrets.core.model import CURRENT, PREVIOUS
from strongroom.secrets.v1.rotation_pb2 import ROTATION_STATE_SUCCEEDED
from strongroom.secrets.v1.secret_pb2 import SECRET_TYPE_MYSQL, SECRET_TYPE_POSTGRESQL
from strongroom.secrets.v1.secret_service_pb2 import REPAIR_ACTION_NONE, REPAIR_ACTION_SET_CURRENT
from strongroom.secrets.v1.target_pb2 import (
    DATABASE_STRATEGY_DUAL_USER,
    DatabaseTarget,
    RotationTarget,
    TargetAddress,
)
from tests.support.rotation.lab import Lab, person, rotated
from tests.support.rotation.servers import Server, TlsServer
from tests.support.rotation.subjects import Mysql, Postgresql, address, login, master_of


def refused(lab: Lab, secret_id: str, number: int = 1) -> tuple[str, str]:
    """Reason and detail of a rotation that cannot go on."""
    lab.rotate(secret_id)
    lab.work_until_idle()
    assert lab.rotation(secret_id, number).state != ROTATION_STATE_SUCCEEDED
    failed = lab.attempts(secret_id, number)[-1]
    return failed.error_reason, failed.error_detail


def repair(lab: Lab, secret_id: str, *, dry_run: bool) -> Any:
    return lab.repairs.repair(person("RepairSecret"), lab.secret(secret_id).name, dry_run=dry_run)


@contextmanager
def logged_in(subject: Mysql, value: bytes) -> Iterator[Callable[[str], Any]]:
    found = json.loads(value)
    with subject.connect(found["username"], found["password"]) as connection, connection.cursor() as cursor:

        def ask(statement: str) -> Any:
            cursor.execute(statement)
            return cursor.fetchall()

        yield ask


class Test_mysql:  # noqa: N801
    def test_roles_defaults_limits_tls_and_plugin_are_the_same(self, lab: Lab, mysql: Mysql, secret_id: str) -> None:
        user = f"u_{secret_id}"
        mysql.execute(f"CREATE ROLE r_{secret_id}")
        mysql.execute(f"GRANT UPDATE ON shop.* TO r_{secret_id}")
        mysql.execute(f"GRANT r_{secret_id} TO %s@'%%' WITH ADMIN OPTION", user)
        mysql.execute(f"SET DEFAULT ROLE r_{secret_id} FOR %s@'%%'", user)
        mysql.execute("ALTER USER %s@'%%' WITH MAX_USER_CONNECTIONS 7 MAX_STATEMENT_TIME 2.5", user)
        mysql.execute("GRANT USAGE ON shop.* TO %s@'%%' WITH GRANT OPTION", user)

        rotated(lab, secret_id)

        with logged_in(mysql, lab.value(secret_id)) as ask:
            assert ask("SELECT CURRENT_ROLE()") == ((f"r_{secret_id}",),)
            assert ask("SELECT @@max_user_connections") == ((7,),)
            assert ask("SELECT IS_GRANTABLE FROM information_schema.APPLICABLE_ROLES") == (("YES",),)
        rotated(lab, secret_id, 2)

    def test_what_tls_is_required_is_required_of_both(self, lab: Lab, mysql: Mysql, secret_id: str) -> None:
        mysql.execute("ALTER USER %s@'%%' REQUIRE ISSUER '/CN=a' AND SUBJECT '/CN=b'", f"u_{secret_id}")
        # This target is spoken to without TLS, so that no login can follow.
        lab.rotate(secret_id)
        lab.work_until_idle()
        with mysql.connect(mysql.server.username, mysql.server.password, "mysql") as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT x509_issuer, x509_subject FROM user WHERE User = %s", (f"u_{secret_id}_clone",))
            assert cursor.fetchall() in ((("/CN=a", "/CN=b"),), ((b"/CN=a", b"/CN=b"),))

    def test_what_was_revoked_is_taken_from_both(self, lab: Lab, mysql: Mysql, secret_id: str) -> None:
        user = f"u_{secret_id}"
        mysql.execute("GRANT INSERT ON shop.* TO %s@'%%'", user)
        rotated(lab, secret_id)
        rotated(lab, secret_id, 2)
        mysql.execute("REVOKE INSERT ON shop.* FROM %s@'%%'", user)
        rotated(lab, secret_id, 3)
        with logged_in(mysql, lab.value(secret_id)) as ask:
            assert ask("SELECT PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES") == (("SELECT",),)

    def test_a_first_user_that_has_less_is_not_switched_to(self, lab: Lab, mysql: Mysql, secret_id: str) -> None:
        rotated(lab, secret_id)
        mysql.execute("GRANT INSERT ON shop.* TO %s@'%%'", f"u_{secret_id}_clone")
        current = lab.value(secret_id)
        reason, detail = refused(lab, secret_id, 2)
        assert reason == "TARGET_RIGHTS_MISSING"
        assert "INSERT on a database" in detail
        assert lab.value(secret_id) == current
        assert mysql.accepts(current)

    def test_repair_tells_and_mends_what_current_lacks(self, lab: Lab, mysql: Mysql, secret_id: str) -> None:
        rotated(lab, secret_id)
        mysql.execute("ALTER USER %s@'%%' WITH MAX_USER_CONNECTIONS 1", f"u_{secret_id}_clone")
        mysql.execute("GRANT INSERT ON shop.* TO %s@'%%'", f"u_{secret_id}")
        found = repair(lab, secret_id, dry_run=True)
        assert found.checks[0].reason == "TARGET_RIGHTS_MISSING"
        assert "missing: INSERT on a database" in found.checks[0].detail
        assert "MAX_USER_CONNECTIONS" in found.checks[0].detail
        assert found.action == REPAIR_ACTION_SET_CURRENT
        repair(lab, secret_id, dry_run=False)
        assert repair(lab, secret_id, dry_run=True).action == REPAIR_ACTION_NONE
        assert mysql.accepts(lab.value(secret_id))

    def test_an_ed25519_user_keeps_its_plugin(self, lab: Lab, mysql: Mysql, secret_id: str) -> None:
        user = f"e_{secret_id}"
        mysql.execute("INSTALL SONAME 'auth_ed25519'")
        try:
            mysql.execute("CREATE USER %s@'%%' IDENTIFIED VIA ed25519 USING PASSWORD('first-password')", user)
            target = DatabaseTarget(address=address(mysql.server.port), username=user)
            single = f"{secret_id}-ed"
            lab.create(single, SECRET_TYPE_MYSQL, login(user, "first-password"), RotationTarget(database=target))
            rotated(lab, single)
            dual = DatabaseTarget(
                address=address(mysql.server.port),
                username=user,
                strategy=DATABASE_STRATEGY_DUAL_USER,
                master_secret=master_of(lab, f"{secret_id}-e", mysql.server),
            )
            value = json.loads(lab.value(single))
            name = f"{secret_id}-dual"
            lab.create(name, SECRET_TYPE_MYSQL, login(user, value["password"]), RotationTarget(database=dual))
            rotated(lab, name)
            rotated(lab, name, 2)
            with mysql.connect(mysql.server.username, mysql.server.password, "mysql") as connection:
                cursor = connection.cursor()
                cursor.execute("SELECT plugin FROM user WHERE User IN (%s, %s)", (user, f"{user}_clone"))
                assert cursor.fetchall() == (("ed25519",), ("ed25519",))
        finally:
            mysql.execute("DROP USER IF EXISTS %s@'%%'", user)
            mysql.execute("DROP USER IF EXISTS %s@'%%'", f"{user}_clone")

    def test_a_master_without_grant_option_is_told_when_the_secret_is_made(
        self, lab: Lab, mysql: Mysql, secret_id: str
    ) -> None:
        master = f"m_{secret_id}"
        mysql.execute("CREATE USER %s@'%%' IDENTIFIED BY 'master-password'", master)
        mysql.execute("GRANT CREATE USER ON *.* TO %s@'%%'", master)
        mysql.execute("GRANT SELECT ON mysql.* TO %s@'%%'", master)
        with pytest.raises(StrongroomError, match="GRANT OPTION"):
            self._made_by(lab, mysql, secret_id, master, f"u_{secret_id}")
        # And where nobody asked before, nothing is lost.
        self._made_by(lab, mysql, f"{secret_id}x", master, f"u_{secret_id}", check_target=False)
        reason, _ = refused(lab, f"{secret_id}x-d")
        assert reason == "TARGET_CHANGE_REFUSED"
        assert mysql.accepts(lab.value(f"{secret_id}x-d"))

    def test_a_user_at_another_host_is_told_when_the_secret_is_made(
        self, lab: Lab, mysql: Mysql, secret_id: str
    ) -> None:
        mysql.execute("CREATE USER %s@'127.%%' IDENTIFIED BY 'first-password'", f"h_{secret_id}")
        with pytest.raises(StrongroomError, match="no user of this name at the host"):
            self._made_by(lab, mysql, secret_id, "", f"h_{secret_id}")

    @pytest.mark.parametrize("may", ["CREATE USER ON *.*", "UPDATE ON mysql.*"])
    def test_a_master_that_may_not_see_a_plugin_does_not_change_it(
        self, lab: Lab, mysql_tls_server: TlsServer, mysql: Mysql, secret_id: str, may: str
    ) -> None:
        user, master = f"e_{secret_id}", f"m_{secret_id}"
        mysql.execute("INSTALL PLUGIN IF NOT EXISTS ed25519 SONAME 'auth_ed25519'")
        mysql.execute("CREATE USER %s@'%%' IDENTIFIED VIA ed25519 USING PASSWORD('first-password')", user)
        mysql.execute("CREATE USER %s@'%%' IDENTIFIED BY 'master-password'", master)
        mysql.execute(f"GRANT {may} TO %s@'%%'", master)
        tls = mysql_tls_server
        where = TargetAddress(host=HOST, port=tls.port, ca_pem=tls.trust)
        target = DatabaseTarget(address=where, username=user)
        target.master_secret = master_of(lab, f"{secret_id}-m", Server(tls.port, master, "master-password"))
        value = login(user, "first-password")

        def create(*, check_target: bool) -> None:
            name = f"{secret_id}-e"
            lab.create(name, SECRET_TYPE_MYSQL, value, RotationTarget(database=target), check_target=check_target)

        if may.startswith("CREATE"):
            with pytest.raises(StrongroomError, match=r"may not read mysql\.user"):
                create(check_target=True)
            create(check_target=False)
            reason, detail = refused(lab, f"{secret_id}-e")
            assert reason == "TARGET_CHANGE_REFUSED"
            assert "SELECT on mysql" in detail
        else:
            create(check_target=True)
            rotated(lab, f"{secret_id}-e")
        with mysql.connect(mysql.server.username, mysql.server.password, "mysql") as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT plugin FROM user WHERE User = %s", (user,))
            assert cursor.fetchall() == (("ed25519",),)

    def test_quotes_of_ansi_change_nothing(self, lab: Lab, mysql: Mysql, secret_id: str) -> None:
        mysql.execute("SET GLOBAL sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'")
        try:
            rotated(lab, secret_id)
            rotated(lab, secret_id, 2)
        finally:
            mysql.execute("SET GLOBAL sql_mode = DEFAULT")

    def test_the_targets_own_statement_decides(self, lab: Lab, mysql: Mysql, secret_id: str) -> None:
        target = DatabaseTarget(
            address=address(mysql.server.port),
            username=f"u_{secret_id}",
            database="shop",
            master_secret=master_of(lab, f"{secret_id}-t", mysql.server),
        )
        value = json.loads(lab.value(secret_id))
        for statement, refusal in (("SELECT 1", ""), ("CREATE TABLE t (a INT)", "TARGET_RIGHTS_MISSING")):
            target.test_statement = statement
            name = f"{secret_id}-{len(refusal)}"
            if refusal:
                with pytest.raises(StrongroomError, match="test_statement"):
                    lab.create(name, SECRET_TYPE_MYSQL, value, RotationTarget(database=target))
            else:
                lab.create(name, SECRET_TYPE_MYSQL, value, RotationTarget(database=target))

    @staticmethod
    def _made_by(lab: Lab, mysql: Mysql, secret_id: str, master: str, user: str, *, check_target: bool = True) -> None:
        server = Server(mysql.server.port, master, "master-password") if master else mysql.server
        target = DatabaseTarget(
            address=address(mysql.server.port),
            username=user,
            strategy=DATABASE_STRATEGY_DUAL_USER,
            master_secret=master_of(lab, f"{secret_id}-m", server),
        )
        value = {"username": user, "password": "first-password", "note": "kept"}
        if not user.startswith("h_"):
            first = secret_id.removesuffix("x")
            value = json.loads(lab.value(first))
        lab.create(
            f"{secret_id}-d", SECRET_TYPE_MYSQL, value, RotationTarget(database=target), check_target=check_target
        )


class Test_postgresql:  # noqa: N801
    def test_what_counts_at_login_is_the_same(self, lab: Lab, postgresql: Postgresql, secret_id: str) -> None:
        user = f"u_{secret_id}"
        postgresql.execute('ALTER ROLE {} SET search_path TO "$user", "odd, name", public', user)
        postgresql.execute("ALTER ROLE {} IN DATABASE postgres SET statement_timeout TO '17s'", user)
        postgresql.execute("ALTER ROLE {} CONNECTION LIMIT 5 VALID UNTIL '2099-01-01'", user)
        postgresql.execute("ALTER ROLE {} CREATEDB", user)
        rotated(lab, secret_id)
        assert self._of(postgresql, lab.value(secret_id), "SELECT current_user, session_user") == (
            user,
            f"{user}_clone",
        )
        assert self._of(postgresql, lab.value(secret_id), "SHOW search_path") == ('"$user", "odd, name", public',)
        assert self._of(postgresql, lab.value(secret_id), "SHOW statement_timeout") == ("17s",)
        limits = "SELECT rolconnlimit, rolvaliduntil::date::text FROM pg_roles WHERE rolname = session_user"
        assert self._of(postgresql, lab.value(secret_id), limits) == (5, "2099-01-01")
        rotated(lab, secret_id, 2)
        rotated(lab, secret_id, 3)

    @pytest.mark.parametrize(
        ("lost", "told"),
        [
            ("REVOKE {0} FROM {1}", "role"),
            ("ALTER ROLE {1} RESET role", "at login"),
            ("ALTER ROLE {1} CONNECTION LIMIT 3", "connection limit"),
            ("ALTER ROLE {1} SET work_mem TO '1MB'", "settings"),
            ("ALTER ROLE {1} SUPERUSER", "SUPERUSER"),
        ],
    )
    def test_repair_tells_and_mends_what_current_lacks(
        self, lab: Lab, postgresql: Postgresql, secret_id: str, lost: str, told: str
    ) -> None:
        rotated(lab, secret_id)
        postgresql.execute(lost, f"u_{secret_id}", f"u_{secret_id}_clone")
        found = repair(lab, secret_id, dry_run=True)
        assert found.checks[0].reason == "TARGET_RIGHTS_MISSING"
        assert told in found.checks[0].detail
        assert found.action == REPAIR_ACTION_SET_CURRENT
        if "SUPERUSER" not in lost:
            repair(lab, secret_id, dry_run=False)
            assert repair(lab, secret_id, dry_run=True).action == REPAIR_ACTION_NONE

    def test_a_master_without_createrole_is_told_when_the_secret_is_made(
        self, lab: Lab, postgresql: Postgresql, secret_id: str
    ) -> None:
        master = f"m_{secret_id}"
        postgresql.execute("CREATE ROLE {} LOGIN PASSWORD 'master-password'", master)
        value = json.loads(lab.value(secret_id))
        made = master_of(lab, f"{secret_id}-m", Server(postgresql.server.port, master, "master-password"))
        target = DatabaseTarget(
            address=address(postgresql.server.port),
            username=f"u_{secret_id}",
            strategy=DATABASE_STRATEGY_DUAL_USER,
            master_secret=made,
        )
        with pytest.raises(StrongroomError, match="SQLSTATE 42501"):
            lab.create(f"{secret_id}-d", SECRET_TYPE_POSTGRESQL, value, RotationTarget(database=target))

    @pytest.mark.parametrize("kept", ["u" * 57, "u" * 58, "u" * 63, "ü" * 31])
    def test_two_users_are_two_however_long_the_name(
        self, lab: Lab, postgresql: Postgresql, secret_id: str, kept: str
    ) -> None:
        user = kept.encode()[: len(kept.encode()) - len(secret_id)].decode("utf-8", "ignore") + secret_id
        postgresql.execute("CREATE ROLE {} LOGIN PASSWORD 'first-password'", user)
        target = DatabaseTarget(
            address=address(postgresql.server.port),
            username=user,
            strategy=DATABASE_STRATEGY_DUAL_USER,
            master_secret=master_of(lab, f"{secret_id}-l", postgresql.server),
        )
        value = {**login(user, "first-password")}
        name = f"{secret_id}-l2"
        lab.create(name, SECRET_TYPE_POSTGRESQL, value, RotationTarget(database=target))
        rotated(lab, name)
        assert json.loads(lab.value(name))["username"] != user
        assert postgresql.accepts(lab.value(name, PREVIOUS))
        assert postgresql.accepts(lab.value(name, CURRENT))

    @pytest.mark.parametrize(
        ("statement", "reason"),
        [
            ("SELECT count(*) FROM pg_class", ""),
            ("SELECT generate_series(1, 1000000)", ""),
            ("COMMIT; CREATE TABLE escaped (a int)", "TARGET_RIGHTS_MISSING"),
            ("CREATE TABLE escaped (a int)", "TARGET_RIGHTS_MISSING"),
            ("SELECT pg_read_file('/etc/passwd')", "TARGET_RIGHTS_MISSING"),
        ],
    )
    def test_the_targets_own_statement_is_one_that_only_reads(
        self, lab: Lab, postgresql: Postgresql, secret_id: str, statement: str, reason: str
    ) -> None:
        value = json.loads(lab.value(secret_id))
        target = DatabaseTarget(
            address=address(postgresql.server.port), username=f"u_{secret_id}", test_statement=statement
        )
        if not reason:
            lab.create(f"{secret_id}-t", SECRET_TYPE_POSTGRESQL, value, RotationTarget(database=target))
            return
        with pytest.raises(StrongroomError, match=reason):
            lab.create(f"{secret_id}-t", SECRET_TYPE_POSTGRESQL, value, RotationTarget(database=target))

    @staticmethod
    def _of(postgresql: Postgresql, value: bytes, statement: str) -> Any:
        found = json.loads(value)
        with postgresql.connect(found["username"], found["password"]) as connection:
            return connection.execute(statement.encode()).fetchone()
