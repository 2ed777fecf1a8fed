"""Session tokens outlive the process that signed them, and several processes sign at once."""

from __future__ import annotations

from contextlib import ExitStack

import jwt

from strongroom import SessionToken
from tests.conftest import PrivateMeshes
from tests.support.clients import client_by, client_of

MOST_CLIENTS = 40


def signers(tokens: list[str]) -> int:
    """How many keys have signed them."""
    return len({jwt.get_unverified_header(token)["kid"] for token in tokens})


def test_tokens_of_every_worker_are_valid_at_once_and_after_a_restart(private_mesh: PrivateMeshes) -> None:
    mesh = private_mesh(workers={"keystore": 2})
    with ExitStack() as stack:
        tokens: list[str] = []
        # The kernel gives each connection to one of the workers, by chance.
        while len(tokens) < MOST_CLIENTS and signers(tokens) < 2:
            client = stack.enter_context(client_of(mesh))
            tokens.append(client.access.sessions.create().token)
            with client_by(mesh, SessionToken(tokens[-1])) as caller:
                caller.generate_random(16)
                assert caller.access.whoami().session_name == "admin"
    assert signers(tokens) == 2

    mesh.kill("keystore")
    mesh.launch("keystore")

    with client_of(mesh) as client:
        tokens.append(client.access.sessions.create().token)
    assert signers(tokens) == 3
    for token in tokens:
        with client_by(mesh, SessionToken(token)) as caller:
            caller.generate_random(16)
            caller.access.whoami()
