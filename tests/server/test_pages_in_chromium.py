"""The pages in a real browser: read without a script, worked by keyboard, kept up to date, light and dark, wide and narrow."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from conftest import Sandbox
from serving import served

from cogbuild.server.app import create_app
from cogbuild.server.grants import make_token
from cogbuild.server.service import Service

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ["browser"]
pytestmark = pytest.mark.slow

FAILING = "#!/bin/sh\nprintf 'over\\033[31mwritten <b>bold</b>\\nKeyError: vocab_size\\n' >&2\nexit 3\n"
REFUSING = "#!/bin/sh\necho 'no network in here' >&2\nexit 100\n"
MEASURED = """#!/bin/sh
echo '{"runtime": "onnxruntime 1.24", "absolute": 1.2e-06, "relative": 4e-07, "examples": 3, "outputs": 6}' >> "$COG_FIDELITY_FILE"
echo s3://measured/$COG_MODEL_ID
"""
#: Says a line whenever the file `go` has grown by one.
SLOW = """#!/bin/sh
for step in 1 2 3; do
    while [ "$(wc -l < {go})" -lt $step ]; do sleep 0.05; done
    echo "step $step <i>of</i> 3" >&2
done
while [ "$(wc -l < {go})" -lt 4 ]; do sleep 0.05; done
echo s3://slow/$COG_MODEL_ID
"""


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A sandbox with pairs of many kinds, and an adapter that waits to be told."""
    box = Sandbox(tmp_path_factory.mktemp("pages"))
    (box.root / "go").write_text("")
    box.configure(server={"backfill": "off"})
    box.adapter("count")
    box.adapter("bad", FAILING)
    box.adapter("not", REFUSING, api=1)
    box.adapter("measured", MEASURED)
    for number in range(4):
        box.add(f"m{number}", repo=f"ada/m{number}")
    box.add(
        "hostile",
        {"cog.yaml": "predict: predict.py:Predictor\n"},
        repo="x/y",
        cpu_image="r/<script>alert(1)</script>:1",
    )
    box.adapt(adapters=("count", "bad", "not", "measured"))
    box.adapter("slow", SLOW.format(go=box.root / "go"))
    return box


@pytest.fixture(scope="module")
def base(box: Sandbox) -> Iterator[str]:
    """Where the server is."""
    with box.project() as project, served(create_app(Service(project)), lifespan="on") as (host, port):
        yield f"http://{host}:{port}"


Opener = Callable[..., "Page"]


def test_the_matrix_is_read_without_a_script(page: Opener) -> None:
    """Models down, adapters across; each cell says its state in words too, with age, duration and fidelity."""
    at = page(java_script_enabled=False)
    at.goto("/")
    heads = at.locator("thead th").all_inner_texts()
    assert heads == ["Model", "count", "bad", "not", "measured", "slow", "cog-test"]
    assert at.locator("tbody tr").count() == 5
    row = at.locator("tbody tr", has_text="ada/m0")
    labels = [str(item.get_attribute("aria-label")) for item in row.locator("a.cell").all()]
    assert [label.partition(",")[0] for label in labels] == [
        "count: fresh", "bad: failed", "not: not applicable", "measured: fresh", "slow: never built", "cog-test: never built",
    ]  # fmt: skip
    assert "Δ 1e-06" in labels[3]
    assert " ago" in labels[3]
    row.locator("a.cell").nth(1).click()
    assert at.locator("h1").inner_text() == "bad of ada/m0"
    assert at.locator("pre.log").inner_text() == "over\\x1b[31mwritten <b>bold</b>\nKeyError: vocab_size\n"
    assert at.locator("#head .badge").inner_text() == "failed"


def test_filters(page: Opener) -> None:
    """By repo, adapter and state; what was never there is said."""
    at = page()
    at.goto("/")
    at.get_by_label("State").select_option("failed")
    at.get_by_label("Adapter").select_option("bad")
    at.get_by_role("button", name="Filter").click()
    assert at.locator("thead th").all_inner_texts() == ["Model", "bad"]
    assert at.locator("tbody tr").count() == 5
    at.get_by_label("Repo").fill("ada/m1")
    at.get_by_role("button", name="Filter").click()
    assert at.locator("tbody th a").all_inner_texts() == ["ada/m1"]
    at.get_by_label("Repo").fill("no/body")
    at.get_by_role("button", name="Filter").click()
    assert "No model was ever in the repo no/body." in at.locator("main").inner_text()
    at.get_by_role("link", name="Clear").click()
    assert at.locator("tbody tr").count() == 5


