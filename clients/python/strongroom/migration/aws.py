"""Secrets of AWS Secrets Manager, read with its own client, boto3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from strongroom.errors import StrongroomError
from strongroom.migration.copying import Found

_SECONDS = 30
_REFUSED = (
    "AccessDeniedException",
    "UnrecognizedClientException",
    "InvalidSignatureException",
    "ExpiredTokenException",
)


class AwsPlace:
    """The secrets of one region, as far as the environment's AWS credentials may read them. Of each, the version at
    `AWSCURRENT`, its description and its tags."""

    def __init__(self, *, region: str = "", prefix: str = "", endpoint: str = "") -> None:
        """Takes secrets whose names begin with `prefix`; `endpoint` is a URL in place of AWS's own. Raises UNSUPPORTED
        without boto3, FIELD_REQUIRED without a region."""
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import NoRegionError
        except ImportError:
            raise StrongroomError("UNSUPPORTED", "boto3 is not installed: pip install 'strongroom[migrate]'") from None
        limits = Config(connect_timeout=_SECONDS, read_timeout=_SECONDS, retries={"max_attempts": 4})
        try:
            # A session of its own: boto3 keeps the credentials that the first one found.
            self._client: Any = boto3.session.Session().client(
                "secretsmanager", region_name=region or None, endpoint_url=endpoint or None, config=limits
            )
        except NoRegionError:
            raise StrongroomError("FIELD_REQUIRED", "give a region, or set AWS_REGION", field="region") from None
        self.title = f"aws-sm:{self._client.meta.region_name}"
        self._prefix = prefix
        self._listed: dict[str, dict[str, Any]] = {}

    def names(self) -> Iterator[str]:
        """Every secret that is not about to be deleted."""
        with _told("the list of secrets"):
            for page in self._client.get_paginator("list_secrets").paginate():
                for secret in page["SecretList"]:
                    name = str(secret["Name"])
                    if name.startswith(self._prefix) and "DeletedDate" not in secret:
                        self._listed[name] = secret
                        yield name

    def read(self, name: str) -> Found:
        """One secret. Raises SECRET_NOT_FOUND where it has no value."""
        with _told(name):
            answer = self._client.get_secret_value(SecretId=name)
        text = answer.get("SecretString")
        value = text.encode() if text is not None else bytes(answer["SecretBinary"])
        listed = self._listed.get(name, {})
        tags = {tag["Key"]: tag["Value"] for tag in listed.get("Tags", []) if not tag["Key"].startswith("aws:")}
        return Found(name, value, str(listed.get("Description", "")), tags)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """What AWS and the way to it say, as an error of ours."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except NoCredentialsError:
        raise StrongroomError(
            "UNAUTHENTICATED", "there are no AWS credentials: `aws configure`, or AWS_PROFILE", code="UNAUTHENTICATED"
        ) from None
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code == "ResourceNotFoundException":
            raise StrongroomError("SECRET_NOT_FOUND", f"AWS has no value of {what}", code="NOT_FOUND") from None
        if code in _REFUSED:
            raise StrongroomError(
                "PERMISSION_DENIED", f"AWS does not let you read {what} ({code})", code="PERMISSION_DENIED"
            ) from None
        raise StrongroomError("UNREACHABLE", f"AWS failed at {what} ({code})", code="UNAVAILABLE") from None
    except BotoCoreError as error:
        raise StrongroomError(
            "UNREACHABLE", f"AWS cannot be reached: {type(error).__name__}", code="UNAVAILABLE"
        ) from None
