"""The development authority: what its certificates say, and when it makes new ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from deploy.dev.certificates import AUTHORITY_LIFETIME, LIFETIME, CertificateFiles, DevelopmentAuthority


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authority(tmp_path: Path, clock: Clock) -> DevelopmentAuthority:
    return DevelopmentAuthority(tmp_path, now=clock)


def load(files: CertificateFiles) -> x509.Certificate:
    return x509.load_pem_x509_certificate(files.certificate.read_bytes())


def names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def usages(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_service_certificate_names_the_service_and_this_machine(authority: DevelopmentAuthority) -> None:
    certificate = load(authority.issue("service/crypto"))
    found = names(certificate)
    assert found.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://strongroom.local/service/crypto"]
    assert found.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in found.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"


def test_services_are_reached_at_further_names_and_a_certificate_without_them_is_issued_anew(
    authority: DevelopmentAuthority, tmp_path: Path, clock: Clock
) -> None:
    before = load(authority.issue("service/crypto"))
    wider = DevelopmentAuthority(tmp_path, now=clock, hosts=["192.0.2.7", "kms.example", "127.0.0.1"])
    found = names(load(wider.issue("service/crypto")))
    assert found.get_values_for_type(x509.DNSName) == ["localhost", "kms.example"]
    assert [str(address) for address in found.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "192.0.2.7"]
    # One that bears more than is needed stays.
    assert load(authority.issue("service/crypto")) == load(wider.issue("service/crypto")) != before


def test_certificate_of_a_user_cannot_serve(authority: DevelopmentAuthority) -> None:
    certificate = load(authority.issue("user/admin"))
    assert len(names(certificate)) == 1
    assert usages(certificate) == {ExtendedKeyUsageOID.CLIENT_AUTH}


def test_private_keys_are_for_this_user_alone(authority: DevelopmentAuthority, tmp_path: Path) -> None:
    files = authority.issue("user/admin")
    assert files.key.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "authority.key").stat().st_mode & 0o777 == 0o600
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_certificate_is_kept_while_it_lasts(authority: DevelopmentAuthority, tmp_path: Path, clock: Clock) -> None:
    first = load(authority.issue("user/admin"))
    clock.now += timedelta(days=1)
    assert load(authority.issue("user/admin")) == first
    assert load(DevelopmentAuthority(tmp_path, now=clock).issue("user/admin")) == first


def test_certificate_is_renewed_before_it_ends(authority: DevelopmentAuthority, clock: Clock) -> None:
    first = load(authority.issue("user/admin"))
    clock.now += LIFETIME - timedelta(days=29)
    assert clock.now < first.not_valid_after_utc
    second = load(authority.issue("user/admin"))
    assert second.not_valid_after_utc > first.not_valid_after_utc
    assert second.public_key() != first.public_key()


def test_authority_is_renewed_before_it_ends_and_its_certificates_with_it(tmp_path: Path, clock: Clock) -> None:
    old = load(DevelopmentAuthority(tmp_path, now=clock).issue("user/admin"))
    clock.now += AUTHORITY_LIFETIME - LIFETIME
    authority = DevelopmentAuthority(tmp_path, now=clock)
    files = authority.issue("user/admin")
    assert load(files) != old
    load(files).verify_directly_issued_by(x509.load_pem_x509_certificate(files.trust.read_bytes()))


def test_negative_lifetime_makes_an_expired_certificate(authority: DevelopmentAuthority, clock: Clock) -> None:
    certificate = load(authority.issue("user/late", lifetime=timedelta(minutes=-1)))
    assert certificate.not_valid_before_utc < certificate.not_valid_after_utc < clock.now


def test_half_written_certificate_is_replaced(authority: DevelopmentAuthority) -> None:
    files = authority.issue("user/admin")
    files.certificate.write_text("-----BEGIN CERT")
    assert load(authority.issue("user/admin"))


def test_foreign_authority_of_the_same_name_is_another(authority: DevelopmentAuthority, tmp_path: Path) -> None:
    ours = x509.load_pem_x509_certificate(authority.trust.read_bytes())
    stranger = load(DevelopmentAuthority(tmp_path / "foreign").issue("user/admin"))
    assert stranger.issuer == ours.subject
    with pytest.raises(InvalidSignature):
        stranger.verify_directly_issued_by(ours)