def test_pages_lead_on_and_back(page: Opener) -> None:
    """Older, newer, newest: each model once."""
    at = page()
    at.goto("/?limit=2")
    seen = at.locator("tbody th a").all_inner_texts()
    at.get_by_role("link", name="Older").click()
    second = at.locator("tbody th a").all_inner_texts()
    at.get_by_role("link", name="Older").click()
    last = at.locator("tbody th a").all_inner_texts()
    assert [*seen, *second, *last] == ["x/y", "ada/m3", "ada/m2", "ada/m1", "ada/m0"]
    assert at.get_by_role("link", name="Older").count() == 0
    at.get_by_role("link", name="Newer").click()
    assert at.locator("tbody th a").all_inner_texts() == second
    at.get_by_role("link", name="Newest").click()
    assert at.locator("tbody th a").all_inner_texts() == seen


def test_a_button_builds_and_the_log_grows(box: Sandbox, page: Opener) -> None:
    """Build, watch the log live, see it end: without loading the page again."""
    go = box.root / "go"
    at = page()
    at.goto("/pairs/ada/m1/" + model_id(at, "ada/m1") + "/slow")
    at.get_by_role("button", name="Build").click()
    at.locator("#head .badge", has_text="running").wait_for()
    at.evaluate("window.same = true")
    for step in (1, 2, 3):
        with go.open("a") as file:
            file.write("\n")
        at.locator("pre.log", has_text=f"step {step} <i>of</i> 3").wait_for()
    assert at.locator("pre.log").get_attribute("aria-live") == "polite"
    assert "running for" in at.locator("#log-note").inner_text()
    with go.open("a") as file:
        file.write("\n")
    at.locator("#head .badge", has_text="fresh").wait_for()
    assert at.locator("pre.log").inner_text() == "".join(f"step {step} <i>of</i> 3\n" for step in (1, 2, 3))
    assert at.locator(".uri").inner_text().startswith("s3://slow/")
    assert at.evaluate("window.same") is True


def model_id(at: Page, repo: str) -> str:
    """Return how a page names the model of a repo."""
    at.goto(f"/?repo={repo}")
    return str(at.locator("tbody th code").first.inner_text())


def test_a_button_cancels(box: Sandbox, page: Opener) -> None:
    """What runs is ended, and the attempt says so."""
    (box.root / "go").write_text("")
    at = page()
    at.goto("/pairs/ada/m2/" + model_id(at, "ada/m2") + "/slow")
    at.get_by_role("button", name="Build").click()
    at.get_by_role("button", name="Cancel").click()
    at.locator("#attempts-section .badge", has_text="interrupted").or_(
        at.locator("#attempts-section", has_text="Nothing was tried")
    ).first.wait_for()
    at.get_by_role("button", name="Build").wait_for()


def test_everything_by_keyboard(page: Opener) -> None:
    """The first stop skips the navigation; filters, cells and buttons are reached, and what has the focus shows it."""
    at = page()
    at.goto("/")
    at.keyboard.press("Tab")
    assert at.evaluate("document.activeElement.textContent") == "Skip to the content"
    at.keyboard.press("Enter")
    assert at.evaluate("document.activeElement.id") == "main"
    reached = []
    for _ in range(40):
        at.keyboard.press("Tab")
        reached.append(
            at.evaluate(
                "document.activeElement.id || document.activeElement.className || document.activeElement.tagName"
            )
        )
        if reached[-1] == "cell":
            break
    assert [name for name in reached if name in ("repo", "adapter", "state", "scroll", "cell")] == [
        "repo",
        "adapter",
        "state",
        "scroll",
        "cell",
    ]
    assert at.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    at.keyboard.press("Enter")
    at.locator("h1", has_text=" of ").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_contrast_and_structure(page: Opener, axe: str, scheme: str, width: int) -> None:
    """Axe finds nothing against WCAG 2 AA on any page, light and dark, wide and narrow; nothing is wider than the window."""
    at = page(color_scheme=scheme, viewport={"width": width, "height": 800}, bypass_csp=True)
    pair = "/pairs/ada/m0/" + model_id(at, "ada/m0")
    for path in (
        "/",
        pair + "/bad",
        pair + "/measured",
        "/models/ada/m0/" + pair.rpartition("/")[2],
        "/jobs",
        "/login",
        "/nowhere",
    ):
        at.goto(path)
        ground = at.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(17, 19, 24)") == (scheme == "dark")
        assert at.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        at.evaluate(axe)
        rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
        found: Any = at.evaluate("(tags) => axe.run({runOnly: tags})", rules)
        wrong = [
            f"{item['id']}: {node['html']} {node['failureSummary']}"
            for item in found["violations"]
            for node in item["nodes"]
        ]
        assert wrong == [], path


