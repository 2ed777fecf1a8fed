"""The mesh's own certificate authority: EC P-256, SPIFFE ids (SPIFFE X509-SVID §2), renewed before expiry.

For development and tests only: its key lies unencrypted beside the mesh's data.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploy.dev.files import private_directory, write_file
from deploy.dev.topology import HOST, TRUST_DOMAIN

AUTHORITY_LIFETIME = timedelta(days=3650)
LIFETIME = timedelta(days=90)
RENEW_BEFORE = timedelta(days=30)
# Clocks of a virtual machine and its host differ.
_BACKDATED = timedelta(minutes=5)
_SERVICES = "service/"


@dataclass(frozen=True)
class CertificateFiles:
    """PEM files: a certificate, its private key (mode 0600) and the authority to trust."""

    certificate: Path
    key: Path
    trust: Path


def utc_now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


class DevelopmentAuthority:
    """Issues certificates below `directory`; what it finds there is kept while it is valid. Those that serve bear
    `hosts`, names or addresses, besides localhost's."""

    def __init__(
        self,
        directory: Path,
        trust_domain: str = TRUST_DOMAIN,
        now: Callable[[], datetime] = utc_now,
        hosts: Sequence[str] = (),
    ) -> None:
        self.trust_domain = trust_domain
        self._hosts = [x509.DNSName("localhost"), *map(_host_name, dict.fromkeys((HOST, *hosts)))]
        self._directory = private_directory(directory)
        self._now = now
        self.trust = directory / "authority.pem"
        self._key, self._certificate = self._load() or self._create()

    def issue(self, path: str, *, lifetime: timedelta = LIFETIME) -> CertificateFiles:
        """The certificate of `spiffe://<trust domain>/<path>`; a new one where none is, or it ends soon.

        A path below `service/` also gets localhost's names and may serve; any other may only connect. One
        whose `lifetime` is under 30 days is issued anew each time; a negative one makes one that has expired.
        """
        directory = private_directory(self._directory / path.replace("/", "-"))
        files = CertificateFiles(directory / "certificate.pem", directory / "key.pem", self.trust)
        if not self._still_good(files, serves=path.startswith(_SERVICES)):
            key = ec.generate_private_key(ec.SECP256R1())
            certificate = self._sign(path, key.public_key(), lifetime)
            write_file(files.key, _private_pem(key), mode=0o600)
            write_file(files.certificate, certificate.public_bytes(serialization.Encoding.PEM))
        return files

    def _still_good(self, files: CertificateFiles, *, serves: bool) -> bool:
        try:
            certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
            key = serialization.load_pem_private_key(files.key.read_bytes(), None)
            certificate.verify_directly_issued_by(self._certificate)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (OSError, ValueError, TypeError, InvalidSignature):
            return False
        pair = certificate.public_key() == key.public_key()
        named = not serves or all(host in names for host in self._hosts)
        return pair and named and certificate.not_valid_after_utc - self._now() > RENEW_BEFORE

    def _sign(self, path: str, key: ec.EllipticCurvePublicKey, lifetime: timedelta) -> x509.Certificate:
        serves = path.startswith(_SERVICES)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(f"spiffe://{self.trust_domain}/{path}")]
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if serves:
            names += self._hosts
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        expires = self._now() + lifetime
        begins = min(self._now(), expires) - _BACKDATED
        return (
            x509.CertificateBuilder()
            .subject_name(_name(path))
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(expires)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(_issued_by(self._certificate), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _load(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None:
        try:
            key = serialization.load_pem_private_key((self._directory / "authority.key").read_bytes(), None)
            certificate = x509.load_pem_x509_certificate(self.trust.read_bytes())
        except (OSError, ValueError, TypeError):
            return None
        ends_soon = certificate.not_valid_after_utc - self._now() < LIFETIME + RENEW_BEFORE
        if ends_soon or not isinstance(key, ec.EllipticCurvePrivateKey):
            return None
        return (key, certificate) if certificate.public_key() == key.public_key() else None

    def _create(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("development authority")
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now() - _BACKDATED)
            .not_valid_after(self._now() + AUTHORITY_LIFETIME)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{self.trust_domain}")]),
                critical=False,
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        write_file(self._directory / "authority.key", _private_pem(key), mode=0o600)
        write_file(self.trust, certificate.public_bytes(serialization.Encoding.PEM))
        return key, certificate


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Strongroom development"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64]),
        ]
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _issued_by(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
