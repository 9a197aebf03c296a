"""A container engine and a base image for tests, on a machine where no Docker daemon runs.

podman with runc works as root in Debian 12 with the settings below; its store and state are a test's own. The base
image is Debian with Python, made by debootstrap once and kept in the user's cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from registries import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "cogbuild-tests")
_SUITE = "bookworm"
_PACKAGES = "python3,ca-certificates"
#: Not in the image: what only the machine that runs it gives, and what nobody reads there.
_LEFT_OUT = ("__pycache__", "dev", "proc", "sys", "doc", "locale", "man", "archives", "lists")

_CONTAINERS = """\
[containers]
netns = "host"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
[network]
network_config_dir = "{place}/networks"
"""
_STORAGE = '[storage]\ndriver = "{driver}"\ngraphroot = "{place}/graph"\nrunroot = "{place}/run"\n'
_REGISTRIES = '[[registry]]\nlocation = "{host}"\ninsecure = true\n'


def _absent(tool: str, package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        shutil.which(tool) is None, reason=f"{tool} is not installed (Debian: {package})"
    )


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="debootstrap and this podman need root")
needs_skopeo = _absent("skopeo", "skopeo")
needs_umoci = _absent("umoci", "umoci")
needs_debootstrap = pytest.mark.skipif(
    shutil.which("debootstrap") is None and not (CACHE / f"{_SUITE}.json").exists(),
    reason="debootstrap is not installed (Debian: debootstrap)",
)


class Podman:
    """podman with a store of its own below *place*, which takes images from the registry *host*."""

    def __init__(self, place: Path, host: str) -> None:
        self.place = place
        self._layered = True
        place.mkdir(parents=True)
        self.env = {
            "CONTAINERS_CONF": self._file("containers.conf", _CONTAINERS.format(place=place)),
            "CONTAINERS_STORAGE_CONF": self._file(
                "storage.conf", _STORAGE.format(place=place, driver="overlay")
            ),
            "CONTAINERS_REGISTRIES_CONF": self._file("registries.conf", _REGISTRIES.format(host=host)),
        }
        if (
            shutil.which("podman") and self._ended("info").returncode
        ):  # the file system does not carry overlays; vfs copies every layer
            self._layered = False
            shutil.rmtree(place / "graph", ignore_errors=True)
            self._file("storage.conf", _STORAGE.format(place=place, driver="vfs"))

    def _file(self, name: str, text: str) -> str:
        (self.place / name).write_text(text)
        return str(self.place / name)

    def _ended(self, *command: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **self.env}
        return subprocess.run(["podman", *command], env=env, capture_output=True, text=True, check=False)

    def trouble(self, image: str) -> str:
        """Return why containers cannot be run here; nothing where they can."""
        for tool in ("podman", "runc"):
            if shutil.which(tool) is None:
                return f"{tool} is not installed (Debian: {tool})"
        ended = self._ended("run", "--rm", image, "python3", "-c", "pass")
        return f"podman cannot run containers here: {ended.stderr}" if ended.returncode else ""

    def run(self, *command: str) -> str:
        """Return what ``podman COMMAND`` prints."""
        done = self._ended(*command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextlib.contextmanager
    def service(self) -> Iterator[str]:
        """Docker's API over a socket; yields what ``DOCKER_HOST`` has to be."""
        socket = self.place / "socket"
        url = f"unix://{socket}"
        command = ["podman", "system", "service", "--time=0", url]
        process = subprocess.Popen(command, env={**os.environ, **self.env}, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 20
            while not socket.exists():
                assert process.poll() is None, "podman's service ended at once"
                assert time.monotonic() < deadline, "podman's service did not come up in 20 s"
                time.sleep(0.05)
            yield url
        finally:
            process.terminate()
            process.wait()

    def forget(self) -> None:
        """Remove its images, where those that share layers would not share the disk."""
        if not self._layered:
            self.run("rmi", "--all", "--force")

    def clean(self) -> None:
        """Remove its containers, images and networks."""
        self.run("rm", "--all", "--force")
        self.run("rmi", "--all", "--force")
        self.run("network", "prune", "--force")
        shutil.rmtree(self.place)


@contextlib.contextmanager
def in_chroot(reference: str, place: Path) -> Iterator[str]:
    """Run an image's command without an engine; yields the address that it serves at."""
    layout, bundle = place / "layout", place / "bundle"
    place.mkdir()
    for command in (
        ["skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{reference}", f"oci:{layout}:it"],
        ["umoci", "unpack", "--image", f"{layout}:it", str(bundle)],
    ):
        subprocess.run(command, check=True, capture_output=True)
    process = json.loads((bundle / "config.json").read_text())["process"]
    port = free_port()
    env = [*process["env"], f"PORT={port}", "HOME=/root"]
    script = """
        mkdir -p dev proc tmp && mount --rbind /dev dev && mount -t proc proc proc &&
        exec chroot . /usr/bin/env -i "$@"
    """
    inside = ["sh", "-c", 'cd "$0" && exec "$@"', process["cwd"], *process["args"]]
    running = subprocess.Popen(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh", *env, *inside],
        cwd=bundle / "rootfs",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        running.kill()
        running.wait()


def asked(url: str, body: object = None) -> dict[str, Any]:
    """Return what a server answers as JSON, with the code of a refusal; nothing where none answers."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        with error:
            return {"code": error.code, "said": error.read()}
    except OSError:
        return {}


def push_base(images: Any, host: str, *, env: Mapping[str, str] = {}) -> str:
    """Push Debian with Python, and return its name by digest."""
    layer = _debian(images)
    settings = {"PATH": "/usr/local/bin:/usr/bin:/bin", **env}
    pushed: str = images.derive(images.empty(), [layer], env=settings).push(f"{host}/python:3.11-slim")
    return pushed


def _debian(images: Any) -> Any:
    """Return Debian as a layer, from the cache or made by debootstrap."""
    CACHE.mkdir(parents=True, exist_ok=True)
    described, packed = CACHE / f"{_SUITE}.json", CACHE / f"{_SUITE}.tar.gz"
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not described.exists():
            root = CACHE / "root"
            shutil.rmtree(root, ignore_errors=True)
            command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(root)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            made = images.layer({"/": root}, comment="Debian", skip=_LEFT_OUT)
            shutil.move(made.file, packed)
            facts = {
                "digest": made.digest,
                "diff_id": made.diff_id,
                "size": made.size,
                "comment": made.comment,
            }
            described.write_text(json.dumps(facts))
            shutil.rmtree(root)
    return images.Layer(file=packed, **json.loads(described.read_text()))
