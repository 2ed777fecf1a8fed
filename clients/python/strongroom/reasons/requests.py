"""Reasons that are about the request itself, or about who makes it."""

from __future__ import annotations

from collections.abc import Mapping

REQUESTS: Mapping[str, tuple[str, str]] = {
    "FIELD_REQUIRED": (
        "A field that must be set is empty; `field` names it.",
        "Set the field.",
    ),
    "FIELD_INVALID": (
        "A field has a value that is not accepted; `field` names it, and the message says what is.",
        "Change the value as the message says.",
    ),
    "FIELD_TOO_LARGE": (
        "A field is larger than its limit, which the message and `limit` name.",
        "Send less. For data over 64 KiB use a data key, or `strongroom file encrypt`.",
    ),
    "NAME_MALFORMED": (
        "A resource name does not have the form that the method takes; the message shows the form.",
        "Give the full name, such as `accounts/main/keys/payments`, or an id alone on the command line.",
    ),
    "PAGE_TOKEN_INVALID": (
        "The page token is not from this list, or the filter has changed between two pages.",
        "Begin the list again, without a page token.",
    ),
    "CHECKSUM_MISMATCH": (
        "Bytes of the request do not match the CRC32C that came with them: they were altered on the way.",
        "Send the request again. If it happens again, look for a proxy or a library that changes bytes.",
    ),
    "REQUEST_ID_REUSED": (
        "The `request_id` was used for another request within a day.",
        "Use a new random UUID for each request, and the same one only to repeat that request.",
    ),
    "REQUEST_MALFORMED": (
        "The bytes of the message are not the message that this method takes.",
        "Generate stubs from the protos of this release, and call the method with its own request type.",
    ),
    "REQUEST_INCOMPLETE": (
        "The call's message did not arrive in time after its headers.",
        "Look at the network between the two. The limit is `listeners.message_seconds`.",
    ),
    "UNAUTHENTICATED": (
        "The call has no credential: neither a session token nor a client certificate.",
        "Log in (`strongroom login`), or connect with a client certificate to the listener for certificates.",
    ),
    "TOKEN_INVALID": (
        "The token is not one that this mesh accepts: damaged, revoked, or signed by somebody else.",
        "Log in again. For an OIDC token, compare its issuer and audience with `strongroom oidc-provider describe`.",
    ),
    "TOKEN_EXPIRED": (
        "The session token, or the credential behind it, has ended.",
        "Begin another session. The clients do that by themselves where the credential still holds.",
    ),
    "IDENTITY_UNKNOWN": (
        "The certificate or token is genuine, and no principal is bound to its SPIFFE id or subject.",
        "Bind it: `strongroom principal update NAME --spiffe-id …` or `--oidc PROVIDER=SUBJECT`.",
    ),
    "PRINCIPAL_DISABLED": (
        "The principal, or its whole account, is disabled.",
        "An administrator enables it: `strongroom principal enable NAME`, `strongroom account enable ACCOUNT`.",
    ),
    "CREDENTIAL_INVALID": (
        "The client key or its secret is wrong, expired, disabled or deleted. Which of these is not told.",
        "Look at `strongroom client-key list`, and make a new client key if needed.",
    ),
    "PERMISSION_DENIED": (
        "No policy or grant permits this, or one forbids it; or it is another account's and does not exist.",
        "`strongroom access why EVENT` says what decided; then attach a policy or make a grant.",
    ),
    "CALLER_NOT_ALLOWED": (
        "A service called an internal method that the configuration does not let it call.",
        "Add its SPIFFE id to `listeners.internal.allow` or `listeners.internal.may_forward` of the called service.",
    ),
    "QUOTA_EXCEEDED": (
        "The account, the principal, or an address without a credential makes more calls than its quota permits.",
        "Wait for as long as the error says, use batches, or raise the quota: `strongroom quota set`.",
    ),
    "LIMIT_EXCEEDED": (
        "A fixed limit is reached, which the message names: of a number of things, or of a message's size.",
        "Delete what is not needed, ask for less at once, or spread the work over several accounts.",
    ),
    "ALREADY_EXISTS": (
        "The name is taken, or was in the past: names of keys, secrets and principals are never used again.",
        "Choose another name. To repeat a create safely, send the same `request_id`.",
    ),
    "SPIFFE_ID_NOT_GIVEN": (
        "The account may not bind this SPIFFE id: the mesh's administrators gave it neither the id nor a prefix of it.",
        "An administrator of the mesh gives it: `strongroom account update ACCOUNT --give-spiffe-id SPIFFE_ID`.",
    ),
    "ETAG_MISMATCH": (
        "Somebody changed the resource after you read it.",
        "Read it again, apply your change to what is there now, and send that with the new etag.",
    ),
    "CONFIRMATION_MISMATCH": (
        "What was given as confirmation is not the account's id.",
        "Give the account's own id: `strongroom audit shred --confirm ACCOUNT`.",
    ),
    "NOT_YET": (
        "The contract has this method, and this release does not answer it.",
        "Upgrade the services.",
    ),
}
