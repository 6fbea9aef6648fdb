"""Certificates, good ones and bad ones. The only module that imports trustme and cryptography."""

from __future__ import annotations

import datetime
import functools
import ipaddress

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ("Issued", "Issuer")

_ORGANIZATION = "servertest"
_WRONG_HOST = "wrong-host.invalid"  # RFC 6761 promises that .invalid never resolves

# Fixed dates, a day long: neither a clock that is wrong nor a test run over midnight makes them valid.
_PAST = (datetime.datetime(2001, 1, 1), datetime.datetime(2001, 1, 2))
_FUTURE = (datetime.datetime(2999, 1, 1), datetime.datetime(2999, 1, 2))

Issued = tuple[bytes, bytes]
"""PEM of what is presented (certificate, then intermediates), and PEM of the private key."""


class Issuer:
    """A certificate authority, an intermediate below it, and a stranger whom nobody trusts."""

    def __init__(self, key_type: str) -> None:
        self._key_type = trustme.KeyType[key_type.upper()]
        self._root = self._new_root()

    @property
    def root(self) -> bytes:
        """PEM of the certificate to be trusted."""
        return self._root.cert_pem.bytes()

    @property
    def intermediate(self) -> bytes:
        """PEM of the certificate that an incomplete chain lacks."""
        return self._middle.cert_pem.bytes()

    def issue(self, flaw: str, names: tuple[str, ...], common_name: str | None = None) -> Issued:
        """Issue a certificate for some names, with a flaw (see `Profile.certificate` for which there are)."""
        match flaw:
            case "expired":
                return _presented(self._leaf(self._root, names, common_name, _PAST))
            case "not-yet-valid":
                return _presented(self._leaf(self._root, names, common_name, _FUTURE))
            case "wrong-host":
                return _presented(self._leaf(self._root, (_WRONG_HOST,), common_name))
            case "untrusted":
                return _presented(self._leaf(self._stranger, names, common_name))
            case "incomplete-chain":
                leaf = self._leaf(self._middle, names, common_name)
                return leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes()
            case "self-signed":
                return _self_signed(names, self._key_type)
            case _:
                return _presented(self._leaf(self._root, names, common_name))

    @functools.cached_property
    def _middle(self) -> trustme.CA:
        return self._root.create_child_ca(key_type=self._key_type)

    @functools.cached_property
    def _stranger(self) -> trustme.CA:
        return self._new_root()

    def _new_root(self) -> trustme.CA:
        # The unit is left to trustme, which draws it: some TLS libraries mix up authorities of one name.
        return trustme.CA(organization_name=_ORGANIZATION, key_type=self._key_type)

    def _leaf(
        self,
        issuer: trustme.CA,
        names: tuple[str, ...],
        common_name: str | None,
        valid: tuple[datetime.datetime | None, datetime.datetime | None] = (None, None),
    ) -> trustme.LeafCert:
        return issuer.issue_cert(
            *names,
            common_name=common_name,
            organization_name=_ORGANIZATION,
            not_before=valid[0],
            not_after=valid[1],
            key_type=self._key_type,
        )


def _presented(leaf: trustme.LeafCert) -> Issued:
    return b"".join(pem.bytes() for pem in leaf.cert_chain_pems), leaf.private_key_pem.bytes()


def _self_signed(names: tuple[str, ...], key_type: trustme.KeyType) -> Issued:
    """Make what ``openssl req -x509`` makes: a certificate for a host which vouches for itself.

    trustme cannot: what it signs with its own key is an authority, and an authority of its carries no host names, so
    that a client which does trust it would still refuse it, for another reason than the one to be tested.
    """
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if key_type is trustme.KeyType.RSA:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
    itself = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, f"{_ORGANIZATION}, self-signed")])
    certificate = (
        x509.CertificateBuilder(itself, itself, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.datetime(2000, 1, 1))
        .not_valid_after(datetime.datetime(3000, 1, 1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(encoding), private


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
