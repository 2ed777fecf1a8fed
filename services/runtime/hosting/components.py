"""What a service's status watches of its surroundings: its database, crypto and Redis."""

from __future__ import annotations

import math
import time

from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine

from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.channels import CRYPTO, MeshChannel
from services.runtime.rpc.status import Check
from services.runtime.storage.database import require_writable

_CRYPTO_SERVICE = "strongroom.crypto.v1.CryptoService"
_CRYPTO_TIMEOUT_SECONDS = 0.5
_PROVEN_SECONDS = 1.0


class _Database:
    """Whether a database takes writes. A proof is a commit: what was proven a moment ago is only asked for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._proven = -math.inf

    def check(self) -> None:
        proof = time.monotonic() - self._proven > _PROVEN_SECONDS
        require_writable(self._engine, proof=proof)
        if proof:
            self._proven = time.monotonic()


def database(engine: Engine) -> Check:
    """Raises DATABASE_UNAVAILABLE while the database cannot be reached, or takes no writes."""
    return _Database(engine).check


def crypto(channel: MeshChannel) -> Check:
    """Raises CRYPTO_UNREACHABLE or CRYPTO_NOT_SERVING unless crypto says that it serves."""
    ask = CRYPTO.method(channel, HealthStub, "Check", _CRYPTO_TIMEOUT_SECONDS)

    def check() -> None:
        request = health_pb2.HealthCheckRequest(service=_CRYPTO_SERVICE)
        response: health_pb2.HealthCheckResponse = ask(request)
        if response.status != health_pb2.HealthCheckResponse.SERVING:
            said = health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)
            raise StrongroomError(Reason.CRYPTO_NOT_SERVING, f"crypto says that it is {said}", peer="crypto")

    return check


def redis(client: Redis) -> Check:
    """Raises REDIS_UNREACHABLE while Redis does not answer."""

    def check() -> None:
        try:
            client.ping()
        except RedisError as error:
            raise StrongroomError(
                Reason.REDIS_UNREACHABLE, f"Redis cannot be reached ({type(error).__name__})", peer="redis"
            ) from error

    return check
