"""A configuration with all that it names: what `serve`, `check` and a reload begin with."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from gateway.config import load, material
from gateway.config.values import one_line
from gateway.errors import ConfigError
from gateway.log import files as log_files
from gateway.tls import options

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gateway.config.material import ListenerMaterial
    from gateway.config.model import Config

# Seconds between two looks at files that are watched.
_WATCH_INTERVAL = 1.0


class Reading(NamedTuple):
    """What a configuration file says, what stands in the files that it names, and what to warn about."""

    config: Config
    materials: Sequence[ListenerMaterial]
    """One per listener."""
    warnings: Sequence[str]


def read(path: Path, state_dir: Path | None) -> Reading:
    """Read and check it whole; `state_dir` replaces the one in the file. Raises ConfigError."""
    loaded = load.load(path, state_dir=state_dir)
    source = one_line(str(path))
    materials = []
    for number, listener in enumerate(loaded.config.listeners):
        place = partial(_place, source, loaded, number)
        options.check(listener, place)
        materials.append(material.load_material(listener, place))
    try:
        material.check_state_dir(loaded.config.state_dir)
    except ConfigError as exc:
        # Given as an option, it is in no file.
        raise ConfigError(f"{exc}" if state_dir else f"{source}: {exc}") from exc
    if loaded.config.admin.token_file is not None:
        try:
            material.load_token(loaded.config.admin.token_file)
        except ConfigError as exc:
            raise ConfigError(f"{source}: {exc}") from exc
    if loaded.config.log.file is not None:
        log_files.check(loaded.config.log.file, f"{source}: log.file")
    warnings = [*loaded.warnings, *(warning for found in materials for warning in found.warnings)]
    return Reading(loaded.config, materials, warnings)


def check_change(before: Config, after: Config) -> None:
    """Whether a reload can take `after` in place of `before`. Raises ConfigError."""
    for key in ("state_dir", "user", "group"):
        if getattr(after, key) != getattr(before, key):
            raise ConfigError(f"{key}: cannot be changed by a reload; restart to do that")


def files(path: Path, config: Config) -> set[Path]:
    """The configuration file and those that it names, by whose change it would read otherwise."""
    found = {path, config.admin.token_file}
    for listener in config.listeners:
        tls = listener.upstream_tls
        found |= {listener.client_ca, listener.stapling.issuer, tls.ca, tls.cert, tls.key}
        for certificate in listener.certificates:
            found |= {certificate.cert, certificate.key}
    return {each for each in found if each is not None}


def watched(path: Path, state_dir: Path | None) -> set[Path]:
    """The files by whose change `read` would say otherwise, whether or not it likes what they say now."""
    try:
        return files(path, load.load(path, state_dir=state_dir).config)
    except ConfigError:
        return {path}


class Watch:
    """Whether files have changed, and are not being written just now."""

    def __init__(self, files: set[Path]) -> None:
        self._files = files
        self._read = self._seen = self._stamps()
        self.next_look = time.monotonic() + _WATCH_INTERVAL

    def changed(self) -> bool:
        """Look, if it is time to: once for each change, when two looks have seen the same."""
        if time.monotonic() < self.next_look:
            return False
        self.next_look = time.monotonic() + _WATCH_INTERVAL
        before, self._seen = self._seen, self._stamps()
        if self._seen == self._read or self._seen != before:
            return False
        self._read = self._seen
        return True

    def _stamps(self) -> dict[Path, tuple[int, ...]]:
        stamps: dict[Path, tuple[int, ...]] = {}
        for path in self._files:
            with suppress(OSError):
                found = path.stat()
                stamps[path] = (found.st_mtime_ns, found.st_size, found.st_ino)
        return stamps


def _place(source: str, loaded: load.Loaded, number: int, key: str) -> str:
    return f"{source}: {loaded.name(f'listeners[{number}].{key}')}"
