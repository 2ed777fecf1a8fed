"""The secrets service: configuration → objects → server."""

from __future__ import annotations

from services.runtime import clock, command, components, database, host, migrations
from services.runtime.channels import MeshChannel
from services.runtime.outbox import Outbox
from services.runtime.telemetry import Telemetry
from services.runtime.tls import TlsFiles
from services.secrets.data_keys import CryptoDataKeys
from services.secrets.service import SecretService
from services.secrets.settings import SecretsSettings
from services.secrets.vault import Vault
from strongroom.secrets.v1 import secret_service_pb2


def serve(settings: SecretsSettings) -> None:
    """Runs the service until SIGTERM."""
    telemetry = Telemetry("secrets", settings.telemetry)
    tls = TlsFiles(settings.tls)
    engine = database.open_database(settings.database)
    migrations.require_current(engine, "secrets")
    crypto = MeshChannel(host.upstream(settings, "crypto"), tls)
    hosted = host.build("secrets", settings, tls, telemetry)
    outbox = Outbox(engine, hosted.audit)
    vault = Vault(engine, CryptoDataKeys(crypto), hosted.authorizer, outbox, clock.system_clock)
    hosted.public(secret_service_pb2.DESCRIPTOR.services_by_name["SecretService"], SecretService(vault))
    hosted.status.component("database", components.database(engine))
    hosted.status.component("crypto", components.crypto(crypto))
    if settings.redis is not None:
        client = components.redis_client(settings.redis)
        # Without it rotations are late, and everything else goes on.
        hosted.status.component("redis", components.redis(client), vital=False)
        hosted.on_close(client.close)
    hosted.on_close(engine.dispose)
    hosted.on_close(outbox.stop)
    outbox.start()
    hosted.run()


def migrate(settings: SecretsSettings) -> None:
    """Brings the database to this release's schema."""
    migrations.migrate(database.open_database(settings.database), "secrets")


if __name__ == "__main__":
    preparation = command.Preparation("migrate", "bring the database to this release's schema", migrate)
    raise SystemExit(command.run("secrets", SecretsSettings, serve, preparation))
