"""The tree of errors: everything that the gateway raises on purpose.

Each message is one line that says what is wrong, where, what was expected and,
where it is not obvious, what happens now.
"""

from __future__ import annotations

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for foreign bytes: besides its own, for text that is no UTF-8, and arrays in arrays."""


class GatewayError(Exception):
    """Anything the gateway raises on purpose; its text is fit for an operator."""


class ConfigError(GatewayError):
    """The configuration cannot be used: file, key path and what was expected."""


class UnsupportedOpenSSLError(GatewayError):
    """cryptography's OpenSSL binding is not one that the extension was tested with."""


class CrlError(GatewayError):
    """A fetched CRL is refused; the one in force stays (RFC 5280, section 6.3)."""


class TableError(GatewayError):
    """A revocation table cannot be written, opened or trusted."""


class StapleError(GatewayError):
    """An OCSP response is refused and not stapled (RFC 6960, section 3.2).

    `revoked`: a responder that may say so says that our own certificate is revoked.
    """

    def __init__(self, text: str, *, revoked: bool = False) -> None:
        super().__init__(text)
        self.revoked = revoked


class FetchError(GatewayError):
    """A URL could not be fetched within its bounds of time, size and redirects.

    `retry_after`: for how many seconds the server wants to be left alone, as far as it says so.
    """

    def __init__(self, text: str, *, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class TooLargeError(FetchError):
    """What a URL has is longer than was asked for."""


class RefusedError(FetchError):
    """The server wants no such request (RFC 9110: any status 4xx, and 501); another one it may answer."""


class StoreError(GatewayError):
    """The state directory cannot be written; what was there stays."""


class ProxyHeaderError(GatewayError):
    """What came before the handshake is no PROXY protocol header that is believed."""


class UpstreamError(GatewayError):
    """No broker could be reached."""
