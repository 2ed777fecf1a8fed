"""Envelope encryption: messages and files of any size, under data keys that only the mesh can open.

    from strongroom import Client
    from strongroom.encryption import DataKeyCache, EncryptionClient

    with Client.from_profile() as client:
        encryption = EncryptionClient(client, keys=["payments"], cache=DataKeyCache())
        message = encryption.encrypt(b"4111 1111 1111 1111", {"tenant": "a"})
        content = encryption.decrypt(message, {"tenant": "a"})

Guide: docs/encryption.md. Bytes: docs/formats.md, "Encrypted message".
"""

from strongroom.encryption.aio import AsyncEncryptionClient
from strongroom.encryption.cache import CacheMetrics, DataKeyCache
from strongroom.encryption.client import EncryptionClient
from strongroom.encryption.inspection import Inspection, inspect
from strongroom.encryption.keys import ANY_KEY, MeshKey

__all__ = [
    "ANY_KEY",
    "AsyncEncryptionClient",
    "CacheMetrics",
    "DataKeyCache",
    "EncryptionClient",
    "Inspection",
    "MeshKey",
    "inspect",
]
