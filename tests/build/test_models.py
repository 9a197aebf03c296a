"""Models: from directories and zips, stored once, sealed, named by a prefix; what is refused."""

from __future__ import annotations

import os
import random
import shutil
import stat
import zipfile
from pathlib import Path

import pytest
from conftest import Sandbox

from cogbuild import library
from cogbuild.damage import verify as verify_model
from cogbuild.database import feed, history
from cogbuild.errors import CogbuildError
from cogbuild.errors.models import AmbiguousModel, NoModelFile, UnknownModel


def zipped(directory: Path, at: Path, *, shuffled: int | None = None) -> Path:
    """Zip a directory, its entries in an order of their own and with old times."""
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    if shuffled is not None:
        random.Random(shuffled).shuffle(files)
    with zipfile.ZipFile(at, "w") as archive:
        for path in files:
            info = zipfile.ZipInfo(
                str(path.relative_to(directory)), date_time=(1980 + (shuffled or 0), 1, 1, 0, 0, 0)
            )
            info.external_attr = path.stat().st_mode << 16
            archive.writestr(info, path.read_bytes())
    return at


def kept(box: Sandbox) -> int:
    """Return the bytes that the objects take."""
    return sum(path.stat().st_size for path in (box.data / "objects").rglob("*") if path.is_file())


def test_a_zip_has_the_id_of_its_directory_whatever_its_order(box: Sandbox) -> None:
    """Directory, zip, shuffled zip: one ID; executable bits are kept."""
    directory = box.model("a", {"run.sh": "#!/bin/sh\n"})
    (directory / "run.sh").chmod(0o755)
    with box.project() as project:
        ids = {library.add(project, directory).model}
        for seed in (1, 2, 3):
            ids.add(library.add(project, zipped(directory, box.root / "a.zip", shuffled=seed)).model)
    assert len(ids) == 1


@pytest.mark.slow
def test_versions_that_share_a_file_store_it_once(box: Sandbox) -> None:
    """Fifty versions with one large weight file take little more than one."""
    weights = "w" * 300_000
    box.add("a", {"weights.bin": weights, "predict.py": "class Predictor: pass\n"})
    one = kept(box)
    for number in range(50):
        box.add("a", {"weights.bin": weights, "predict.py": f"class Predictor:\n    n = {number}\n"})
    assert kept(box) - one < 50 * 100


def test_a_sealed_model_is_read_only_and_made_of_links(box: Sandbox) -> None:
    """What runs see of a sealed model are the objects themselves, which nobody can write."""
    box.adapter("one")
    added = box.add("a")
    box.adapt()
    sealed = box.data / "models" / added.model / "weights.bin"
    info = sealed.stat()
    assert stat.S_IMODE(info.st_mode) == 0o444
    assert info.st_nlink == 2
    shutil.rmtree(box.root / "models" / "a")
    assert box.adapt(force=True).ran == ["a one"]


def test_a_hard_link_to_a_file_outside_is_copied(box: Sandbox) -> None:
    """Changing the outer file later changes nothing in the store."""
    directory = box.model("a")
    outer = box.root / "outer"
    outer.write_text("1")
    os.link(outer, directory / "linked")
    with box.project() as project:
        library.add(project, directory)
    outer.write_text("2")


def test_symlinks_inside_work(box: Sandbox) -> None:
    """A link inside the model is there in the workspace."""
    directory = box.model("a")
    (directory / "link").symlink_to("weights.bin")
    box.adapter(
        "one",
        box.counting(
            "one", 'cp -P link "$COG_OUTPUT_DIR/x"; cat link > "$COG_OUTPUT_DIR/y"; echo "$COG_OUTPUT_DIR/y"'
        ),
    )
    with box.project() as project:
        library.add(project, directory)
    assert box.artifact(box.adapt(), "a one").read_text() == "a"


def test_prefixes_name_models(box: Sandbox) -> None:
    """Seven digits name one; fewer, none and two each have their error."""
    added = box.add("a")
    with box.project() as project:
        assert library.find(project, added.model[:7])[0].model == added.model
        assert library.find(project, added.model.upper())[0].model == added.model
        for wrong in (added.model[:6], "zzzzzzz", "0" * 40, ""):
            with pytest.raises(UnknownModel):
                library.find(project, wrong)


