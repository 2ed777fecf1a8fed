"""What rotates in tests: for each rotator, logins in its real target, and the secrets that hold them."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import asyncssh
import grpc
import psycopg
import pymysql
import redis
from psycopg import sql

from deploy.dev.certificates import CertificateFiles
from deploy.dev.mesh import Mesh
from deploy.dev.topology import HOST, TRUST_DOMAIN, spiffe_id
from services.runtime.config import Tls
from services.runtime.mesh.tls import TlsFiles
from strongroom import Client, ClientKeySession, StrongroomError
from strongroom.rotator import verify
from strongroom.secrets.v1 import rotator_service_pb2 as pb
from strongroom.secrets.v1 import rotator_service_pb2_grpc as rpc
from strongroom.secrets.v1 import secret_pb2 as s
from strongroom.secrets.v1 import target_pb2 as t
from tests.support.clients import client_by, client_of
from tests.support.rotation.lab import ACCOUNT, Lab
from tests.support.rotation.servers import Server, SshServer, redis_accepts


class Subject(Protocol):
    """One rotator, and a way to make secrets for it."""

    @property
    def previous_works(self) -> bool:
        """Whether Previous still logs in when a rotation has ended."""

    def create(self, lab: Lab, secret_id: str) -> None:
        """A login in the target, and a secret that holds it."""

    def accepts(self, value: bytes) -> bool:
        """Whether the target lets this value in."""


class Generic:
    previous_works = True

    def create(self, lab: Lab, secret_id: str) -> None:
        lab.create(secret_id, s.SECRET_TYPE_GENERIC, b"first value")

    def accepts(self, value: bytes) -> bool:
        return bool(value)


def address(port: int) -> t.TargetAddress:
    return t.TargetAddress(host=HOST, port=port, tls=t.TARGET_TLS_DISABLED)


def login(username: str, password: str) -> dict[str, Any]:
    return {"username": username, "password": password, "note": "kept"}


def master_of(lab: Lab, secret_id: str, server: Server) -> str:
    """A secret that holds the administrator's login."""
    name = f"{secret_id}-master"
    lab.create(name, s.SECRET_TYPE_GENERIC, json.dumps(login(server.username, server.password)).encode())
    return f"accounts/{ACCOUNT}/secrets/{name}"


@dataclass
class Postgresql:
    server: Server
    dual: bool = False
    with_master: bool = False
    at: t.TargetAddress | None = None
    """Where targets say that it is; without TLS on its own port by default."""

    @property
    def previous_works(self) -> bool:
        return self.dual

    def create(self, lab: Lab, secret_id: str) -> None:
        username, password = f"u_{secret_id}", secrets.token_hex(8)
        self.execute("CREATE ROLE {} LOGIN PASSWORD " + f"'{password}'", username)
        target = t.DatabaseTarget(address=self.at or address(self.server.port), database="postgres", username=username)
        if self.dual:
            target.strategy = t.DATABASE_STRATEGY_DUAL_USER
        if self.dual or self.with_master:
            target.master_secret = master_of(lab, secret_id, self.server)
        value = login(username, password)
        lab.create(secret_id, s.SECRET_TYPE_POSTGRESQL, value, t.RotationTarget(database=target))

    def accepts(self, value: bytes) -> bool:
        found = json.loads(value)
        try:
            self.connect(found["username"], found["password"]).close()
        except psycopg.OperationalError as error:
            assert "password authentication failed" in str(error)
            return False
        return bool(found["note"] == "kept")

    def connect(self, username: str, password: str) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=HOST, port=self.server.port, user=username, password=password, dbname="postgres", autocommit=True
        )

    def execute(self, statement: Any, *names: str) -> None:
        with self.connect(self.server.username, self.server.password) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@dataclass
class Mysql:
    server: Server
    dual: bool = False
    at: t.TargetAddress | None = None

    @property
    def previous_works(self) -> bool:
        return self.dual

    def create(self, lab: Lab, secret_id: str) -> None:
        username, password = f"u_{secret_id}", secrets.token_hex(8)
        self.execute("CREATE USER %s@'%%' IDENTIFIED BY %s", username, password)
        self.execute("GRANT SELECT ON shop.* TO %s@'%%'", username)
        target = t.DatabaseTarget(address=self.at or address(self.server.port), database="shop", username=username)
        if self.dual:
            target.strategy = t.DATABASE_STRATEGY_DUAL_USER
            target.master_secret = master_of(lab, secret_id, self.server)
        value = login(username, password)
        lab.create(secret_id, s.SECRET_TYPE_MYSQL, value, t.RotationTarget(database=target))

    def accepts(self, value: bytes) -> bool:
        found = json.loads(value)
        try:
            # Only who has the grants gets into this database.
            self.connect(found["username"], found["password"], "shop").close()
        except pymysql.OperationalError as error:
            assert error.args[0] == 1045, error.args[0]
            return False
        return bool(found["note"] == "kept")

    def connect(self, username: str, password: str, database: str | None = None) -> Any:
        return pymysql.connect(
            host=HOST, port=self.server.port, user=username, password=password, database=database, autocommit=True
        )

    def execute(self, statement: str, *values: str) -> None:
        with self.connect(self.server.username, self.server.password) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values)


