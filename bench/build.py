"""Compiles the C programs of the benchmarks into bench/results/bin, when their sources are newer.

Needs a C compiler and the headers of the system's OpenSSL 3.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"

_FLAGS = ["-D_GNU_SOURCE", "-std=c11", "-O2", "-g", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
_MISSING = "{} is missing; on Debian: apt-get install gcc libc6-dev libssl-dev"


class MissingToolError(BenchError):
    """What it takes to compile is not installed; says how to install it."""


@dataclass(frozen=True)
class Programs:
    """Where the compiled programs are."""

    load: Path
    echo: Path


def build(directory: Path = RESULTS / "bin") -> Programs:
    """Compile what is not up to date into `directory`, which is made if need be.

    Raises:
        MissingToolError: there is no compiler, or a header or library is not there.
        BenchError: a program does not compile.
    """
    programs = Programs(directory / "load", directory / "echo")
    compile_program(programs.load, sorted(HERE.glob("load*.c")), ["-lssl", "-lcrypto", "-lm"])
    compile_program(programs.echo, [HERE / "echo.c"])
    return programs


def compile_program(program: Path, sources: list[Path], arguments: list[str] | None = None) -> None:
    """Compile `sources` into `program` unless it is newer than they, their headers and this file.

    Raises:
        BenchError: as `build`.
    """
    headers = {header for source in sources for header in source.parent.glob("*.h")}
    inputs = [*sources, *headers, Path(__file__)]
    if program.exists() and program.stat().st_mtime > max(path.stat().st_mtime for path in inputs):
        return
    compiler = shutil.which("cc")
    if compiler is None:
        raise MissingToolError(_MISSING.format("cc, a C compiler,"))
    program.parent.mkdir(parents=True, exist_ok=True)
    # Renamed into place: whoever builds or runs the same program meanwhile sees a whole one.
    with tempfile.TemporaryDirectory(dir=program.parent) as unfinished:
        output = Path(unfinished) / program.name
        command = [compiler, *_FLAGS, *map(str, sources), "-o", str(output), *(arguments or [])]
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"}
        )
        if result.returncode != 0:
            raise _explained(program, result.stderr)
        output.rename(program)


def _explained(program: Path, said: str) -> BenchError:
    lacking = re.search(r"fatal error: (\S+): No such file|cannot find (-l\w+)", said)
    if lacking is not None:
        return MissingToolError(_MISSING.format(lacking[1] or lacking[2]))
    return BenchError(f"{program.name} does not compile:\n{said}")
