"""EMQX 4.4's configuration file as the plain mapping that our TOML would give.

The file is cuttlefish's: `key = value`, one a line, `#` begins a comment, quotes
are optional, the last of two equal keys counts. `parse_emqx` does no I/O and
raises ConfigError alone. Its keys become ours by the tables below, and beyond them:

- `listener.ssl.NAME` and its keys become one listener. Its broker is where
  `listener.tcp.NAME` listens, or the only `listener.tcp` there is.
- A key that the gateway has no use for is ignored, and all of these are named in
  one warning. A key that looks like one of ours but is none is refused, as EMQX
  refuses it: `enable_crl_chek = true` must not leave the door open.
- EMQX follows no distribution points; `enable_crl_check` and `verify` are off
  unless the file says otherwise.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

from gateway.config import emqx_tls
from gateway.config.emqx_keys import GLOBAL_KEYS, LISTENER_KEYS, collapsed, meant
from gateway.config.values import one_line, show
from gateway.errors import ConfigError

_SWITCH = {"on": True, "true": True, "off": False, "false": False}
_TLS_VERSIONS = {"tlsv1.3": "1.3", "tlsv1.2": "1.2"}
_PARTIAL_CHAIN = ("false", "true", "cacert_from_cacertfile", "two_cacerts_from_cacertfile")
_LONGEST_NUMBER = 10
_OLD_TLS_VERSIONS = ("tlsv1.1", "tlsv1")
_LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - replaced, not bound


class Entry(NamedTuple):
    """One line of the file; `line` counts from 1 and is None for a key that is not there."""

    key: str
    value: str
    line: int | None

    @property
    def name(self) -> str:
        """The key as messages name it."""
        return self.key if self.line is None else f"{self.key} (line {self.line})"


@dataclass
class Parsed:
    """A mapping for the one conversion, warnings, and where each of our key paths came from."""

    mapping: dict[str, object] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    origins: dict[str, Entry] = field(default_factory=dict)

    def name(self, path: str) -> str:
        """EMQX's key, with its line, that a key path of ours came from or would have come from."""
        while path and path not in self.origins:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.origins[path].name if path else "listener.ssl.NAME"


def parse_emqx(text: str, source: str) -> Parsed:
    """The mapping that TOML would have given for an EMQX 4.4 file, with warnings and origins.

    `source` is the file's name for messages. Raises ConfigError for a line that is
    no setting, for a value that one of our keys cannot have, for a misspelt key,
    and where no broker, or more than one, could be meant.
    """
    reader = _Reader(source, _entries(text, source))
    for key, path in GLOBAL_KEYS.items():
        entry = reader.take(key, path)
        if entry is not None:
            _put(reader.parsed.mapping, path, entry.value)
    reader.refuse_misspelt()
    names = reader.names("ssl")
    if not names:
        raise ConfigError(
            f"{source}: expected listener.ssl.NAME with an address or a port, got no such listener"
        )
    reader.parsed.mapping["listeners"] = [_Listener(reader, i, name).read() for i, name in enumerate(names)]
    unused = [key for key in reader.entries if key not in reader.used]
    if unused:
        reader.parsed.warnings.append(f"ignored, no counterpart here: {collapsed(unused)}")
    return reader.parsed


def _entries(text: str, source: str) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        key = key.strip()
        if re.fullmatch(r"include\s.*", line):
            raise ConfigError(
                f"{source}: line {number}: include is not supported: put the lines of that file in its place"
            )
        if not equals or not re.fullmatch(r"[^\s\"'#]+", key):
            raise ConfigError(f"{source}: line {number}: expected key = value, got {show(line)}")
        entries[one_line(key)] = Entry(one_line(key), _value(value.strip()), number)
    return entries


def _value(text: str) -> str:
    """The value without its quotes and the comment behind it."""
    quoted = re.fullmatch(r"(?P<quote>[\"'])(?P<inner>.*?)(?P=quote)\s*(?:#.*)?", text, re.DOTALL)
    return quoted["inner"].strip() if quoted else text.partition("#")[0].strip()


