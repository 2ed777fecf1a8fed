"""A primary and its synchronous standby, behind proxies that keep their addresses from one promotion to the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from sqlalchemy import make_url

from deploy.dev.postgres import PostgresCluster
from deploy.dev.topology import HOST, WITH_DATABASE, free_port
from tests.faults.storm.proxy import PostgresProxy
from tests.support.clients import until

_CAUGHT_UP_SECONDS = 20.0


class Databases:
    """The databases of a mesh; a context manager. `urls` name both proxies."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._stack = ExitStack()
        self.urls: dict[str, str] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.primary = stack.enter_context(PostgresCluster(self._binaries))
            urls = {service: make_url(self.primary.create_database(service)) for service in WITH_DATABASE}
            self.standby = stack.enter_context(self._new_standby())
            self.proxies = [
                stack.enter_context(PostgresProxy(free_port(), cluster.port))
                for cluster in (self.primary, self.standby)
            ]
            hosts = tuple(f"{HOST}:{proxy.port}" for proxy in self.proxies)
            self.urls = {
                service: url.set(host=None, port=None, query={"host": hosts}).render_as_string(hide_password=False)
                for service, url in urls.items()
            }
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def cut(self) -> None:
        """Ends every connection of the services."""
        for proxy in self.proxies:
            proxy.cut()

    def lose_answers(self, count: int) -> None:
        """Loses what the server answers to the next COMMITs."""
        for proxy in self.proxies:
            proxy.lose_answers(count)

    @property
    def lost_answers(self) -> int:
        """How many were lost."""
        return sum(proxy.lost for proxy in self.proxies)

    def terminate_sessions(self) -> None:
        """Ends every session of the services at the server."""
        self.primary.query(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname IN ('keystore', 'secrets', 'audit') AND pid <> pg_backend_pid()",
        )

    def sessions(self) -> int:
        """How many the services have."""
        counted = "SELECT count(*) FROM pg_stat_activity WHERE datname IN ('keystore', 'secrets', 'audit')"
        return int(self.primary.query("postgres", counted)[0][0])

    def promote(self, *, killed: bool) -> None:
        """The standby takes over: from a primary that was killed, or from one that takes no more writes."""
        old, new = self.primary, self.standby
        if killed:
            old.kill()
        else:
            old.fence()
            until(lambda: _written(old) == _received(new), _CAUGHT_UP_SECONDS)
        new.promote()
        self.primary, self._retired = new, old

    def promote_from_hung(self) -> None:
        """The standby takes over from a primary that hangs: its connections stay open, and nothing answers."""
        old, new = self.primary, self.standby
        old.hang()
        new.promote()
        self.primary, self._retired = new, old

    def replace_standby(self) -> None:
        """Ends what was primary before, hung or not, and makes a new standby at its address."""
        place = next(proxy for proxy in self.proxies if proxy.target == self._retired.port)
        place.target = None
        self._retired.kill()
        self._retired.stop()
        place.cut()
        self.standby = self._stack.enter_context(self._new_standby())
        place.target = self.standby.port

    @contextmanager
    def _new_standby(self) -> Iterator[PostgresCluster]:
        """From when it follows on, commits wait for it: before that they would wait for its next try to connect."""
        with PostgresCluster(self._binaries, primary=self.primary) as standby:
            until(lambda: _followers(self.primary) > 0, _CAUGHT_UP_SECONDS)
            self.primary.replicate_synchronously()
            yield standby


def _followers(primary: PostgresCluster) -> int:
    return int(primary.query("postgres", "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")[0][0])


def _written(primary: PostgresCluster) -> object:
    return primary.query("postgres", "SELECT pg_current_wal_lsn()")


def _received(standby: PostgresCluster) -> object:
    return standby.query("postgres", "SELECT pg_last_wal_replay_lsn()")
