"""The one exception type of the services, and its mapping to gRPC."""

from __future__ import annotations

from enum import StrEnum, auto

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from services.runtime import error_texts

DOMAIN = "strongroom"


class _UpperStrEnum(StrEnum):
    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[str]) -> str:
        del start, count, last_values
        return name


class Reason(_UpperStrEnum):
    """Why a call was refused: stable, upper snake case, what clients switch on."""

    # The request itself.
    FIELD_REQUIRED = auto()
    FIELD_INVALID = auto()
    FIELD_TOO_LARGE = auto()
    NAME_MALFORMED = auto()
    PAGE_TOKEN_INVALID = auto()
    CHECKSUM_MISMATCH = auto()
    REQUEST_ID_REUSED = auto()
    REQUEST_MALFORMED = auto()
    REQUEST_INCOMPLETE = auto()
    # Who asks, and whether they may.
    UNAUTHENTICATED = auto()
    TOKEN_INVALID = auto()
    TOKEN_EXPIRED = auto()
    IDENTITY_UNKNOWN = auto()
    PRINCIPAL_DISABLED = auto()
    CREDENTIAL_INVALID = auto()
    PERMISSION_DENIED = auto()
    CALLER_NOT_ALLOWED = auto()
    # What is asked for.
    KEY_NOT_FOUND = auto()
    KEY_VERSION_NOT_FOUND = auto()
    ALIAS_NOT_FOUND = auto()
    SECRET_NOT_FOUND = auto()
    SECRET_VERSION_NOT_FOUND = auto()
    STAGE_NOT_FOUND = auto()
    EVENT_NOT_FOUND = auto()
    ACCOUNT_NOT_FOUND = auto()
    PRINCIPAL_NOT_FOUND = auto()
    POLICY_NOT_FOUND = auto()
    GRANT_NOT_FOUND = auto()
    CLIENT_KEY_NOT_FOUND = auto()
    OIDC_PROVIDER_NOT_FOUND = auto()
    EVENT_SHREDDED = auto()
    EVENT_UNPUBLISHED = auto()
    LOG_NOT_FOUND = auto()
    CHECKPOINT_NOT_FOUND = auto()
    TILE_NOT_FOUND = auto()
    TREE_SIZE_INVALID = auto()
    COSIGNATURE_INVALID = auto()
    RESUME_TOKEN_INVALID = auto()
    LEGAL_HOLD = auto()
    CONFIRMATION_MISMATCH = auto()
    ALREADY_EXISTS = auto()
    SPIFFE_ID_NOT_GIVEN = auto()
    RESOURCE_IN_USE = auto()
    POLICY_INVALID = auto()
    POLICY_LOCKOUT = auto()
    POLICY_UNUSABLE = auto()
    SECRET_SHOWN = auto()
    KEY_DISABLED = auto()
    KEY_STATE_INVALID = auto()
    KEY_USAGE_INVALID = auto()
    DELETION_PROTECTED = auto()
    KEY_MISMATCH = auto()
    ALGORITHM_INVALID = auto()
    PUBLIC_KEY_INVALID = auto()
    SECRET_VERSION_DISABLED = auto()
    SECRET_VERSION_DESTROYED = auto()
    SECRET_PENDING_DELETION = auto()
    SECRET_STATE_INVALID = auto()
    SECRET_FIELD_NOT_FOUND = auto()
    STAGE_CONFLICT = auto()
    PASSWORD_RULE_INVALID = auto()
    ROTATION_ACTIVE = auto()
    ROTATION_STATE_INVALID = auto()
    ROTATION_UNSUPPORTED = auto()
    REPAIR_IMPOSSIBLE = auto()
    ETAG_MISMATCH = auto()
    LIMIT_EXCEEDED = auto()
    QUOTA_EXCEEDED = auto()
    CIPHERTEXT_INVALID = auto()
    IMPORT_TOKEN_INVALID = auto()
    IMPORT_TOKEN_EXPIRED = auto()
    IMPORT_MATERIAL_INVALID = auto()
    IMPORT_MATERIAL_MISMATCH = auto()
    KEY_MATERIAL_REFUSED = auto()
    ROOT_VERSION_CONFLICT = auto()
    SECRET_VALUE_REFUSED = auto()
    SECRET_RECORD_REFUSED = auto()
    ACCESS_RECORD_REFUSED = auto()
    AUDIT_RECORD_REFUSED = auto()
    UNSUPPORTED_IN_HSM = auto()
    SPEC_UNSUPPORTED = auto()
    NOT_YET = auto()
    # What the target of a rotation says.
    DESTINATION_NOT_ALLOWED = auto()
    TARGET_UNREACHABLE = auto()
    TARGET_LOGIN_REFUSED = auto()
    TARGET_CHANGE_REFUSED = auto()
    TARGET_VALUE_REFUSED = auto()
    TARGET_RIGHTS_MISSING = auto()
    MASTER_LOGIN_REFUSED = auto()
    ROTATOR_FAILED = auto()
    TARGET_TIMEOUT = auto()
    TARGET_ANSWER_TOO_LARGE = auto()
    TARGET_CHECK_PENDING = auto()
    # What the service itself lacks just now.
    AUDIT_UNREACHABLE = auto()
    AUDIT_TIMEOUT = auto()
    AUDIT_STORAGE_FULL = auto()
    AUDIT_STORAGE_FAILED = auto()
    AUDIT_SEALING_KEY_UNAVAILABLE = auto()
    RECORD_KEY_UNAVAILABLE = auto()
    AUDIT_PENDING = auto()
    AUDIT_BACKLOG = auto()
    EVENT_REFUSED = auto()
    KEYSTORE_UNREACHABLE = auto()
    KEYSTORE_STALE = auto()
    CRYPTO_UNREACHABLE = auto()
    CRYPTO_NOT_SERVING = auto()
    SECRETS_UNREACHABLE = auto()
    REDIS_UNREACHABLE = auto()
    SCHEDULE_OVERDUE = auto()
    PROVIDER_UNAVAILABLE = auto()
    HSM_BUSY = auto()
    DATABASE_UNAVAILABLE = auto()
    CHANGE_UNDECIDED = auto()
    OIDC_PROVIDER_UNREACHABLE = auto()
    OVERLOADED = auto()
    SHUTTING_DOWN = auto()
    DEADLINE_EXCEEDED = auto()
    INTERNAL = auto()