@dataclass
class RedisAcl:
    server: Server
    with_master: bool = False
    at: t.TargetAddress | None = None
    previous_works = False

    def create(self, lab: Lab, secret_id: str) -> None:
        username, password = f"u-{secret_id}", secrets.token_hex(8)
        self.execute("ACL SETUSER", username, "on", f">{password}", "~*", "+@all")
        target = t.RedisTarget(address=self.at or address(self.server.port), username=username, save_acl_file=True)
        if self.with_master:
            target.master_secret = master_of(lab, secret_id, self.server)
        value = login(username, password)
        lab.create(secret_id, s.SECRET_TYPE_REDIS_ACL, value, t.RotationTarget(redis=target))

    def accepts(self, value: bytes) -> bool:
        found = json.loads(value)
        return redis_accepts(self.server, found["username"], found["password"]) and found["note"] == "kept"

    def execute(self, *command: str) -> Any:
        client: Any = redis.Redis(port=self.server.port, username=self.server.username, password=self.server.password)
        try:
            return client.execute_command(*command)
        finally:
            client.close()


@dataclass
class Ssh:
    server: SshServer
    grace_period_s: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def previous_works(self) -> bool:
        return self.grace_period_s > 0

    def create(self, lab: Lab, secret_id: str) -> None:
        key = asyncssh.generate_private_key("ssh-ed25519")
        public = key.export_public_key("openssh").decode().strip()
        with self.lock, self.server.authorized_keys.open("a") as file:
            file.write(f"no-agent-forwarding {public} by hand\n")
        value = {
            "username": self.server.username,
            "private_key": key.export_private_key("openssh").decode(),
            "public_key": public,
            "note": "kept",
        }
        target = t.SshTarget(
            host=HOST, port=self.server.port, username=self.server.username, host_keys=[self.server.host_key]
        )
        lab.create(
            secret_id,
            s.SECRET_TYPE_SSH_KEY_PAIR,
            value,
            t.RotationTarget(ssh=target),
            grace_period_s=self.grace_period_s,
        )

    def accepts(self, value: bytes) -> bool:
        found = json.loads(value)
        return asyncio.run(self._logs_in(found["private_key"])) and found["note"] == "kept"

    async def _logs_in(self, private_key: str) -> bool:
        try:
            async with asyncssh.connect(
                HOST,
                self.server.port,
                username=self.server.username,
                client_keys=[asyncssh.import_private_key(private_key)],
                known_hosts=([asyncssh.import_public_key(self.server.host_key)], [], []),
                config=None,
                agent_path=None,
            ):
                return True
        except asyncssh.PermissionDenied:
            return False


@dataclass(frozen=True)
class ClientKeys:
    """Client keys of workloads in the lab's account of a real keystore."""

    mesh: Mesh
    administrator: Client
    grace_period_s: int = 0

    @classmethod
    def of(cls, mesh: Mesh) -> ClientKeys:
        identity = "user/lab"
        with client_of(mesh) as operator:
            operator.access.accounts.create(ACCOUNT, administrator_spiffe_ids=[spiffe_id(identity)])
        return cls(mesh, client_of(mesh, identity, ACCOUNT))

    @property
    def previous_works(self) -> bool:
        return self.grace_period_s > 0

    def principal(self, secret_id: str) -> str:
        return f"accounts/{ACCOUNT}/workloads/{secret_id.replace('.', '-')}"

    def create(self, lab: Lab, secret_id: str) -> None:
        principal = self.administrator.access.principals.create(self.principal(secret_id)).name
        made = self.administrator.access.client_keys.create(principal)
        lab.create(
            secret_id,
            s.SECRET_TYPE_CLIENT_KEY,
            {"client_key": made.client_key.name, "secret": made.secret, "note": "kept"},
            t.RotationTarget(client_key=t.ClientKeyTarget(principal=principal)),
            grace_period_s=self.grace_period_s,
        )

    def accepts(self, value: bytes) -> bool:
        found = json.loads(value)
        credentials = ClientKeySession(found["client_key"], found["secret"])
        with client_by(self.mesh, credentials, account=ACCOUNT) as client:
            try:
                client.access.whoami()
            except StrongroomError as error:
                assert error.reason == "CREDENTIAL_INVALID"
                return False
        return bool(found["note"] == "kept")

    def names(self, secret_id: str) -> set[str]:
        """The principal's client keys."""
        return {key.name for key in self.administrator.access.client_keys.list(self.principal(secret_id))}


