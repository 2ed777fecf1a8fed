"""Whom a profile's client calls as: a token given for the moment, a login, or what the profile says; and the tokens
that one process leaves to the next.

In the profile file's directory, below `sessions/PROFILE/`, which only its owner may read: `login.json` is what
`strongroom login` chose; every other file is a session's token, and may be deleted at any time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from strongroom.atomic import write_own
from strongroom.credentials import (
    AssumedRole,
    CertificateSession,
    ClientCertificate,
    ClientKeySession,
    Credentials,
    OidcTokenSession,
    SessionToken,
    Token,
)
from strongroom.errors import StrongroomError
from strongroom.names import DEFAULT_ROLE_SESSION, Names
from strongroom.profiles import Profile

_DIRECTORY = "sessions"
_LOGIN = "login.json"
_LOGIN_FIELDS = ("client_key", "client_key_secret_file", "oidc_token_file", "session_name", "session")


class TokenFile:
    """One session's token in a file of mode 0600. What cannot be read or written is as if it were not there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Token | None:
        """The token that was kept, or None."""
        try:
            kept = json.loads(self._path.read_text())
            return Token(str(kept["token"]), float(kept["begun"]), float(kept["expires"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, token: Token) -> None:
        """Keeps a token in place of the one before, and forgets others that have expired."""
        with suppress(OSError):
            _write(self._path, {"token": token.text, "begun": token.begun, "expires": token.expires})
            for path in self._path.parent.glob("*.json"):
                other = TokenFile(path).read()
                if other is not None and other.expires < token.begun:
                    path.unlink(missing_ok=True)


def credentials_of(profile: Profile, environment: Mapping[str, str], role: str = "") -> Credentials | None:
    """Whom a client of the profile calls as: `$STRONGROOM_TOKEN`, or the profile's login, or its own credentials; and
    from there as a role, if the profile or the caller names one. Raises PROFILE_INVALID, LOGIN_EXPIRED.
    """
    # Whoever read it from a file may have its last newline.
    token = environment.get("STRONGROOM_TOKEN", "").strip()
    source = SessionToken(token) if token else _login(profile) or own_credentials(profile)
    assumed = role or profile.role
    if not assumed:
        return source
    if source is None:
        raise _invalid(profile, "needs credentials of its own to assume a role with")
    session_name = profile.session_name or DEFAULT_ROLE_SESSION
    return AssumedRole(source, Names(profile.account).role(assumed), session_name, profile.external_id)


def token_store(profile: Profile, credentials: Credentials | None) -> TokenFile | None:
    """Where a client of the profile keeps its tokens; None for one that calls by certificate, and is given none."""
    if credentials is None or isinstance(credentials, ClientCertificate):
        return None
    return token_file(profile, credentials)


def token_file(profile: Profile, credentials: Credentials) -> TokenFile | None:
    """Where tokens of these credentials are kept between processes; None where that cannot be said.

    It depends on what the credentials' files hold now: another's under the same paths are another's session.
    """
    source = credentials
    while isinstance(source, AssumedRole):
        source = source.source
    if profile.directory is None or isinstance(source, SessionToken):
        return None
    # OpenSSL takes its time to load.
    from hashlib import sha256

    # Secrets are in no repr.
    digest = sha256(repr((credentials, sorted(profile.endpoints.items()))).encode())
    try:
        for field in fields(source):
            value = getattr(source, field.name)
            if isinstance(value, Path):
                digest.update(sha256(value.read_bytes()).digest())
    except OSError:
        return None
    return TokenFile(_sessions(profile) / f"{digest.hexdigest()[:16]}.json")


def login(profile: Profile, chosen: Profile) -> None:
    """Makes the credentials of `chosen` those of the profile until `logout`."""
    said = {name: getattr(chosen, name) for name in _LOGIN_FIELDS}
    document = {name: str(value.absolute()) if isinstance(value, Path) else value for name, value in said.items()}
    logout(profile)
    _write(_sessions(profile) / _LOGIN, document)


def login_with_token(profile: Profile, token: str, expires: float) -> None:
    """Makes a session's token the profile's credentials until it expires; then the profile needs another login."""
    logout(profile)
    _write(_sessions(profile) / _LOGIN, {"token": token, "expires": expires})


def logout(profile: Profile) -> bool:
    """Ends the profile's login and forgets its tokens; answers whether there was a login."""
    there = (_sessions(profile) / _LOGIN).exists()
    for kept in _sessions(profile).glob("*.json"):
        kept.unlink(missing_ok=True)
    return there


def kept_tokens(profile: Profile) -> list[str]:
    """The tokens of the sessions that a profile's commands began and that may last still."""
    kept = {token.text for path in _sessions(profile).glob("*.json") if (token := TokenFile(path).read()) is not None}
    with suppress(StrongroomError):
        document = _login_document(profile) or {}
        kept |= {document["token"]} if "token" in document else set()
    return sorted(kept)


def described(profile: Profile) -> str:
    """Whom the profile's login is for, without its secrets; empty without one. Raises PROFILE_INVALID."""
    document = _login_document(profile)
    if document is None:
        return ""
    if "token" in document:
        until = datetime.fromtimestamp(document["expires"], UTC)
        return f"a session until {until:%Y-%m-%d %H:%M:%SZ}"
    if document["client_key"]:
        return f"{document['client_key']}, secret in {document['client_key_secret_file']}"
    return f"OIDC token in {document['oidc_token_file']}" if document["oidc_token_file"] else "the client certificate"


def own_credentials(profile: Profile) -> Credentials | None:
    """The credentials that the profile itself names. Raises PROFILE_INVALID."""
    if profile.client_key and profile.oidc_token_file is not None:
        raise _invalid(profile, "has both client_key and oidc_token_file")
    if profile.client_key:
        if profile.client_key_secret_file is None:
            raise _invalid(profile, "needs client_key_secret_file beside client_key")
        return ClientKeySession(profile.client_key, profile.client_key_secret_file, profile.session_name)
    if profile.oidc_token_file is not None:
        return OidcTokenSession(profile.oidc_token_file, profile.account, profile.session_name)
    certificate = certificate_of(profile)
    if certificate is not None and profile.session:
        return CertificateSession(certificate.certificate, certificate.key, profile.session_name)
    return certificate


def certificate_of(profile: Profile) -> ClientCertificate | None:
    """The certificate that the profile's listeners may want of a connection, whoever calls. Raises PROFILE_INVALID."""
    if profile.certificate is None and profile.key is None:
        return None
    if profile.certificate is None or profile.key is None:
        raise _invalid(profile, "needs both certificate and key")
    return ClientCertificate(profile.certificate, profile.key)


def _login_document(profile: Profile) -> dict[str, Any] | None:
    if profile.directory is None:
        return None
    path = _sessions(profile) / _LOGIN
    try:
        document: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _invalid(profile, f"has a login that cannot be read ({path})") from error
    return document


def _login(profile: Profile) -> Credentials | None:
    document = _login_document(profile)
    if document is None:
        return None
    if "token" in document:
        if time.time() >= document["expires"]:
            raise StrongroomError(
                "LOGIN_EXPIRED",
                f"the login of profile {profile.name} has expired: `strongroom login` again, or `strongroom logout`",
                code="UNAUTHENTICATED",
            )
        return SessionToken(document["token"])
    secret_file, token_file = document["client_key_secret_file"], document["oidc_token_file"]
    return own_credentials(
        replace(
            profile,
            client_key=document["client_key"],
            client_key_secret_file=Path(secret_file) if secret_file else None,
            oidc_token_file=Path(token_file) if token_file else None,
            session_name=document["session_name"],
            session=document["session"],
        )
    )


def _sessions(profile: Profile) -> Path:
    if profile.directory is None:
        raise _invalid(profile, "is in no file")
    return profile.directory / _DIRECTORY / quote(profile.name, safe="")


def _write(path: Path, document: Mapping[str, object]) -> None:
    for directory in (path.parent.parent, path.parent):
        directory.mkdir(mode=0o700, exist_ok=True)
    write_own(path, json.dumps(document).encode())


def _invalid(profile: Profile, why: str) -> StrongroomError:
    return StrongroomError("PROFILE_INVALID", f"profile {profile.name} {why}", field="profile")
