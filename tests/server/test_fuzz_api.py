"""Whatever is sent to the API, it answers as its own description says, and never with a failure of its own.

The short form runs here; ``FUZZ_EXAMPLES=2000 pytest -m slow tests/server/test_fuzz_api.py`` is the long one.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import served

from cogbuild.database import jobs, models, pairs
from cogbuild.server.app import create_app
from cogbuild.server.grants import make_token
from cogbuild.server.service import Service

if TYPE_CHECKING:
    from conftest import Sandbox

    from cogbuild.project import Project

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "25"))


def known(project: Project) -> dict[str, str]:
    """Return values of path parameters that lead somewhere."""
    entry = models.entries(project.con)[0]
    (outcome,) = pairs.outcomes(project.con, eids=[entry.eid]).values()
    user, name = entry.repo.split("/")
    job = jobs.listed(project.con)[0].id
    return {
        "user": user,
        "name": name,
        "model": entry.model,
        "adapter": "card",
        "attempt": outcome.attempt,
        "job": job,
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_api_keeps_to_its_description(box: Sandbox) -> None:
    """Every operation, with what fits its description and what does not: never 5xx, and only documented statuses."""
    import schemathesis  # takes long, and quick tests have no use for it

    box.add("shop")
    box.adapter("card")
    box.adapt()
    with box.project() as project:
        service = Service(project, backfill="off")
        with served(create_app(service), lifespan="on") as (host, port):
            url = f"http://{host}:{port}"
            service.jobs.submit("adapt", {}, owner="local")
            there = known(project)
            token = make_token(project, "*", ["admin"], seconds=3600)[0]
            headers = {"Authorization": f"Bearer {token}"}
            description = httpx.get(f"{url}/openapi.json", headers=headers).json()
            schema = schemathesis.openapi.from_dict(description)
            operations: list[Any] = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]
            problems = [tried(operation, url, headers, there) for operation in operations]
    assert [problem for problem in problems if problem] == []


def tried(operation: Any, url: str, headers: dict[str, str], there: dict[str, str]) -> str | None:
    """Send many requests to one operation; return what went wrong."""
    from schemathesis.checks import not_a_server_error
    from schemathesis.core.failures import FailureGroup
    from schemathesis.specs.openapi import checks

    everything = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    ]
    statuses: Counter[int] = Counter()

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(), st.booleans())
    def send(case: Any, real: bool) -> None:
        if real:
            for name in set(there) & set(case.path_parameters or {}):
                case.path_parameters[name] = there[name]
        answered = case.call_and_validate(base_url=url, headers=headers, timeout=20, checks=everything)
        statuses[answered.status_code] += 1

    try:
        send()
    except (FailureGroup, OSError) as trouble:  # also what `requests` raises
        return f"{operation.label} {dict(statuses)}: {trouble}"
    return None
