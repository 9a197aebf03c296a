"""``cogbuild artifacts``: what adapters made is listed, copied out, asked after and pinned."""

from __future__ import annotations

import http.server
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cogbuild.database import pairs
from cogbuild.engine import Status

if TYPE_CHECKING:
    from conftest import Sandbox
    from door import Door

pytest_plugins = ["door"]


class Site:
    """A web server on this machine; tests say what it answers."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.status: dict[str, int] = {}  # for paths that get something other than their file
        self.refuses_head = False
        self.asked: list[str] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer(405 if site.refuses_head else None)

            def do_GET(self) -> None:
                self._answer(None)

            def _answer(self, status: int | None) -> None:
                site.asked.append(f"{self.command} {self.path}")
                body = site.files.get(self.path)
                code = status or site.status.get(self.path) or (404 if body is None else 200)
                self.send_response(code)
                self.send_header("Content-Length", str(len(body or b"") if code == 200 else 0))
                self.end_headers()
                if self.command == "GET" and code == 200 and body is not None:
                    self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A web server that no proxy stands before."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    server = Site()
    yield server
    server.close()


def built(box: Sandbox, script: str | None = None, name: str = "one", model: str = "a") -> str:
    """Build one pair and return the model's ID; *script* is what the adapter does after it has counted."""
    box.adapter(name, box.counting(name, script) if script else None)
    added = box.add(model)
    assert box.adapt().exit_code == 0
    return added.model


def published(box: Sandbox) -> Path:
    """Return the only published file."""
    (path,) = (path for path in (box.data / "artifacts").rglob("*") if path.is_file())
    return path


def listed(cogbuild: Door, *options: str) -> str:
    """Return what ``artifacts ls`` says."""
    return cogbuild("artifacts", "ls", *options).text


def flip(path: Path) -> None:
    """Flip one bit; the size stays."""
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


# -- ls ---------------------------------------------------------------------------------------------------------------


def test_a_listing_says_size_age_and_uri(box: Sandbox, cogbuild: Door) -> None:
    """A heading for each pair, then its URIs, whole, to be copied."""
    built(box)
    assert listed(cogbuild) == "local/a@ID:one  5 B  now\n  file:///STORE/made.txt\n"


