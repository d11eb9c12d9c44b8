"""What a certificate says of OCSP in its extensions: who answers, and what it demands. No I/O."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

_UNREADABLE = (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
_STATUS_REQUESTS = {x509.TLSFeatureType.status_request, x509.TLSFeatureType.status_request_v2}


def responder_url(cert: x509.Certificate) -> str | None:
    """The first http or https URL of an OCSP responder in `cert` (RFC 5280, section 4.2.2.1)."""
    try:
        access = cert.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except _UNREADABLE:
        return None
    urls = (
        description.access_location.value
        for description in access
        if description.access_method == AuthorityInformationAccessOID.OCSP
        and isinstance(description.access_location, x509.UniformResourceIdentifier)
    )
    return next((url for url in urls if url.lower().startswith(("http://", "https://"))), None)


def must_staple(cert: x509.Certificate) -> bool:
    """Whether clients refuse `cert` without a stapled response (RFC 7633, section 4.3.3)."""
    try:
        features = cert.extensions.get_extension_for_class(x509.TLSFeature).value
    except _UNREADABLE:
        return False
    return not _STATUS_REQUESTS.isdisjoint(features)


def has_nocheck(cert: x509.Certificate) -> bool:
    """Whether a responder's certificate is to be trusted while it lasts (RFC 6960, section 4.2.2.2.1)."""
    try:
        cert.extensions.get_extension_for_class(x509.OCSPNoCheck)
    except _UNREADABLE:
        return False
    return True
