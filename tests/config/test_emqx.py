from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config.dump import to_toml
from gateway.config.emqx import parse_emqx
from gateway.config.emqx_keys import LISTENER_KEYS
from gateway.config.load import load
from gateway.config.model import (
    Address,
    Certificate,
    Config,
    CrlCache,
    Duration,
    Listener,
    Revocation,
    Stapling,
)
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

# The keys of EMQX 4.4's page on CRL and OCSP stapling, each as it stands there.
PAGE = """
listener.ssl.external = 8883
listener.ssl.external.keyfile = etc/certs/server.key
listener.ssl.external.certfile = etc/certs/server.pem
listener.ssl.external.cacertfile = etc/certs/ca.pem
listener.ssl.external.verify = verify_peer
listener.ssl.external.fail_if_no_peer_cert = true

# Enable CRL check
listener.ssl.external.enable_crl_check = true
# Comma-separated URL list for CRL servers
listener.ssl.external.crl_cache_urls = http://my.crl.server/intermediate.crl.pem, http://my.other.crl.server/another.crl.pem
# CRL Request timeout, global for all listeners
crl_cache_http_timeout = 15s
# The period to refresh the CRLs from the servers, global for all listeners
crl_cache_refresh_interval = 15m

listener.ssl.external.enable_ocsp_stapling = true
listener.ssl.external.ocsp_responder_url = http://ocsp.server/
listener.ssl.external.ocsp_issuer_pem = etc/certs/ocsp-issuer.pem
listener.ssl.external.ocsp_refresh_interval = 5m
listener.ssl.external.ocsp_refresh_http_timeout = 15s

listener.tcp.external = 0.0.0.0:1883
node.data_dir = /var/lib/emqx
"""

SMALL = """
listener.ssl.external = 8883
listener.ssl.external.keyfile = server.key
listener.ssl.external.certfile = server.pem
listener.tcp.external = 1883
"""


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "emqx.conf"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def listener_of(written: Callable[[str], Path]) -> Callable[[str], Listener]:
    return lambda text: load(written(text)).config.listeners[0]


def test_the_keys_of_emqxs_page_load_as_they_stand(written: Callable[[str], Path]) -> None:
    path = written(PAGE)
    certs = path.parent / "etc" / "certs"
    expected = Config(
        state_dir=Path("/var/lib/emqx"),
        listeners=(
            Listener(
                name="external",
                bind=(Address("0.0.0.0", 8883),),
                upstreams=(Address("127.0.0.1", 1883),),
                certificates=(Certificate(cert=certs / "server.pem", key=certs / "server.key"),),
                client_ca=certs / "ca.pem",
                verify="required",
                revocation=Revocation(
                    check="chain",
                    crl_urls=(
                        "http://my.crl.server/intermediate.crl.pem",
                        "http://my.other.crl.server/another.crl.pem",
                    ),
                    follow_distribution_points=False,
                ),
                stapling=Stapling(
                    enabled=True,
                    responder_url="http://ocsp.server/",
                    issuer=certs / "ocsp-issuer.pem",
                    refresh_interval=Duration(300),
                    http_timeout=Duration(15),
                ),
            ),
        ),
        crl_cache=CrlCache(refresh_interval=Duration(900), http_timeout=Duration(15)),
    )
    assert load(path)[:2] == (expected, [])


def test_the_toml_it_converts_to_behaves_the_same(written: Callable[[str], Path], tmp_path: Path) -> None:
    loaded = load(written(PAGE))
    converted = tmp_path / "gateway.toml"
    converted.write_text(to_toml(loaded.config, loaded.warnings))
    assert load(converted).config == loaded.config


def test_what_the_file_leaves_out_is_as_in_emqx(listener_of: Callable[[str], Listener]) -> None:
    listener = listener_of(SMALL)
    assert listener.verify == "none"
    assert listener.revocation == Revocation(check="off", follow_distribution_points=False)
    assert listener.stapling == Stapling()


