"""The only user of cryptography's private OpenSSL binding.

The extension links no OpenSSL (see csrc/openssl_table.h): `install` hands it the
address of each function it needs, after comparing the C type that the binding
declares with the one the extension was compiled for. The functions named
…_address give those of pyOpenSSL's objects and of what they hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography import __version__ as cryptography_version
from cryptography.hazmat.bindings._rust import _openssl
from OpenSSL import __version__ as pyopenssl_version
from OpenSSL.crypto import FILETYPE_ASN1, X509, dump_certificate

from gateway.errors import UnsupportedOpenSSLError
from gateway.native import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography import x509
    from OpenSSL.SSL import Context

_binding: Any = _openssl

TESTED = "cryptography 50.0.2 or a later 50.x with pyOpenSSL 26.4 or a later 26.x"

# Values of OpenSSL's headers that the extension has compiled in.
_CONSTANTS = {
    "SSL_ERROR_NONE": 0,
    "SSL_ERROR_SSL": 1,
    "SSL_ERROR_WANT_READ": 2,
    "SSL_ERROR_WANT_WRITE": 3,
    "SSL_ERROR_SYSCALL": 5,
    "SSL_ERROR_ZERO_RETURN": 6,
    "SSL_TLSEXT_ERR_OK": 0,
    "SSL_TLSEXT_ERR_ALERT_FATAL": 2,
    "SSL_TLSEXT_ERR_NOACK": 3,
    "TLSEXT_NAMETYPE_host_name": 0,
    "X509_V_ERR_UNSPECIFIED": 1,
    "X509_V_ERR_UNABLE_TO_GET_CRL": 3,
    "X509_V_ERR_CRL_HAS_EXPIRED": 12,
    "X509_V_ERR_CERT_REVOKED": 23,
    "X509_V_ERR_INVALID_PURPOSE": 26,
    "X509_V_ERR_INVALID_EXTENSION": 41,
}


def openssl_version() -> str:
    """The version of the OpenSSL in cryptography's wheel, as it names itself."""
    return bytes(_binding.ffi.string(_binding.lib.OpenSSL_version(0))).decode()


def install() -> None:
    """Fill the extension's function table; once per process, cheap to repeat.

    Raises:
        UnsupportedOpenSSLError: a function is missing or has another type, or a
            constant another value: names it and the versions that work.
    """
    for slot in _slots():
        name = bytes(ffi.string(slot.name)).decode()
        expected = _spelling(bytes(ffi.string(slot.type)).decode())
        try:
            function = _binding.ffi.addressof(_binding.lib, name)
        except AttributeError as exc:
            raise _unsupported(f"it has no function {name}") from exc
        found = _spelling(_binding.ffi.getctype(_binding.ffi.typeof(function)))
        if found != expected:
            raise _unsupported(f"its {name} is {found}, expected {expected}")
        address = int(_binding.ffi.cast("uintptr_t", function))
        if not address:
            raise _unsupported(f"its {name} has no address")
        ffi.cast("uintptr_t *", slot.address)[0] = address
    for name, value in _CONSTANTS.items():
        # The binding leaves out what it does not use itself: absence is no drift.
        if (found_value := getattr(_binding.lib, name, value)) != value:
            raise _unsupported(f"its {name} is {found_value}, expected {value}")


def context_address(context: Context) -> int:
    """The address of a pyOpenSSL Context's SSL_CTX, which lives as long as `context`."""
    return int(_binding.ffi.cast("uintptr_t", context._context))  # noqa: SLF001 - this module is the place for it


def certificate_address(certificate: X509) -> int:
    """The address of a pyOpenSSL certificate's X509, which lives as long as `certificate`."""
    return int(_binding.ffi.cast("uintptr_t", certificate._x509))  # noqa: SLF001 - likewise


def added_certificate_address(context: Context) -> int:
    """The address of the X509 that was added last to those that `context` presents; it lives as long.

    Raises:
        UnsupportedOpenSSLError: OpenSSL does not say.
    """
    connection = _binding.lib.SSL_new(context._context)  # noqa: SLF001 - likewise
    address = int(_binding.ffi.cast("uintptr_t", _binding.lib.SSL_get_certificate(connection)))
    _binding.lib.SSL_free(connection)
    if not address:
        raise _unsupported("its SSL_get_certificate knows no certificate")
    return address


