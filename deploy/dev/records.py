"""Rows of a development mesh's databases as the service itself writes them, for tests and benchmarks that prepare some.

Who has the service's own certificate has its record key; a writer to the database alone has not.
"""

from __future__ import annotations

from sqlalchemy import Engine

from deploy.dev.mesh import Mesh
from services.runtime.errors import Reason
from services.runtime.sensitive import SensitiveBytes
from services.runtime.storage import row_seals
from services.runtime.storage.row_seals import RowSeals
from strongroom.audit.v1.record_key_service_pb2 import GetRecordKeyRequest
from strongroom.audit.v1.record_key_service_pb2_grpc import RecordKeyServiceStub

_TIMEOUT_SECONDS = 10.0


def sealed(mesh: Mesh, service: str, engine: Engine) -> Engine:
    """A database of this service's; what is read and written through it is sealed with the service's key."""
    with mesh.channel("audit", "internal", mesh.authority.issue(f"service/{service}")) as channel:
        answer = RecordKeyServiceStub(channel).GetRecordKey(GetRecordKeyRequest(), timeout=_TIMEOUT_SECONDS)
    seals = RowSeals(Reason.ACCESS_RECORD_REFUSED)
    seals.open(SensitiveBytes(answer.key))
    return row_seals.sealed(engine, seals)