#: The words of tables that go over more than one line.
BROKEN = """() => {
  const broken = [];
  for (const cell of document.querySelectorAll(".rows th:not(.label), .rows td")) {
    const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    for (let node; node = walker.nextNode();)
      for (const word of node.data.matchAll(/[^\\s/-]+/g)) {
        const range = document.createRange();
        range.setStart(node, word.index);
        range.setEnd(node, word.index + word[0].length);
        if (new Set([...range.getClientRects()].map((box) => box.top)).size > 1) broken.push(word[0]);
      }
  }
  return broken;
}"""


def test_words_in_tables_stay_whole(box: Sandbox, page: Opener) -> None:
    """IDs, kinds and digests, on a phone too: a table that is wider than the window scrolls."""
    at = page(viewport={"width": 390, "height": 844})
    pair = "/pairs/ada/m3/" + model_id(at, "ada/m3")
    at.goto(pair + "/bad")
    at.get_by_role("button", name="Retry").click()
    box.adapter("count", "#!/bin/sh\necho s3://count/$COG_MODEL_ID\n")
    try:
        for path in ("/jobs", pair + "/count", pair + "/bad"):
            at.goto(path)
            assert at.locator(".rows").count() > 0
            assert at.evaluate(BROKEN) == [], path
            assert at.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    finally:
        box.adapter("count")


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, from its package."""
    place = tmp_path_factory.mktemp("axe")
    subprocess.run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(place), "axe-core@4.10.3"],
        check=True,
    )
    return (Path(place) / "node_modules/axe-core/axe.min.js").read_text()


def test_hostile_names_are_text(page: Opener) -> None:
    """What a model brings along is shown, and does nothing."""
    at = page()
    at.goto("/models/x/y/" + model_id(at, "x/y"))
    assert "r/<script>alert(1)</script>:1" in at.locator("dl.facts").inner_text()
    assert at.locator("dl.facts script").count() == 0


def test_with_tokens_one_logs_in(box: Sandbox, page: Opener, base: str) -> None:
    """A token in a cookie that scripts do not see; a form without its secret does nothing; another site's neither."""
    with box.project() as project:
        token, row = make_token(project, "ada/*", ["read", "adapt"], seconds=None)
    try:
        at = page()
        at.goto("/?state=failed")
        assert at.url == f"{base}/login?next=%2F%3Fstate%3Dfailed"
        at.get_by_label("Token").fill(token)
        at.get_by_role("button", name="Log in").click()
        assert at.url == f"{base}/?state=failed"
        assert at.locator("tbody tr").count() == 4  # and not x/y, which is not ada's
        (cookie,) = at.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert at.evaluate("document.cookie") == ""
        forged(base, token, at.locator("tbody th code").first.inner_text())
        at.get_by_role("button", name="Log out").click()
        assert at.url == f"{base}/login"
    finally:
        from cogbuild.database import tokens

        with box.project() as project:
            project.database.write(lambda con: tokens.drop(con, row.id))


def forged(base: str, token: str, model: str) -> None:
    """Send what a page of another site could."""
    with httpx.Client(
        base_url=base, cookies={"cogbuild_token": token}, headers={"Accept": "text/html"}
    ) as sent:
        at = f"/pairs/ada/m3/{model}/count/adapt"
        assert sent.post(at, data={"csrf": "0" * 64}).status_code == 403
        for headers in ({"Origin": "http://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}):
            assert sent.post(at, headers=headers).status_code == 403
        wrong = sent.post(
            "/login", data={"token": "cogb_" + "0" * 10 + "_" + "x" * 43, "next": "//elsewhere.example"}
        )
        assert wrong.status_code == 401
        assert 'value="/"' in wrong.text
        policy = wrong.headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
