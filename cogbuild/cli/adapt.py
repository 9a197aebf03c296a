"""``cogbuild adapt``: build what is not fresh."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from cogbuild.cli.common import Failure, Output, adapter_dirs, as_json, print_json, told, with_server

if TYPE_CHECKING:
    from cogbuild.engine import Event, Result
    from cogbuild.planner import Plan
    from cogbuild.project import Project
    from cogbuild.report.watching import Watcher
    from cogbuild.tasks.running import Run

__all__ = ["adapt"]


@click.command()
@click.option("--model", "models", metavar="ID", multiple=True, help="Only this model (a prefix of its ID).")
@click.option("--repo", "repos", metavar="USER/NAME", multiple=True, help="Only models of this repo.")
@click.option(
    "--adapter", "names", metavar="NAME", multiple=True, help="Only this adapter and what it needs."
)
@adapter_dirs
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Pairs that run at once; default: `jobs` of the settings, else one a processor.",
)
@click.option("-f", "--force", is_flag=True, help="Run what is chosen although it is fresh.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done and why; run nothing.")
@click.option("--fail-fast", is_flag=True, help="Begin no pair after the first failure.")
@with_server
@click.option("--job", metavar="JOB", help="With --server: begin nothing, follow this job.")
@as_json
@click.pass_obj
def adapt(
    output: Output,
    *,
    models: tuple[str, ...],
    repos: tuple[str, ...],
    names: tuple[str, ...],
    directories: tuple[str, ...],
    jobs: int | None,
    force: bool,
    dry_run: bool,
    fail_fast: bool,
    server: str | None,
    token: str | None,
    job: str | None,
    in_json: bool,
) -> None:
    """Build every chosen pair that is not fresh: all of them, where nothing is chosen.

    Each option may be given more than once. One failure never hides another pair's success.
    """
    if server is not None:
        from cogbuild.cli.remote import ask, refuse

        refuse(adapter_dir=directories, jobs=jobs)
        chosen = {"models": models, "repos": repos, "adapters": names, "force": force}
        if dry_run:
            named = {"model": models, "repo": repos, "adapter": names, "force": int(force) or None}
            ask(server, token, ("plan",), named, in_json=in_json)
        else:
            _adapt_there(server, token, {**chosen, "fail_fast": fail_fast}, job, in_json=in_json)
        return
    if job is not None:
        raise click.UsageError("--job is a job of a server: say --server too")
    if not (models or repos or names or directories or force or dry_run or in_json):
        fresh = output.fresh_pairs()
        if fresh is not None:
            from cogbuild.quiet import summary

            click.echo(summary(fresh))
            return
    from cogbuild.asked import known_repos
    from cogbuild.planner import Selection

    planner = output.planner(directories)
    plan = planner.plan(Selection(models, repos, names, force), dry=dry_run)
    known_repos(planner.project, repos)
    if dry_run:
        _foretell(plan, in_json=in_json)
        return
    _run(planner.project, plan, jobs=jobs, fail_fast=fail_fast, in_json=in_json)


def _adapt_there(
    server: str, token: str | None, chosen: dict[str, Any], job: str | None, *, in_json: bool
) -> None:
    from cogbuild.cli.remote import follow_job, meet
    from cogbuild.client.jobs import Heard, begin
    from cogbuild.client.shown import Screen, ending_error, ending_lines, run_json

    heard = Heard(Screen(sys.stdout, sys.stderr, in_json=in_json))
    with meet(server, token) as met:
        end = follow_job(met, job or begin(met, "/v2/adapt", chosen), heard, command="adapt")
    if in_json:
        print_json(run_json(heard, end))
    else:
        for line in ending_lines(end):
            click.echo(line)
        if error := ending_error(heard, end):
            click.echo(error, err=True)
    if code := int(end.get("exit_code") or 0):
        raise Failure(code)


def _run(project: Project, plan: Plan, *, jobs: int | None, fail_fast: bool, in_json: bool) -> None:
    from cogbuild.report.watching import watcher
    from cogbuild.tasks.running import Run, run_plan

    results: list[Result] = []
    shown = _quiet(results) if in_json else watcher(sys.stdout, sys.stderr)
    workers = jobs or project.settings.jobs or os.cpu_count() or 1
    with Run(project, plan, jobs=workers, watcher=shown) as run:
        run_plan(run, fail_fast=fail_fast)
    if in_json:
        print_json(_as_json(project, run, results))
    else:
        for line in run.summary().lines():
            click.echo(line)
        if run.fatal is not None:
            click.echo(str(run.fatal), err=True)
    if run.exit_code:
        raise Failure(run.exit_code)


def _quiet(results: list[Result]) -> Watcher:
    """Return who keeps the results for the end; what adapters say still goes to stderr."""
    from cogbuild.engine import Result
    from cogbuild.report.plain import Plain

    class Keeping(Plain):
        def __call__(self, event: Event) -> None:
            if isinstance(event, Result):
                results.append(event)
            super().__call__(event)

    return Keeping(None, sys.stderr)


def _as_json(project: Project, run: Run, results: list[Result]) -> dict[str, Any]:
    from cogbuild.report.summary import problems_json, result_json
    from cogbuild.views.models import model_of

    summary = run.summary()
    return {
        "results": [result_json(result, model_of(project, result.pair)) for result in results],
        "summary": summary.to_json(),
        "problems": problems_json(summary.problems),
        "notes": list(summary.notes),
        "error": run.fatal.to_json() if run.fatal is not None else None,
        "exit_code": run.exit_code,
    }


def _foretell(plan: Plan, *, in_json: bool) -> None:
    from cogbuild.asked.kept import foretold

    told(foretold(plan), in_json=in_json)
    if plan.problems:
        raise Failure(2)
