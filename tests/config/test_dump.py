from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config import model
from gateway.config.dump import to_toml
from gateway.config.load import load
from gateway.config.model import (
    Address,
    Admin,
    Certificate,
    Config,
    CrlCache,
    Duration,
    Listener,
    Log,
    Revocation,
    Size,
    Stapling,
)

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def durations(least: int) -> SearchStrategy[Duration]:
    return st.integers(least, 10**9).map(lambda ms: Duration(ms / 1000))


AUTO: tuple[Literal["auto"]] = ("auto",)
PORTS = st.integers(1, 65535)
HOSTS = st.one_of(st.just("broker.example"), st.ip_addresses().map(str).filter(lambda host: "%" not in host))
ADDRESSES = st.builds(Address, HOSTS, PORTS)
PATHS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20
).map(lambda text: Path("/") / text)
UPSTREAMS = st.one_of(
    ADDRESSES,
    st.text('abc/. é"\\', max_size=30).map(lambda text: Address(path=f"/{text}")),
)
URLS = st.sampled_from(["http://a/x.crl", "https://b:8/?q='\\\"", "file:///ca.crl"])
NAMES = st.lists(st.text(max_size=20), min_size=1, max_size=3).map(tuple)
REVOCATIONS = st.builds(
    Revocation,
    check=st.sampled_from(["chain", "leaf", "off"]),
    crl_urls=st.lists(URLS, max_size=3).map(tuple),
    follow_distribution_points=st.booleans(),
    on_unavailable=st.sampled_from(["reject", "accept", "wait"]),
    grace=durations(0),
    disconnect_revoked=st.booleans(),
    revoked_serials=st.none() | PATHS,
)
STAPLINGS = st.builds(
    Stapling,
    enabled=st.booleans(),
    responder_url=st.none() | st.just("http://ocsp.example/"),
    issuer=st.none() | PATHS,
    refresh_interval=durations(1),
    http_timeout=durations(1),
    cert_id_hash=st.sampled_from(["sha1", "sha256"]),
    nonce=st.booleans(),
    required=st.just(value=False),
)
HEALTH_CHECKS = st.builds(
    model.HealthCheck,
    enabled=st.booleans(),
    interval=durations(1),
    timeout=durations(1),
    rise=st.integers(1, 100),
    fall=st.integers(1, 100),
    slow_start=durations(0),
)
_FILE_PAIRS: SearchStrategy[tuple[Path, Path] | tuple[None, None]] = st.one_of(
    st.tuples(PATHS, PATHS), st.just((None, None))
)
UPSTREAM_TLS = _FILE_PAIRS.flatmap(
    lambda pair: st.builds(
        model.UpstreamTls,
        enabled=st.booleans(),
        ca=st.none() | PATHS,
        server_name=st.just("broker.example"),
        verify=st.booleans(),
        cert=st.just(pair[0]),
        key=st.just(pair[1]),
    )
)
BALANCES: SearchStrategy[Literal["round-robin", "least-connections", "client"]] = st.sampled_from(
    ["round-robin", "least-connections", "client"]
)
PROXY: SearchStrategy[tuple[Literal["off", "v1", "v2"], bool]] = st.sampled_from(
    [("off", False), ("v1", False), ("v2", False), ("v2", True)]
)

