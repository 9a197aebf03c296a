"""One data directory and the settings beside it: where everything is, opened when first used."""

from __future__ import annotations

import contextlib
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cogbuild.cache import Cache
from cogbuild.database import Database, hints, models
from cogbuild.digest import hexdigest
from cogbuild.errors.state import NoDataDirectory
from cogbuild.hashed import Hashed
from cogbuild.objects import Objects, disk_errors, make_place
from cogbuild.place import DATA_DIRECTORY, data_directory
from cogbuild.place import settings_file as _settings_file
from cogbuild.spec import Settings, from_json, to_json

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping
    from typing import Self, TypeVar

    from cogbuild.database.pairs import Artifact
    from cogbuild.remote import Remote

    T = TypeVar("T")

__all__ = ["DATA_DIRECTORY", "Project"]


class Project:
    """A data directory. Opening costs nothing; the database, the cache and the settings open when they are asked for."""

    def __init__(self, data: Path, *, environ: Mapping[str, str] | None = None) -> None:
        self.data = data.absolute()
        self.root = self.data.parent
        self.environ = dict(os.environ if environ is None else environ)
        self.database = Database(self.data / "cog.db")
        self.cache = Cache(self.data / "cache")

    @classmethod
    def find(cls, *, data_dir: str | None = None, start: Path | None = None) -> Self:
        """Return the project of *data_dir*, else of ``COGBUILD_DATA_DIR``, else the nearest one upwards.

        Raises ``NoDataDirectory``.
        """
        here = str((start or Path.cwd()).absolute())
        data = data_directory(data_dir, here)
        if data is None:
            raise NoDataDirectory(directory=here)
        return cls(Path(data))

    @cached_property
    def objects(self) -> Objects:
        """The stores of bytes; published artifacts lie where ``artifact_store`` says."""
        store = self.settings.artifact_store
        if store is None or not store.startswith("file:"):
            return Objects(self.data, hashed=self.hashed)
        from urllib.parse import unquote, urlsplit

        return Objects(self.data, self.root / unquote(urlsplit(store).path), hashed=self.hashed)

    @cached_property
    def hashed(self) -> Hashed:
        """What is known of the bytes that are kept."""
        return Hashed(lambda name: hints.hint(self.con, name) if self.exists else None)

    def keep_hashed(self) -> None:
        """Keep what is known of bytes for the next command, where that can be written."""
        from cogbuild.errors.state import DiskTrouble, ReadOnlyData

        if new := self.hashed.take():
            with contextlib.suppress(ReadOnlyData, DiskTrouble):
                self.database.write(lambda con: hints.put_hints(con, new))

    @cached_property
    def copies(self) -> Objects:
        """Copies of what lies in object stores, for adapters that read it; losing them costs time only."""
        return Objects(self.data, self.data / "copies", hashed=self.hashed)

    @cached_property
    def remote(self) -> Remote | None:
        """The object store that artifacts are sent to, where ``artifact_store`` names one."""
        store = self.settings.artifact_store
        if store is None or store.startswith("file:"):
            return None
        from cogbuild.remote import Remote

        return Remote(store)

    @cached_property
    def settings(self) -> Settings:
        """Site settings: the file beside the data directory, then ``COGBUILD_…``; parsed once a content."""
        return self._read_settings()

    def _read_settings(self) -> Settings:
        path = settings_file(self.root)
        settings = Settings()
        if path is not None:
            data = path.read_bytes()
            settings = self.remembered(
                f"settings:{path.name}:{hexdigest(data)}", Settings, lambda: _parse(data, path)
            )
        if not any(name.startswith("COGBUILD_") for name in self.environ):
            return settings
        from cogbuild.spec.site import override

        return override(settings, self.environ)

    def reread(self) -> None:
        """Look at the settings again; what their stores were goes with them.

        Until they are read, and where they can't be, those of before hold.
        """
        before = self.__dict__.get("settings")
        self.__dict__["settings"] = after = self._read_settings()
        if before is not None and after != before:
            for name in ("objects", "remote"):
                self.__dict__.pop(name, None)

    def remembered(self, name: str, kind: type[T], parse: Callable[[], T]) -> T:
        """Return a declaration from the memo *name*, parsed and remembered where it is new."""
        known = models.memo(self.database.con, name) if self.exists else None
        if known is not None:
            return from_json(kind, known.decode())
        value = parse()
        self.remember(name, to_json(value).encode())
        return value

    def remember(self, name: str, value: bytes) -> None:
        """Keep a memo where the data directory exists and can be written; it is only a hint."""
        from cogbuild.errors.state import DiskTrouble, ReadOnlyData

        if self.exists:
            with contextlib.suppress(ReadOnlyData, DiskTrouble):
                self.database.write(lambda con: models.put_memo(con, name, value))

    @property
    def exists(self) -> bool:
        """Whether the data directory is there."""
        return self.data.is_dir()

    @property
    def con(self) -> sqlite3.Connection:
        """The calling thread's connection to the database, for reading."""
        return self.database.con

    def uri(self, artifact: Artifact) -> str:
        """Return an artifact's URI as people use it; what cogbuild keeps itself is found again after a move."""
        return (self.objects.artifacts / artifact.uri).as_uri() if artifact.published else artifact.uri

    @property
    def stores(self) -> tuple[Path, ...]:
        """The places where published artifacts are, or copies of them, which adapters may read."""
        return (self.objects.artifacts, self.copies.artifacts)

    def tidy(self) -> None:
        """Remove what killed processes left half done in the stores of bytes; for a time when nobody else is at work."""
        self.objects.tidy()
        self.copies.tidy()

    def log(self, attempt: str) -> Path:
        """Return where an attempt's log is."""
        return self.data / "logs" / f"{attempt}.log"

    def make(self) -> None:
        """Make the data directory where it is not there."""
        with disk_errors(self.data):
            make_place(self.data, "--data-dir or COGBUILD_DATA_DIR", 0o755)
            for name in ("logs", "work", "envs", "state"):
                (self.data / name).mkdir(mode=0o755 if name == "logs" else 0o700, exist_ok=True)

    def close(self) -> None:
        """Close database and cache."""
        self.cache.close()
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def settings_file(directory: Path) -> Path | None:
    """Return the settings file in *directory*: ``cogbuild.yaml``, or ``pyproject.toml`` with ``[tool.cogbuild]``."""
    found = _settings_file(directory)
    return Path(found) if found is not None else None


def _parse(data: bytes, path: Path) -> Settings:
    from cogbuild.spec.site import parse_settings

    return parse_settings(data, path)
