"""The configuration as immutable values: what the rest of the gateway reads.

Every field has the name of its TOML key. Durations are seconds, sizes are bytes;
`Duration` and `Size` say so in the types and are decoded from "15s" and "256MiB"
by `load`. Relative paths have been resolved against the configuration file's
directory by the time a `Config` exists.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec


class Duration(float):
    """Seconds, in whole milliseconds. Written "15s", "500ms", "5m", "2h", "1d", or their sum as "1m30s"."""


class Size(int):
    """Bytes. Written "4096", "64KiB", "256MiB", "1GiB"."""


# The descriptions are what an operator reads behind "expected" when a value does not fit.
Name = Annotated[
    str,
    msgspec.Meta(pattern=r"\A[A-Za-z0-9_.-]{1,64}\Z", description="1 to 64 letters, digits, '_', '.' or '-'"),
]
Account = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\Z", description="the name of a user or a group"
    ),
]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1, description="a whole number of at least 1")]
Workers = Annotated[int, msgspec.Meta(ge=1, le=1024, description="a whole number from 1 to 1024")]
Depth = Annotated[int, msgspec.Meta(ge=0, le=100, description="a whole number from 0 to 100")]
Rate = Annotated[float, msgspec.Meta(gt=0, description="a number above 0")]
Share = Annotated[float, msgspec.Meta(ge=0, le=1, description="a number from 0 to 1")]
Protocol = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\A[!-~]{1,255}\Z", description='a protocol such as "mqtt", 1 to 255 visible characters'
    ),
]
AtLeastOne = msgspec.Meta(min_length=1)
Names = Annotated[tuple[str, ...], AtLeastOne]
TlsVersion = Literal["1.2", "1.3"]


class _Frozen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Address:
    """Where to listen or connect: a host and port, or the path of a Unix socket.

    Written "0.0.0.0:8883", "[::1]:8883", ":8883" (every address; only to listen)
    or "unix:/path" (to connect, or for the admin interface).
    """

    # No Struct: msgspec would decode one from a table, and this is decoded from text.
    __slots__ = ("host", "path", "port")

    def __init__(self, host: str = "", port: int = 0, path: str = "") -> None:
        self.host: Final = host
        self.port: Final = port
        self.path: Final = path

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Address):
            return NotImplemented
        return (self.host, self.port, self.path) == (other.host, other.port, other.path)

    def __hash__(self) -> int:
        return hash((self.host, self.port, self.path))


class Certificate(_Frozen, frozen=True):
    """A server certificate (PEM, with its chain behind it) and its private key (PEM)."""

    cert: Path
    key: Path


class Revocation(_Frozen, frozen=True):
    """Which client certificates are looked up, where their lists come from, and what if there is none."""

    check: Literal["chain", "leaf", "off"] = "chain"
    crl_urls: tuple[str, ...] = ()
    follow_distribution_points: bool = True
    on_unavailable: Literal["reject", "accept", "wait"] = "reject"
    grace: Duration = Duration(0)
    disconnect_revoked: bool = True
    revoked_serials: Path | None = None
    ocsp: Literal["off", "prefer", "require"] = "off"
    ocsp_responder_url: str | None = None
    ocsp_timeout: Duration = Duration(2)


class Stapling(_Frozen, frozen=True):
    """The OCSP response that the listener staples (RFC 6066, section 8)."""

    enabled: bool = False
    responder_url: str | None = None
    issuer: Path | None = None
    refresh_interval: Duration = Duration(300)
    http_timeout: Duration = Duration(15)
    cert_id_hash: Literal["sha1", "sha256"] = "sha1"
    nonce: bool = False
    required: bool = False


class UpstreamTls(_Frozen, frozen=True):
    """Whether brokers speak TLS, who they must be, and who the gateway is to them."""

    enabled: bool = False
    ca: Path | None = None
    server_name: str | None = None
    verify: bool = True
    cert: Path | None = None
    key: Path | None = None


class HealthCheck(_Frozen, frozen=True):
    """Whether brokers are asked if they are there, how often, and what is made of the answers."""

    enabled: bool = False
    interval: Duration = Duration(5)
    timeout: Duration = Duration(2)
    rise: Count = 2
    fall: Count = 3
    slow_start: Duration = Duration(0)


class CrlCache(_Frozen, frozen=True):
    """How lists are fetched, whichever listener asks for them, and when they are warned of."""

    refresh_interval: Duration = Duration(900)
    http_timeout: Duration = Duration(15)
    max_bytes: Size = Size(256 << 20)
    expiry_warning: Duration = Duration(3600)
    shrink_warning: Share = 0.5
    learnt_allow: tuple[str, ...] = ()
    learnt_deny: tuple[str, ...] = ()


class Listener(_Frozen, frozen=True):
    """One front door: addresses, certificate, rules for clients, brokers behind it."""

    name: Name
    bind: Annotated[tuple[Address, ...], AtLeastOne]
    upstreams: Annotated[tuple[Address, ...], AtLeastOne]
    certificates: Annotated[tuple[Certificate, ...], AtLeastOne]
    client_ca: Path | None = None
    verify: Literal["required", "optional", "none"] = "required"
    trust: Literal["ca", "intermediate"] = "ca"
    client_ca_names: bool = True
    verify_depth: Depth = 10
    client_extended_key_usage: tuple[str, ...] = ()
    tls_versions: Annotated[tuple[TlsVersion, ...], AtLeastOne] = ("1.2", "1.3")
    # AES-128 first: AES-256 hashes with SHA-384, which costs a handshake about 3 %.
    ciphers: Names = (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
    )
    ciphersuites: Names = ("TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_256_GCM_SHA384")
    groups: Names = ("X25519MLKEM768", "X25519", "P-256", "P-384")
    alpn: tuple[Protocol, ...] = ()
    session_tickets: bool = True
    session_lifetime: Duration = Duration(7200)
    handshake_timeout: Duration = Duration(15)
    max_connections: Count = 100_000
    max_conn_rate: Rate | None = None
    balance: Literal["round-robin", "least-connections", "client"] = "round-robin"
    source_addresses: tuple[str, ...] = ()
    accept_proxy_protocol: tuple[str, ...] = ()
    proxy_protocol: Literal["off", "v1", "v2"] = "off"
    proxy_protocol_certificate: bool = False
    revocation: Revocation = Revocation()
    stapling: Stapling = Stapling()
    health_check: HealthCheck = HealthCheck()
    upstream_tls: UpstreamTls = UpstreamTls()


class Log(_Frozen, frozen=True):
    """What is logged, and how: text for people, JSON for machines."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class Admin(_Frozen, frozen=True):
    """The admin interface: where it listens (off without), who may ask, under which names it is reached."""

    bind: Address | None = None
    token_file: Path | None = None
    hosts: tuple[str, ...] = ()


class Config(_Frozen, frozen=True):
    """The whole configuration of one gateway."""

    listeners: Annotated[tuple[Listener, ...], AtLeastOne]
    workers: Workers | Literal["auto"] = "auto"
    state_dir: Path = Path("/var/lib/tls-gateway")
    user: Account | None = None
    group: Account | None = None
    drain_timeout: Duration = Duration(30)
    reload_drain_timeout: Duration = Duration(86400)
    watch: bool = False
    connect_timeout: Duration = Duration(5)
    crl_cache: CrlCache = CrlCache()
    admin: Admin = Admin()
    log: Log = Log()