def test_a_narrow_terminal_gets_the_facts_below(
    box: Sandbox, cogbuild: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name and the URI stay whole; what does not fit beside the name goes below it."""
    built(box)
    monkeypatch.setenv("COLUMNS", "30")
    assert listed(cogbuild) == "local/a@ID:one\n  5 B  now\n  file:///STORE/made.txt\n"


def test_a_listing_as_json(box: Sandbox, cogbuild: Door) -> None:
    """One stable shape: every key is there, also where it says nothing."""
    model = built(box)
    (row,) = cogbuild("artifacts", "ls", "--json").json["artifacts"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row.pop("made"))
    assert row.pop("seen") is not None
    (artifact,) = row.pop("artifacts")
    assert row == {
        "pair": f"local/a@{model[:12]}:one",
        "repo": "local/a",
        "model": model,
        "adapter": "one",
        "how": "built",
        "lost": None,
        "pinned": False,
        "orphaned": False,
    }
    assert artifact.pop("uri") == published(box).as_uri()
    assert len(artifact.pop("digest")) == 64
    assert artifact == {"name": "", "media_type": None, "size": 5}


def test_a_listing_can_be_narrowed(box: Sandbox, cogbuild: Door) -> None:
    """By model, repo and adapter; an adapter that never made anything is refused with the closest."""
    first = built(box)
    built(box, name="two", model="b")
    pairs_of = re.compile(r"local/(\w)@ID:(\w+)")
    assert pairs_of.findall(cogbuild("artifacts", "ls").text) == [
        ("b", "one"),
        ("b", "two"),
        ("a", "one"),
        ("a", "two"),
    ]
    assert pairs_of.findall(cogbuild("artifacts", "ls", "--model", first[:9], "--adapter", "two").text) == [
        ("a", "two")
    ]
    assert pairs_of.findall(cogbuild("artifacts", "ls", "--repo", "local/b").text) == [
        ("b", "one"),
        ("b", "two"),
    ]
    said = cogbuild("artifacts", "ls", "--adapter", "onee")
    assert (said.err, said.code) == (
        (
            "no adapter is called onee\n  closest         one\n  made something  one, two\n"
            "hint: list them with `cogbuild adapters ls`\n"
        ),
        2,
    )


def test_what_a_removed_adapter_made_is_orphaned(box: Sandbox, cogbuild: Door) -> None:
    """It stays, and the listing says that no active adapter stands behind it."""
    built(box)
    assert cogbuild("artifacts", "ls", "--orphaned").text == "none\n"
    box.configure(adapters=[])
    assert "5 B  now  orphaned\n" in listed(cogbuild, "--orphaned")


def test_a_broken_adapter_orphans_nothing(box: Sandbox, cogbuild: Door) -> None:
    """Its declaration can't be used just now, and still it is the one that made this."""
    built(box)
    declaration = box.root / "adapters" / "one" / "cog-adapter.yaml"
    declaration.write_text("name: one\nscirpt: adapter.sh\n")
    assert cogbuild("artifacts", "ls", "--orphaned").text == "none\n"


def test_nothing_made_yet(box: Sandbox, cogbuild: Door) -> None:
    """An empty project is no error."""
    assert (cogbuild("artifacts", "ls").text, cogbuild("artifacts", "verify").text) == (
        "no artifacts\n",
        "nothing to verify\n",
    )


# -- get --------------------------------------------------------------------------------------------------------------


def test_a_published_file_is_copied_out(box: Sandbox, cogbuild: Door) -> None:
    """To a name, or into a directory under its own; the copy can be written and what is there is never replaced."""
    model = built(box)
    out = box.root / "out"
    said = cogbuild("artifacts", "get", model[:8], "one", "-o", out / "deep" / "mine.txt")
    assert (said.out, said.code) == (f"{out}/deep/mine.txt\n", 0)
    assert cogbuild("artifacts", "get", model[:8], "one", "-o", out).out == f"{out}/made.txt\n"
    assert (out / "made.txt").read_text() == (out / "deep" / "mine.txt").read_text() == "aone\n"
    assert (out / "made.txt").stat().st_mode & 0o777 == 0o644
    (out / "made.txt").write_text("mine")
    said = cogbuild("artifacts", "get", model[:8], "one", "-o", out)
    assert (said.err, said.code) == (
        f"{out}/made.txt is there already\nhint: name another place, or replace it with --force\n",
        2,
    )
    assert (out / "made.txt").read_text() == "mine"
    assert cogbuild("artifacts", "get", model[:8], "one", "-o", out, "--force").code == 0
    assert (out / "made.txt").read_text() == "aone\n"
    assert sorted(os.listdir(out)) == ["deep", "made.txt"]


def test_a_target_that_can_not_be_is_told(box: Sandbox, cogbuild: Door) -> None:
    """A path below a file, and one where the system makes nothing: named with the option, and no bug."""
    model = built(box)
    file = box.root / "file"
    file.touch()
    said = cogbuild("artifacts", "get", model, "one", "-o", file / "x")
    assert (said.err, said.code) == (
        f"the directory {file} can't be made\n  reason  a file is there\nhint: name another place with -o\n",
        2,
    )
    said = cogbuild("artifacts", "get", model, "one", "-o", "/proc/x")
    assert (said.err.splitlines()[0], said.code) == ("/proc/x can't be written", 2)


def test_a_published_directory_is_copied_out(box: Sandbox, cogbuild: Door) -> None:
    """With its files, links and executable bits; --force takes the place of a directory as a whole."""
    script = "d=$COG_OUTPUT_DIR/pkg; mkdir -p $d/bin; echo x > $d/bin/x; chmod +x $d/bin/x; ln -s bin/x $d/l; echo $d"
    model = built(box, script)
    out = box.root / "out"
    cogbuild("artifacts", "get", model, "one", "-o", out)
    assert (out / "bin" / "x").stat().st_mode & 0o777 == 0o755
    assert os.readlink(out / "l") == "bin/x"
    (out / "mine").write_text("mine")
    assert cogbuild("artifacts", "get", model, "one", "-o", out, "--force").out == f"{out}/pkg\n"
    assert cogbuild("artifacts", "get", model, "one", "-o", out, "--force").code == 0
    assert sorted(os.listdir(out)) == ["bin", "l", "mine", "pkg"]


def test_one_of_several_artifacts(box: Sandbox, cogbuild: Door) -> None:
    """It takes a name, and the names are said."""
    script = """for part in encoder decoder; do
    echo $part > $COG_OUTPUT_DIR/$part.txt
    echo "{\\"name\\": \\"$part\\", \\"uri\\": \\"$part.txt\\"}" >> $COG_ARTIFACTS_FILE
done"""
    model = built(box, script)
    at = f"local/a@{model[:12]}"
    said = cogbuild("artifacts", "get", model, "one", "-o", box.root / "x")
    assert (said.err, said.code) == (
        f"one made several artifacts of {at}\n  names  encoder, decoder\nhint: choose one with --name NAME\n",
        2,
    )
    said = cogbuild("artifacts", "get", model, "one", "-o", box.root / "x", "--name", "coder")
    assert (said.err, said.code) == (
        f"one made no artifact called coder of {at}\n  names  encoder, decoder\n",
        2,
    )
    assert cogbuild("artifacts", "get", model, "one", "-o", box.root / "x", "--name", "decoder").code == 0
    assert (box.root / "x").read_text() == "decoder\n"


def test_what_was_not_made_can_not_be_had(box: Sandbox, cogbuild: Door) -> None:
    """Not built yet, not applicable and unknown are three things."""
    box.adapter("no", '#!/bin/sh\necho "only for tensors" >&2\nexit 100\n', api=1)
    model = built(box)
    box.adapter("later")
    at = f"local/a@{model[:12]}"
    target = ("-o", box.root / "x")
    said = cogbuild("artifacts", "get", model, "no", *target)
    assert (said.err, said.code) == (f"no does not apply to {at}\n  reason  only for tensors\n", 1)
    box.add("b")
    box.adapt(adapters=("later",))
    with box.project() as project:
        project.database.write(lambda con: con.execute("DELETE FROM outcomes WHERE aid = 3").rowcount)
    said = cogbuild("artifacts", "get", model, "later", *target)
    assert (said.err, said.code) == (
        (
            f"later has made nothing of {at}\n"
            f"hint: build it with `cogbuild adapt --model {model[:12]} --adapter later`\n"
        ),
        1,
    )


def test_a_model_in_several_repos_has_to_be_said_where_it_matters(box: Sandbox, cogbuild: Door) -> None:
    """Where both hold the same bytes, one will do."""
    script = 'echo "https://host/$COG_REPO_NAME"'
    box.adapter("one", box.counting("one", script))
    box.adapter("same", box.counting("same", "echo x > $COG_OUTPUT_DIR/x; echo $COG_OUTPUT_DIR/x"))
    model = box.add("a").model
    box.add("a", repo="me/b")
    box.adapt()
    said = cogbuild("artifacts", "get", model, "one", "-o", box.root / "x")
    assert (said.err, said.code) == (
        (
            f"{model[:12]} is in several repos, and what one made there differs\n"
            "  repos  me/b, local/a\nhint: choose one with --repo USER/NAME\n"
        ),
        2,
    )
    assert cogbuild("artifacts", "get", model, "same", "-o", box.root / "x").code == 0


def test_a_file_of_the_web_is_fetched(box: Sandbox, cogbuild: Door, site: Site) -> None:
    """Over a name of its own, so that half a file is never seen under the right one."""
    site.files["/m/model.bin"] = b"x" * 3_000_000
    model = built(box, f"echo {site.address}/m/model.bin")
    assert cogbuild("artifacts", "get", model, "one", "-o", box.root / "out").code == 0
    assert (box.root / "out").read_bytes() == site.files["/m/model.bin"]
    site.status["/m/model.bin"] = 503
    said = cogbuild("artifacts", "get", model, "one", "-o", box.root / "new")
    assert (said.err, said.code) == (
        (
            f"what one made of local/a@{model[:12]} could not be fetched\n"
            f"  uri     {site.address}/m/model.bin\n  reason  the server says 503\n"
        ),
        1,
    )
    assert [name for name in os.listdir(box.root) if "new" in name] == []


def test_a_file_of_this_machine_is_copied(box: Sandbox, cogbuild: Door) -> None:
    """A file: URI that an adapter printed itself."""
    (box.root / "kept.bin").write_text("kept")
    model = built(box, f"echo file://{box.root}/kept.bin")
    assert cogbuild("artifacts", "get", model, "one", "-o", box.root / "out").code == 0
    assert (box.root / "out").read_text() == "kept"


@pytest.mark.parametrize("uri", ["ftp://bucket/model", "registry.local/m/a:1"])
def test_other_places_are_named(box: Sandbox, cogbuild: Door, uri: str) -> None:
    """What cogbuild can't fetch, it shows."""
    model = built(box, f"echo {uri}")
    said = cogbuild("artifacts", "get", model, "one", "-o", box.root / "out")
    assert (said.err, said.code) == (
        (
            f"cogbuild can't fetch what one made of local/a@{model[:12]}\n  uri  {uri}\n"
            "hint: fetch it with the tools of the place where it is\n"
        ),
        2,
    )


def test_a_damaged_artifact_is_never_handed_out(box: Sandbox, cogbuild: Door) -> None:
    """It is set aside, its pair is stale, and the next run builds it again."""
    model = built(box)
    flip(published(box))
    said = cogbuild("artifacts", "get", model, "one", "-o", box.root / "out")
    (aside,) = (box.data / "aside").iterdir()
    assert (said.err, said.code) == (
        (
            f"what one made of local/a@{model[:12]} is gone\n  reason  its content changed\n  now at  {aside}\n"
            "hint: build it again with `cogbuild adapt`\n"
        ),
        1,
    )
    assert not (box.root / "out").exists()
    assert box.adapt().ran == ["a one"]
    assert cogbuild("artifacts", "get", model, "one", "-o", box.root / "out").code == 0


# -- verify -----------------------------------------------------------------------------------------------------------


def test_a_deleted_artifact_is_found_out(box: Sandbox, cogbuild: Door) -> None:
    """Its pair alone is stale, and it is built, not restored from the record that names it."""
    built(box)
    built(box, name="two")
    with box.project() as project:
        uri = pairs.outcomes(project.con)[1, 1].artifacts[0].uri
    (box.data / "artifacts" / uri).unlink()
    said = cogbuild("artifacts", "verify")
    expected = "lost  local/a@ID:one: it is not there\n  file:///STORE/made.txt\n1 there, 1 lost\n"
    assert (said.text, said.code) == (expected, 1)
    assert "  lost: it is not there\n" in cogbuild("artifacts", "ls", "--lost").text
    assert box.adapt().ran == ["a one"]
    assert cogbuild("artifacts", "verify", "--deep").text == "2 there\n"


def test_a_flipped_bit_is_found_by_reading_everything(box: Sandbox, cogbuild: Door) -> None:
    """The size says nothing; --deep does. What is damaged is set aside, and built again by the next run."""
    built(box)
    path = published(box)
    flip(path)
    assert cogbuild("artifacts", "verify").code == 0
    said = cogbuild("artifacts", "verify", "--deep")
    (aside,) = (box.data / "aside").iterdir()
    assert said.text == (
        "lost  local/a@ID:one: its content changed\n  file:///STORE/made.txt\n"
        f"  set aside as {aside}\n1 lost\n".replace(aside.name[:12], "ID")
    )
    assert said.code == 1
    assert (aside / "made.txt").read_bytes() == b"aone\x0b"
    assert box.adapt().ran == ["a one"]
    assert path.read_text() == "aone\n"


def test_every_pair_that_names_the_same_bytes_has_lost_them(box: Sandbox, cogbuild: Door) -> None:
    """Bytes are stored once, so verifying one pair tells of the other too."""
    script = "echo same > $COG_OUTPUT_DIR/x; echo $COG_OUTPUT_DIR/x"
    model = built(box, script)
    built(box, script, name="two")
    flip(published(box))
    assert cogbuild("artifacts", "verify", model, "one", "--deep").code == 1
    lost = cogbuild("artifacts", "ls", "--lost").text
    assert re.findall(r"ID:(\w+)", lost) == ["one", "two"]
    again = box.adapt()
    # Whoever comes first makes the bytes again, and the other finds them.
    assert again.ran == ["a one"]
    assert again.status("a two") is Status.RESTORED


def test_the_web_is_asked_and_a_lost_file_that_comes_back_is_fresh_again(
    box: Sandbox, cogbuild: Door, site: Site
) -> None:
    """HEAD is enough; what is seen again needs no build."""
    site.files["/x"] = b"x"
    built(box, f"echo {site.address}/x")
    assert cogbuild("artifacts", "verify").text == "1 there\n"
    assert site.asked == ["HEAD /x"]
    del site.files["/x"]
    said = cogbuild("artifacts", "verify")
    assert said.out.splitlines()[0].endswith("one: the server says 404")
    assert said.code == 1
    site.files["/x"] = b"x"
    assert cogbuild("artifacts", "verify").code == 0
    assert box.adapt().ran == []


def test_a_server_that_refuses_to_be_asked_gives_a_byte(box: Sandbox, cogbuild: Door, site: Site) -> None:
    """Some servers answer GET only."""
    site.files["/x"] = b""
    site.refuses_head = True
    built(box, f"echo {site.address}/x")
    assert cogbuild("artifacts", "verify").text == "1 there\n"
    assert site.asked == ["HEAD /x", "GET /x"]


@pytest.mark.parametrize("status", [401, 503])
def test_a_server_that_does_not_say_loses_nothing(
    box: Sandbox, cogbuild: Door, site: Site, status: int
) -> None:
    """Out of order, or out of bounds: nobody knows, so nothing is built again."""
    site.files["/x"] = b"x"
    built(box, f"echo {site.address}/x")
    site.status["/x"] = status
    said = cogbuild("artifacts", "verify")
    assert (said.out.splitlines()[0].partition(": ")[2], said.code) == (f"the server says {status}", 0)
    assert said.out.splitlines()[-1] == "1 not known"
    assert box.adapt().results == {}


def test_a_server_that_is_not_there_loses_nothing(box: Sandbox, cogbuild: Door, site: Site) -> None:
    """The network may be back tomorrow."""
    built(box, f"echo {site.address}/x")
    site.close()
    said = cogbuild("artifacts", "verify")
    assert said.out.splitlines()[0].endswith("the server does not answer: connection refused")
    assert said.code == 0


def test_what_can_not_be_looked_at_is_said(box: Sandbox, cogbuild: Door) -> None:
    """Places of other kinds are not asked, and nothing is claimed of them; nor of a registry that is away."""
    box.adapter("away", box.counting("away", "echo 127.0.0.1:9/m/a:1"))
    box.adapter("image", box.counting("image", "echo m/a:1"))
    box.adapter("named", box.counting("named", "echo arn:aws:sagemaker:eu-west-1::model/m"))
    built(box, "echo ftp://bucket/model", name="bucket")
    said = cogbuild("artifacts", "verify")
    assert (said.text, said.code) == (
        (
            "not known  local/a@ID:away: the registry 127.0.0.1:9 does not answer: connection refused\n"
            "  127.0.0.1:9/m/a:1\n"
            "not checked  local/a@ID:bucket: cogbuild can't look at ftp: yet\n  ftp://bucket/model\n"
            "not checked  local/a@ID:image: it names no registry\n  m/a:1\n"
            "not checked  local/a@ID:named: cogbuild can't look at arn: yet\n"
            "  arn:aws:sagemaker:eu-west-1::model/m\n"
            "3 not checked, 1 not known\n"
        ),
        0,
    )


def test_verifying_as_json(box: Sandbox, cogbuild: Door) -> None:
    """Each artifact with its state, and the totals by state."""
    built(box)
    flip(published(box))
    said = cogbuild("artifacts", "verify", "--deep", "--json")
    (row,) = said.json["artifacts"]
    assert (row["state"], row["detail"], Path(row["aside"]).parent) == (
        "lost",
        "its content changed",
        box.data / "aside",
    )
    assert said.json["counts"] == {"there": 0, "lost": 1, "not checked": 0, "not known": 0}
    assert said.code == 1


# -- pin --------------------------------------------------------------------------------------------------------------


def test_pinned_artifacts_outlive_what_replaces_them(box: Sandbox, cogbuild: Door) -> None:
    """The listing says so; unpinned, the next collection takes what was replaced."""
    model = built(box)
    old = published(box)
    assert cogbuild("artifacts", "pin", model, "one").text == "pinned local/a@ID:one\n"
    assert "  pinned\n" in cogbuild("artifacts", "ls").text
    box.adapter("one", params={"level": 2})
    box.adapt()
    cogbuild("cache", "gc", "--older-than", "0s")
    assert old.exists()
    assert cogbuild("artifacts", "unpin", model, "one").text == "unpinned 1 of local/a@ID:one\n"
    cogbuild("cache", "gc", "--older-than", "0s")
    assert not old.exists()
