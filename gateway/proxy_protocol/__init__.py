"""The PROXY protocol: headers that go to a broker, and those that come from a load balancer. No I/O.

Section numbers are those of HAProxy's proxy-protocol.txt.
"""

from gateway.proxy_protocol.decode import LONGEST, Header, parse_untrusted, wanted
from gateway.proxy_protocol.encode import (
    Endpoint,
    Tls,
    encode_v1,
    encode_v1_local,
    encode_v2,
    encode_v2_local,
)

__all__ = [
    "LONGEST",
    "Endpoint",
    "Header",
    "Tls",
    "encode_v1",
    "encode_v1_local",
    "encode_v2",
    "encode_v2_local",
    "parse_untrusted",
    "wanted",
]
