"""Write requirements/*.txt: every version pinned and hashed, for all platforms and Python 3.11 onward, naming no index.

Run by ``make lock``, with uv beside this Python. Existing pins stay unless ``--upgrade`` is given.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = {
    "run.txt": ["pyproject.toml"],
    "postgres.txt": ["pyproject.toml", "--extra", "postgres"],
    "parquet.txt": ["pyproject.toml", "--extra", "parquet"],
    "fast.txt": ["pyproject.toml", "--extra", "fast"],
    "test.txt": ["pyproject.toml", "--extra", "test"],
    "bench-sdk.txt": ["benchmarks/sdk.in"],
    "lock.txt": ["--group", "lock"],
    "audit.txt": ["--group", "audit"],
    "mutation.txt": ["pyproject.toml", "--extra", "test", "--group", "mutation"],
}
OPTIONS = [
    *("--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"),
    "--no-strip-extras",  # older pips take the newest `coverage[toml]` when only `coverage` is pinned
    *("--no-emit-index-url", "--no-emit-find-links", "--custom-compile-command", "make lock"),
]


def lock(name: str, sources: list[str], options: list[str]) -> None:
    """Rewrite one lock; raises ``CalledProcessError`` when no set of versions fits."""
    command = ["-m", "uv", "pip", "compile", *OPTIONS, *options, *sources, "--output-file", f"requirements/{name}"]
    print("uv", *command[2:], flush=True)
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)


if __name__ == "__main__":
    for name, sources in LOCKS.items():
        lock(name, sources, sys.argv[1:])
