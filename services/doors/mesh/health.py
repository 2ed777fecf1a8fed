"""Whether the mesh serves, as gRPC health says: asked at most once a second by whoever wants to know, and all the time
by rounds that find out which replicas answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from services.runtime.background import Background, each
from services.runtime.errors import StrongroomError
from services.runtime.mesh.channels import MeshChannel, Peer

_FRESH_SECONDS = 1.0
_ANSWER_SECONDS = 2.0
_ROUND_SECONDS = 0.3
# As for services that follow keystore: two rounds in a row without an answer are no slow answer.
_HANGS_SECONDS = 0.6


class HealthRounds:
    """Asks the replicas that calls are made to, so that the routes of those calls leave one that hangs within two
    seconds: a call itself would find out when its time is over."""

    def __init__(self, channels: Mapping[Peer, MeshChannel]) -> None:
        """`channels` share the routes of the calls as probes, and do not try again by themselves."""
        self._work = [
            Background(
                f"health-{peer.name}",
                partial(_ask, peer.method(channel, HealthStub, "Check", _HANGS_SECONDS)),
                f"{peer.name} does not answer",
                every=_ROUND_SECONDS,
                quiet=True,
            )
            for peer, channel in channels.items()
        ]

    def start(self) -> None:
        """Begins."""
        for work in self._work:
            work.start()

    def stop(self) -> None:
        """Ends."""
        each([*(work.end for work in self._work), *(partial(work.join, 2 * _HANGS_SECONDS) for work in self._work)])


def _ask(check: Callable[[HealthCheckRequest], HealthCheckResponse]) -> None:
    # Whatever is answered: that is what is asked.
    check(HealthCheckRequest())


class MeshHealth:
    """The services that a door needs."""

    def __init__(
        self, services: dict[str, tuple[Peer, MeshChannel]], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`services` are channels by the full name of a gRPC service whose health is asked."""
        self._checks = {
            name: peer.method(channel, HealthStub, "Check", _ANSWER_SECONDS)
            for name, (peer, channel) in services.items()
        }
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._serves = False

    def serves(self) -> bool:
        """Whether all of them do."""
        with self._lock:
            if self._monotonic() - self._asked_at >= _FRESH_SECONDS:
                self._serves = all(self._one_serves(name) for name in self._checks)
                self._asked_at = self._monotonic()
            return self._serves

    def _one_serves(self, name: str) -> bool:
        try:
            answer = self._checks[name](HealthCheckRequest(service=name))
        except StrongroomError:
            return False
        return bool(answer.status == HealthCheckResponse.SERVING)
