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


# A description is what an operator reads behind "expected" when a value does not fit; a title is what
# docs/configuration.md calls the type, where its name in Python does not say enough.
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
Count = Annotated[
    int,
    msgspec.Meta(
        ge=1, le=2**31 - 1, title="whole number, at least 1", description="a whole number of at least 1"
    ),
]
Workers = Annotated[
    int, msgspec.Meta(ge=1, le=1024, title="1 to 1024", description="a whole number from 1 to 1024")
]
Depth = Annotated[
    int, msgspec.Meta(ge=0, le=100, title="0 to 100", description="a whole number from 0 to 100")
]
NotNegative = Annotated[
    int,
    msgspec.Meta(
        ge=0, le=2**31 - 1, title="whole number, 0 or more", description="a whole number of 0 or more"
    ),
]
Rate = Annotated[float, msgspec.Meta(gt=0, title="number above 0", description="a number above 0")]
Share = Annotated[float, msgspec.Meta(ge=0, le=1, title="0 to 1", description="a number from 0 to 1")]
Protocol = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\A[!-~]{1,255}\Z", description='a protocol such as "mqtt", 1 to 255 visible characters'
    ),
]
AtLeastOne = msgspec.Meta(min_length=1)
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


# What these titles promise beyond the type is held by `rules`.
PositiveDuration = Annotated[Duration, msgspec.Meta(title="duration above 0")]
SessionLifetime = Annotated[Duration, msgspec.Meta(title="duration, whole seconds from 1s to 7d")]
Url = Annotated[str, msgspec.Meta(title="`http` or `https` URL")]
CrlUrls = Annotated[tuple[str, ...], msgspec.Meta(title="array of `http`, `https`, `file` URLs")]
Networks = Annotated[tuple[str, ...], msgspec.Meta(title="array of networks")]
IpAddresses = Annotated[tuple[str, ...], msgspec.Meta(title="array of IP addresses")]
Usages = Annotated[tuple[str, ...], msgspec.Meta(title="array of names or OIDs")]
OpensslNames = Annotated[tuple[str, ...], msgspec.Meta(min_length=1, title="array of OpenSSL's names")]
HostNames = Annotated[tuple[str, ...], msgspec.Meta(title="array of names")]
AddressOrSocket = Annotated[Address, msgspec.Meta(title='address or `"unix:/path"`')]


class Certificate(_Frozen, frozen=True):
    """A server certificate (PEM, with its chain behind it) and its private key (PEM)."""

    cert: Path
    """PEM: the server certificate first, its intermediate CAs behind it."""
    key: Path
    """PEM: its private key, EC, RSA, Ed25519 or Ed448, without a passphrase."""


class Revocation(_Frozen, frozen=True):
    """Which clients are looked up, where lists come from, and what if there is none: [how](revocation.md)."""

    check: Literal["chain", "leaf", "off"] = "chain"
    """Whether the client's certificate and the CAs above it are looked up, the certificate alone ([mind a
    revoked CA](revocation.md#when-the-signer-is-revoked)), or nothing."""
    crl_urls: CrlUrls = ()
    """Where lists are fetched from; `file:///absolute/path`."""
    follow_distribution_points: bool = True
    """Whether lists are also fetched from where verified certificates say they are."""
    on_unavailable: Literal["reject", "accept", "wait"] = "reject"
    """What happens to a client whom no fresh list covers: it is refused, let in with a warning, or waits,
    alone, for its list to be fetched."""
    grace: Duration = Duration(0)
    """How long past its nextUpdate a list still counts."""
    disconnect_revoked: bool = True
    """Whether a live connection is closed when its certificate is revoked."""
    revoked_serials: Path | None = None
    """A text file of certificates that are revoked before their CA publishes it, [see
    below](#a-file-of-revoked-serials)."""
    ocsp: Literal["off", "prefer", "require"] = "off"
    """Whether OCSP responders are asked about clients, and whether a list will do where none answers:
    [how](revocation.md#ocsp-for-clients)."""
    ocsp_responder_url: Url | None = None
    """Who is asked about clients' own certificates; CAs are asked about where they say. Default: from the
    certificate."""
    ocsp_timeout: PositiveDuration = Duration(2)
    """How long a client of whom nothing is known waits for an answer."""


