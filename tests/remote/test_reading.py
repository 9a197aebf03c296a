"""What lies in an object store is read as a path: fetched once, compared with its digest, used again, collected."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud import Cloud, running
from conftest import Sandbox

from cogbuild.database import pairs
from cogbuild.digest import hexdigest
from cogbuild.engine import Status
from cogbuild.housekeeping.collecting import collect

pytestmark = pytest.mark.slow

HELLO = hexdigest(b"hello\n")
KEY = f"site/{HELLO[:2]}/{HELLO[2:]}/a.txt"
MAKES = "#!/bin/sh\necho hello > $COG_OUTPUT_DIR/a.txt; echo a.txt\n"
READS = '#!/bin/sh\ncat "$COG_PATH_MAKER" > $COG_OUTPUT_DIR/b.txt; echo "read $COG_ARTIFACT_MAKER" >&2; echo b.txt\n'


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """An S3 on loopback."""
    with running(monkeypatch) as it:
        yield it


@pytest.fixture
def far(box: Sandbox, cloud: Cloud) -> Sandbox:
    """A project whose artifacts go to the bucket: one adapter makes a file there, another reads it."""
    box.configure(artifact_store="s3://bucket/site")
    box.adapter("maker", MAKES, uses=[])
    box.adapter("reader", READS, needs=["maker"], uses=["COG_REPO_NAME"])
    return box


def fetched(cloud: Cloud) -> list[str]:
    """Return the keys that were read from the bucket since this was asked last."""
    asked, cloud.asked = cloud.asked, []
    return [item.removeprefix("GET /bucket/") for item in asked if item.startswith("GET /bucket/")]


def copy(box: Sandbox) -> Path:
    """Return where the copy of the one file is kept."""
    return box.data / "copies" / HELLO[:2] / HELLO[2:] / "a.txt"


def test_what_is_needed_is_fetched_once(far: Sandbox, cloud: Cloud) -> None:
    """The path is a file with the artifact's name that can't be written to; further pairs and runs use the same copy."""
    far.add("a")
    run = far.adapt()
    assert run.log == [
        f"a reader read s3://bucket/{KEY}",
        f"a reader fetching a.txt from s3://bucket/{KEY.removesuffix('/a.txt')}",
    ]
    assert fetched(cloud) == [KEY]
    assert copy(far).read_text() == "hello\n"
    assert copy(far).stat().st_mode & 0o777 == 0o444
    far.add("b")
    assert far.adapt(force=True).status("b reader") is Status.BUILT
    assert fetched(cloud) == []


def test_many_at_once_fetch_it_once(far: Sandbox, cloud: Cloud) -> None:
    """Pairs that begin together wait for the first."""
    for name in "abcd":
        far.add(name)
    assert far.adapt(jobs=4).counts[Status.BUILT] + far.adapt().counts.get(Status.BUILT, 0) >= 4
    assert fetched(cloud) == [KEY]


def test_a_test_reads_what_was_just_made_where_it_lies(far: Sandbox, cloud: Cloud) -> None:
    """Nothing is fetched for it; a test that changed later gets a copy."""
    test = '#!/bin/sh\necho "{} $(cat "$COG_ARTIFACT_PATH") $(basename "$COG_ARTIFACT_PATH") $COG_ARTIFACT_URI" >&2; cat $COG_ARTIFACTS_FILE >&2\n'
    far.adapter("tried", MAKES, test=test.format("first"))
    far.add("a")
    run = far.adapt(adapters=("tried",))
    assert run.log[0] == f"a tried first hello a.txt s3://bucket/{KEY}"
    row = json.loads(run.log[1].removeprefix("a tried "))
    assert row["uri"] == f"s3://bucket/{KEY}"
    assert row["path"].endswith("/out/a.txt")
    assert fetched(cloud) == []
    far.adapter("tried", MAKES, test=test.format("second"))
    run = far.adapt(adapters=("tried",))
    assert f"a tried second hello a.txt s3://bucket/{KEY}" in run.log
    assert json.loads(run.log[1].removeprefix("a tried "))["path"] == str(copy(far))
    assert fetched(cloud) == [KEY]


def test_a_directory_comes_whole(far: Sandbox, cloud: Cloud) -> None:
    """With executables, links and empty directories, and the digest that it had."""
    folder = (
        "cd $COG_OUTPUT_DIR; mkdir -p m/sub/empty; echo 1 > m/a; echo x > m/run; chmod +x m/run; ln -s a m/l"
    )
    far.adapter("folder", f"#!/bin/sh\n{folder}; echo m\n")
    look = "cd $COG_PATH_FOLDER; test -d sub/empty && ./run 2>/dev/null; test -x run && cat l >&2; pwd >&2; echo x:y"
    far.adapter("looks", f"#!/bin/sh\n{look}\n", needs=["folder"])
    far.add("a")
    assert far.adapt(adapters=("looks",)).log[:2] == [
        "a looks 1",
        f"a looks {next(far.data.glob('copies/*/*/m'))}",
    ]


def test_what_is_named_twice_has_two_variables(far: Sandbox) -> None:
    """Of several artifacts each has a path, and the first of them the adapter's own."""
    lines = "".join(
        f'echo {name} > $COG_OUTPUT_DIR/{name}.txt; echo \'{{"name": "{name}", "uri": "{name}.txt"}}\' >> $COG_ARTIFACTS_FILE\n'
        for name in ("one", "two")
    )
    far.adapter("pair", f"#!/bin/sh\n{lines}")
    says = "cat $COG_PATH_PAIR $COG_PATH_PAIR_ONE $COG_PATH_PAIR_TWO >&2; echo x:y"
    far.adapter("looks", f"#!/bin/sh\n{says}\n", needs=["pair"])
    far.add("a")
    assert far.adapt(adapters=("looks",)).log[:3] == ["a looks one", "a looks one", "a looks two"]


