"""Compiles the C programs of the benchmarks into bench/results/bin, when their sources are newer.

Needs a C compiler and the headers of the system's OpenSSL 3.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"

_FLAGS = ["-D_GNU_SOURCE", "-std=c11", "-O2", "-g", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
_MISSING = "{} is missing; on Debian: apt-get install gcc libc6-dev libssl-dev"


@dataclass(frozen=True)
class Programs:
    """Where the compiled programs are."""

    load: Path
    echo: Path


def build(directory: Path = RESULTS / "bin") -> Programs:
    """Compile what is not up to date into `directory`, which is made if need be.

    Raises:
        BenchError: the compiler, OpenSSL's headers, or the compilation failed; says what to install.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise BenchError(_MISSING.format("cc, a C compiler,"))
    directory.mkdir(parents=True, exist_ok=True)
    load, echo = directory / "load", directory / "echo"
    _compile(compiler, load, sorted(HERE.glob("load*.c")), ["-lssl", "-lcrypto", "-lm"])
    _compile(compiler, echo, [HERE / "echo.c"], [])
    return Programs(load, echo)


def _compile(compiler: str, program: Path, sources: list[Path], libraries: list[str]) -> None:
    inputs = [*sources, *HERE.glob("*.h")]
    if program.exists() and program.stat().st_mtime > max(path.stat().st_mtime for path in inputs):
        return
    command = [compiler, *_FLAGS, *map(str, sources), "-o", str(program), *libraries]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        if "openssl/" in result.stderr or "-lssl" in result.stderr:
            raise BenchError(_MISSING.format("OpenSSL's development package"))
        raise BenchError(f"{program.name} does not compile:\n{result.stderr}")
