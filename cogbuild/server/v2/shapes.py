"""What `/v2` answers with, for its description; the answers themselves are made where those of `--json` are."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Artifacts",
    "Attempts",
    "CacheStats",
    "Explained",
    "Log",
    "Models",
    "Plan",
    "ShownModels",
    "Status",
]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Reason(_Shape):
    code: str
    text: str
    label: str | None = Field(
        description="The manifest row that moved; null: what is said is not about a row."
    )
    before: str | None
    after: str | None


class Problem(_Shape):
    path: str
    error: dict[str, Any]


class Fidelity(_Shape):
    runtime: str
    absolute: float
    relative: float
    examples: int
    outputs: int


# -- models -----------------------------------------------------------------------------------------------------------


class Entry(_Shape):
    model: str
    repo: str
    added: str
    files: int
    size: int
    linked: bool
    cpu_image: str | None
    adapters: list[str] | None = Field(description="The adapters that it wants; null: every one.")
    params: dict[str, dict[str, Any]]


class Models(_Shape):
    models: list[Entry]
    problems: list[Problem]


class ModelArtifact(_Shape):
    name: str
    uri: str
    media_type: str | None
    digest: str | None
    size: int | None


class MeasuredArtifact(ModelArtifact):
    fidelity: Fidelity | None


class ModelOutcome(_Shape):
    adapter: str
    active: bool
    not_applicable: str | None
    artifacts: list[MeasuredArtifact]
    made: str
    how: str
    key: str
    attempt: str | None
    seen: str | None
    lost: str | None
    test_failed: str | None


class ShownModel(Entry):
    path: str | None
    examples: list[dict[str, Any]]
    cog: dict[str, Any]
    outcomes: list[ModelOutcome]


class ShownModels(_Shape):
    models: list[ShownModel]


# -- pairs ------------------------------------------------------------------------------------------------------------


class Cell(_Shape):
    adapter: str
    state: str
    since: str | None
    seconds: float | None = Field(description="How long the attempt took that this is about.")
    fidelity: Fidelity | None
    detail: str


class Row(_Shape):
    model: str
    repo: str
    added: str
    pairs: list[Cell]


class Status(_Shape):
    adapters: list[str]
    first: int | None = Field(description="The number of the first model; null: not counted.")
    total: int | None
    more: bool
    models: list[Row]
    counts: dict[str, int] = Field(description="Pairs of this page by state.")
    problems: list[Problem]


class Moved(_Shape):
    label: str
    before: str | None
    after: str | None
    path: str | None
    path_before: str | None


class Outcome(_Shape):
    key: str
    how: str
    made: str
    reasons: list[Reason]
    not_applicable: str | None
    artifacts: list[dict[str, Any]]
    seen: str | None
    lost: str | None
    test_failed: str | None
    attempt: str | None
    seconds: float | None
    from_: str | None = Field(alias="from")
    manifest: dict[str, str]


class Tried(_Shape):
    number: int
    attempt: str
    kind: str
    status: str
    started: str
    seconds: float | None
    detail: str
    reasons: list[Reason]
    log: str | None


class Pair(_Shape):
    pair: str
    repo: str
    model: str
    adapter: str
    added: str
    verdict: str | None
    unjudged: str | None
    reasons: list[Reason]
    against: str | None
    moved: list[Moved]
    rows: int
    key: str | None
    outcome: Outcome | None
    last_attempt: Tried | None


class Explained(_Shape):
    pairs: list[Pair]


class Attempts(_Shape):
    attempts: list[Tried]
    shown: str | None = Field(description="The attempt whose log is shown where none is named.")


class Log(Tried):
    text: str | None


# -- what is kept, and what would be done -----------------------------------------------------------------------------


class Made(_Shape):
    pair: str
    repo: str
    model: str
    adapter: str
    artifacts: list[ModelArtifact]
    made: str
    how: str
    seen: str | None
    lost: str | None
    pinned: bool
    orphaned: bool


class Artifacts(_Shape):
    artifacts: list[Made]


class Counted(_Shape):
    adapter: str
    runs: int
    misses: int
    restored: int
    saved: float
    hits: int


class Volume(_Shape):
    count: int
    bytes: int


class CacheStats(_Shape):
    adapters: list[Counted]
    records: Volume
    environments: Volume


class Foretold(_Shape):
    pair: str
    repo: str
    model: str
    adapter: str
    verdict: str
    reasons: list[Reason]
    key: str | None


class Plan(_Shape):
    results: list[Foretold]
    summary: dict[str, int]
    problems: list[Problem]