class Stapling(_Frozen, frozen=True):
    """The OCSP response that the listener staples (RFC 6066, section 8): [how](stapling.md)."""

    enabled: bool = False
    """Whether an OCSP response is stapled."""
    responder_url: Url | None = None
    """The OCSP responder. Default: from the certificate."""
    issuer: Path | None = None
    """PEM: the certificate that issued the server certificate. Default: from the chain."""
    refresh_interval: PositiveDuration = Duration(300)
    """How often a response is fetched; sooner at half of its life, later where the responder's
    `Cache-Control` says so."""
    http_timeout: PositiveDuration = Duration(15)
    """How long a fetch may take."""
    cert_id_hash: Literal["sha1", "sha256"] = "sha1"
    """What the issuer's name and key are hashed with in the request; every responder takes `"sha1"`, which
    protects nothing here."""
    nonce: bool = False
    """Whether each request has a nonce, so that a responder that puts it into its answer cannot be replayed;
    caches are not used then."""
    required: bool = False
    """Whether the listener begins to accept only once there is a good response for each of its
    certificates."""


class UpstreamTls(_Frozen, frozen=True):
    """Whether brokers speak TLS, who they must be, and who the gateway is to them."""

    enabled: bool = False
    """Whether the brokers speak TLS, see [upstreams](upstreams.md#tls-to-the-broker)."""
    ca: Path | None = None
    """PEM file of the CAs that brokers' certificates come from. Default: the system's CAs."""
    server_name: str | None = None
    """The name, or IP address, that must be in a broker's certificate; required for `unix:/path`. Default:
    the broker's host."""
    verify: bool = True
    """Whether a broker's certificate is checked; without that anybody may be the broker."""
    cert: Path | None = None
    """PEM: the certificate that the gateway shows to brokers, its intermediate CAs behind it."""
    key: Path | None = None
    """PEM: its private key, without a passphrase; both or neither."""


class HealthCheck(_Frozen, frozen=True):
    """Whether brokers are asked if they are there, how often, and what is made of the answers."""

    enabled: bool = False
    """Whether brokers are asked now and then if they are there, see
    [upstreams](upstreams.md#health-checks)."""
    interval: PositiveDuration = Duration(5)
    """From one check of a broker to the next; at most 1s while one has said something new."""
    timeout: PositiveDuration = Duration(2)
    """How long a broker may take to accept the connection."""
    rise: Count = 2
    """So many good checks in a row, and a broker is up."""
    fall: Count = 3
    """So many bad checks in a row, and a broker is down."""
    slow_start: Duration = Duration(0)
    """How long a broker that has come back takes to get its whole share of clients."""


class CrlCache(_Frozen, frozen=True):
    """How lists are fetched, whichever listener asks for them, and when they are warned of."""

    refresh_interval: PositiveDuration = Duration(900)
    """How often a list is fetched; sooner if its nextUpdate is."""
    http_timeout: PositiveDuration = Duration(15)
    """How long a fetch may take."""
    max_bytes: Size = Size(256 << 20)
    """The longest list that is accepted."""
    expiry_warning: Duration = Duration(3600)
    """How long before its nextUpdate a list is warned of; sooner where that is more than a tenth of its
    life."""
    shrink_warning: Share = 0.5
    """A list that is left with less than this share of at least ten entries is warned of."""
    learnt_allow: Networks = ()
    """Where URLs from certificates, and redirects to another host, may lead although it is denied:
    `["127.0.0.1/32"]`."""
    learnt_deny: Networks = ()
    """Where they must not lead, besides this machine, link-local and metadata addresses."""