_CODES: dict[grpc.StatusCode, tuple[Reason, ...]] = {
    grpc.StatusCode.INVALID_ARGUMENT: (
        Reason.FIELD_REQUIRED,
        Reason.FIELD_INVALID,
        Reason.FIELD_TOO_LARGE,
        Reason.NAME_MALFORMED,
        Reason.PAGE_TOKEN_INVALID,
        Reason.CHECKSUM_MISMATCH,
        Reason.REQUEST_MALFORMED,
        Reason.CIPHERTEXT_INVALID,
        Reason.KEY_MISMATCH,
        Reason.ALGORITHM_INVALID,
        Reason.PUBLIC_KEY_INVALID,
        Reason.SPEC_UNSUPPORTED,
        Reason.IMPORT_TOKEN_INVALID,
        Reason.IMPORT_MATERIAL_INVALID,
        Reason.IMPORT_MATERIAL_MISMATCH,
        Reason.POLICY_INVALID,
        Reason.TREE_SIZE_INVALID,
        Reason.COSIGNATURE_INVALID,
        Reason.RESUME_TOKEN_INVALID,
        Reason.CONFIRMATION_MISMATCH,
        Reason.PASSWORD_RULE_INVALID,
    ),
    grpc.StatusCode.UNAUTHENTICATED: (
        Reason.UNAUTHENTICATED,
        Reason.TOKEN_INVALID,
        Reason.TOKEN_EXPIRED,
        Reason.IDENTITY_UNKNOWN,
        Reason.CREDENTIAL_INVALID,
    ),
    grpc.StatusCode.PERMISSION_DENIED: (
        Reason.PERMISSION_DENIED,
        Reason.PRINCIPAL_DISABLED,
        Reason.CALLER_NOT_ALLOWED,
    ),
    grpc.StatusCode.NOT_FOUND: (
        Reason.KEY_NOT_FOUND,
        Reason.KEY_VERSION_NOT_FOUND,
        Reason.ALIAS_NOT_FOUND,
        Reason.SECRET_NOT_FOUND,
        Reason.SECRET_VERSION_NOT_FOUND,
        Reason.STAGE_NOT_FOUND,
        Reason.SECRET_FIELD_NOT_FOUND,
        Reason.EVENT_NOT_FOUND,
        Reason.LOG_NOT_FOUND,
        Reason.CHECKPOINT_NOT_FOUND,
        Reason.TILE_NOT_FOUND,
        Reason.ACCOUNT_NOT_FOUND,
        Reason.PRINCIPAL_NOT_FOUND,
        Reason.POLICY_NOT_FOUND,
        Reason.GRANT_NOT_FOUND,
        Reason.CLIENT_KEY_NOT_FOUND,
        Reason.OIDC_PROVIDER_NOT_FOUND,
    ),
    grpc.StatusCode.ALREADY_EXISTS: (
        Reason.ALREADY_EXISTS,
        Reason.REQUEST_ID_REUSED,
        Reason.SECRET_SHOWN,
    ),
    grpc.StatusCode.FAILED_PRECONDITION: (
        Reason.SPIFFE_ID_NOT_GIVEN,
        Reason.KEY_DISABLED,
        Reason.KEY_STATE_INVALID,
        Reason.KEY_USAGE_INVALID,
        Reason.DELETION_PROTECTED,
        Reason.SECRET_VERSION_DISABLED,
        Reason.SECRET_VERSION_DESTROYED,
        Reason.SECRET_PENDING_DELETION,
        Reason.SECRET_STATE_INVALID,
        Reason.ROTATION_ACTIVE,
        Reason.ROTATION_STATE_INVALID,
        Reason.ROTATION_UNSUPPORTED,
        Reason.REPAIR_IMPOSSIBLE,
        Reason.DESTINATION_NOT_ALLOWED,
        Reason.TARGET_LOGIN_REFUSED,
        Reason.TARGET_CHANGE_REFUSED,
        Reason.TARGET_VALUE_REFUSED,
        Reason.TARGET_RIGHTS_MISSING,
        Reason.MASTER_LOGIN_REFUSED,
        Reason.ROTATOR_FAILED,
        Reason.TARGET_TIMEOUT,
        Reason.TARGET_ANSWER_TOO_LARGE,
        Reason.UNSUPPORTED_IN_HSM,
        Reason.IMPORT_TOKEN_EXPIRED,
        Reason.POLICY_LOCKOUT,
        Reason.POLICY_UNUSABLE,
        Reason.RESOURCE_IN_USE,
        Reason.EVENT_SHREDDED,
        Reason.LEGAL_HOLD,
    ),
    grpc.StatusCode.ABORTED: (
        Reason.ETAG_MISMATCH,
        Reason.STAGE_CONFLICT,
        Reason.ROOT_VERSION_CONFLICT,
    ),
    grpc.StatusCode.DATA_LOSS: (
        Reason.KEY_MATERIAL_REFUSED,
        Reason.SECRET_VALUE_REFUSED,
        Reason.SECRET_RECORD_REFUSED,
        Reason.ACCESS_RECORD_REFUSED,
        Reason.AUDIT_RECORD_REFUSED,
    ),
    grpc.StatusCode.UNIMPLEMENTED: (Reason.NOT_YET,),
    grpc.StatusCode.UNAVAILABLE: (
        Reason.AUDIT_UNREACHABLE,
        Reason.AUDIT_TIMEOUT,
        Reason.AUDIT_STORAGE_FULL,
        Reason.AUDIT_STORAGE_FAILED,
        Reason.AUDIT_SEALING_KEY_UNAVAILABLE,
        Reason.RECORD_KEY_UNAVAILABLE,
        Reason.AUDIT_PENDING,
        Reason.EVENT_UNPUBLISHED,
        Reason.KEYSTORE_UNREACHABLE,
        Reason.KEYSTORE_STALE,
        Reason.CRYPTO_UNREACHABLE,
        Reason.CRYPTO_NOT_SERVING,
        Reason.SECRETS_UNREACHABLE,
        Reason.REDIS_UNREACHABLE,
        Reason.SCHEDULE_OVERDUE,
        Reason.PROVIDER_UNAVAILABLE,
        Reason.OIDC_PROVIDER_UNREACHABLE,
        Reason.DATABASE_UNAVAILABLE,
        Reason.CHANGE_UNDECIDED,
        Reason.TARGET_UNREACHABLE,
        Reason.TARGET_CHECK_PENDING,
        Reason.SHUTTING_DOWN,
    ),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        Reason.OVERLOADED,
        Reason.HSM_BUSY,
        Reason.LIMIT_EXCEEDED,
        Reason.QUOTA_EXCEEDED,
        Reason.AUDIT_BACKLOG,
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: (Reason.DEADLINE_EXCEEDED, Reason.REQUEST_INCOMPLETE),
    grpc.StatusCode.INTERNAL: (Reason.INTERNAL, Reason.EVENT_REFUSED),
}
CODE_OF: dict[Reason, grpc.StatusCode] = {reason: code for code, reasons in _CODES.items() for reason in reasons}


