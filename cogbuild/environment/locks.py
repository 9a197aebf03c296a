"""Requirements → request → lock."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from cogbuild.digest import tagged
from cogbuild.environment import tool
from cogbuild.environment.python import platform_name
from cogbuild.errors import CogbuildError
from cogbuild.errors.environments import (
    PackagesOutOfReach,
    PathRequirement,
    ResolveFailed,
    UnreadableRequirement,
    Unresolvable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cogbuild.environment.python import Python
    from cogbuild.process import Captured

__all__ = ["Lock", "Request", "make_request", "resolve"]


@dataclass(frozen=True)
class Request:
    """What identifies a lock."""

    requirements: tuple[str, ...]  # normalised, sorted, each once
    python: str  # full version
    platform: str
    constraints: tuple[str, ...] = ()  # bind only what is installed anyway
    options: tuple[str, ...] = ()  # where to look, as a requirements file says it: "--extra-index-url URL"

    @cached_property
    def digest(self) -> str:
        """The name of the lock that answers this request: 64 hex digits."""
        fields = [self.python, self.platform, *self.requirements]
        if self.constraints or self.options:
            # May hold a password: known by its digest alone, as all of a request is.
            fields += ["-c", *self.constraints, "--", *self.options]
        return tagged("environment-request/1", fields)


@dataclass(frozen=True)
class Lock:
    """Pinned requirements with their hashes; the same on every machine that resolved the same."""

    text: str  # a requirements file, one package after the other by name; no index, no path
    python: str  # full version

    @cached_property
    def digest(self) -> str:
        """The identity of the environment: 64 hex digits."""
        return tagged("environment-lock/1", [self.python, self.text])

    def rows(self) -> list[tuple[str, str]]:
        """Return what counts, for a manifest: the Python, and each package with its version and its files' digest."""
        rows = [("python", self.python)]
        for entry in self.text.replace("\\\n", " ").splitlines():
            pin, *hashes = entry.split("--hash=")
            name, _, version = pin.strip().replace(" @ ", "==", 1).partition("==")
            files = tagged("locked-files/1", sorted(item.strip() for item in hashes))
            rows.append((f"python:{name}", f"{version} (files {files[:16]})" if hashes else version))
        return rows


def make_request(
    requirements: Iterable[str],
    python: Python,
    *,
    asked_by: str,
    constraints: Iterable[str] = (),
    options: Iterable[str] = (),
) -> Request:
    """Return the request for *requirements* on this machine, whatever their order and spelling."""
    normal = {_normalised(requirement, asked_by) for requirement in requirements}
    bounds = {_normalised(requirement, asked_by) for requirement in constraints}
    return Request(
        tuple(sorted(normal)), python.version, platform_name(), tuple(sorted(bounds)), tuple(options)
    )


def _normalised(requirement: str, asked_by: str) -> str:
    from packaging.requirements import InvalidRequirement

    text = requirement.strip()
    try:
        normal, url = _parsed(text)
    except InvalidRequirement as trouble:
        if text.startswith(("git+https://", "git+ssh://", "https://")):  # pip and uv take a bare URL too
            return text
        reason = str(trouble).split("\n", 1)[0]
        raise UnreadableRequirement(requirement=text, asked_by=asked_by, reason=reason) from None
    if url and (url.startswith(("file:", "git+file:")) or "://" not in url):
        raise PathRequirement(requirement=text, asked_by=asked_by)
    return normal


@lru_cache(maxsize=4096)  # the same few are asked for with every model of a listing
def _parsed(text: str) -> tuple[str, str | None]:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    parsed = Requirement(text)
    parsed.name = canonicalize_name(parsed.name)
    return str(parsed), parsed.url


