"""The crypto service: configuration → objects → server."""

from __future__ import annotations

import sys

from services.crypto.handlers.asymmetric_service import AsymmetricHandlers
from services.crypto.handlers.crypto_service import EncryptionHandlers
from services.crypto.handlers.data_key_service import DataKeyHandlers
from services.crypto.handlers.material_service import MaterialService
from services.crypto.keys.generation import Generation
from services.crypto.keys.imports import Imports
from services.crypto.keys.key_records import KeyRecords
from services.crypto.keys.key_uses import KeyUses
from services.crypto.providers import choice
from services.crypto.settings import CryptoSettings
from services.runtime import clock
from services.runtime.hosting import command, host
from services.runtime.mesh.channels import MeshChannel
from services.runtime.mesh.tls import TlsFiles
from services.runtime.telemetry import Telemetry
from strongroom.crypto.v1 import crypto_pb2, material_pb2


def serve(settings: CryptoSettings) -> None:
    """Runs the service until SIGTERM."""
    telemetry = Telemetry("crypto", settings.telemetry)
    tls = TlsFiles(settings.tls)
    provider = choice.open_provider(settings.provider, telemetry)
    hosted = host.build("crypto", settings, tls, telemetry)
    hosted.status.attribute("provider", provider.name)
    hosted.status.component("provider", provider.check)
    records = KeyRecords(
        MeshChannel(host.upstream(settings, "keystore"), tls),
        hosted.feed,
        provider,
        hosted.authorizer.parsed_policies,
        settings.cached_keys,
    )
    uses = KeyUses(records, hosted.authorizer)
    generation = Generation(settings.generations)
    hosted.public(
        crypto_pb2.DESCRIPTOR.services_by_name["CryptoService"],
        EncryptionHandlers(uses, hosted.authorizer, provider),
        DataKeyHandlers(uses, generation),
        AsymmetricHandlers(uses),
    )
    material_service = MaterialService(provider, Imports(provider, clock.system_clock), clock.system_clock, generation)
    hosted.internal(material_pb2.DESCRIPTOR.services_by_name["MaterialService"], material_service)
    hosted.on_close(provider.close)
    hosted.run()


def initialize(settings: CryptoSettings) -> None:
    """Makes the root key where there is none."""
    made = choice.initialize(settings.provider)
    sys.stdout.write("made the root key\n" if made else "the root key is there already\n")


def main() -> int:
    """The command line."""
    preparation = command.Preparation("initialize", "make the root key where there is none", initialize)
    return command.run("crypto", CryptoSettings, serve, preparation)


if __name__ == "__main__":
    raise SystemExit(main())