class _Reader:
    """Takes the entries that the gateway has a use for; what is left is ignored or misspelt."""

    def __init__(self, source: str, entries: dict[str, Entry]) -> None:
        self.source = source
        self.entries = entries
        self.used: set[str] = set()
        self.parsed = Parsed()

    def names(self, kind: str) -> list[str]:
        """The NAMEs of `listener.KIND.NAME`, with an address or only keys behind it, in the file's order."""
        prefix = f"listener.{kind}."
        found = (key.removeprefix(prefix).split(".")[0] for key in self.entries if key.startswith(prefix))
        return [name for name in dict.fromkeys(found) if name]

    def take(self, key: str, path: str) -> Entry | None:
        """The entry of a key that goes to `path` of ours, or None; errors about `path` then name the key."""
        entry = self.entries.get(key)
        if entry is not None:
            self.used.add(key)
            if "{{" in entry.value:
                self.fail(entry, "expected the value that EMQX's variable stands for")
            if not entry.value:
                self.fail(entry, "expected a value")
        self.parsed.origins.setdefault(path, entry or Entry(key, "", None))
        return entry

    def fail(self, entry: Entry, problem: str) -> NoReturn:
        """Refuse an entry's value."""
        got = show(entry.value) if entry.value else "nothing"
        raise ConfigError(f"{self.source}: {entry.name}: {problem}, got {got}")

    def warn(self, entry: Entry, text: str) -> None:
        """Keep an entry, but say something about it."""
        self.parsed.warnings.append(f"{entry.name}: {text}")

    def switch(self, entry: Entry | None) -> bool | None:
        """The value of on, off, true or false; None without an entry."""
        if entry is None:
            return None
        if entry.value not in _SWITCH:
            self.fail(entry, "expected on, off, true or false")
        return _SWITCH[entry.value]

    def refuse_misspelt(self) -> None:
        """Refuse a key that is not EMQX's and close to one of ours: EMQX would not start either."""
        for entry in self.entries.values():
            guess = meant(entry.key)
            if guess and entry.key not in self.used:
                raise ConfigError(f'{self.source}: {entry.name}: unknown key (did you mean "{guess}"?)')


