"""What each path of Vault needs in the mesh: by operation, as Vault names capabilities, the actions that the door makes
there for its caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

KEY, PATH, ANY = "{key}", "{path}", "{any}"
ACCOUNT, OWN, WRAPPING = "account", "own", "wrapping"
"""What an action is asked for where that is not the path's key or secret: the account that the request is for, the
caller's own, the account's key that material for import is wrapped under."""


@dataclass(frozen=True, slots=True)
class Ways:
    """A capability, and the actions that it takes: all of any one way. A way without actions is everybody's."""

    capability: str
    ways: Sequence[Sequence[tuple[str, str]]]
    """Each action with what it is asked for; empty for the path's own key or secret."""


def _can(capability: str, *ways: str) -> Ways:
    return Ways(capability, [[_action(one) for one in way.split()] for way in ways])


def _action(text: str) -> tuple[str, str]:
    name, _, target = text.partition("@")
    return name, target


_ASKED = _can("update", "")
_SHOWN = _can("read", "")
_SIGN = (_can("update", "crypto:Sign"),)
_VERIFY = (_can("update", "crypto:Verify", "crypto:VerifyMac"),)
_MAC = (_can("update", "crypto:GenerateMac"),)
_RANDOM = (_can("update", "crypto:GenerateRandom@own"),)
_MATERIAL = "crypto:AsymmetricDecrypt@wrapping keystore:GetParametersForImport keystore:ImportKeyMaterial"

TRANSIT: Mapping[str, Sequence[Ways]] = {
    # Which of the two it is, the key decides.
    "encrypt/{key}": (_can("update", "crypto:Encrypt", "crypto:AsymmetricEncrypt"),),
    "decrypt/{key}": (_can("update", "crypto:Decrypt", "crypto:AsymmetricDecrypt"),),
    "rewrap/{key}": (_can("update", "crypto:ReEncryptFrom crypto:ReEncryptTo"),),
    "datakey/plaintext/{key}": (_can("update", "crypto:GenerateDataKey"),),
    "datakey/wrapped/{key}": (_can("update", "crypto:GenerateDataKeyWithoutPlaintext"),),
    "sign/{key}": _SIGN,
    "sign/{key}/{any}": _SIGN,
    "verify/{key}": _VERIFY,
    "verify/{key}/{any}": _VERIFY,
    "hmac/{key}": _MAC,
    "hmac/{key}/{any}": _MAC,
    "random": _RANDOM,
    "random/{any}": _RANDOM,
    "random/{any}/{any}": _RANDOM,
    "hash": (_ASKED,),
    "hash/{any}": (_ASKED,),
    "wrapping_key": (_can("read", "crypto:GetPublicKey@wrapping"),),
    "keys": (_can("list", "keystore:ListKeys@account"),),
    "keys/{key}": (
        _can("read", "keystore:GetKey keystore:ListKeyVersions"),
        _can("create", "keystore:CreateKey@account"),
        _can("update", "keystore:CreateKey@account"),
        _can("delete", "keystore:GetKey keystore:ScheduleKeyDeletion"),
    ),
    "keys/{key}/rotate": (_can("update", "keystore:CreateKeyVersion"),),
    "keys/{key}/config": (
        _can(
            "update",
            "keystore:GetKey keystore:SetDeletionProtection",
            "keystore:GetKey keystore:UpdateRotationPolicy",
            "keystore:GetKey keystore:ListKeyVersions keystore:DisableKeyVersion",
        ),
    ),
    "keys/{key}/trim": (
        _can("update", "keystore:ListKeyVersions keystore:DestroyKeyVersion keystore:SetDeletionProtection"),
    ),
    "keys/{key}/import": (_can("update", f"keystore:CreateKey@account {_MATERIAL}"),),
    "keys/{key}/import_version": (
        _can("update", f"keystore:CreateKeyVersion keystore:SetPrimaryKeyVersion {_MATERIAL}"),
    ),
}

_LIST = _can("list", "secrets:ListSecrets@account")

KV2: Mapping[str, Sequence[Ways]] = {
    "data/{path}": (
        _can("read", "secrets:GetSecretValue"),
        _can("create", "secrets:CreateSecret@account"),
        _can("update", "secrets:PutSecretValue"),
        _can("patch", "secrets:GetSecretValue secrets:PutSecretValue"),
        _can("delete", "secrets:GetSecret secrets:DisableSecretVersion"),
    ),
    "metadata": (_LIST,),
    "metadata/{path}": (
        _can("read", "secrets:GetSecret secrets:ListSecretVersions"),
        _can("update", "secrets:GetSecret secrets:UpdateSecret"),
        _can("patch", "secrets:GetSecret secrets:UpdateSecret"),
        _LIST,
        _can("delete", "secrets:ForceDeleteSecret"),
    ),
    "delete/{path}": (_can("update", "secrets:DisableSecretVersion"),),
    "undelete/{path}": (_can("update", "secrets:EnableSecretVersion"),),
    "destroy/{path}": (_can("update", "secrets:DestroySecretVersion"),),
    "config": (_SHOWN, _ASKED),
}

KV1: Mapping[str, Sequence[Ways]] = {
    "": (_LIST,),
    "{path}": (
        _can("read", "secrets:GetSecretValue"),
        _can("create", "secrets:CreateSecret@account"),
        _can("update", "secrets:PutSecretValue"),
        _LIST,
    ),
}

SYS: Mapping[str, Sequence[Ways]] = {
    "health": (_SHOWN,),
    "seal-status": (_SHOWN,),
    "leader": (_SHOWN,),
    "init": (_SHOWN,),
    "mounts": (_SHOWN,),
    "mounts/{any}": (_SHOWN,),
    "mounts/{any}/tune": (_SHOWN,),
    "auth": (_SHOWN,),
    "internal/ui/mounts": (_SHOWN,),
    "internal/ui/mounts/{path}": (_SHOWN,),
    "capabilities": (_ASKED,),
    "capabilities-self": (_ASKED,),
    "wrapping/wrap": (_can("update", "secrets:CreateSecret@own"),),
    "wrapping/rewrap": (_can("update", "secrets:CreateSecret@own"),),
    "wrapping/lookup": (_SHOWN, _ASKED),
    "wrapping/unwrap": (_ASKED,),
}

AUTH: Mapping[str, Sequence[Ways]] = {
    **{f"{login}/login": (_ASKED,) for login in ("approle", "cert", "jwt", "kubernetes")},
    "token/lookup-self": (_SHOWN, _ASKED),
    **{f"token/{path}": (_ASKED,) for path in ("renew-self", "revoke-self", "lookup", "renew", "revoke")},
}


def at(table: Mapping[str, Sequence[Ways]], parts: Sequence[str]) -> tuple[Sequence[Ways], dict[str, Sequence[str]]]:
    """What a path needs, and the parts that stand for its key or secret; nothing for a path that is not there."""
    for pattern, ways in table.items():
        found = _matched(pattern.split("/") if pattern else [], parts)
        if found is not None:
            return ways, found
    return (), {}


def _matched(pattern: Sequence[str], parts: Sequence[str]) -> dict[str, Sequence[str]] | None:
    found: dict[str, Sequence[str]] = {}
    for place, (wanted, part) in enumerate(zip_longest(pattern, parts, fillvalue="")):
        if not wanted or not part:
            return None
        if wanted == PATH:
            return {**found, PATH: parts[place:]}
        if wanted in (KEY, ANY):
            found[wanted] = [part]
        elif wanted != part:
            return None
    return found
