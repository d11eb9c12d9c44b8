"""A CRL, a revocation table or an OCSP response, told to people: bytes in, lines out."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509 import ocsp

from gateway.errors import GatewayError
from gateway.names import printable, reason_text, serial_hex
from gateway.native import Table, TableMeta, compile_table
from gateway.revocation import crl
from gateway.revocation.policy import moment

if TYPE_CHECKING:
    from collections.abc import Iterator


def describe(data: bytes, *, limit: int | None) -> Iterator[str]:
    """Lines about whichever of the three `data` is, with at most `limit` revoked serials.

    Raises:
        GatewayError: it is none of them.
    """
    if data.startswith(b"TLSGW"):
        return _table(data, limit)
    try:
        response = ocsp.load_der_ocsp_response(data)
    except ValueError:
        pass
    else:
        return _response(response)
    try:
        header = crl.parse_untrusted(data)
    except GatewayError as exc:
        raise GatewayError(f"neither a CRL, nor a revocation table, nor an OCSP response: {exc}") from exc
    return _crl(header, limit)
