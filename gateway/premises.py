"""What the supervisor holds for all processes: sockets, shared memory, the bell; and what each gets of it.

It outlasts every generation.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gateway import control, native, worker
from gateway.bell import Bell
from gateway.children import Child
from gateway.errors import ConfigError
from gateway.generations import Generation, counters_after
from gateway.log import get_logger
from gateway.privileges import identity
from gateway.revocation.policy import asks_responders
from gateway.run_directory import RunDirectory
from gateway.service import inherited
from gateway.sockets import AdminSockets, Sockets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import ExitStack

    from gateway.config.model import Config
    from gateway.reading import Reading
    from gateway.tls.context import ServerContext

# A long list is compiled beside handshakes, which must not notice; with all processors
# busy control still gets a tenth of one, and a million entries take some two seconds.
_CONTROL_NICENESS = 10
# Certificates that can be remembered to be good: a quarter of a GiB for a million.
_MOST_ANSWERS = 1_000_000


class Premises:
    """Those of one gateway, for as long as `resources` are held."""

    def __init__(self, config: Config, read: Callable[[], Reading], resources: ExitStack) -> None:
        """Take the lock, and make what no configuration changes. Raises ConfigError where that cannot be.

        `read` is handed to control: it reads the configuration anew.
        """
        self._read = read
        self._log = get_logger(process="supervisor")
        self.identity = identity(config.user, config.group)
        """Whom all children become."""
        self._run_directory = RunDirectory(config.state_dir, resources)
        self._sockets = Sockets(inherited())
        resources.callback(self._sockets.keep)
        self._admin = AdminSockets(self.identity)
        resources.callback(self._admin.keep)
        self._control_socket, self._command_socket = self._run_directory.bind()
        self._answers: native.Answers | None = None
        """Of OCSP responders: made once, so that a reload forgets none."""
        self.bell = Bell()
        resources.callback(self.bell.close)
        self._made = 0
        """Generations."""

    def give(self) -> None:
        """Have what is in the file system belong to whom the children become. Raises ConfigError."""
        if self.identity is not None:
            self._run_directory.give(self.identity)

    def furnish(
        self, reading: Reading, servers: Sequence[ServerContext], before: Generation | None
    ) -> Generation:
        """A generation, with all bound that `reading` needs. Raises ConfigError, and nothing has changed."""
        config = reading.config
        workers = _worker_count(config)
        bound = self._sockets.bind(config, workers, listen=before is None)
        try:
            admin = self._admin.bind(config)
        except ConfigError:
            self._sockets.drop(bound)
            raise
        for listener, address in self._sockets.names(config):
            self._log.info("listening", listener=listener, address=address)
        for address in self._sockets.unused():
            self._log.warning("socket not used", address=address, consequence="its clients wait in vain")
        self._answers = self._answers or _answers(config)
        counters = counters_after(before, config, workers)
        self._made += 1
        made = Generation(self._made, reading, servers, workers, counters, admin, bound=bound)
        made.children = [
            Child(f"worker-{index}", lambda index=index: self._be_worker(made, index), worker=index)  # type: ignore[misc]  # mypy cannot infer a lambda's default argument
            for index in range(workers)
        ]
        return made

    def keep(self, generations: Sequence[Generation]) -> None:
        """Close the sockets that the configurations of none of them name."""
        configs = [generation.config for generation in generations]
        self._sockets.keep(*configs)
        self._admin.keep(*configs)

    def shut(self) -> None:
        """Close all that listen to clients."""
        self._sockets.keep()

    def take_back(self, generation: Generation) -> None:
        """Close what was bound for one that is not taken."""
        self._sockets.drop(generation.bound)

    def be_control(self, generation: Generation) -> None:
        """The control process from fork to exit."""
        os.nice(_CONTROL_NICENESS)
        self._sockets.close_others([])
        self._admin.keep(generation.config)
        config, materials, _ = generation.reading
        control.run(
            control.Post(
                config, materials, self._control_socket, generation.counters, self._command_socket,
                generation.admin, self._read, self.bell, self._answers, generation.number,
            )
        )  # fmt: skip

    def _be_worker(self, generation: Generation, index: int) -> None:
        self._control_socket.close()
        self._command_socket.close()
        self._admin.keep()
        own = self._sockets.of(generation.config, index, generation.workers)
        self._sockets.close_others(own)
        worker.run(
            worker.Post(
                index=index,
                workers=generation.workers,
                config=generation.config,
                run_directory=self._run_directory.path,
                servers=generation.servers,
                sockets=own,
                counters=generation.counters,
                upstream_tls=[material.upstream_tls for material in generation.reading.materials],
                bell=self.bell,
                answers=self._answers,
                generation=generation.number,
            )
        )


def _answers(config: Config) -> native.Answers | None:
    """Room for what OCSP responders say of all clients, where any are asked; it is there once it is used."""
    asking = [listener for listener in config.listeners if asks_responders(listener)]
    room = sum(listener.max_connections for listener in asking)
    return native.Answers(min(room, _MOST_ANSWERS)) if asking else None


def _worker_count(config: Config) -> int:
    return len(os.sched_getaffinity(0)) if config.workers == "auto" else config.workers