def set_groups(context: Context, groups: str) -> bool:
    """Set the key exchange groups (RFC 8446, section 4.2.7), colon-separated; False if OpenSSL refuses."""
    pointer = context._context  # noqa: SLF001 - likewise
    return bool(_binding.lib.SSL_CTX_set1_curves_list(pointer, groups.encode()))


class Established(NamedTuple):
    """What an SSL object says of its connection once the handshake is over."""

    cipher: str
    """Empty as long as the handshake has not come to one."""
    server_name: bytes
    """As the client sent it (RFC 6066, section 3); empty where it did not."""
    alpn: bytes
    """The protocol that was agreed on (RFC 7301), or nothing."""
    own_certificate: int
    """The address of the X509 that it showed, which lives as long as its context."""


def established(ssl: int) -> Established:
    """Ask the SSL object at this address."""
    pointer = _binding.ffi.cast("SSL *", ssl)
    name = _binding.lib.SSL_get_servername(pointer, _binding.lib.TLSEXT_NAMETYPE_host_name)
    protocol, length = _binding.ffi.new("unsigned char **"), _binding.ffi.new("unsigned int *")
    _binding.lib.SSL_get0_alpn_selected(pointer, protocol, length)
    cipher = _binding.lib.SSL_get_current_cipher(pointer)
    return Established(
        cipher=""
        if cipher == _binding.ffi.NULL
        else bytes(_binding.ffi.string(_binding.lib.SSL_CIPHER_get_name(cipher))).decode(),
        server_name=b"" if name == _binding.ffi.NULL else bytes(_binding.ffi.string(name)),
        alpn=bytes(_binding.ffi.buffer(protocol[0], length[0])) if length[0] else b"",
        own_certificate=int(_binding.ffi.cast("uintptr_t", _binding.lib.SSL_get_certificate(pointer))),
    )


class Client(NamedTuple):
    """What an SSL object knows of its client, once the handshake has ended either way."""

    version: str
    resumed: bool
    chain: tuple[bytes, ...]
    """Its certificates (DER), verified or refused, from its own upward; a resumed session has that alone."""


def client(ssl: int) -> Client:
    """Ask the SSL object at this address."""
    library, pointer = _binding.lib, _binding.ffi.cast("SSL *", ssl)
    chain = library.SSL_get0_verified_chain(pointer)
    if chain != _binding.ffi.NULL:
        found = [_shared(library.sk_X509_value(chain, at)) for at in range(library.sk_X509_num(chain))]
    else:
        leaf = library.SSL_get_peer_certificate(pointer)
        found = [] if leaf == _binding.ffi.NULL else [_owned(leaf)]
    return Client(
        version=bytes(_binding.ffi.string(library.SSL_get_version(pointer))).decode(),
        resumed=bool(library.SSL_session_reused(pointer)),
        chain=tuple(dump_certificate(FILETYPE_ASN1, certificate) for certificate in found),
    )


def certificate_error(code: int) -> str:
    """What an X509_V_ERR_… means, in OpenSSL's words."""
    return bytes(_binding.ffi.string(_binding.lib.X509_verify_cert_error_string(code))).decode()


def _owned(pointer: Any) -> X509:
    """An X509 that pyOpenSSL frees."""
    # Its own way to a certificate.
    return X509._from_raw_x509_ptr(pointer)  # noqa: SLF001 - this module is the place for it


def _shared(pointer: Any) -> X509:
    """An X509 that somebody else holds as well; a copy would be decoded anew."""
    _binding.lib.X509_up_ref(pointer)
    return _owned(pointer)


def released_certificate(address: int) -> bytes:
    """The X509 at this address (DER); the reference to it is given up."""
    return dump_certificate(FILETYPE_ASN1, _owned(_binding.ffi.cast("X509 *", address)))


def certificate_at(address: int) -> x509.Certificate:
    """The X509 at this address."""
    return _shared(_binding.ffi.cast("X509 *", address)).to_cryptography()


def _slots() -> Iterator[Any]:
    """The gw_openssl_slot of each function in the extension's table."""
    slots = lib.gw_openssl_slots
    index = 0
    while slots[index].name != ffi.NULL:
        yield slots[index]
        index += 1


def _spelling(c_type: str) -> str:
    return "".join(c_type.split()).replace("(void)", "()")


def _unsupported(what: str) -> UnsupportedOpenSSLError:
    return UnsupportedOpenSSLError(
        f"cryptography {cryptography_version} (with pyOpenSSL {pyopenssl_version}) cannot be used: {what}; "
        f"install {TESTED}"
    )