def test_the_header_that_a_load_balancer_sends_is_not_the_one_that_the_broker_waits_for(
    listener_of: Callable[[str], Listener],
) -> None:
    neither = listener_of(SMALL)
    incoming = listener_of(f"{SMALL}{EXTERNAL}.proxy_protocol = on\n{EXTERNAL}.proxy_protocol_timeout = 3s\n")
    outgoing = listener_of(f"{SMALL}listener.tcp.external.proxy_protocol = on\n")
    everybody = ("0.0.0.0/0", "::/0")
    found = [(each.accept_proxy_protocol, each.proxy_protocol) for each in (neither, incoming, outgoing)]
    assert found == [((), "off"), (everybody, "off"), ((), "v2")]


@pytest.mark.parametrize("value", ["on", "true"])
@pytest.mark.parametrize("off", ["off", "false"])
def test_switches_have_two_spellings(value: str, off: str, listener_of: Callable[[str], Listener]) -> None:
    listener = listener_of(
        f"{SMALL}listener.ssl.external.enable_ocsp_stapling = {value}\n"
        f"listener.ssl.external.enable_crl_check = {off}\nlistener.ssl.external.proxy_protocol = {off}\n"
    )
    assert (listener.stapling.enabled, listener.revocation.check) == (True, "off")


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("8883", Address("0.0.0.0", 8883)),
        ("0.0.0.0:8883", Address("0.0.0.0", 8883)),
        ("127.0.0.1:8883", Address("127.0.0.1", 8883)),
        ("[::]:8883", Address("::", 8883)),
    ],
)
def test_a_listener_is_a_port_or_an_address(
    text: str, bind: Address, listener_of: Callable[[str], Listener]
) -> None:
    assert listener_of(SMALL.replace("external = 8883", f"external = {text}")).bind == (bind,)


@pytest.mark.parametrize(
    ("text", "upstream"),
    [
        ("1883", Address("127.0.0.1", 1883)),
        ("0.0.0.0:1883", Address("127.0.0.1", 1883)),
        ("[::]:1883", Address("::1", 1883)),
        ("[::1]:1883", Address("::1", 1883)),
        ("10.0.0.5:1883", Address("10.0.0.5", 1883)),
    ],
)
def test_the_broker_is_where_emqx_listens_in_plain(
    text: str, upstream: Address, listener_of: Callable[[str], Listener]
) -> None:
    assert listener_of(SMALL.replace("tcp.external = 1883", f"tcp.external = {text}")).upstreams == (
        upstream,
    )


def test_the_broker_of_the_same_name_comes_first(listener_of: Callable[[str], Listener]) -> None:
    listener = listener_of(f"listener.tcp.internal = 127.0.0.1:11883\n{SMALL}")
    assert listener.upstreams == (Address("127.0.0.1", 1883),)


def test_the_only_broker_serves_every_listener(listener_of: Callable[[str], Listener]) -> None:
    listener = listener_of(SMALL.replace("tcp.external", "tcp.internal"))
    assert listener.upstreams == (Address("127.0.0.1", 1883),)


def test_every_tls_listener_is_one_of_ours(written: Callable[[str], Path]) -> None:
    text = SMALL + SMALL.replace("external", "second").replace("8883", "8884")
    listeners = load(written(text)).config.listeners
    assert [(listener.name, listener.bind[0].port) for listener in listeners] == [
        ("external", 8883),
        ("second", 8884),
    ]


@pytest.mark.parametrize(
    ("verify", "demand", "ours"),
    [
        ("verify_peer", "true", "required"),
        ("verify_peer", "false", "optional"),
        ("verify_peer", None, "optional"),
        ("verify_none", "false", "none"),
        ("verify_none", None, "none"),
    ],
)
def test_verify_takes_two_keys(
    verify: str, demand: str | None, ours: str, listener_of: Callable[[str], Listener]
) -> None:
    text = f"{SMALL}listener.ssl.external.verify = {verify}\nlistener.ssl.external.cacertfile = ca.pem\n"
    if demand is not None:
        text += f"listener.ssl.external.fail_if_no_peer_cert = {demand}\n"
    assert listener_of(text).verify == ours