class Listener(_Frozen, frozen=True):
    """One front door: addresses, certificate, rules for clients, brokers behind it."""

    name: Name
    """The listener's name in logs and metrics: letters, digits, `_`, `.`, `-`; each its own."""
    bind: Annotated[tuple[Address, ...], AtLeastOne]
    """Where to listen; no address twice in a file."""
    upstreams: Annotated[tuple[Address, ...], AtLeastOne]
    """The brokers, in plain TCP unless `upstream_tls` is on, see [upstreams](upstreams.md)."""
    certificates: Annotated[tuple[Certificate, ...], AtLeastOne]
    """The server's certificates; of several, the one for the name that the client asks for."""
    client_ca: Path | None = None
    """PEM file of the CAs that clients' certificates come from; required unless `verify` is `"none"`."""
    verify: Literal["required", "optional", "none"] = "required"
    """Whether a client must, may or need not show a certificate; one that is shown must be good."""
    trust: Literal["ca", "intermediate"] = "ca"
    """Whether a client's chain must end at a root in `client_ca`, or may end at any CA there."""
    client_ca_names: bool = True
    """Whether clients are told the names of the CAs in `client_ca`."""
    verify_depth: Depth = 10
    """How many CAs may stand between a client's certificate and one that is trusted."""
    client_extended_key_usage: Usages = ()
    """What extendedKeyUsage of a client's certificate must name, all of it, such as `["clientAuth"]`."""
    tls_versions: Annotated[tuple[TlsVersion, ...], AtLeastOne] = ("1.2", "1.3")
    """The TLS versions that are offered."""
    # AES-128 first: AES-256 hashes with SHA-384, which costs a handshake about 3 %.
    ciphers: OpensslNames = (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
    )
    """Cipher suites of TLS 1.2, the first that the client has counts. Default: ECDHE with AES-GCM or
    ChaCha20."""
    ciphersuites: OpensslNames = (
        "TLS_AES_128_GCM_SHA256",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_256_GCM_SHA384",
    )
    """Cipher suites of TLS 1.3, likewise. Default: AES-128-GCM, ChaCha20, AES-256-GCM."""
    groups: OpensslNames = ("X25519MLKEM768", "X25519", "P-256", "P-384")
    """Key exchange groups."""
    alpn: tuple[Protocol, ...] = ()
    """Application protocols, the best first: a client that offers others alone is refused."""
    session_tickets: bool = True
    """Whether clients get tickets with which they resume a session."""
    session_lifetime: SessionLifetime = Duration(7200)
    """How long a session can be resumed."""
    handshake_timeout: PositiveDuration = Duration(15)
    """How long a client may take from connecting to a finished handshake."""
    max_connections: Count = 100_000
    """How many connections there may be at a time; who comes then is closed."""
    max_conn_rate: Rate | None = None
    """How many new connections a second are accepted; others wait in the kernel's queue. Default: no
    limit."""
    balance: Literal["round-robin", "least-connections", "client"] = "round-robin"
    """Which of several brokers a client goes to, see [upstreams](upstreams.md#which-broker)."""
    source_addresses: IpAddresses = ()
    """Where connections to brokers are made from, in turn, see
    [upstreams](upstreams.md#more-than-28000-clients). Default: the kernel's choice."""
    accept_proxy_protocol: Networks = ()
    """The load balancers whose PROXY protocol header is waited for and believed, see
    [upstreams](upstreams.md#behind-a-load-balancer); others are refused."""
    proxy_protocol: Literal["off", "v1", "v2"] = "off"
    """Whether the broker is told who the client is, see [upstreams](upstreams.md#who-the-client-is)."""
    proxy_protocol_certificate: bool = False
    """Whether `"v2"` has the client's certificate in it."""
    revocation: Revocation = Revocation()
    stapling: Stapling = Stapling()
    health_check: HealthCheck = HealthCheck()
    upstream_tls: UpstreamTls = UpstreamTls()


class Log(_Frozen, frozen=True):
    """What is logged, and how: text for people, JSON for machines."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged."""
    format: Literal["text", "json"] = "text"
    """Lines for people, or for machines."""
    file: Path | None = None
    """A file that lines are appended to, no symbolic link, see [operations](operations.md#the-log-file).
    Default: standard error."""
    access: bool = False
    """Whether each connection gets a line when it is over, see [operations](operations.md#the-access-log)."""
    flood_limit: NotNegative = 20
    """How many lines a second each process writes of one event and listener that strangers cause; the others
    [are counted](operations.md#floods). 0: all."""


class Admin(_Frozen, frozen=True):
    """The [admin interface](admin.md): metrics, readiness, status, the status page."""

    bind: AddressOrSocket | None = None
    """Where it listens, `"127.0.0.1:9443"`; left out, there is none. A Unix socket is its owner's alone."""
    token_file: Path | None = None
    """A file with the token that whoever asks has to show; not readable by everyone. Needed where `bind` is a
    port."""
    hosts: HostNames = ()
    """Names, without a port, under which browsers reach it; addresses and `localhost` need not be listed."""


class Config(_Frozen, frozen=True):
    """The whole configuration of one gateway."""

    listeners: Annotated[tuple[Listener, ...], AtLeastOne]
    """The front doors, at least one."""
    workers: Workers | Literal["auto"] = "auto"
    """How many worker processes serve clients; `"auto"` is one for each core."""
    state_dir: Path = Path("/var/lib/tls-gateway")
    """Where the last good CRLs and OCSP responses are kept; `--state-dir` overrides it."""
    user: Account | None = None
    """Started as root: whom all processes but the supervisor become, see
    [operations](operations.md#run-it-otherwise)."""
    group: Account | None = None
    """Started as root: the group of these processes. Default: the user's."""
    drain_timeout: Duration = Duration(30)
    """How long live connections may go on after SIGTERM."""
    reload_drain_timeout: Duration = Duration(86400)
    """How long connections of before a reload may go on; then they have `drain_timeout`."""
    reload_timeout: PositiveDuration = Duration(60)
    """How long the workers of a new configuration may take until all of them accept; then the reload is
    undone."""
    watch: bool = False
    """Whether to reload when this file, or one of certificates, keys, CAs or tokens that it names, has
    changed."""
    connect_timeout: PositiveDuration = Duration(5)
    """How long a broker may take to accept a connection before another is tried."""
    crl_cache: CrlCache = CrlCache()
    admin: Admin = Admin()
    log: Log = Log()
