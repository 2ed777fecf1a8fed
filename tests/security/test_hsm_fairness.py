"""The token, and processors that make RSA keys, are everybody's: one tenant's key generation costs others nothing but
what one key costs."""

from __future__ import annotations

import contextvars
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, cast

import pkcs11

from deploy.dev.mesh import Mesh
from services.crypto.keys.generation import Generation
from services.crypto.providers.pkcs11.connection import Connection, Work
from services.crypto.providers.pkcs11.module import Module
from services.runtime.call import Call, Principal
from services.runtime.errors import StrongroomError
from strongroom import Client
from strongroom.keystore.v1 import key_pb2 as k
from tests.support.clients import reason_of, until


class Session:
    def close(self) -> None:
        pass


class Slot:
    def get_mechanisms(self) -> list[pkcs11.Mechanism]:
        return []


class Token:
    slot = Slot()

    def open(self, **_: Any) -> Session:
        return Session()


class Here:
    def logged_in(self, _: object) -> bool:
        return True


def connection(size: int = 8) -> Connection:
    return Connection(cast(Module, Here()), cast(pkcs11.Token, Token()), "pin", size, lambda _: None)


def call(account: str = "acme", seconds: float = 60.0) -> Call:
    made = Call("s", "M", "a:M", principal=Principal(f"accounts/{account}/users/u", account))
    made.seconds_left = lambda: seconds
    return made


def refused(work: Any) -> str:
    try:
        with work:
            return ""
    except StrongroomError as error:
        return error.reason


# --- sessions


def test_making_keys_takes_a_quarter_of_the_sessions_and_single_uses_leave_one_to_the_root_key() -> None:
    sessions = connection(8)
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(sessions.lend(Work.GENERATION, "hostile"))
        assert refused(sessions.lend(Work.GENERATION, "hostile")) == "PROVIDER_UNAVAILABLE"
        for _ in range(5):
            held.enter_context(sessions.lend(Work.OPERATION, "hostile"))
        assert refused(sessions.lend(Work.OPERATION, "other")) == "PROVIDER_UNAVAILABLE"
        # Sealing and opening what is under the root key goes on.
        held.enter_context(sessions.lend(Work.ROOT))
    assert sessions.in_use == 0


def test_a_pool_of_one_session_does_everything() -> None:
    sessions = connection(1)
    for work in Work:
        with sessions.lend(work, "acme"):
            assert sessions.in_use == 1


def test_a_session_that_comes_back_goes_to_the_root_key_and_then_to_the_account_with_the_fewest() -> None:
    sessions = connection(4)
    order: list[str] = []
    go = threading.Event()

    def use(work: Work, account: str, name: str) -> None:
        with sessions.lend(work, account):
            order.append(name)
            go.wait(20)

    with ThreadPoolExecutor(8) as pool, ExitStack() as held:
        first = held.enter_context(ExitStack())
        first.enter_context(sessions.lend(Work.OPERATION, "many"))
        for _ in range(2):
            held.enter_context(sessions.lend(Work.OPERATION, "many"))
        held.enter_context(sessions.lend(Work.ROOT))
        for work, account, name in (
            (Work.OPERATION, "many", "many"),
            (Work.OPERATION, "few", "few"),
            (Work.ROOT, "", "root"),
        ):
            pool.submit(use, work, account, name)
            until(lambda: len(sessions._waiting) == 1 + ["many", "few", "root"].index(name), 10)  # noqa: B023
        first.close()
        until(lambda: order == ["root"], 10)
        go.set()
        until(lambda: order[:2] == ["root", "few"], 10)
    assert sessions.in_use == 0


# --- RSA keys


def test_an_account_makes_one_rsa_key_at_a_time_and_has_few_waiting() -> None:
    generation = Generation(2)
    begun, stop = threading.Semaphore(0), threading.Event()

    def make(account: str, seconds: float) -> str:
        try:
            with generation.turn(call(account, seconds), account, k.KEY_SPEC_RSA_4096, in_hsm=True):
                begun.release()
                stop.wait(30)
        except StrongroomError as error:
            return error.reason
        return ""

    with ThreadPoolExecutor(24) as pool:
        hostile = [pool.submit(make, "hostile", 0.2) for _ in range(16)]
        assert begun.acquire(timeout=20)
        until(lambda: sum(attempt.done() for attempt in hostile) == 15, 20)
        assert [attempt.result() for attempt in hostile if attempt.done()] == ["HSM_BUSY"] * 15
        # A slot is free for another account, which does not wait.
        other = pool.submit(make, "other", 60)
        assert begun.acquire(timeout=20)
        stop.set()
        assert other.result(20) == ""
    assert make("hostile", 60) == ""


def test_a_key_that_is_made_in_no_time_needs_no_turn() -> None:
    generation = Generation(1)
    with generation.turn(call(), "acme", k.KEY_SPEC_RSA_2048):
        assert refused(generation.turn(call(), "acme", k.KEY_SPEC_AES_256)) == ""
        assert refused(generation.turn(call(seconds=0.1), "other", k.KEY_SPEC_RSA_2048)) == "OVERLOADED"


def test_rsa_keys_made_in_the_token_by_one_tenant_leave_others_decrypts_alone(
    mesh: Mesh, client: Client, tenant: Client
) -> None:
    level = "HSM" if mesh.provider == "pkcs11" else "SOFTWARE"
    key = client.keys.create("beside", protection_level=level).name
    sealed = client.encrypt(key, b"payload").ciphertext
    with ThreadPoolExecutor(16) as pool:
        attempts = [
            pool.submit(
                reason_of,
                lambda: tenant.keys.create(f"rsa{n}", spec="RSA_4096", usage="SIGN_VERIFY", protection_level=level),  # noqa: B023
            )
            for n in range(16)
        ]
        decrypted = created = 0
        while not all(attempt.done() for attempt in attempts):
            assert client.decrypt(sealed).plaintext == b"payload"
            decrypted += 1
            if created < 3:
                client.keys.create(f"software{created}")
                created += 1
            time.sleep(0.05)
        assert {attempt.result() for attempt in attempts} <= {"", "HSM_BUSY", "OVERLOADED", "DEADLINE_EXCEEDED"}
    assert decrypted > 3


def test_keys_are_made_in_threads_that_give_way_and_know_whose_call_it_is() -> None:
    generation = Generation(1)
    of_call: contextvars.ContextVar[str] = contextvars.ContextVar("of_call")
    of_call.set("acme")

    def seen() -> tuple[int, int, str]:
        thread = threading.get_native_id()
        return thread, os.getpriority(os.PRIO_PROCESS, thread), of_call.get()

    here, own, _ = seen()
    thread, niceness, told = generation.made(seen, call(), "acme", k.KEY_SPEC_RSA_2048)
    assert (thread != here, niceness > own, told) == (True, True, "acme")
    assert generation.made(seen, call(), "acme", k.KEY_SPEC_AES_256) == (here, own, "acme")
