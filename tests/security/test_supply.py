"""T14 and T16: what we did not write ourselves, and the box it runs in."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.wire.processes import ROOT

LOCK_OF_TESTS = ROOT / "requirements" / "test.txt"
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PIN = re.compile(r"^([a-z0-9._-]+)(?:\[([a-z0-9,_-]+)\])?==(\S+)", re.MULTILINE)
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text("utf-8")
BOT = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text("utf-8"))["services"]["bot"]
NO_SERVICE = re.compile(
    r"ConnectionError|connection|resolve|timed? ?out|unreachable|ServiceError|HTTPError|403|404|5\d\d", re.I
)


def test_t14_every_pin_of_every_lock_has_a_hash_and_a_version():
    """No range, no address, no line without a hash: an installer gets these bytes or none."""
    assert {"run.txt", "test.txt", "lock.txt"} <= {lock.name for lock in LOCKS}
    for lock in LOCKS:
        text = lock.read_text("utf-8")
        entries = [entry for entry in re.split(r"\n(?=[^\s#-])", f"\n{text}") if re.match(r"[^\s#]", entry)]
        assert len(entries) == len(PIN.findall(text)) > 0, lock.name
        for entry in entries:
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), f"{lock.name}: {entry[:80]}"


def test_t14_an_extra_that_a_package_asks_for_is_pinned_with_it():
    """Of ``coverage[toml]`` pip takes the newest when only ``coverage`` is pinned, and then misses its hash."""
    pinned = {name: set(extras.split(",")) for name, extras, _ in PIN.findall(LOCK_OF_TESTS.read_text("utf-8"))}
    asked = [
        need
        for name, extras in pinned.items()
        for text in _needs(name)
        if (need := Requirement(text)).extras
        and (need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras))
    ]
    assert asked
    assert not [str(need) for need in asked if not need.extras <= pinned[canonicalize_name(need.name)]]


def _needs(name: str) -> list[str]:
    """Return what an installed package requires; a package of another platform requires nothing here."""
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


def test_t14_whatever_installs_insists_on_the_hashes():
    """Makefile, image and gate: each ``pip install`` says ``--require-hashes``; the image takes wheels only."""
    for name in ("Makefile", "docker/install.sh"):
        text = (ROOT / name).read_text("utf-8").replace("\\\n", " ")
        installs = [line for line in text.splitlines() if "pip install" in line]
        assert installs, name
        assert all("--require-hashes" in line for line in installs), name
    assert "--only-binary :all:" in (ROOT / "docker" / "install.sh").read_text("utf-8")
    assert "pip install" not in DOCKERFILE


def test_t14_a_package_with_another_content_is_not_installed(tmp_path: Path):
    """A wheel whose hash is not the lock's: pip refuses it, without any network."""
    name = "harmless-1.0-py3-none-any.whl"
    (tmp_path / name).write_bytes(b"PK\x05\x06" + bytes(18))
    lock = tmp_path / "lock.txt"
    lock.write_text(f"harmless==1.0 --hash=sha256:{'0' * 64}\n")
    source = "--no-index", "--find-links", str(tmp_path), "--target", str(tmp_path / "out")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--require-hashes", *source, "-r", str(lock)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / "out").exists()


def test_t14_only_what_is_named_is_imported():
    """Each package that the program imports is a dependency by name: none is there because another brought it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    named = [*project["dependencies"], *extras["postgres"], *extras["parquet"], *extras["fast"]]
    names = {re.split(r"[^a-z0-9-]", name.lower())[0].replace("-", "_") for name in named}
    names = (names - {"python_dotenv", "x10_python_trading_starknet"}) | {"dotenv", "x10", "scripts", "src"}
    brought = {"fast_stark_crypto"}  # the SDK's own hashing, pinned with it
    met = {
        (alias.name if isinstance(node, ast.Import) else node.module or "").partition(".")[0]
        for path in (*(ROOT / "src").rglob("*.py"), *(ROOT / "scripts").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert met - names - brought - set(sys.stdlib_module_names) == set()


def test_t14_the_locked_packages_have_no_known_vulnerability(tmp_path: Path):
    """pip-audit over the lock of the run, where it is installed and its advisory service can be reached."""
    audit = shutil.which("pip-audit") or shutil.which("pip-audit", path=str(Path(sys.executable).parent))
    if audit is None:
        pytest.skip("pip-audit is not installed (`make audit` does it)")
    command = [audit, "--require-hashes", "--disable-pip", "--progress-spinner", "off", "--timeout", "10"]
    try:
        done = subprocess.run(
            [*command, "-r", str(ROOT / "requirements" / "run.txt")],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("the advisory service did not answer within 90 s")
    if done.returncode != 0 and "Found" not in done.stderr and NO_SERVICE.search(done.stderr):
        pytest.skip(f"no advisory service can be reached: {done.stderr.strip().splitlines()[-1][:200]}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_t16_the_image_runs_as_nobody_in_particular():
    """User 10001 by number, set after the last command that needs root; only /data is his."""
    lines = [line.strip() for line in DOCKERFILE.splitlines() if line.strip() and not line.startswith("#")]
    user = lines.index("USER 10001:10001")
    assert not any(line.startswith(("RUN", "COPY", "ADD", "USER")) for line in lines[user + 1 :])
    assert "chown 10001:10001 /data" in DOCKERFILE
    assert DOCKERFILE.count("chown") == 1
    assert "VOLUME /data" in lines


def test_t16_the_container_can_neither_write_nor_rise():
    """Read-only root, no capability, no new privileges, no core dump, bounded memory, no port, no host."""
    assert BOT["read_only"] is True
    assert BOT["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in BOT["security_opt"]
    assert BOT["ulimits"]["core"] == 0
    assert BOT["pids_limit"] <= 512
    assert BOT["mem_limit"] == "1g"
    assert not BOT.keys() & {"privileged", "ports", "network_mode", "pid", "ipc", "devices", "cap_add", "user"}
    writable = [volume for volume in BOT["volumes"] if not volume.endswith(":ro")]
    assert writable == ["data:/data"]
    assert not any("docker.sock" in volume for volume in BOT["volumes"])


def test_t16_no_secret_can_get_into_a_layer():
    """Only named folders are copied, .env is kept out of the context, and no key is an argument or a variable."""
    copied = re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
    assert copied
    assert not any(source in (".", "./", "..") for line in copied for source in line.split()[:-1])
    assert not re.search(r"EXTENDED_|API_KEY|PRIVATE|^ARG|^ADD", DOCKERFILE, re.MULTILINE)
    assert {".env", ".env.*", "data/", ".git/"} <= set((ROOT / ".dockerignore").read_text("utf-8").splitlines())
