"""A watch of secrets goes on over the end of the process that it began at, and over another that takes its place."""

from __future__ import annotations

import threading

from strongroom import Client, StrongroomError
from tests.conftest import PrivateMeshes
from tests.support.clients import client_of, reason_of, until

SERVING_SECONDS = 30.0


def test_a_watch_misses_nothing_while_a_process_is_replaced(private_mesh: PrivateMeshes) -> None:
    mesh = private_mesh()
    with client_of(mesh) as client:
        client.secrets.create("watched", b"1")
        client.secrets.put_value("watched", b"2")
        with Watcher(client, "watched") as watcher:
            until(lambda: watcher.heard == [("STATE", 2)])
            mesh.terminate("secrets")
            mesh.launch("secrets")
            until(lambda: not reason_of(lambda: client.secrets.put_value("watched", b"3")), SERVING_SECONDS)
            until(lambda: watcher.heard[-1] == ("STAGE", 3), SERVING_SECONDS)
            mesh.kill("secrets")
            mesh.launch("secrets")
            until(lambda: not reason_of(lambda: client.secrets.put_value("watched", b"4")), SERVING_SECONDS)
            until(lambda: watcher.heard[-1] == ("STAGE", 4), SERVING_SECONDS)
        # Each once, and no state again.
        assert watcher.heard == [("STATE", 2), ("STAGE", 3), ("STAGE", 4)]
        assert watcher.error is None
        with Watcher(client, "absent") as refused:
            until(lambda: refused.error is not None)
        assert refused.error is not None
        assert refused.error.reason == "SECRET_NOT_FOUND"


class Watcher:
    """Reads a watch on a thread of its own: what each change was, and where Current is."""

    def __init__(self, client: Client, name: str) -> None:
        self.heard: list[tuple[str, int]] = []
        self.error: StrongroomError | None = None
        self._watch = client.secrets.watch([name])
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.close()
        self._thread.join()

    def _read(self) -> None:
        try:
            for change in self._watch:
                if change.change:
                    self.heard.append((change.change, change.stages["Current"]))
        except StrongroomError as error:
            self.error = error
