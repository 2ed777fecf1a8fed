"""Databases that speak other languages: what they say of a login is told by its code, and rotations go on."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from psycopg import sql

from deploy.dev.postgres import PostgresCluster, find_postgres
from deploy.dev.topology import HOST
from services.runtime.errors import StrongroomError
from services.secrets.rotation.rotators.mysql import MysqlDriver
from services.secrets.rotation.rotators.postgresql import PostgresqlDriver
from strongroom.secrets.v1.rotation_pb2 import ROTATION_STATE_SUCCEEDED
from strongroom.secrets.v1.target_pb2 import DatabaseTarget
from tests.support.clients import until
from tests.support.rotation.lab import Lab
from tests.support.rotation.servers import Server, TlsServer
from tests.support.rotation.subjects import Mysql, Postgresql, address

LOCALES = Path("/usr/share/i18n/locales")
# With a part of what PostgreSQL says there of a wrong password, of one that ends, and of one that begins.
POSTGRESQL = {
    "ru_RU": ("не прошёл проверку подлинности", "останавливается", "запускается"),
    "de_DE": ("Passwort-Authentifizierung", "fährt herunter", "startet"),
    "ja_JP": ("パスワード認証に失敗", "シャットダウン", "起動"),
    "zh_CN": ("Password 认证失败", "停止", "启动"),
}
# With a part of what MariaDB says there of a wrong password.
MARIADB = {"ru_RU": "Доступ закрыт", "de_DE": "keine Zugriffsberechtigung", "ja_JP": "拒否します", "zh_CN": "无权访问"}


class Speaking:
    """A PostgreSQL server of the test's own, whose language can be changed."""

    def __init__(self, cluster: PostgresCluster, server: Server) -> None:
        self.cluster = cluster
        self.server = server
        self.session: psycopg.Connection[Any] = self.connect(server.username, server.password)

    def connect(self, username: str, password: str) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=HOST, port=self.server.port, user=username, password=password, dbname="postgres", autocommit=True
        )

    def said(self, password: str = "wrong") -> str:  # noqa: S107  # so it is
        """What it says to a login."""
        try:
            self.connect(self.server.username, password).close()
        except psycopg.OperationalError as error:
            return str(error)
        return ""

    def speak(self, language: str, word: str) -> None:
        """From now on it says `word` to who is not let in."""
        self.session.execute(sql.SQL("ALTER SYSTEM SET lc_messages = {}").format(sql.Literal(f"{language}.UTF-8")))
        self.session.execute("SELECT pg_reload_conf()")
        until(lambda: word in self.said(), 20)

    def reason(self, password: str) -> str:
        """The reason that a step's login is refused for; empty for one that is let in."""
        target = DatabaseTarget(address=address(self.server.port), database="postgres")
        try:
            with PostgresqlDriver().login(target, self.server.username, password, HOST):
                return ""
        except StrongroomError as error:
            assert error.message.isascii()
            return str(error.reason)


@pytest.fixture(scope="module")
def speaking() -> Iterator[Speaking]:
    binaries = find_postgres()
    if binaries is None or not LOCALES.exists():
        pytest.skip("PostgreSQL's server (initdb, postgres) or its locales are not installed")
    with locales() as variables, PostgresCluster(binaries, environment=variables) as cluster:
        url = cluster.create_database("speaking")
        username, password = url.partition("//")[2].partition("@")[0].split(":")
        found = Speaking(cluster, Server(cluster.port, username, password))
        yield found
        found.session.close()


@contextmanager
def locales() -> Iterator[dict[str, str]]:
    """Variables of a server that finds the locales of the languages, which this machine need not have itself."""
    with tempfile.TemporaryDirectory(prefix="strongroom-locales-") as made:
        # PostgreSQL's own user reads them.
        Path(made).chmod(0o755)
        for language in POSTGRESQL:
            command = ["localedef", "-i", language, "-f", "UTF-8", f"{made}/{language}.UTF-8"]
            subprocess.run(command, check=True, capture_output=True)
        yield {"LOCPATH": made, "LC_CTYPE": "ru_RU.UTF-8"}


@pytest.mark.parametrize("language", list(POSTGRESQL))
def test_postgresql_refuses_in_its_language_and_rotates(
    lab: Lab, speaking: Speaking, secret_id: str, language: str
) -> None:
    speaking.speak(language, POSTGRESQL[language][0])
    assert speaking.reason("wrong") == "TARGET_LOGIN_REFUSED"
    assert speaking.reason(speaking.server.password) == ""
    for dual in (False, True):
        name = f"{secret_id}-{dual}".lower()
        Postgresql(speaking.server, dual=dual).create(lab, name)
        before = lab.value(name)
        rotated(lab, name)
        found = json.loads(lab.value(name))
        speaking.connect(found["username"], found["password"]).close()
        assert lab.value(name) != before


def test_postgresql_ends_and_begins_in_its_language_and_refuses_nobody(speaking: Speaking) -> None:
    server = speaking.server
    speaking.cluster.drain()
    for language, (_, ends, _) in POSTGRESQL.items():
        speaking.speak(language, ends)
        assert speaking.reason(server.password) == "TARGET_UNREACHABLE"
    _, _, begins = POSTGRESQL["de_DE"]
    speaking.session.execute("ALTER SYSTEM SET lc_messages = 'de_DE.UTF-8'")
    speaking.session.close()
    speaking.cluster.begin_to_start()
    until(lambda: begins in speaking.said(), 20)
    assert speaking.reason(server.password) == "TARGET_UNREACHABLE"


@pytest.mark.parametrize("language", list(MARIADB))
def test_mariadb_refuses_in_its_language_and_rotates(
    lab: Lab, mysql_tls_server: TlsServer, secret_id: str, language: str
) -> None:
    server = mysql_tls_server.server
    for dual in (False, True):
        mysql = Mysql(server, dual=dual)
        name = f"{secret_id}-{dual}".lower()
        mysql.create(lab, name)
        with speaking_mariadb(mysql, language):
            rotated(lab, name)
            found = json.loads(lab.value(name))
            mysql.connect(found["username"], found["password"]).close()
            with pytest.raises(pymysql.OperationalError, match=MARIADB[language]):
                mysql.connect(found["username"], "wrong")
            assert reason(server, found["username"], "wrong") == "TARGET_LOGIN_REFUSED"
            # It takes no more of them for now.
            mysql.execute("ALTER USER %s@'%%' WITH MAX_USER_CONNECTIONS 1", found["username"])
            with mysql.connect(found["username"], found["password"]):
                assert reason(server, found["username"], found["password"]) == "TARGET_UNREACHABLE"


@contextmanager
def speaking_mariadb(mysql: Mysql, language: str) -> Iterator[None]:
    mysql.execute("SET GLOBAL lc_messages = %s", language)
    try:
        yield
    finally:
        mysql.execute("SET GLOBAL lc_messages = 'en_US'")


def reason(server: Server, username: str, password: str) -> str:
    try:
        with MysqlDriver().login(DatabaseTarget(address=address(server.port)), username, password, HOST):
            return ""
    except StrongroomError as error:
        assert error.message.isascii()
        return str(error.reason)


def rotated(lab: Lab, secret_id: str) -> None:
    lab.rotate(secret_id)
    lab.work_until_idle()
    assert lab.rotation(secret_id).state == ROTATION_STATE_SUCCEEDED, lab.attempts(secret_id)[-1].error_detail
