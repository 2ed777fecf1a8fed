"""Reasons that are about the keys, secrets, policies, events and logs that a call asks for."""

from __future__ import annotations

from collections.abc import Mapping

_NAME = "Compare the name and the account with the list of what there is: "
_STORED = (
    "Do not write to the database by hand. Compare it with a backup, and treat it as tampered with until you know."
)

RESOURCES: Mapping[str, tuple[str, str]] = {
    "KEY_NOT_FOUND": ("There is no key of this name.", _NAME + "`strongroom key list`."),
    "KEY_VERSION_NOT_FOUND": (
        "The key has no version of this number.",
        "`strongroom key version list KEY` shows its versions.",
    ),
    "ALIAS_NOT_FOUND": ("There is no alias of this name.", _NAME + "`strongroom alias list`."),
    "SECRET_NOT_FOUND": ("There is no secret of this name.", _NAME + "`strongroom secret list`."),
    "SECRET_VERSION_NOT_FOUND": (
        "The secret has no version of this number.",
        "`strongroom secret versions SECRET` shows its versions.",
    ),
    "STAGE_NOT_FOUND": (
        "No version of the secret is at this stage. Pending is there only while a rotation runs.",
        "`strongroom secret versions SECRET` shows the stages.",
    ),
    "SECRET_FIELD_NOT_FOUND": (
        "The value is not JSON, or has no member of this name.",
        "Look at the value, or read it whole, without `field`.",
    ),
    "EVENT_NOT_FOUND": (
        "The account's log has no event with this id.",
        "Ask in the account that owns the resource: its log has the event.",
    ),
    "ACCOUNT_NOT_FOUND": ("There is no account of this name.", _NAME + "`strongroom account list`."),
    "PRINCIPAL_NOT_FOUND": ("There is no principal of this name.", _NAME + "`strongroom principal list`."),
    "POLICY_NOT_FOUND": ("There is no policy of this name.", _NAME + "`strongroom policy list`."),
    "GRANT_NOT_FOUND": (
        "There is no such grant: it was revoked, was retired, or has expired.",
        _NAME + "`strongroom grant list`.",
    ),
    "CLIENT_KEY_NOT_FOUND": ("There is no client key of this name.", _NAME + "`strongroom client-key list`."),
    "OIDC_PROVIDER_NOT_FOUND": (
        "The account has no OIDC provider of this name, or none for the token's issuer.",
        _NAME + "`strongroom oidc-provider list`.",
    ),
    "EVENT_SHREDDED": (
        "The event's sealing key was destroyed on purpose. Its place in the log still verifies.",
        "Nothing brings the event back. A legal hold, set in time, keeps events readable.",
    ),
    "EVENT_UNPUBLISHED": (
        "No published checkpoint covers the event yet, usually because witnesses are missing.",
        "Try again in a second. If it lasts, look at the witnesses: `strongroom audit logs`.",
    ),
    "LOG_NOT_FOUND": ("There is no log of this name.", "`strongroom audit logs` lists the logs."),
    "CHECKPOINT_NOT_FOUND": ("The log has no checkpoint yet.", "Make one call, wait a second, and ask again."),
    "TILE_NOT_FOUND": (
        "The log has no tile at this path: it is malformed, or beyond the log's size.",
        "Ask for tiles of a size that a checkpoint names.",
    ),
    "TREE_SIZE_INVALID": (
        "The tree size is larger than the published log, or smaller than what it must hold.",
        "Use the size of a checkpoint of this log.",
    ),
    "COSIGNATURE_INVALID": (
        "A cosignature is not one by a configured witness over this checkpoint.",
        "Compare the witness's key with `log.witnesses` of audit.",
    ),
    "RESUME_TOKEN_INVALID": (
        "The resume token is damaged or belongs to another stream.",
        "Begin the stream anew; for `audit tail`, with another state file.",
    ),
    "LEGAL_HOLD": (
        "A legal hold keeps the account's events readable.",
        "Lift the hold first, if you may: `strongroom audit hold --lift`.",
    ),
    "RESOURCE_IN_USE": (
        "Something else needs this: secrets name it as their master, or principals are bound to it.",
        "Change or delete what uses it first; the message names it.",
    ),
    "POLICY_INVALID": (
        "The text is no valid Cedar policy for the published schema; `line` and `column` say where.",
        "Mend the text, and try it with `strongroom policy validate FILE`.",
    ),
    "POLICY_LOCKOUT": (
        "After this change nobody in the account could change its policies any more.",
        "Give the administrator's permissions to somebody else first.",
    ),
    "POLICY_UNUSABLE": (
        "Stored policies cannot be evaluated, so that they deny. The status names them.",
        "Delete these policies, or put a valid text in their place.",
    ),
    "SECRET_SHOWN": (
        "The client key was made by an earlier call with this request id, and was used: its secret is not shown again.",
        "Go on with the secret that was used, or delete the client key that the error names, and make another.",
    ),
    "KEY_DISABLED": (
        "The key or the version is disabled.",
        "Enable it, if that is intended: `strongroom key enable KEY`, or `strongroom key version enable VERSION`.",
    ),
    "KEY_STATE_INVALID": (
        "The key or version is in a state that does not permit this, such as PENDING_DELETION or PENDING_IMPORT.",
        "`strongroom key describe KEY` shows the state: cancel the deletion, import the material, or rotate the key.",
    ),
    "KEY_USAGE_INVALID": (
        "The key is for something else: a key that signs does not encrypt.",
        "Use a key whose spec and usage fit (`strongroom key describe KEY`); for RSA, `strongroom public-key encrypt`.",
    ),
    "DELETION_PROTECTED": (
        "The key is protected from deletion.",
        "Take the protection away first, if you may: `strongroom key unprotect KEY`.",
    ),
    "KEY_MISMATCH": (
        "The ciphertext is under another key than the one that the call named.",
        "Name the right key, or none: the ciphertext says which it is under.",
    ),
    "ALGORITHM_INVALID": (
        "The key cannot be used with this algorithm; the message lists those that fit.",
        "Choose one of these, or name none and use the key's default.",
    ),
    "PUBLIC_KEY_INVALID": (
        "The public key is not a DER SubjectPublicKeyInfo of a kind that fits the key.",
        "Send the other side's public key, of the same curve or kind.",
    ),
    "SECRET_VERSION_DISABLED": (
        "The version of the secret is disabled.",
        "Read another version, or enable this one: `strongroom secret enable-version VERSION`.",
    ),
    "SECRET_VERSION_DESTROYED": (
        "The value of this version was destroyed for good.",
        "Read another version, or put a new value.",
    ),
    "SECRET_PENDING_DELETION": (
        "The secret waits for its deletion, and nobody can read it.",
        "`strongroom secret restore SECRET` takes it back until then.",
    ),
    "SECRET_STATE_INVALID": (
        "The secret is in a state that does not permit this.",
        "`strongroom secret describe SECRET` shows the state.",
    ),
    "STAGE_CONFLICT": (
        "Another call moved the secret's stages in the same moment.",
        "Read the secret's versions again, and repeat the call.",
    ),
    "PASSWORD_RULE_INVALID": (
        "The rule for passwords contradicts itself or asks for too little.",
        "Change the rule as the message says.",
    ),
    "ROTATION_ACTIVE": (
        "A rotation of the secret has not ended.",
        "Wait for it, or `strongroom secret resume-rotation` or `cancel-rotation`.",
    ),
    "ROTATION_STATE_INVALID": (
        "The rotation is in a state that does not permit this, or has gone on meanwhile.",
        "`strongroom secret rotation SECRET` shows the state.",
    ),
    "ROTATION_UNSUPPORTED": (
        "The secret cannot be rotated: it has no target, or its value is binary or JSON.",
        "Give it a type and a target, or put new values by hand.",
    ),
    "REPAIR_IMPOSSIBLE": (
        "Neither Pending, Current, Previous nor the master can log in to the target.",
        "Set a password at the target by hand, put it with `strongroom secret put`, and repair again.",
    ),
    "CIPHERTEXT_INVALID": (
        "The ciphertext was altered, or the encryption context is another. Which of these is not told.",
        "Give exactly the context that it was encrypted with, and compare the bytes with what was stored.",
    ),
    "IMPORT_TOKEN_INVALID": (
        "The import token is damaged, was made for another key version, or is older than a root rotation.",
        "Get another: `strongroom key material parameters KEY`.",
    ),
    "IMPORT_TOKEN_EXPIRED": (
        "The import token is older than 24 hours.",
        "Get another: `strongroom key material parameters KEY`, and wrap the material again.",
    ),
    "IMPORT_MATERIAL_INVALID": (
        "The material cannot be unwrapped, or has not the length or form of the key's spec.",
        "Wrap it with the wrapping key and method that belong to this token.",
    ),
    "IMPORT_MATERIAL_MISMATCH": (
        "The version had other material before, and takes only the same again.",
        "`strongroom key rotate KEY` makes a version for the other material.",
    ),
    "SPEC_UNSUPPORTED": ("There is no key spec of this number.", "Upgrade the services, or choose another spec."),
    "UNSUPPORTED_IN_HSM": (
        "The HSM cannot keep such keys, or the mesh has no HSM.",
        "Use protection level SOFTWARE or another spec, or configure a PKCS#11 module.",
    ),
    "ROOT_VERSION_CONFLICT": (
        "The root key was rotated by another call in the same moment.",
        "Look at `strongroom root status`, and try again.",
    ),
    "KEY_MATERIAL_REFUSED": ("A key's stored row or blob is not what the mesh wrote.", _STORED),
    "SECRET_VALUE_REFUSED": ("What is stored of a secret's version is not its value.", _STORED),
    "SECRET_RECORD_REFUSED": ("A row of the secrets database is not what the service wrote.", _STORED),
    "ACCESS_RECORD_REFUSED": ("A row of keystore's access records is not what the service wrote.", _STORED),
    "AUDIT_RECORD_REFUSED": ("A leaf or a key in audit's database was changed or is missing.", _STORED),
}