def resolve(
    request: Request,
    python: Python,
    *,
    asked_by: str,
    previous: Lock | None = None,
    upgrade: bool = False,
    on_line: Callable[[bytes], None] | None = None,
) -> Lock:
    """Return the packages that meet *request*, pinned by version and hash.

    *asked_by* names in errors who asks, e.g. ``adapter onnx for model 0123456789ab``. Versions of *previous* are kept
    where they still fit, unless *upgrade*. Threads that ask for the same at once share one run of uv.
    """
    if not request.requirements:
        return Lock("", request.python)
    name = (request.digest, previous.digest if previous else "", upgrade)
    with _guard:
        flight = _flights.get(name)
        leads = flight is None
        flight = _flights.setdefault(name, _Flight())
    if not leads:
        tool.tell(on_line, "waiting for the same packages to be resolved for another pair")
        flight.ended.wait()
        if flight.lock is not None:
            return flight.lock
        if flight.error is not None:
            raise type(flight.error)(**{**flight.error.facts, "asked_by": asked_by})
        return resolve(
            request, python, asked_by=asked_by, previous=previous, upgrade=upgrade, on_line=on_line
        )
    try:
        flight.lock = _Compile(request, python, asked_by, on_line).lock(previous, upgrade=upgrade)
    except CogbuildError as error:
        flight.error = error
        raise
    finally:
        with _guard:
            del _flights[name]
        flight.ended.set()
    return flight.lock


@dataclass
class _Flight:
    """One run of uv that threads wait for; neither lock nor error: it was interrupted."""

    ended: threading.Event = field(default_factory=threading.Event)
    lock: Lock | None = None
    error: CogbuildError | None = None


_guard = threading.Lock()
_flights: dict[tuple[str, str, bool], _Flight] = {}


@dataclass(frozen=True)
class _Compile:
    """One resolution: the network first, uv's cache where the network does not answer.

    Not the cache first, though it is faster: what happens to lie there would choose the versions. With only the
    metadata of six 1.16 in the cache, `uv pip compile --offline` locks six 1.16, although the listing beside it in the
    same cache names 1.17.
    """

    request: Request
    python: Python
    asked_by: str
    on_line: Callable[[bytes], None] | None

    def lock(self, previous: Lock | None, *, upgrade: bool) -> Lock:
        from tempfile import TemporaryDirectory

        with TemporaryDirectory(prefix="cogbuild-lock-") as made:
            directory = Path(made)
            lines = [*self.request.options, *self.request.requirements]
            if self.request.constraints:
                (directory / "constraints.txt").write_text(
                    "\n".join(self.request.constraints) + "\n", "utf-8"
                )
                lines.append("-c constraints.txt")
            (directory / "requirements.in").write_text("\n".join(lines) + "\n", "utf-8")
            if previous is not None:
                (directory / "lock.txt").write_text(previous.text, "utf-8")
            self._compile(directory, upgrade=upgrade)
            return Lock(_cleaned((directory / "lock.txt").read_text("utf-8")), self.request.python)

    def _compile(self, directory: Path, *, upgrade: bool) -> None:
        tool.tell(self.on_line, f"resolving packages for Python {self.request.python}")
        ended = self._uv(directory, *(["--upgrade"] if upgrade else []))
        if ended.code != 0 and not upgrade and tool.out_of_reach(ended):
            tool.tell(self.on_line, "the package index does not answer: trying uv's cache")
            if self._uv(directory, "--offline").code == 0:
                return
        if ended.code != 0:
            raise self._error(ended)

    def _uv(self, directory: Path, *options: str) -> Captured:
        form = ("--generate-hashes", "--no-header", "--no-annotate", "--output-file=lock.txt")
        which = (f"--python={self.python.path}", *tool.index_options(), *options)
        return tool.run(
            "pip", "compile", "requirements.in", *form, *which, cwd=directory, on_line=self.on_line
        )

    def _error(self, ended: Captured) -> CogbuildError:
        kind: type[CogbuildError] = ResolveFailed
        if tool.out_of_reach(ended):
            kind = PackagesOutOfReach
        elif b"No solution found" in ended.stderr:
            kind = Unresolvable
        return kind(
            asked_by=self.asked_by,
            requirements=self.request.requirements,
            python=self.request.python,
            note=self.python.note or None,
            uv_says=tool.said(ended),
        )


def _cleaned(text: str) -> str:
    """Return *text* without comments and options, which a site's uv.toml may add: they name this site's places."""
    return "".join(f"{line}\n" for line in text.splitlines() if line.strip() and line[0] not in "#-")
