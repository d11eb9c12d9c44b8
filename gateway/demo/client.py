"""The demonstration's clients: one speaks MQTT through the gateway, one looks at the TLS handshake."""

from __future__ import annotations

import contextlib
import queue
import select
import socket
import ssl
import threading
from typing import TYPE_CHECKING

import paho.mqtt.client as mqtt
from cryptography.x509 import ocsp
from OpenSSL import SSL
from paho.mqtt.enums import CallbackAPIVersion

if TYPE_CHECKING:
    from pathlib import Path

    from paho.mqtt.client import ConnectFlags, DisconnectFlags, MQTTMessage
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

TIMEOUT = 15.0
_VERDICT_PAUSE = 0.5


class Device:
    """An MQTT client with a client certificate; without one it connects to a plain port."""

    def __init__(
        self, name: str, port: int, *, ca: Path | None = None, credential: Path | None = None
    ) -> None:
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.disconnected = threading.Event()
        self._connected = threading.Event()
        self._subscribed = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, reconnect_on_failure=False)
        if ca is not None and credential is not None:
            tls = ssl.create_default_context(cafile=str(ca))
            tls.load_cert_chain(credential.with_suffix(".pem"), credential.with_suffix(".key"))
            self._client.tls_set_context(tls)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._port = port

    def connect(self) -> bool:
        """Connect; whether the broker has answered."""
        self._client.connect("localhost", self._port)
        self._client.loop_start()
        return self._connected.wait(TIMEOUT)

    def subscribe(self, topic: str) -> bool:
        """Subscribe; whether the broker has answered."""
        self._client.subscribe(topic)
        return self._subscribed.wait(TIMEOUT)

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish once, at least once."""
        self._client.publish(topic, payload, qos=1).wait_for_publish(TIMEOUT)

    def close(self) -> None:
        """Disconnect and stop the client's thread."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self,
        _client: mqtt.Client,
        _data: object,
        _flags: ConnectFlags,
        _reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._connected.set()

    def _on_disconnect(
        self,
        _client: mqtt.Client,
        _data: object,
        _flags: DisconnectFlags,
        _reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self.disconnected.set()

    def _on_message(self, _client: mqtt.Client, _data: object, message: MQTTMessage) -> None:
        self.messages.put((message.topic, bytes(message.payload)))


def look(port: int, ca: Path, credential: Path) -> tuple[str | None, str]:
    """One TLS handshake: the stapled status (None without a staple), and the server's alert, or ""."""
    stapled: list[bytes] = []

    def keep(_connection: SSL.Connection, response: bytes, _data: None) -> bool:
        stapled.append(response)
        return True

    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.load_verify_locations(str(ca))
    context.set_verify(SSL.VERIFY_PEER)
    context.use_certificate_chain_file(str(credential.with_suffix(".pem")))
    context.use_privatekey_file(str(credential.with_suffix(".key")))
    context.set_ocsp_client_callback(keep)
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as plain:
        # pyOpenSSL works on a blocking socket here; a timeout would make it non-blocking.
        plain.settimeout(None)
        connection = SSL.Connection(context, plain)
        connection.set_tlsext_host_name(b"localhost")
        connection.request_ocsp()
        connection.set_connect_state()
        alert = ""
        try:
            connection.do_handshake()
            _await_verdict(connection, plain)
        except SSL.ZeroReturnError:
            alert = "close_notify"
        except SSL.Error as exc:
            alert = "; ".join(reason for *_, reason in exc.args[0]) if exc.args else "connection closed"
    status = (
        ocsp.load_der_ocsp_response(stapled[0]).certificate_status.name if stapled and stapled[0] else None
    )
    return status, alert


def _await_verdict(connection: SSL.Connection, plain: socket.socket) -> None:
    """Read until an alert raises, or nothing has come for a while.

    In TLS 1.3 the verdict on the client's certificate comes after the client's handshake is over.
    """
    plain.setblocking(False)  # noqa: FBT003 - the library's own signature
    while select.select([plain], [], [], _VERDICT_PAUSE)[0]:
        with contextlib.suppress(SSL.WantReadError):
            connection.recv(1)