WORKERS: SearchStrategy[int | Literal["auto"]] = st.integers(1, 1024) | st.sampled_from(AUTO)


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Any Config that the rules allow."""
    count = draw(st.integers(1, 3))
    # Each listener draws from ports of its own, so that no address is bound twice.
    proxies = [draw(PROXY) for _ in range(count)]
    listeners = tuple(
        Listener(
            name=f"{draw(st.text('abc-_.09', max_size=8))}{i}",
            bind=draw(
                st.lists(
                    st.builds(Address, HOSTS, st.integers(10_000 * i + 1, 10_000 * i + 1000)),
                    min_size=1,
                    max_size=3,
                    unique=True,
                ).map(tuple)
            ),
            upstreams=draw(st.lists(UPSTREAMS, min_size=1, max_size=3).map(tuple)),
            certificates=(Certificate(cert=draw(PATHS), key=draw(PATHS)),),
            client_ca=draw(PATHS),
            verify=draw(st.sampled_from(["required", "optional", "none"])),
            tls_versions=draw(st.sampled_from([("1.2",), ("1.3",), ("1.3", "1.2")])),
            ciphers=draw(NAMES),
            ciphersuites=draw(NAMES),
            groups=draw(NAMES),
            trust=draw(st.sampled_from(["ca", "intermediate"])),
            client_extended_key_usage=draw(st.sampled_from([(), ("clientAuth", "1.2.3.4")])),
            client_ca_names=draw(st.booleans()),
            verify_depth=draw(st.integers(0, 100)),
            alpn=draw(st.sampled_from([(), ("mqtt",), ("x-amzn-mqtt-ca", "mqtt")])),
            session_tickets=draw(st.booleans()),
            session_lifetime=Duration(draw(st.integers(1, 7 * 86_400))),
            handshake_timeout=draw(durations(1)),
            max_connections=draw(st.integers(1, 2**31 - 1)),
            max_conn_rate=draw(
                st.none() | st.floats(0, exclude_min=True, allow_infinity=False, allow_nan=False)
            ),
            revocation=draw(REVOCATIONS),
            stapling=draw(STAPLINGS),
            health_check=draw(HEALTH_CHECKS),
            upstream_tls=draw(UPSTREAM_TLS),
            balance=draw(BALANCES),
            source_addresses=draw(st.sampled_from(((), ("10.0.0.1", "fd00::1")))),
            accept_proxy_protocol=draw(st.sampled_from(((), ("10.0.0.0/8", "::1/128")))),
            proxy_protocol=proxies[i][0],
            proxy_protocol_certificate=proxies[i][1],
        )
        for i in range(count)
    )
    return Config(
        listeners=listeners,
        workers=draw(WORKERS),
        state_dir=draw(PATHS),
        drain_timeout=draw(durations(0)),
        reload_timeout=draw(durations(1)),
        connect_timeout=draw(durations(1)),
        crl_cache=CrlCache(
            refresh_interval=draw(durations(1)),
            http_timeout=draw(durations(1)),
            max_bytes=draw(st.integers(1, 1 << 40).map(Size)),
            expiry_warning=draw(st.integers(0, 1 << 20).map(Duration)),
            learnt_allow=draw(st.sampled_from(((), ("127.0.0.1/32", "fd00::/8")))),
            learnt_deny=draw(st.sampled_from(((), ("10.0.0.0/8",)))),
            shrink_warning=draw(st.sampled_from((0.0, 0.25, 1.0))),
        ),
        admin=draw(
            st.builds(
                Admin,
                bind=st.none() | st.builds(Address, st.just("127.0.0.1"), st.integers(60_000, 65_535)),
                token_file=PATHS,
                hosts=st.sampled_from(((), ("admin.example",))),
            )
        ),
        log=Log(
            level=draw(st.sampled_from(["debug", "info", "warning", "error"])),
            format=draw(st.sampled_from(["text", "json"])),
            file=draw(PATHS),
            access=draw(st.booleans()),
            flood_limit=draw(st.integers(0, 2**31 - 1)),
        ),
    )


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=configs(), warnings=st.lists(st.text(max_size=20), max_size=2))
def test_what_is_written_loads_as_it_was(config: Config, warnings: list[str], tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_bytes(to_toml(config, warnings).encode())
    assert load(path).config == config


def test_what_is_written_is_short_and_in_the_order_of_the_documentation() -> None:
    listener = Listener(
        name="external",
        bind=(Address("0.0.0.0", 8883),),
        upstreams=(Address("127.0.0.1", 1883),),
        certificates=(Certificate(cert=Path("/a/server.pem"), key=Path("/a/server.key")),),
        client_ca=Path("/a/ca.pem"),
        revocation=Revocation(crl_urls=("http://a/ca.crl",)),
        stapling=Stapling(enabled=True, refresh_interval=Duration(600)),
    )
    config = Config(
        listeners=(listener,), crl_cache=CrlCache(refresh_interval=Duration(60), max_bytes=Size(1 << 20))
    )
    assert to_toml(config, ["something\nis ignored"]) == (
        "# Warning: something\\nis ignored\n"
        "\n"
        'workers = "auto"\n'
        'state_dir = "/var/lib/tls-gateway"\n'
        "\n"
        "[[listeners]]\n"
        'name = "external"\n'
        'bind = ["0.0.0.0:8883"]\n'
        'upstreams = ["127.0.0.1:1883"]\n'
        'certificates = [{ cert = "/a/server.pem", key = "/a/server.key" }]\n'
        'client_ca = "/a/ca.pem"\n'
        'verify = "required"\n'
        "\n"
        "[listeners.revocation]\n"
        'check = "chain"\n'
        'crl_urls = ["http://a/ca.crl"]\n'
        "follow_distribution_points = true\n"
        "\n"
        "[listeners.stapling]\n"
        "enabled = true\n"
        'refresh_interval = "10m"\n'
        "\n"
        "[crl_cache]\n"
        'refresh_interval = "1m"\n'
        'max_bytes = "1MiB"\n'
    )