class _Listener:
    """One `listener.ssl.NAME` and its keys, as the table that TOML would have given."""

    def __init__(self, reader: _Reader, index: int, name: str) -> None:
        self.reader = reader
        self.name = name
        self.prefix = f"listener.ssl.{name}"
        self.path = f"listeners[{index}]"
        self.table: dict[str, object] = {"name": name}

    def read(self) -> dict[str, object]:
        """The listener's table; what the conversion will refuse is left as it stands."""
        self.reader.parsed.origins[self.path] = Entry(self.prefix, "", None)
        bind = self.reader.take(self.prefix, f"{self.path}.bind")
        if bind is None:
            self.reader.fail(Entry(self.prefix, "", None), "expected an address or a port")
        self.table["bind"] = [f"0.0.0.0:{bind.value}" if bind.value.isdigit() else bind.value]
        self.table["certificates"] = [self._texts("certfile", "keyfile")]
        self._plain()
        self._verify()
        self._tls_versions()
        self._suites()
        self._clients()
        self._revocation()
        self._stapling()
        self._upstream()
        return self.table

    def _take(self, suffix: str) -> Entry | None:
        return self.reader.take(f"{self.prefix}.{suffix}", f"{self.path}.{LISTENER_KEYS[suffix]}")

    def _texts(self, *suffixes: str) -> dict[str, object]:
        """The keys that go over as they stand, each under the last part of its path."""
        entries = {LISTENER_KEYS[suffix].rpartition(".")[2]: self._take(suffix) for suffix in suffixes}
        return {key: entry.value for key, entry in entries.items() if entry is not None}

    def _plain(self) -> None:
        self.table |= self._texts("cacertfile", "handshake_timeout", "max_connections", "max_conn_rate")
        for key, number in ("max_connections", int), ("max_conn_rate", float):
            # What is no number stays text, and the conversion says what it expected.
            with contextlib.suppress(KeyError, ValueError):
                self.table[key] = number(str(self.table[key]))
        proxy = self._take("proxy_protocol")
        if proxy is not None and self.reader.switch(proxy):
            self.table["accept_proxy_protocol"] = ["0.0.0.0/0", "::/0"]  # as EMQX does

    def _verify(self) -> None:
        verify = self._take("verify")
        demand = self._take("fail_if_no_peer_cert")
        demanded = self.reader.switch(demand)
        if verify is not None and verify.value not in ("verify_peer", "verify_none"):
            self.reader.fail(verify, "expected verify_peer or verify_none")
        if verify is not None and verify.value == "verify_peer":
            self.table["verify"] = "required" if demanded else "optional"
            return
        self.table["verify"] = "none"
        if demand is not None and demanded:
            self.reader.warn(
                demand, "has no effect without verify = verify_peer: no client certificate is asked for"
            )

    def _tls_versions(self) -> None:
        entry = self._take("tls_versions")
        if entry is None:
            return
        listed = _listed(entry.value)
        if not all(name in _TLS_VERSIONS or name in _OLD_TLS_VERSIONS for name in listed):
            self.reader.fail(entry, "expected versions out of tlsv1.3 and tlsv1.2")
        versions = [_TLS_VERSIONS[name] for name in listed if name in _TLS_VERSIONS]
        if not versions:
            self.reader.fail(entry, "expected tlsv1.3 or tlsv1.2 among the versions")
        dropped = [name for name in listed if name in _OLD_TLS_VERSIONS]
        if dropped:
            self.reader.warn(entry, f"{' and '.join(dropped)} not offered: RFC 8996 forbids them")
        self.table["tls_versions"] = versions

    def _suites(self) -> None:
        entry = self._take("ciphers")
        if entry is not None:
            found = emqx_tls.suites(_listed(entry.value))
            if not found.ciphers and not found.ciphersuites:
                self.reader.fail(entry, "expected a suite with ECDHE or of TLS 1.3 among the ciphers")
            self.table |= {"ciphers": found.ciphers} if found.ciphers else {}
            self.table |= {"ciphersuites": found.ciphersuites} if found.ciphersuites else {}
            self._not_offered(entry, found.dropped)
        entry = self._take("eccs")
        if entry is not None:
            groups, dropped = emqx_tls.groups(_listed(entry.value))
            if not groups:
                self.reader.fail(entry, "expected a curve such as secp256r1 or x25519 among them")
            self.table["groups"] = groups
            self._not_offered(entry, dropped)
        order = self._take("honor_cipher_order")
        if order is not None and not self.reader.switch(order):
            self.reader.warn(order, "has no effect: the order of the ciphers is always the listener's")
        # On or off, there is no renegotiation.
        self.reader.switch(self._take("secure_renegotiate"))
        sessions = self.reader.switch(self._take("reuse_sessions"))
        if sessions is not None:
            self.table["session_tickets"] = sessions

    def _not_offered(self, entry: Entry, names: list[str]) -> None:
        if names:
            self.reader.warn(entry, f"not offered: {', '.join(map(one_line, names))}")

    def _clients(self) -> None:
        """What is asked of a client's chain beyond `verify`."""
        partial = self._take("partial_chain")
        if partial is not None and partial.value not in _PARTIAL_CHAIN:
            self.reader.fail(partial, f"expected one of {', '.join(_PARTIAL_CHAIN)}")
        if partial is not None and partial.value != "false":
            self.table["trust"] = "intermediate"
            self.reader.warn(
                partial, "every CA in cacertfile is a trust anchor here, not its last ones alone"
            )
        depth = self._take("depth")
        if depth is not None:
            # What is no number stays text, and the conversion says what it expected.
            number = depth.value.isascii() and depth.value.isdigit() and len(depth.value) < _LONGEST_NUMBER
            self.table["verify_depth"] = int(depth.value) if number else depth.value
        usages = self._take("verify_peer_ext_key_usage")
        if usages is not None and usages.value != "undefined":
            self.table["client_extended_key_usage"] = emqx_tls.usages(_listed(usages.value))

    def _revocation(self) -> None:
        check = self._take("enable_crl_check")
        enabled = self.reader.switch(check)
        urls = self._take("crl_cache_urls")
        self.table["revocation"] = {
            "check": "chain" if enabled else "off",
            "crl_urls": _listed(urls.value) if urls is not None else [],
            "follow_distribution_points": False,
        }
        if check is not None and enabled and self.table["verify"] == "none":
            self.reader.warn(
                check, "has no effect without verify = verify_peer: no client certificate is asked for"
            )

    def _stapling(self) -> None:
        table = self._texts(
            "ocsp_responder_url", "ocsp_issuer_pem", "ocsp_refresh_interval", "ocsp_refresh_http_timeout"
        )
        enabled = self.reader.switch(self._take("enable_ocsp_stapling"))
        self.table["stapling"] = {"enabled": bool(enabled), **table}

    def _upstream(self) -> None:
        """Where EMQX listens in plain text: that of the same NAME, or the only one."""
        brokers = [name for name in self.reader.names("tcp") if f"listener.tcp.{name}" in self.reader.entries]
        wanted = f"expected listener.tcp.{self.name} with the broker's address"
        place = (
            f"{self.reader.source}: {self.reader.parsed.name(f'{self.path}.bind')}: no broker to forward to"
        )
        if not brokers:
            raise ConfigError(f"{place}: {wanted}, got no listener.tcp")
        if self.name not in brokers and len(brokers) > 1:
            found = ", ".join(f"listener.tcp.{name}" for name in brokers)
            raise ConfigError(f"{place}: {wanted}, got several others: {found}")
        broker = self.name if self.name in brokers else brokers[0]
        entry = self.reader.take(f"listener.tcp.{broker}", f"{self.path}.upstreams")
        proxy = self.reader.take(f"listener.tcp.{broker}.proxy_protocol", f"{self.path}.proxy_protocol")
        if proxy is not None and self.reader.switch(proxy):
            self.table["proxy_protocol"] = "v2"  # the broker waits for it, and version 2 tells it most
        if entry is not None:
            host, _, port = entry.value.rpartition(":")
            self.table["upstreams"] = [f"{_LOOPBACK.get(host, host)}:{port}"]


def _listed(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def _put(mapping: dict[str, object], path: str, value: object) -> None:
    outer, _, key = path.rpartition(".")
    table = mapping.setdefault(outer, {}) if outer else mapping
    if isinstance(table, dict):
        table[key] = value