class TeamRotator(rpc.RotatorServiceServicer):
    """A rotator as a team would write one: its target is what it remembers."""

    def __init__(self) -> None:
        self.accepted: dict[str, set[bytes]] = {}
        self.tokens: dict[str, int] = {}
        self.failing: tuple[grpc.StatusCode, str] | None = None
        self.refused: list[bytes] = []
        """Values that its target's own policy did not take."""
        self.refuses = 0
        """How many more it will not take."""
        self.address = ""
        """Where targets say that it is."""

    def CheckTarget(self, request: pb.CheckTargetRequest, context: grpc.ServicerContext) -> pb.CheckTargetResponse:
        self._verify(request.context, context, "CheckTarget")
        if request.context.parameters.get("unknown"):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "there is no such target")
        if request.HasField("current"):
            self.accepted.setdefault(request.context.secret, {request.current.value})
        return pb.CheckTargetResponse()

    def CreateCredential(
        self, request: pb.CreateCredentialRequest, context: grpc.ServicerContext
    ) -> pb.CreateCredentialResponse:
        self._verify(request.context, context, "CreateCredential")
        self._fence(request.context, context)
        return pb.CreateCredentialResponse(value=request.suggested_password.encode())

    def SetCredential(
        self, request: pb.SetCredentialRequest, context: grpc.ServicerContext
    ) -> pb.SetCredentialResponse:
        self._verify(request.context, context, "SetCredential")
        self._fence(request.context, context)
        if self.refuses:
            self.refuses -= 1
            self.refused.append(request.pending.value)
            context.abort(grpc.StatusCode.OUT_OF_RANGE, "the target wants longer ones")
        self.accepted.setdefault(request.context.secret, set()).add(request.pending.value)
        return pb.SetCredentialResponse()

    def TestCredential(
        self, request: pb.TestCredentialRequest, context: grpc.ServicerContext
    ) -> pb.TestCredentialResponse:
        self._verify(request.context, context, "TestCredential")
        accepted = request.credential.value in self.accepted.get(request.context.secret, set())
        return pb.TestCredentialResponse(accepted=accepted, detail="" if accepted else "not accepted")

    def FinishRotation(
        self, request: pb.FinishRotationRequest, context: grpc.ServicerContext
    ) -> pb.FinishRotationResponse:
        self._verify(request.context, context, "FinishRotation")
        self._fence(request.context, context)
        self.accepted[request.context.secret] = {request.current.value}
        return pb.FinishRotationResponse()

    def _verify(self, told: pb.RotationContext, context: grpc.ServicerContext, step: str) -> None:
        service = spiffe_id("service/secrets")
        verify(context, told, service_id=service, audience=self.address, accounts=[ACCOUNT], step=step)

    def _fence(self, told: pb.RotationContext, context: grpc.ServicerContext) -> None:
        if self.failing is not None:
            context.abort(*self.failing)
        if told.fencing_token < self.tokens.get(told.secret, 0):
            context.abort(grpc.StatusCode.ABORTED, "an older lease")
        self.tokens[told.secret] = told.fencing_token


@dataclass
class Remote:
    rotator: TeamRotator
    port: int
    previous_works = False

    def create(self, lab: Lab, secret_id: str) -> None:
        target = t.GrpcTarget(address=f"{HOST}:{self.port}", parameters={"queue": "orders"})
        lab.create(
            secret_id,
            s.SECRET_TYPE_GRPC,
            f"first value of {secret_id}".encode(),
            t.RotationTarget(grpc=target),
            grace_period_s=0,
        )

    def accepts(self, value: bytes) -> bool:
        return any(value in accepted for accepted in self.rotator.accepted.values())


def tls_files(files: CertificateFiles) -> TlsFiles:
    """A service's certificate, as the service reads it."""
    settings = Tls(certificate=files.certificate, key=files.key, trust=files.trust, trust_domain=TRUST_DOMAIN)
    return TlsFiles(settings)


def serve_rotator(rotator: TeamRotator, files: TlsFiles, port: int) -> grpc.Server:
    """The team's server, which wants the secrets service's certificate."""
    rotator.address = f"{HOST}:{port}"
    server = grpc.server(ThreadPoolExecutor(8))
    rpc.add_RotatorServiceServicer_to_server(rotator, server)
    server.add_secure_port(f"{HOST}:{port}", files.server_credentials(require_client_certificate=True))
    server.start()
    return server