def test_another_content_is_not_handed_out(far: Sandbox, cloud: Cloud) -> None:
    """The pair that needs it fails in words, and the next run makes what is lost anew."""
    far.add("a")
    far.adapt(adapters=("maker",))
    cloud.damage(KEY, b"jello\n")
    run = far.adapt()
    log = next(line for line in run.error("a reader").splitlines() if line.startswith("  log "))
    assert run.error("a reader").splitlines() == [
        f"s3://bucket/{KEY} is not in the artifact store as it was put there",
        "  adapter  reader",
        f"  model    local/a@{far.add('a').model[:12]}",
        log,
        "  reason   its content changed",
        "hint: run it again: it is made anew first",
    ]
    assert not list(far.data.glob("copies/*/*"))
    assert not list(far.data.glob("copies/.tmp-*"))
    cloud.damage(KEY, None)
    run = far.adapt()
    assert (run.status("a maker"), run.status("a reader")) == (Status.BUILT, Status.BUILT)


def test_a_store_that_is_away_is_said(far: Sandbox, cloud: Cloud) -> None:
    """The pair that reads fails alone; the next run goes on."""
    far.add("a")
    far.adapt(adapters=("maker",))
    cloud.refuse = lambda request: "503 Service Unavailable" if request.startswith("GET ") else None
    run = far.adapt()
    assert run.error("a reader").splitlines()[0] == "the artifact store s3://bucket can't be used now"
    cloud.refuse = lambda _request: None
    assert far.adapt().status("a reader") is Status.BUILT


def test_a_large_fetch_tells_how_far_it_is(far: Sandbox) -> None:
    """As an upload does."""
    far.adapter("big", "#!/bin/sh\nhead -c 72M /dev/zero > $COG_OUTPUT_DIR/big; echo big\n")
    far.adapter("looks", "#!/bin/sh\ntest -s $COG_PATH_BIG && echo x:y\n", needs=["big"])
    far.add("a")
    said = [line for line in far.adapt(adapters=("looks",)).log if "fetching big: " in line]
    assert said[-1] == "a looks fetching big: 72 of 72 MiB"


def test_gc_takes_old_copies_and_those_that_nothing_names(far: Sandbox, cloud: Cloud) -> None:
    """What is in use stays for a month; what is taken is fetched again when it is needed."""
    far.add("a")
    far.adapt()
    with far.project() as project:
        assert collect(project).counts["copies"] == 0
        os.utime(copy(far).parent, (0, 0))
        assert collect(project).counts["copies"] == 1
    assert not copy(far).exists()
    fetched(cloud)
    assert far.adapt(force=True).status("a reader") is Status.BUILT
    assert fetched(cloud) == [KEY]
    stray = far.data / "copies" / "ab" / ("0" * 62)
    stray.mkdir(parents=True)
    (far.data / "copies" / ".tmp-dead").write_text("half")
    with far.project() as project:
        done = collect(project)
    assert (done.counts["copies"], done.counts["leftovers"]) == (1, 1)
    assert copy(far).exists()


def test_a_copy_that_was_cut_off_is_fetched_again(far: Sandbox, cloud: Cloud) -> None:
    """Its size is looked at each time."""
    far.add("a")
    far.adapt()
    copy(far).chmod(0o644)
    copy(far).write_text("hel")
    fetched(cloud)
    far.adapt(force=True)
    assert copy(far).read_text() == "hello\n"
    assert fetched(cloud) == [KEY]


REGRESSOR = """
import numpy
from cog import BasePredictor
from sklearn.neural_network import MLPRegressor

class Predictor(BasePredictor):
    def setup(self):
        rows = numpy.random.default_rng(0).normal(size=(60, 3))
        self.net = MLPRegressor(hidden_layer_sizes=(8,), random_state=0, max_iter=50).fit(rows, rows.sum(axis=1))

    def predict(self, size: float) -> float:
        return float(self.net.predict(numpy.full((1, 3), size, "float32"))[0])
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_chain_of_shipped_adapters_goes_through_the_bucket(box: Sandbox, cloud: Cloud) -> None:
    """`openvino` converts what `onnx` made, and both are tested, with every artifact in the object store."""
    box.environ = dict(os.environ)
    box.configure(artifact_store="s3://bucket/site", adapters=["builtin:onnx", "builtin:openvino"])
    files = {
        "cog.yaml": 'build: {python_version: "3.11", python_packages: [scikit-learn==1.9.1]}\npredict: predict.py:Predictor\n',
        "predict.py": REGRESSOR,
        "cog-adapters.yaml": "examples: [{input: {size: 0.5}}, {input: {size: -2.0}}]\n",
    }
    box.add("a", files)
    run = box.adapt()
    assert [run.status(f"a {name}") for name in ("onnx", "openvino")] == [Status.BUILT] * 2, "\n".join(
        run.log
    )
    (graph,) = run.results["a onnx"].uris
    (folder,) = run.results["a openvino"].uris
    there = {f"s3://bucket/{key}" for key in cloud.objects()}
    assert there == {graph, f"{folder}/model.xml", f"{folder}/model.bin", f"{folder}.files.json"}
    assert fetched(cloud) == [graph.removeprefix("s3://bucket/")]
    with box.project() as project:
        rows = [item.fidelity for made in pairs.outcomes(project.con).values() for item in made.artifacts]
    assert all(row is not None and 0 <= row.absolute < 1e-5 for row in rows), rows