def test_an_ambiguous_prefix_lists_what_it_could_be(box: Sandbox) -> None:
    """Two models that begin alike are both named."""
    added = box.add("a")
    twin = added.model[:10] + ("0" if added.model[10] != "0" else "1") + added.model[11:]
    with box.project() as project:
        other = box.add("b")
        project.database.write(
            lambda con: con.execute("UPDATE models SET id = ? WHERE id = ?", (twin, other.model)).rowcount
        )
        with pytest.raises(AmbiguousModel) as caught:
            library.find(project, added.model[:8])
        assert str(caught.value) == (
            f"{added.model[:8]} could be more than one model\n"
            f"  could be  {', '.join(sorted([added.model, twin]))}\n"
            "hint: give more digits of the ID"
        )
        project.database.write(
            lambda con: con.execute("UPDATE models SET id = ? WHERE id = ?", (other.model, twin)).rowcount
        )


@pytest.mark.parametrize(
    ("files", "headline"),
    [
        ({"cog.yaml": "predict: [\n"}, "cog.yaml"),
        ({"cog.yaml": "predict: predict.py\n"}, "cog.yaml"),
        ({"cog.yaml": "predict: predict.py:Absent\n"}, "Absent"),
        ({"cog.yaml": "predict: absent.py:Predictor\n"}, "absent.py"),
    ],
)
def test_wrong_models_are_refused_and_leave_nothing(
    box: Sandbox, files: dict[str, str], headline: str
) -> None:
    """A wrong cog.yaml is an error with exit code 2 that names the place; no model and no object is kept."""
    directory = box.model("a", files)
    for source in (directory, zipped(directory, box.root / "a.zip")):
        with box.project() as project, pytest.raises(CogbuildError) as caught:
            library.add(project, source)
        assert caught.value.exit_code == 2
        assert headline in str(caught.value)
        assert "upload-" not in str(caught.value)
        assert kept(box) == 0
        assert [path.name for path in (box.data / "work").iterdir() if path.is_dir()] == []


def test_no_cog_yaml(box: Sandbox) -> None:
    """A directory without cog.yaml is no model; a zip of the directory itself is told apart."""
    directory = box.model("a")
    outer = zipped(box.root / "models", box.root / "outer.zip")
    with box.project() as project:
        with pytest.raises(NoModelFile) as caught:
            library.add(project, outer)
        assert "found  a/cog.yaml: zip what is in a, not a itself" in str(caught.value)
        (directory / "cog.yaml").unlink()
        with pytest.raises(NoModelFile):
            library.add(project, directory)


def test_removing_a_model_keeps_its_attempts(box: Sandbox) -> None:
    """The pair is gone from plans; what it took is still known, and adding it again starts from the cache."""
    box.adapter("one")
    added = box.add("a")
    box.adapt()
    with box.project() as project:
        entry = library.find(project, added.model)[0]
        library.remove(project, entry)
        assert [
            item.status
            for item in history.attempts(project.con, entry.eid, feed.adapter_id(project.con, "one") or 0)
        ] == ["built"]
        with pytest.raises(UnknownModel):
            library.find(project, added.model)
    assert box.adapt().results == {}
    box.add("a")
    assert box.adapt().ran == []


def test_verify_finds_a_flipped_bit_and_adding_again_mends_it(box: Sandbox) -> None:
    """A damaged object is found, set aside, and put back by adding the model once more."""
    added = box.add("a")
    with box.project() as project:
        entry = library.find(project, added.model)[0]
        assert verify_model(project, entry) == []
        tree = library.tree_of(project, entry.tree)
        item = tree.get("weights.bin")
        assert item is not None
        at = project.objects.path(item.value)
        at.chmod(0o644)
        at.write_text("b")
        at.chmod(0o444)
        found = verify_model(project, entry)
        assert [(item.path, item.what) for item in found] == [(at, "its content changed")]
        assert not at.exists()
    box.add("a")
    box.adapter("one")
    assert box.adapt().ran == ["a one"]


def test_links_are_made_before_any_adapter_runs(box: Sandbox) -> None:
    """Versions that share a file are sealed before the first of them is built: its ctime moves under no adapter."""
    script = box.counting(
        "one",
        'stat -c %Z.%z weights.bin > "$COG_OUTPUT_DIR/c"; sleep 0.05; stat -c %Z.%z weights.bin >> "$COG_OUTPUT_DIR/c"; echo "$COG_OUTPUT_DIR/c"',
    )
    box.adapter("one", script)
    for number in range(6):
        box.add("a", {"weights.bin": "shared", "predict.py": f"class Predictor:\n    n = {number}\n"})
    run = box.adapt(jobs=3)
    assert run.exit_code == 0
    seen = {line for path in (box.data / "artifacts").rglob("c") for line in path.read_text().splitlines()}
    assert len(seen) == 1
