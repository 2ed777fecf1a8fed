"""A master that cannot give what the first of two users has is told before any rotation, on a real MariaDB."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from secrets import token_hex

import pymysql
import pytest

from deploy.dev.topology import HOST
from services.runtime.errors import StrongroomError
from services.secrets.rotation.rotators.mysql import MysqlDriver
from strongroom.secrets.v1.target_pb2 import TARGET_TLS_DISABLED, DatabaseTarget, TargetAddress
from tests.support.rotation.servers import Server, TlsServer

Run = Callable[..., None]


@pytest.fixture
def server(mysql_tls_server: TlsServer) -> Server:
    return mysql_tls_server.server


@pytest.fixture
def run(server: Server) -> Iterator[Run]:
    connection = pymysql.connect(
        host=HOST, port=server.port, user=server.username, password=server.password, autocommit=True
    )
    with connection, connection.cursor() as cursor:

        def executed(*statements: str) -> None:
            for statement in statements:
                cursor.execute(statement)

        yield executed


def refused(target: DatabaseTarget, master: str, *, by_rotation: bool = False) -> str:
    """What a check says of a master, or a rotation that makes the second user; empty where it is well."""
    driver, clone = MysqlDriver(), f"{target.username}_clone"
    try:
        with driver.login(target, master, "pw", HOST) as connection:
            if by_rotation:
                driver.clone_user(connection, target, clone, "a-new-password-for-it-1")
            else:
                driver.check_master(connection, target, clone)
    except StrongroomError as error:
        return error.message
    return ""


_READS = ("GRANT SELECT ON mysql.* TO {m}", "GRANT SELECT ON mysql.* TO {r}")


@pytest.mark.parametrize(
    ("of_first", "of_master", "said"),
    [
        pytest.param(["INSERT ON app.*"], ["CREATE USER, GRANT OPTION ON *.*"], "not got itself", id="gives, has not"),
        pytest.param(
            ["INSERT ON app.*"], ["CREATE USER ON *.*", "INSERT ON app.*"], "no GRANT OPTION", id="has, gives not"
        ),
        pytest.param(["INSERT ON app.*"], ["CREATE USER ON *.*", "INSERT ON app.* +"], "", id="database"),
        pytest.param(["INSERT ON app.*"], ["CREATE USER, INSERT, GRANT OPTION ON *.*"], "", id="everything"),
        pytest.param(["INSERT ON app.*"], ["CREATE USER, INSERT ON *.*", "SELECT ON app.* +"], "", id="at two levels"),
        pytest.param(["SELECT (n) ON app.t"], ["CREATE USER ON *.*", "SELECT ON app.t +"], "", id="column by table"),
        pytest.param(
            ["SELECT (n) ON app.t"], ["CREATE USER ON *.*", "INSERT ON app.t +"], "not got itself", id="column"
        ),
        pytest.param(["INSERT ON app.*"], ["CREATE USER ON *.*", "INSERT ON `%`.* +"], "", id="any database"),
        pytest.param(["INSERT ON app.t"], ["CREATE USER ON *.*", "INSERT ON `a_p`.* +"], "", id="one character"),
        pytest.param(
            ["INSERT ON app.t"], ["CREATE USER ON *.*", r"INSERT ON `a\_p`.* +"], "no GRANT OPTION", id="no pattern"
        ),
        pytest.param([r"INSERT ON `app\_%`.*"], ["CREATE USER ON *.*", "INSERT ON `app%`.* +"], "", id="patterns"),
        pytest.param(
            ["INSERT ON `app%`.*"], ["CREATE USER ON *.*", r"INSERT ON `app\_%`.* +"], "no GRANT OPTION", id="narrower"
        ),
        pytest.param(
            ["INSERT ON app.*"],
            ["CREATE USER ON *.*", "INSERT ON `%`.* +", "SELECT ON app.*"],
            "no GRANT OPTION",
            id="closest",
        ),
        pytest.param(["SELECT ON `my.db`.t"], ["CREATE USER ON *.*", "SELECT ON `my.db`.* +"], "", id="a dot"),
        pytest.param(["SELECT ON `my``db`.t"], ["CREATE USER ON *.*", "SELECT ON `my``db`.* +"], "", id="a quote"),
        pytest.param(["{o}"], ["CREATE USER ON *.*"], "no ADMIN OPTION", id="a role"),
    ],
)
@pytest.mark.parametrize("by_role", [False, True])
def test_what_a_check_says_of_a_master_is_what_a_rotation_would(
    server: Server, run: Run, of_first: list[str], of_master: list[str], said: str, *, by_role: bool
) -> None:
    tag = token_hex(4)
    names = {"m": f"m_{tag}", "r": f"r_{tag}", "o": f"o_{tag}", "a": f"a_{tag}"}
    for database in ("app", "`my.db`", "`my``db`"):
        run(f"CREATE DATABASE IF NOT EXISTS {database}", f"CREATE TABLE IF NOT EXISTS {database}.t (n INT)")
    run(*(f"CREATE USER {names[one]}@'%' IDENTIFIED BY 'pw'" for one in "ma"))
    run(*(f"CREATE ROLE {names[one]}" for one in "ro"))
    run(*(statement.format(**names) for statement in _READS))
    run(*(f"GRANT {right.format(**names)} TO {names['a']}" for right in of_first))
    holder = names["r" if by_role else "m"]
    for right in of_master:
        run(f"GRANT {right.rstrip(' +')} TO {holder}{' WITH GRANT OPTION' if right.endswith('+') else ''}")
    if by_role:
        run(f"GRANT {names['r']} TO {names['m']}", f"SET DEFAULT ROLE {names['r']} FOR {names['m']}")
    where = TargetAddress(host=HOST, port=server.port, tls=TARGET_TLS_DISABLED)
    target = DatabaseTarget(address=where, username=names["a"])

    told = refused(target, names["m"])

    assert said in told
    assert bool(told) == bool(said)
    # The check is right: the server does as it says.
    assert bool(refused(target, names["m"], by_rotation=True)) == bool(said)
