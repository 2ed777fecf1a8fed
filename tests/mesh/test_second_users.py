"""The second of two users gets all of what the first has, and nothing that the first has not: the rarer things."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.runtime.errors import StrongroomError
from strongroom.secrets.v1.rotation_pb2 import ROTATION_STATE_SUCCEEDED
from strongroom.secrets.v1.secret_pb2 import SECRET_TYPE_MYSQL, SECRET_TYPE_POSTGRESQL
from strongroom.secrets.v1.target_pb2 import DATABASE_STRATEGY_DUAL_USER, DatabaseTarget, RotationTarget
from tests.support.clients import until
from tests.support.rotation.lab import Lab, rotated
from tests.support.rotation.servers import Server
from tests.support.rotation.subjects import Mysql, Postgresql, address, login, master_of


def refused(lab: Lab, secret_id: str, number: int = 1) -> str:
    """What is said of a rotation that cannot go on, and leaves Current as it is."""
    current = lab.value(secret_id)
    lab.rotate(secret_id)
    lab.work_until_idle()
    failed = lab.attempts(secret_id, number)[-1]
    assert failed.error_reason == "TARGET_RIGHTS_MISSING"
    assert lab.value(secret_id) == current
    return failed.error_detail


def goes_on(lab: Lab, secret_id: str, number: int) -> None:
    def has_succeeded() -> bool:
        lab.hasten(lab.secret(secret_id).name)
        lab.work_until_idle()
        return lab.rotation(secret_id, number).state == ROTATION_STATE_SUCCEEDED

    until(has_succeeded, 20)


class Test_mysql:  # noqa: N801
    @pytest.mark.parametrize(
        "limit", ["MAX_QUERIES_PER_HOUR 1234567", "MAX_USER_CONNECTIONS 4194304", "MAX_STATEMENT_TIME 0.000250"]
    )
    def test_limits_are_the_same_however_large(self, lab: Lab, mysql: Mysql, secret_id: str, limit: str) -> None:
        mysql.execute(f"ALTER USER %s@'%%' WITH {limit}", f"u_{secret_id}")
        clone = rotated(lab, secret_id)["username"]
        words = "max_questions, max_user_connections, max_statement_time"
        both = f"SELECT DISTINCT {words} FROM mysql.user WHERE User IN (%s, %s)"  # noqa: S608  # constants
        assert len(self._rows(mysql, both, f"u_{secret_id}", clone)) == 1

    @pytest.mark.parametrize("rule", ["NEVER", "INTERVAL 400 DAY"])
    def test_passwords_last_as_long(self, lab: Lab, mysql: Mysql, secret_id: str, rule: str) -> None:
        mysql.execute(f"ALTER USER %s@'%%' PASSWORD EXPIRE {rule}", f"u_{secret_id}")
        clone = rotated(lab, secret_id)["username"]
        lifetime = "SELECT JSON_VALUE(Priv, '$.password_lifetime') FROM mysql.global_priv WHERE User IN (%s, %s)"
        one, other = self._rows(mysql, lifetime, f"u_{secret_id}", clone)
        assert one == other
        mysql.execute("ALTER USER %s@'%%' PASSWORD EXPIRE DEFAULT", f"u_{secret_id}")
        rotated(lab, secret_id, 2)
        rotated(lab, secret_id, 3)

    def test_whom_the_first_may_be_the_second_may_be(self, lab: Lab, mysql: Mysql, secret_id: str) -> None:
        user, whom, master = f"u_{secret_id}", f"p_{secret_id}", f"m_{secret_id}"
        for name in (whom, master):
            mysql.execute("CREATE USER %s@'%%' IDENTIFIED BY 'some-password'", name)
        mysql.execute("GRANT ALL ON *.* TO %s@'%%' WITH GRANT OPTION", master)
        # Only who may be somebody may say who may.
        for name, may_give in ((master, "1"), (user, "0")):
            row = "'%%', %s, '%%', %s, %s, '', now()"
            mysql.execute(f"INSERT INTO mysql.proxies_priv VALUES ({row})", name, whom, may_give)  # noqa: S608
        mysql.execute("FLUSH PRIVILEGES")
        with pytest.raises(StrongroomError, match="PROXY"):
            self._made_by(lab, mysql, secret_id, mysql.server)
        name = self._made_by(lab, mysql, secret_id, Server(mysql.server.port, master, "some-password"))
        clone = rotated(lab, name)["username"]
        may = "SELECT Proxied_user, Proxied_host, With_grant FROM mysql.proxies_priv WHERE User = %s"
        assert self._rows(mysql, may, clone) == self._rows(mysql, may, user) != ()
        mysql.execute("DELETE FROM mysql.proxies_priv WHERE User = %s", user)
        mysql.execute("FLUSH PRIVILEGES")
        # It may not be given to the first behind its administrator's back.
        assert "PROXY" in refused(lab, name, 2)

    @pytest.mark.parametrize(
        "right",
        [
            "SELECT (number), UPDATE (note) ON shop.{t} TO %s@'%%' WITH GRANT OPTION",
            "EXECUTE, ALTER ROUTINE ON PROCEDURE shop.{t}_p TO %s@'%%' WITH GRANT OPTION",
            "EXECUTE ON FUNCTION shop.{t}_f TO %s@'%%'",
            "SELECT ON `sh\\_p`.* TO %s@'%%'",
            "CREATE TEMPORARY TABLES, LOCK TABLES ON shop.* TO %s@'%%'",
            "BINLOG MONITOR, CONNECTION ADMIN ON *.* TO %s@'%%'",
        ],
    )
    def test_rights_of_every_level_are_the_same(self, lab: Lab, mysql: Mysql, secret_id: str, right: str) -> None:
        user, table = f"u_{secret_id}", f"t_{secret_id}"
        for statement in (
            f"CREATE TABLE shop.{table} (number INT, note TEXT)",
            f"CREATE PROCEDURE shop.{table}_p() SELECT 1",
            f"CREATE FUNCTION shop.{table}_f() RETURNS INT RETURN 1",
        ):
            mysql.execute(statement)
        mysql.execute(f"GRANT {right.format(t=table)}", user)
        clone = rotated(lab, secret_id)["username"]
        first, second = (
            [grant.replace(name, "").partition(" IDENTIFIED")[0] for (grant,) in self._rows(mysql, shown, name)]
            for shown, name in (("SHOW GRANTS FOR %s@'%%'", user), ("SHOW GRANTS FOR %s@'%%'", clone))
        )
        assert sorted(second) == sorted(first)
        rotated(lab, secret_id, 2)

    @staticmethod
    def _made_by(lab: Lab, mysql: Mysql, secret_id: str, master: Server) -> str:
        """Another secret of the same user, with this master."""
        target = DatabaseTarget(
            address=address(mysql.server.port),
            username=f"u_{secret_id}",
            strategy=DATABASE_STRATEGY_DUAL_USER,
            master_secret=master_of(lab, f"{secret_id}-{master.username}", master),
        )
        name, value = f"{secret_id}-p", json.loads(lab.value(secret_id))
        lab.create(name, SECRET_TYPE_MYSQL, value, RotationTarget(database=target))
        return name

    @staticmethod
    def _rows(mysql: Mysql, statement: str, *values: str) -> Any:
        with mysql.connect(mysql.server.username, mysql.server.password) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()


class Test_postgresql:  # noqa: N801
    @pytest.mark.parametrize(
        "value", ["''", "'', public", '"odd""name", public', '"ümlaut", "Öl, und Essig"', "public", '"$user"']
    )
    def test_search_paths_are_the_same(self, lab: Lab, postgresql: Postgresql, secret_id: str, value: str) -> None:
        user = f"u_{secret_id}"
        postgresql.execute(f"ALTER ROLE {{}} SET search_path TO {value}", user)
        clone = rotated(lab, secret_id)["username"]
        kept = "SELECT rolname, e FROM pg_roles, unnest(rolconfig) e WHERE e LIKE 'search_path=%'"
        paths = {path for name, path in self._rows(postgresql, kept) if name in (user, clone)}
        assert len(paths) == 1
        rotated(lab, secret_id, 2)
        rotated(lab, secret_id, 3)

    GIVEN = (
        "GRANT INSERT ON {table} TO {clone}",
        "GRANT UPDATE (number) ON {table} TO {clone}",
        "GRANT {group} TO {clone}",
        "ALTER TABLE {table} OWNER TO {clone}",
        "GRANT USAGE ON SCHEMA {schema} TO {clone}",
        "GRANT EXECUTE ON FUNCTION {function}() TO {clone}",
        "GRANT TEMPORARY ON DATABASE postgres TO {clone} WITH GRANT OPTION",
    )

    @pytest.mark.parametrize("given", GIVEN)
    def test_what_only_the_second_has_is_not_lost_by_a_switch_to_the_first(
        self, lab: Lab, postgresql: Postgresql, secret_id: str, given: str
    ) -> None:
        names = self._world(postgresql, secret_id)
        rotated(lab, secret_id)
        self._run(postgresql, given, names)
        refused(lab, secret_id, 2)
        # Nor does anybody switch to a second user that may do more.
        mended = given.replace("{clone}", "{user}") if "OWNER" not in given else "REASSIGN OWNED BY {clone} TO {user}"
        self._run(postgresql, mended, names)
        goes_on(lab, secret_id, 2)
        rotated(lab, secret_id, 3)

    @pytest.mark.parametrize("given", GIVEN)
    def test_a_second_user_that_was_there_with_more_is_not_switched_to(
        self, lab: Lab, postgresql: Postgresql, secret_id: str, given: str
    ) -> None:
        names = self._world(postgresql, secret_id)
        self._run(postgresql, "CREATE ROLE {clone} LOGIN", names)
        self._run(postgresql, given, names)
        assert "its own" in (told := refused(lab, secret_id)) or "owns" in told or "member of a role" in told

    def test_what_counts_for_both_stands_in_nobodys_way(self, lab: Lab, postgresql: Postgresql, secret_id: str) -> None:
        names = self._world(postgresql, secret_id)
        rotated(lab, secret_id)
        for statement in (
            "GRANT {group} TO {user}",
            "GRANT INSERT ON {table} TO {group}",
            "GRANT SELECT ON {table} TO PUBLIC",
            "GRANT SELECT, INSERT ON {table} TO {clone}",
            "ALTER DEFAULT PRIVILEGES FOR ROLE {user} GRANT SELECT ON TABLES TO {group}",
        ):
            self._run(postgresql, statement, names)
        rotated(lab, secret_id, 2)
        # A session of the second user's with tables of its own for as long as it lasts.
        found = rotated(lab, secret_id, 3)
        with postgresql.connect(found["username"], found["password"]) as connection:
            connection.execute("SET ROLE NONE")
            assert connection.execute("SELECT current_user").fetchone() == (found["username"],)
            connection.execute("CREATE TEMPORARY TABLE mine (n INT)")
            rotated(lab, secret_id, 4)

    @pytest.mark.parametrize("odd", ["o\"d; --' ", "a.b, c ", "Ünïcode ", "select "])
    def test_odd_names_take_turns(self, lab: Lab, postgresql: Postgresql, secret_id: str, odd: str) -> None:
        user = f"{odd}{secret_id}"
        postgresql.execute("CREATE ROLE {} LOGIN PASSWORD 'first-password'", user)
        postgresql.execute("ALTER ROLE {} SET search_path TO ''", user)
        target = DatabaseTarget(
            address=address(postgresql.server.port),
            username=user,
            strategy=DATABASE_STRATEGY_DUAL_USER,
            master_secret=master_of(lab, f"{secret_id}-m", postgresql.server),
        )
        name, value = f"{secret_id}-o", login(user, "first-password")
        lab.create(name, SECRET_TYPE_POSTGRESQL, value, RotationTarget(database=target))
        for number in (1, 2, 3):
            rotated(lab, name, number)

    @staticmethod
    def _world(postgresql: Postgresql, secret_id: str) -> dict[str, str]:
        names = {name: f"{name}_{secret_id}" for name in ("table", "group", "schema", "function")}
        names |= {"user": f"u_{secret_id}", "clone": f"u_{secret_id}_clone"}
        for statement in (
            "CREATE TABLE {table} (number INT)",
            "CREATE ROLE {group}",
            "CREATE SCHEMA {schema}",
            "CREATE FUNCTION {function}() RETURNS INT LANGUAGE sql AS 'SELECT 1'",
            "REVOKE EXECUTE ON FUNCTION {function}() FROM PUBLIC",
        ):
            Test_postgresql._run(postgresql, statement, names)
        return names

    @staticmethod
    def _run(postgresql: Postgresql, statement: str, names: dict[str, str]) -> None:
        postgresql.execute(statement.format(**{name: f'"{value}"' for name, value in names.items()}))

    @staticmethod
    def _rows(postgresql: Postgresql, statement: str) -> list[Any]:
        with postgresql.connect(postgresql.server.username, postgresql.server.password) as connection:
            return connection.execute(statement.encode()).fetchall()
