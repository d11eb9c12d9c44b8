"""What the types of the model cannot say: rules that take two fields, a scheme, or a meaning.

No I/O. `refuse_violations` returns for every Config that the gateway can run, and
`remarks` are what it can run with but an operator will hardly have meant. Key
paths are those of TOML.
"""

from __future__ import annotations

import ipaddress
import math
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway.config.values import format_duration, one_line, parse_usage, show

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gateway.config.model import Address, Admin, Config, Listener, Log

_WEEK = 7 * 86_400

Finding = tuple[str, str]
"""A key path and what is wrong with it."""

# By OpenSSL's names: an ephemeral key exchange, and encryption that authenticates.
_STRONG = re.compile(r"ECDHE-.*(?:-GCM-|-CHACHA20-|-CCM)")
_WEAK = (
    "{} without forward secrecy or authenticated encryption (RFC 9325, section 4.2): "
    "keep them only for clients that have nothing better"
)
_NOBODY_ASKED = 'has no effect: verify is "none", so that no client certificate is asked for'
_NO_LIST = (
    "empty, and follow_distribution_points is off: no list ever covers a client, "
    'so on_unavailable = "{}" decides about every one'
)

# A list does not count whose signer is revoked, and nobody asks about the signer (docs/revocation.md).
_UNASKED = (
    '"leaf", and on_unavailable is "accept": clients of a CA that is revoked itself come in unchecked; '
    '"chain" keeps them out'
)


