"""The demonstration's small MQTT broker, in a process of its own: `python -m gateway.demo.broker PORT`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

from amqtt.broker import Broker

from gateway.native import die_with_parent

_CONFIG = {
    "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
}


async def _serve(port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    broker = Broker({"listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}}} | _CONFIG)
    await broker.start()
    await stop.wait()
    with contextlib.suppress(asyncio.CancelledError):
        await broker.shutdown()


if __name__ == "__main__":
    if die_with_parent(os.getppid()):
        asyncio.run(_serve(int(sys.argv[1])))