def test_numbers_and_durations_go_over(listener_of: Callable[[str], Listener]) -> None:
    prefix = "listener.ssl.external"
    listener = listener_of(
        f"{SMALL}{prefix}.handshake_timeout = 100ms\n{prefix}.max_connections = 102400\n"
        f"{prefix}.max_conn_rate = 500\n{prefix}.tls_versions = tlsv1.3,tlsv1.2\n"
        f"{prefix}.ocsp_refresh_interval = 2h\n"
    )
    assert listener.handshake_timeout == Duration(0.1)
    assert listener.max_connections == 102400
    assert listener.max_conn_rate == 500
    assert listener.tls_versions == ("1.3", "1.2")
    assert listener.stapling.refresh_interval == Duration(7200)


def test_tls_options_go_over(listener_of: Callable[[str], Listener]) -> None:
    prefix = "listener.ssl.external"
    listener = listener_of(
        f"{SMALL}{prefix}.ciphers = TLS_AES_256_GCM_SHA384, ECDHE-RSA-AES256-GCM-SHA384\n"
        f"{prefix}.eccs = x25519, secp521r1\n{prefix}.honor_cipher_order = on\n"
        f"{prefix}.secure_renegotiate = off\n{prefix}.reuse_sessions = off\n{prefix}.depth = 3\n"
        f"{prefix}.verify_peer_ext_key_usage = clientAuth, ocspSigning, OID:1.3.6.1.4.1.55555.1\n"
    )
    assert listener.ciphers == ("ECDHE-RSA-AES256-GCM-SHA384",)
    assert listener.ciphersuites == ("TLS_AES_256_GCM_SHA384",)
    assert listener.groups == ("X25519", "P-521")
    assert not listener.session_tickets
    assert listener.verify_depth == 3
    assert listener.client_extended_key_usage == ("clientAuth", "OCSPSigning", "1.3.6.1.4.1.55555.1")


def test_suites_of_one_version_alone_leave_the_others_defaults(
    listener_of: Callable[[str], Listener],
) -> None:
    old = listener_of(f"{SMALL}listener.ssl.external.ciphers = ECDHE-RSA-AES256-GCM-SHA384\n")
    new = listener_of(f"{SMALL}listener.ssl.external.ciphers = TLS_AES_256_GCM_SHA384\n")
    default = listener_of(SMALL)
    assert (old.ciphersuites, new.ciphers) == (default.ciphersuites, default.ciphers)


@pytest.mark.parametrize(
    ("value", "trust"),
    [
        ("false", "ca"),
        ("true", "intermediate"),
        ("cacert_from_cacertfile", "intermediate"),
        ("two_cacerts_from_cacertfile", "intermediate"),
    ],
)
def test_partial_chains_are_a_matter_of_trust(value: str, trust: str, written: Callable[[str], Path]) -> None:
    loaded = load(written(f"{SMALL}listener.ssl.external.partial_chain = {value}\n"))
    assert loaded.config.listeners[0].trust == trust
    told = "every CA in cacertfile is a trust anchor here, not its last ones alone"
    expected = [] if trust == "ca" else [f"listener.ssl.external.partial_chain (line 6): {told}"]
    assert loaded.warnings == expected


@pytest.mark.parametrize(
    "line",
    [
        "listener.ssl.external.cacertfile = a b.pem",
        "  listener.ssl.external.cacertfile=a b.pem  ",
        'listener.ssl.external.cacertfile = "a b.pem"',
        "listener.ssl.external.cacertfile = 'a b.pem'   ## the CA",
        "listener.ssl.external.cacertfile = a b.pem # the CA",
        "listener.ssl.external.cacertfile = x\r\nlistener.ssl.external.cacertfile = a b.pem\r",
    ],
)
def test_spaces_quotes_and_comments_are_cuttlefishs(line: str) -> None:
    """And the last of two equal keys counts."""
    listeners = parse_emqx(f"{SMALL}\n## {line.strip()[:5]}\n#\n{line}\n", "emqx.conf").mapping["listeners"]
    assert isinstance(listeners, list)
    assert listeners[0]["client_ca"] == "a b.pem"