class RuleError(Exception):
    """A key that cannot stay as it is; `load` adds the file and makes a ConfigError of it."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key = key
        self.problem = problem


def refuse_violations(config: Config) -> None:
    """Raise RuleError for the first rule that the configuration breaks."""
    for key, problem in _violations(config):
        raise RuleError(key, problem)


def remarks(config: Config) -> list[Finding]:
    """What is allowed and hardly meant: each is worth a warning."""
    return [*_log_remarks(config.log), *_admin_remarks(config.admin), *_listener_remarks(config)]


def _log_remarks(log: Log) -> Iterator[Finding]:
    if log.access and log.level in ("warning", "error"):
        yield "log.access", f'has no effect: its lines are of level "info", and log.level is "{log.level}"'


def _admin_remarks(admin: Admin) -> Iterator[Finding]:
    if admin.bind is None:
        for key in ("token_file", "hosts"):
            if getattr(admin, key):
                yield f"admin.{key}", "without admin.bind there is no admin interface"
    elif not admin.bind.path and not _is_loopback(admin.bind.host):
        exposed = f"{show(str(admin.bind))} is more than loopback: the token crosses the network in clear"
        yield "admin.bind", f"{exposed}; put a TLS proxy in front, or keep it to a network of its own"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listener_remarks(config: Config) -> Iterator[Finding]:
    for i, listener in enumerate(config.listeners):
        weak = [one_line(name) for name in listener.ciphers if not _STRONG.match(name)]
        if weak:
            yield f"listeners[{i}].ciphers", _WEAK.format(", ".join(weak))
        if listener.verify == "none" and listener.client_extended_key_usage:
            yield f"listeners[{i}].client_extended_key_usage", _NOBODY_ASKED
        for key, remark in _upstream_remarks(listener):
            yield f"listeners[{i}].{key}", remark
        for key, remark in _revocation_remarks(listener):
            yield f"listeners[{i}].revocation.{key}", remark


def _upstream_remarks(listener: Listener) -> Iterator[Finding]:
    if any(ipaddress.ip_network(network).prefixlen == 0 for network in listener.accept_proxy_protocol):
        yield "accept_proxy_protocol", "whoever connects is believed: name your load balancers alone"
    if listener.upstream_tls.enabled and not listener.upstream_tls.verify:
        yield "upstream_tls.verify", "off: whoever is on the way to a broker may be that broker"
    if listener.balance != "round-robin" and len(listener.upstreams) == 1:
        yield "balance", f"{show(listener.balance)} has no effect: there is one broker"


def _revocation_remarks(listener: Listener) -> Iterator[Finding]:
    revocation = listener.revocation
    if listener.verify == "none" or revocation.check == "off":
        why = 'verify = "none"' if listener.verify == "none" else 'check = "off"'
        if revocation.revoked_serials is not None:
            yield "revoked_serials", f"this listener looks nobody up in it, because of {why}"
        if revocation.ocsp != "off":
            yield "ocsp", f"this listener has nobody asked, because of {why}"
        return
    listed = revocation.crl_urls or revocation.follow_distribution_points
    if revocation.ocsp == "off" and not listed:
        yield "crl_urls", _NO_LIST.format(revocation.on_unavailable)
    if revocation.ocsp == "off" and revocation.ocsp_responder_url is not None:
        yield "ocsp_responder_url", 'nobody is asked there, because of ocsp = "off"'
    if revocation.check == "leaf" and revocation.on_unavailable == "accept":
        yield "check", _UNASKED


def _violations(config: Config) -> Iterator[Finding]:
    yield from _names(config.listeners)
    yield from _binds(config.listeners)
    if config.group is not None and config.user is None:
        yield "group", "expected user, too: without it nobody becomes another"
    for i, listener in enumerate(config.listeners):
        for key, problem in _listener(listener):
            yield f"listeners[{i}].{key}", problem
    yield from _above_zero("reload_timeout", config.reload_timeout)
    yield from _above_zero("connect_timeout", config.connect_timeout)
    yield from _above_zero("crl_cache.refresh_interval", config.crl_cache.refresh_interval)
    yield from _above_zero("crl_cache.http_timeout", config.crl_cache.http_timeout)
    yield from _networks("crl_cache.learnt_allow", config.crl_cache.learnt_allow)
    yield from _networks("crl_cache.learnt_deny", config.crl_cache.learnt_deny)
    yield from _admin(config)


def _admin(config: Config) -> Iterator[Finding]:
    admin = config.admin
    if admin.bind is None or admin.bind.path:
        return
    if admin.token_file is None:
        got = f"because admin.bind is {show(str(admin.bind))}; got nothing"
        yield "admin.token_file", f"expected a file with a bearer token, {got}"
    for listener in config.listeners:
        for address in listener.bind:
            if set(_bound(address)) & set(_bound(admin.bind)):
                got = f"{show(str(admin.bind))} as in listener {show(listener.name)}"
                yield "admin.bind", f"expected an address of its own, got {got}"


def _names(listeners: Iterable[Listener]) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    for i, listener in enumerate(listeners):
        first = seen.setdefault(listener.name, i)
        if first != i:
            yield (
                f"listeners[{i}].name",
                f"expected a name of its own, got {show(listener.name)} as in listeners[{first}]",
            )


def _binds(listeners: Iterable[Listener]) -> Iterator[Finding]:
    # Every socket is bound with SO_REUSEPORT, so the kernel would not refuse a second bind:
    # it would deal the clients out between the two listeners.
    seen: dict[tuple[str, int], str] = {}
    for i, listener in enumerate(listeners):
        for j, address in enumerate(listener.bind):
            path = f"listeners[{i}].bind[{j}]"
            if address.path:
                yield path, f'expected "host:port" to listen on, got {show(str(address))}'
            for key in _bound(address):
                if key in seen:
                    got = f"{show(str(address))} as in listener {show(seen[key])}"
                    yield path, f"expected an address of its own, got {got}"
            seen.update(dict.fromkeys(_bound(address), listener.name))


def _bound(address: Address) -> list[tuple[str, int]]:
    hosts = [address.host] if address.host else ["0.0.0.0", "::"]  # noqa: S104 - compared, not bound
    return [(host, address.port) for host in hosts]


def _listener(listener: Listener) -> Iterator[Finding]:
    yield from _upstreams(listener)
    if listener.verify != "none" and listener.client_ca is None:
        yield (
            "client_ca",
            f'expected a file of CA certificates, because verify is "{listener.verify}"; got nothing',
        )
    yield from _tls(listener)
    yield from _above_zero("handshake_timeout", listener.handshake_timeout)
    if listener.max_conn_rate is not None and not math.isfinite(listener.max_conn_rate):
        yield "max_conn_rate", f"expected a number above 0, got {listener.max_conn_rate}"
    for i, url in enumerate(listener.revocation.crl_urls):
        yield from _url(f"revocation.crl_urls[{i}]", url, ("http", "https", "file"))
    if listener.revocation.ocsp_responder_url is not None:
        yield from _url(
            "revocation.ocsp_responder_url", listener.revocation.ocsp_responder_url, ("http", "https")
        )
    yield from _above_zero("revocation.ocsp_timeout", listener.revocation.ocsp_timeout)
    if listener.stapling.responder_url is not None:
        yield from _url("stapling.responder_url", listener.stapling.responder_url, ("http", "https"))
    if listener.stapling.required and not listener.stapling.enabled:
        yield (
            "stapling.enabled",
            "expected true, because stapling.required is; got false",
        )
    yield from _above_zero("stapling.refresh_interval", listener.stapling.refresh_interval)
    yield from _above_zero("stapling.http_timeout", listener.stapling.http_timeout)


def _tls(listener: Listener) -> Iterator[Finding]:
    for i, usage in enumerate(listener.client_extended_key_usage):
        try:
            parse_usage(usage)
        except ValueError as exc:
            yield f"client_extended_key_usage[{i}]", f"{exc}, got {show(usage)}"
    # A week is the longest that a client may keep a ticket (RFC 8446, section 4.6.1).
    if not 1 <= listener.session_lifetime <= _WEEK or listener.session_lifetime % 1:
        got = format_duration(listener.session_lifetime)
        yield "session_lifetime", f'expected whole seconds from "1s" to "7d", got "{got}"'


def _upstreams(listener: Listener) -> Iterator[Finding]:
    for i, upstream in enumerate(listener.upstreams):
        if not upstream.host and not upstream.path:
            yield f"upstreams[{i}]", f"expected a host to connect to, got {show(str(upstream))}"
    for i, source in enumerate(listener.source_addresses):
        try:
            ipaddress.ip_address(source)
        except ValueError:
            yield f"source_addresses[{i}]", f'expected an address such as "10.0.0.5", got {show(source)}'
    yield from _upstream_tls(listener)
    yield from _networks("accept_proxy_protocol", listener.accept_proxy_protocol)
    yield from _above_zero("health_check.interval", listener.health_check.interval)
    yield from _above_zero("health_check.timeout", listener.health_check.timeout)
    if listener.proxy_protocol_certificate and listener.proxy_protocol != "v2":
        yield (
            "proxy_protocol_certificate",
            f'expected false, because proxy_protocol is "{listener.proxy_protocol}" and not "v2"; got true',
        )


def _upstream_tls(listener: Listener) -> Iterator[Finding]:
    tls = listener.upstream_tls
    for one, other, missing in ("cert", "key", tls.key is None), ("key", "cert", tls.cert is None):
        if missing and getattr(tls, one) is not None:
            yield f"upstream_tls.{other}", f"expected a file, because {one} is there; got nothing"
    nameless = next((upstream for upstream in listener.upstreams if upstream.path), None)
    if tls.enabled and tls.verify and tls.server_name is None and nameless is not None:
        yield (
            "upstream_tls.server_name",
            f"expected the name in the broker's certificate, because {nameless} is none; got nothing",
        )


def _networks(path: str, networks: tuple[str, ...]) -> Iterator[Finding]:
    for i, network in enumerate(networks):
        try:
            ipaddress.ip_network(network)
        except ValueError:
            yield f"{path}[{i}]", f'expected a network such as "10.1.0.0/16", got {show(network)}'


def _above_zero(path: str, value: float) -> Iterator[Finding]:
    if value <= 0:
        yield path, f'expected a duration above 0, got "{format_duration(value)}"'


def _url(path: str, url: str, schemes: tuple[str, ...]) -> Iterator[Finding]:
    expected = _url_expected(url, schemes)
    if expected:
        yield path, f"expected {expected}, got {show(url)}"


def _url_expected(url: str, schemes: tuple[str, ...]) -> str | None:
    """What the URL should have been, None if it is."""
    listed = ", ".join(schemes[:-1]) + f" or {schemes[-1]}"
    # urlsplit drops tabs and line ends in silence: what it would split is not what would be fetched.
    if not url.isascii() or not url.isprintable() or " " in url:
        return f"a URL ({listed}) without spaces and control characters"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return f"a URL ({listed}) with a valid host and port"
    if parts.scheme not in schemes:
        return f"a URL with the scheme {listed}"
    if parts.scheme == "file":
        local = parts.netloc in ("", "localhost") and parts.path.startswith("/")
        return None if local else "an absolute file URL, as in file:///path"
    return None if parts.hostname and port != 0 else f"a URL ({listed}) with a valid host and port"
