"""`strongroom migrate vault` reads our own door as it reads Vault."""

from __future__ import annotations

import hvac

from deploy.dev.doors import Doors
from strongroom import Client
from strongroom.migration.copying import Outcome, copy
from strongroom.migration.vault import VaultPlace


def test_secrets_behind_the_door_are_read_like_vaults(
    vault: hvac.Client, plain_doors: Doors, token: str, administrator: Client, name: str
) -> None:
    vault.secrets.kv.v2.create_or_update_secret(path=f"{name}/db", secret={"user": "u", "password": "p"})
    vault.secrets.kv.v2.create_or_update_secret(path=f"{name}/deep/er", secret={"value": "text"})
    place = VaultPlace(plain_doors.address, token, path=name)
    found = {one.name: one for one in copy(place, administrator.secrets, prefix="copied/")}
    assert {path: one.outcome for path, one in found.items()} == {
        f"{name}/db": Outcome.CREATED,
        f"{name}/deep/er": Outcome.CREATED,
    }
    assert administrator.secrets.get_value(f"copied/{name}/deep/er").value == b"text"