class StrongroomError(Exception):
    """A refusal or failure that a caller is told about.

    `message` is a sentence for a person and never holds a secret; `reason` is stable. `field` names the
    offending request field. Further keywords travel as `ErrorInfo.metadata`. Texts that are too long to travel are cut.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        field: str = "",
        retry_after_seconds: float = 0.0,
        **metadata: str,
    ) -> None:
        message = error_texts.cut(message, error_texts.MAX_MESSAGE_BYTES)
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.field = error_texts.cut(field, error_texts.MAX_METADATA_VALUE_BYTES)
        self.retry_after_seconds = retry_after_seconds
        self.metadata = error_texts.cut_all({"field": field, **metadata} if field else metadata)

    @property
    def code(self) -> grpc.StatusCode:
        """The gRPC status code of the reason."""
        return CODE_OF[self.reason]

    @property
    def is_refusal(self) -> bool:
        """Whether the caller may not, rather than that something went wrong."""
        return self.code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)

    @property
    def is_unavailable(self) -> bool:
        """Whether the service itself, or what it needs, lacks something just now, whatever was asked for."""
        return self.code is grpc.StatusCode.UNAVAILABLE

    def saying(self, message: str) -> StrongroomError:
        """This error, with another message."""
        same = StrongroomError(self.reason, message, field=self.field, retry_after_seconds=self.retry_after_seconds)
        same.metadata = self.metadata
        return same

    def renewed(self) -> StrongroomError:
        """A copy to raise: an exception that is raised again and again grows each time."""
        return self.saying(self.message)

    def without_frames(self) -> StrongroomError:
        """Itself, without where it and its causes were raised. Whoever keeps an error in a variable of a frame that it
        passed through keeps that frame, and all that it holds, until the collector finds the circle."""
        found: list[BaseException] = [self]
        for error in found:
            error.__traceback__ = None
            for cause in (error.__cause__, error.__context__):
                if cause is not None and cause not in found:
                    found.append(cause)
        return self

    def to_status(self) -> status_pb2.Status:
        """The `google.rpc.Status` a caller receives."""
        details = [_packed(error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata))]
        if self.field:
            violation = error_details_pb2.BadRequest.FieldViolation(
                field=self.field, description=error_texts.cut(self.message, error_texts.MAX_VIOLATION_BYTES)
            )
            details.append(_packed(error_details_pb2.BadRequest(field_violations=[violation])))
        if self.retry_after_seconds:
            delay = duration_pb2.Duration()
            delay.FromNanoseconds(int(self.retry_after_seconds * 1e9))
            details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
        return status_pb2.Status(code=_number(self.code), message=self.message, details=details)


def required(field: str) -> StrongroomError:
    """A field that must be set is not."""
    return StrongroomError(Reason.FIELD_REQUIRED, f"{field} is required", field=field)


def invalid(field: str, why: str) -> StrongroomError:
    """A field's value cannot be accepted; `why` completes the sentence "<field> …"."""
    return StrongroomError(Reason.FIELD_INVALID, f"{field} {why}", field=field)


def too_large(field: str, limit: int, unit: str = "bytes") -> StrongroomError:
    """A field exceeds its limit."""
    return StrongroomError(
        Reason.FIELD_TOO_LARGE, f"{field} is larger than {limit} {unit}", field=field, limit=str(limit)
    )


def _packed(
    message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _number(code: grpc.StatusCode) -> int:
    return int(code_pb2.Code.Value(code.name))