def test_a_path_is_taken_from_emqxs_root_where_it_exists_only_there(tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    (etc / "certs").mkdir(parents=True)
    (etc / "certs" / "server.pem").touch()
    (etc / "beside.key").touch()
    (tmp_path / "beside.key").touch()
    path = etc / "emqx.conf"
    path.write_text(
        SMALL.replace("server.pem", "etc/certs/server.pem").replace("server.key", "beside.key")
        + "listener.ssl.external.cacertfile = etc/none.pem\n"
    )
    listener = load(path).config.listeners[0]
    assert listener.certificates == (Certificate(cert=etc / "certs" / "server.pem", key=etc / "beside.key"),)
    assert listener.client_ca == etc / "etc" / "none.pem"


def test_a_path_too_long_for_any_file_is_left_to_the_reading(listener_of: Callable[[str], Listener]) -> None:
    listener = listener_of(f"{SMALL}listener.ssl.external.cacertfile = {'a' * 5000}\n")
    assert listener.client_ca is not None
    assert listener.client_ca.name == "a" * 5000


def test_all_keys_without_a_counterpart_are_named_in_one_warning(written: Callable[[str], Path]) -> None:
    text = (
        SMALL
        + "".join(f"mqtt.option_{n} = 1\n" for n in range(12))
        + "node.name = emqx@127.0.0.1\nnode.cookie = secret\nlog.dir = {{ platform_log_dir }}\n"
        + "listener.tcp.external.acceptors = 8\nlistener.tcp.internal = 127.0.0.1:11883\n"
        + "".join(f"listener.ws.external.option_{n} = 1\n" for n in range(4))
        + "listener.ssl.external.acceptors = 16\nlistener.ssl.external.access.1 = allow all\n"
        + "listener.ssl.external.dhfile = A\nlistener.ssl.external.backlog = 1\nallow_anonymous = true\n"
    )
    assert load(written(text)).warnings == [
        (
            "ignored, no counterpart here: mqtt.* (12 keys), node.name, node.cookie, log.dir, "
            "listener.tcp.external.acceptors, listener.tcp.internal, listener.ws.* (4 keys), "
            "listener.ssl.external.acceptors, listener.ssl.external.access.1, listener.ssl.external.dhfile, "
            "listener.ssl.external.backlog, allow_anonymous"
        )
    ]


@pytest.mark.parametrize(
    ("lines", "warning"),
    [
        (
            "listener.ssl.external.ciphers = ECDHE-RSA-AES128-GCM-SHA256,DHE-DSS-AES256-SHA,AES128-SHA",
            "listener.ssl.external.ciphers (line 6): not offered: DHE-DSS-AES256-SHA, AES128-SHA",
        ),
        (
            "listener.ssl.external.eccs = sect571r1,secp256r1",
            "listener.ssl.external.eccs (line 6): not offered: sect571r1",
        ),
        (
            "listener.ssl.external.honor_cipher_order = off",
            (
                "listener.ssl.external.honor_cipher_order (line 6): has no effect: the order of the "
                "ciphers is always the listener's"
            ),
        ),
        (
            "listener.ssl.external.tls_versions = tlsv1.3,tlsv1.2,tlsv1.1,tlsv1",
            (
                "listener.ssl.external.tls_versions (line 6): tlsv1.1 and tlsv1 not "
                "offered: RFC 8996 forbids them"
            ),
        ),
        (
            "listener.ssl.external.proxy_protocol = on",
            (
                "listener.ssl.external.proxy_protocol (line 6): whoever connects is believed: "
                "name your load balancers alone"
            ),
        ),
        (
            "listener.ssl.external.fail_if_no_peer_cert = true",
            (
                "listener.ssl.external.fail_if_no_peer_cert (line 6): has no effect "
                "without verify = verify_peer: "
                "no client certificate is asked for"
            ),
        ),
        (
            "listener.ssl.external.enable_crl_check = true",
            (
                "listener.ssl.external.enable_crl_check (line 6): has no effect "
                "without verify = verify_peer: "
                "no client certificate is asked for"
            ),
        ),
        (
            (
                "listener.ssl.external.enable_crl_check = true\nlistener.ssl.external.verify = verify_peer\n"
                "listener.ssl.external.cacertfile = ca.pem"
            ),
            (
                "listener.ssl.external.crl_cache_urls: empty, and "
                "follow_distribution_points is off: no list ever "
                'covers a client, so on_unavailable = "reject" decides about every one'
            ),
        ),
    ],
)
def test_what_has_no_effect_is_warned_about(lines: str, warning: str, written: Callable[[str], Path]) -> None:
    assert load(written(f"{SMALL}{lines}\n")).warnings == [warning]


EXTERNAL = "listener.ssl.external"
CASES = [
    # misspelt: line 6 is the one behind SMALL
    *(
        (f"{SMALL}{key} = 1\n", f'{key} (line 6): unknown key (did you mean "{meant}"?)')
        for key, meant in [
            (f"{EXTERNAL}.crl_cache_url", f"{EXTERNAL}.crl_cache_urls"),
            (f"{EXTERNAL}.enable_crl_chek", f"{EXTERNAL}.enable_crl_check"),
            (f"{EXTERNAL}.enable_crl_cache", f"{EXTERNAL}.enable_crl_check"),
            (f"{EXTERNAL}.certfiles", f"{EXTERNAL}.certfile"),
            (f"{EXTERNAL}.crl_cache_http_timeout", "crl_cache_http_timeout"),
            ("crl_cache.refresh_interval", "crl_cache_refresh_interval"),
            ("node.datadir", "node.data_dir"),
            ("listeners.ssl.external.verify", f"{EXTERNAL}.verify"),
            ("listner.ssl.external", EXTERNAL),
        ]
    ),
    # values
    *(
        (f"{SMALL}{EXTERNAL}.{key} = {value}\n", f"{EXTERNAL}.{key} (line 6): {problem}")
        for key, value, problem in [
            ("verify", "peer", 'expected verify_peer or verify_none, got "peer"'),
            ("fail_if_no_peer_cert", "yes", 'expected on, off, true or false, got "yes"'),
            ("enable_crl_check", "1", 'expected on, off, true or false, got "1"'),
            ("enable_ocsp_stapling", "chain", 'expected on, off, true or false, got "chain"'),
            ("proxy_protocol", "yes", 'expected on, off, true or false, got "yes"'),
            ("tls_versions", "tlsv1.4", 'expected versions out of tlsv1.3 and tlsv1.2, got "tlsv1.4"'),
            ("tls_versions", "tlsv1.1", 'expected tlsv1.3 or tlsv1.2 among the versions, got "tlsv1.1"'),
            (
                "ciphers",
                "AES128-SHA",
                'expected a suite with ECDHE or of TLS 1.3 among the ciphers, got "AES128-SHA"',
            ),
            ("eccs", "sect571r1", 'expected a curve such as secp256r1 or x25519 among them, got "sect571r1"'),
            ("honor_cipher_order", "yes", 'expected on, off, true or false, got "yes"'),
            ("secure_renegotiate", "1", 'expected on, off, true or false, got "1"'),
            ("reuse_sessions", "1", 'expected on, off, true or false, got "1"'),
            (
                "partial_chain",
                "two",
                'expected one of false, true, cacert_from_cacertfile, two_cacerts_from_cacertfile, got "two"',
            ),
            ("depth", "101", "expected a whole number from 0 to 100, got 101"),
            ("depth", "-1", 'expected a whole number from 0 to 100, got "-1"'),
            (
                "verify_peer_ext_key_usage",
                "clientAuth,OID:x",
                (
                    'expected "clientAuth", "serverAuth", "codeSigning", "emailProtection", "timeStamping", '
                    '"OCSPSigning" or an OID such as "1.3.6.1.5.5.7.3.2", got "x"'
                ),
            ),
            ("max_connections", "many", 'expected a whole number of at least 1, got "many"'),
            ("max_connections", "0", "expected a whole number of at least 1, got 0"),
            ("max_conn_rate", "0", "expected a number above 0, got 0.0"),
            (
                "handshake_timeout",
                "15",
                'expected a duration such as "500ms", "15s", "5m" or "1h30m", got "15"',
            ),
            ("ocsp_refresh_interval", "0s", 'expected a duration above 0, got "0s"'),
            ("ocsp_responder_url", "ocsp", 'expected a URL with the scheme http or https, got "ocsp"'),
            (
                "crl_cache_urls",
                "http://a/x, ftp://b/",
                'expected a URL with the scheme http, https or file, got "ftp://b/"',
            ),
            (
                "cacertfile",
                "{{ platform_etc_dir }}/ca.pem",
                'expected the value that EMQX\'s variable stands for, got "{{ platform_etc_dir }}/ca.pem"',
            ),
            ("cacertfile", "", "expected a value, got nothing"),
        ]
    ),
    (
        f"{SMALL}crl_cache_refresh_interval = soon\n",
        (
            "crl_cache_refresh_interval (line 6): expected a duration such as "
            '"500ms", "15s", "5m" or "1h30m", '
            'got "soon"'
        ),
    ),
    (
        SMALL.replace("8883", "88833"),
        f'{EXTERNAL} (line 2): expected a port from 1 to 65535, got "0.0.0.0:88833"',
    ),
    (
        f"{SMALL}{EXTERNAL}.verify = verify_peer\n",
        (
            f"{EXTERNAL}.cacertfile: expected a file of CA certificates, because "
            'verify is "optional"; got nothing'
        ),
    ),
    (
        SMALL.replace(f"{EXTERNAL}.keyfile = server.key\n", ""),
        f"{EXTERNAL}.keyfile: expected the path of a file, got nothing",
    ),
    (
        SMALL.replace(f"{EXTERNAL} = 8883\n", ""),
        f"{EXTERNAL}: expected an address or a port, got nothing",
    ),
    (
        SMALL + SMALL.replace("external", "second").replace("listener.tcp.second = 1883\n", ""),
        (
            "listener.ssl.second (line 7): expected an address of its own, got "
            '"0.0.0.0:8883" as in listener "external"'
        ),
    ),
    # brokers
    (
        SMALL.replace("listener.tcp.external = 1883\n", ""),
        (
            f"{EXTERNAL} (line 2): no broker to forward to: expected "
            "listener.tcp.external with the broker's address, "
            "got no listener.tcp"
        ),
    ),
    (
        SMALL.replace("tcp.external", "tcp.a") + "listener.tcp.b = 1\n",
        (
            f"{EXTERNAL} (line 2): no broker to forward to: expected "
            "listener.tcp.external with the broker's address, "
            "got several others: listener.tcp.a, listener.tcp.b"
        ),
    ),
    # lines
    ("", "expected listener.ssl.NAME with an address or a port, got no such listener"),
    ("\nnonsense\n", 'line 2: expected key = value, got "nonsense"'),
    ("= 3\n", 'line 1: expected key = value, got "= 3"'),
    ("listeners.ssl.default {\n", 'line 1: expected key = value, got "listeners.ssl.default {"'),
    (
        "include etc/listeners.conf\n",
        "line 1: include is not supported: put the lines of that file in its place",
    ),
]


@pytest.mark.parametrize(
    ("text", "expected"), CASES, ids=[re.sub(r"\W+", "-", case[1])[:70] for case in CASES]
)
def test_what_cannot_be_used_is_named_with_emqxs_key_and_line(
    text: str, expected: str, written: Callable[[str], Path]
) -> None:
    path = written(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: {expected}"


_KEYS = st.sampled_from(
    sorted({*re.findall(r"^[\w.]+", PAGE, re.MULTILINE), *(f"{EXTERNAL}.{key}" for key in LISTENER_KEYS)})
)
_VALUES = st.one_of(
    st.text(max_size=12), st.sampled_from(["on", "1", "a:1", "verify_peer", "15s", "tlsv1.3"])
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.tuples(_KEYS, _VALUES), min_size=1, max_size=4))
def test_any_value_under_any_key_loads_or_raises_a_config_error(
    lines: list[tuple[str, str]], tmp_path: Path
) -> None:
    path = tmp_path / "emqx.conf"
    text = PAGE + "".join(f"{key} = {value}\n" for key, value in lines)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load(path)
    except ConfigError as exc:
        assert str(exc).isprintable()  # noqa: PT017 - either outcome is good
