"""Whom a profile's client calls as, and where its tokens are kept."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom import logins
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
from strongroom.profiles import Profile

CERTIFICATE, KEY = Path("/c"), Path("/k")


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return Profile("dev", {"keystore": "a:1"}, account="main", directory=tmp_path)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"certificate": CERTIFICATE, "key": KEY}, ClientCertificate(CERTIFICATE, KEY)),
        ({"certificate": CERTIFICATE, "key": KEY, "session": True}, CertificateSession(CERTIFICATE, KEY)),
        ({"client_key": "ck", "client_key_secret_file": Path("/s")}, ClientKeySession("ck", Path("/s"))),
        ({"oidc_token_file": Path("/t"), "session_name": "n"}, OidcTokenSession(Path("/t"), "main", "n")),
    ],
)
def test_a_profile_names_its_credentials(profile: Profile, fields: dict[str, object], expected: object) -> None:
    assert logins.credentials_of(replace(profile, **fields), {}) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields",
    [
        {"certificate": CERTIFICATE},
        {"client_key": "ck"},
        {"client_key": "ck", "client_key_secret_file": Path("/s"), "oidc_token_file": Path("/t")},
        {"role": "operator"},
    ],
)
def test_half_a_credential_is_named(profile: Profile, fields: dict[str, object]) -> None:
    with pytest.raises(StrongroomError) as refusal:
        logins.credentials_of(replace(profile, **fields), {})  # type: ignore[arg-type]
    assert refusal.value.reason == "PROFILE_INVALID"


def test_a_role_is_assumed_by_whoever_the_profile_is(profile: Profile) -> None:
    whole = replace(profile, certificate=CERTIFICATE, key=KEY, role="operator", external_id="x")
    source = ClientCertificate(CERTIFICATE, KEY)
    name = "accounts/main/roles/operator"
    assert logins.credentials_of(whole, {}) == AssumedRole(source, name, "strongroom", "x")
    other = "accounts/shop/roles/buyer"
    given = logins.credentials_of(whole, {"STRONGROOM_TOKEN": "t"}, other)
    assert given == AssumedRole(SessionToken("t"), other, "strongroom", "x")


def test_a_login_comes_before_the_profile_and_a_given_token_before_both(profile: Profile) -> None:
    whole = replace(profile, certificate=CERTIFICATE, key=KEY)
    logins.login(whole, replace(whole, client_key="ck", client_key_secret_file=Path("/s")))
    assert logins.credentials_of(whole, {}) == ClientKeySession("ck", Path("/s"))
    assert logins.credentials_of(whole, {"STRONGROOM_TOKEN": "t"}) == SessionToken("t")
    assert logins.logout(whole)
    assert logins.credentials_of(whole, {}) == ClientCertificate(CERTIFICATE, KEY)
    assert not logins.logout(whole)


@pytest.fixture
def certificate(tmp_path: Path) -> ClientCertificate:
    files = (tmp_path / "certificate.pem", tmp_path / "key.pem")
    for path in files:
        path.write_text(path.name)
    return ClientCertificate(*files)


def test_a_tokens_file_is_its_owners_alone(profile: Profile, certificate: ClientCertificate, tmp_path: Path) -> None:
    kept = logins.token_file(profile, certificate)
    assert kept is not None
    assert kept.read() is None
    kept.write(Token("t", 1.0, 2.0))
    assert kept.read() == Token("t", 1.0, 2.0)
    (file,) = (tmp_path / "sessions").glob("*/*")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent, file.parent.parent)]
    assert modes == [0o600, 0o700, 0o700]
    file.write_text("{")
    assert kept.read() is None


def test_other_credentials_are_another_session(profile: Profile, certificate: ClientCertificate) -> None:
    def is_kept(profile: Profile, credentials: Credentials) -> bool:
        file = logins.token_file(profile, credentials)
        return file is not None and file.read() is not None

    role = AssumedRole(certificate, "accounts/main/roles/a", "s")
    for credentials in (certificate, role):
        file = logins.token_file(profile, credentials)
        assert file is not None
        file.write(Token("t", 1.0, 2.0))
        assert is_kept(profile, credentials)
    assert not is_kept(profile, replace(role, external_id="x"))
    assert not is_kept(replace(profile, endpoints={"keystore": "b:1"}), certificate)
    assert not is_kept(profile, CertificateSession(certificate.certificate, certificate.key))

    # Somebody else's in the same place.
    certificate.certificate.write_text("another")
    assert not is_kept(profile, certificate)
    assert not is_kept(profile, role)


def test_nothing_is_kept_of_tokens_that_were_given(profile: Profile) -> None:
    # Two of them look the same from outside.
    assert logins.token_file(profile, AssumedRole(SessionToken("x"), "accounts/main/roles/a", "s")) is None
    assert logins.token_file(profile, ClientCertificate(CERTIFICATE, KEY)) is None


def test_expired_tokens_are_forgotten(profile: Profile, certificate: ClientCertificate, tmp_path: Path) -> None:
    logins.login_with_token(profile, "given", 4e9)
    old = logins.token_file(profile, certificate)
    new = logins.token_file(profile, AssumedRole(certificate, "accounts/main/roles/a", "s"))
    assert old is not None
    assert new is not None
    old.write(Token("old", 1.0, 2.0))
    new.write(Token("new", 3.0, 4.0))
    assert (old.read(), new.read()) == (None, Token("new", 3.0, 4.0))
    assert (tmp_path / "sessions" / "dev" / "login.json").exists()


def test_a_logout_leaves_profiles_of_similar_names_alone(profile: Profile) -> None:
    similar, odd = replace(profile, name="dev-2"), replace(profile, name="../dev")
    for one in (profile, similar, odd):
        logins.login_with_token(one, f"token of {one.name}", 4e9)
    logins.logout(profile)
    assert logins.credentials_of(profile, {}) is None
    for one in (similar, odd):
        assert logins.credentials_of(one, {}) == SessionToken(f"token of {one.name}")
