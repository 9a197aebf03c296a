"""The values of secret variables are seen nowhere, however an adapter spells them and wherever its output is cut."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from commands import here
from conftest import Sandbox
from hypothesis import given, settings
from hypothesis import strategies as st

from cogbuild.engine import Status
from cogbuild.process.masking import Mask, Masked

pytestmark = pytest.mark.slow

SECRET = "hf-0123456789-very+secret/ok"
HARD = 'it\'s a "hard" one\\with\ttab'
#: Lines such as those of a key file; longer than base64 writes on one line.
LONG = "\n".join([f"-----line {number} of the private key-----" for number in range(5)])


def mask(**values: str) -> Mask:
    """Return a mask of variables."""
    return Mask(values)


# -- spellings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [SECRET, HARD, "abcd", "é" * 3])
@pytest.mark.parametrize("before", range(3))
@pytest.mark.parametrize("behind", range(3))
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_is_found_in_every_alignment(value: str, before: int, behind: int, encode: object) -> None:
    """Whatever stands before and behind, no more is left of the encoded value than its first and last few bits."""
    assert callable(encode)
    whole = encode(b"\xff" * before + value.encode() + b"\xff" * behind)
    masked = mask(X=value).data(b"<" + whole + b">")
    left = masked.replace(b"[secret X]", b"").strip(b"<>").rstrip(b"=")
    assert b"[secret X]" in masked
    assert len(left) <= 3 * (before > 0) + 1 + 3 * (behind > 0), masked


@pytest.mark.parametrize("value", [SECRET, HARD, LONG])
@pytest.mark.parametrize(
    "said",
    [
        "printf '%s' \"$X\"",
        "printf '%s' \"$X\" | base64",
        "printf '%s' \"$X\" | base64 -w 0",
        "printf '%s' \"$X\" | sed 's/^/    /'",
        "bash -xc ': \"$X\"' 2>&1",
        "dash -xc ': \"$X\"' 2>&1",
        "env",
        "python3 -c 'import os; print(repr(os.environ[\"X\"]))'",
        "python3 -c 'import os, json; print(json.dumps(dict(os.environ)))'",
        'python3 -c \'import os, urllib.parse as u; print(u.quote_plus(os.environ["X"]), u.quote(os.environ["X"], ""))\'',
    ],
)
def test_what_programs_make_of_a_value_is_found(value: str, said: str) -> None:
    """Shells' traces, base64 with its line ends, listings of the environment, JSON and URLs hold nothing of it."""
    done = subprocess.run(
        ["bash", "-c", said], capture_output=True, env={"X": value, "PATH": "/usr/bin:/bin"}, check=True
    )
    masked = mask(X=value).data(done.stdout)
    assert b"[secret X]" in masked
    for line in value.splitlines():
        for form in (line, base64.b64encode(line.encode()).decode(), quote(line), json.dumps(line)[1:-1]):
            for start in range(len(form) - 8):
                assert form[start : start + 8].encode() not in masked, masked


def test_the_longest_value_is_taken_where_one_begins_with_another() -> None:
    """Of two values that begin alike, each is found whole, also when the stream is cut between them."""
    both = mask(A="token", B="token-of-mine")
    stream = Masked(both)
    assert stream.feed(b"token") + stream.feed(b"-of-mine token") + stream.close() == b"[secret B] [secret A]"


def test_short_and_empty_values_are_left_alone() -> None:
    """A value of under four characters would make holes in everything; its variable is named instead."""
    found = mask(EMPTY="", SHORT="abc", LONG="abcd")
    assert found.data(b"abc abcd") == b"abc [secret LONG]"
    assert found.too_short == ["SHORT"]


def test_spaces_around_a_value_do_not_hide_it() -> None:
    """A value read from a file ends with a line end that nobody prints."""
    assert mask(X="  the-value\n").data(b"it is the-value.") == b"it is [secret X]."


# -- streams ------------------------------------------------------------------------------------------------------

PIECES = st.lists(
    st.sampled_from([b"token", b"tok", b"en", b"ab", b"abab", b"a", b"b", b"\n", b"x", b"dG9rZW4", b"dG9r"]),
    max_size=30,
)


@settings(max_examples=300, deadline=None)
@given(PIECES, st.sets(st.sampled_from(["token", "tokenab", "abab", "ababx", "bbbb"]), min_size=1))
def test_a_stream_gives_the_same_however_it_is_cut(pieces: list[bytes], values: set[str]) -> None:
    """What is taken out of a stream in pieces is what is taken out of the whole."""
    found = mask(**{f"V{number}": value for number, value in enumerate(sorted(values))})
    stream = Masked(found)
    assert b"".join([*map(stream.feed, pieces), stream.close()]) == found.data(b"".join(pieces))


def test_nothing_is_held_back_that_can_not_be_a_beginning() -> None:
    """A line is seen at once; only what may still become the value waits for what follows."""
    stream = Masked(mask(X=SECRET))
    assert stream.feed(b"10 % done\n") == b"10 % done\n"
    assert stream.feed(b"with hf-01") == b"with "
    assert stream.feed(b"99\n") == b"hf-0199\n"


def test_a_flood_is_masked_in_constant_memory_and_time() -> None:
    """40 MB that nearly hold a long value at every place: no more is kept than the value is long."""
    stream = Masked(mask(X=LONG, Y=SECRET))
    piece = (LONG[:150] + " " + SECRET[:-1] + "\n").encode() * 300
    began, size, most = time.process_time(), 0, 0
    for _ in range(40_000_000 // len(piece)):
        size += len(stream.feed(piece))
        most = max(most, len(stream._kept))
    assert most < 4 * len(LONG)
    assert size > 0
    assert time.process_time() - began < 10


# -- through cogbuild ---------------------------------------------------------------------------------------------

FORMS = [
    SECRET,
    base64.b64encode(SECRET.encode()).decode()[:-4],
    base64.b64encode(b"x" + SECRET.encode()).decode()[3:-4],
    base64.b64encode(b"xx" + SECRET.encode()).decode()[4:-4],
    quote(SECRET, safe=""),
]
FORMS += [form.replace("+", "-").replace("/", "_") for form in FORMS[1:4]]
SAYS = """#!/bin/bash
echo "plain $HF_TOKEN" >&2
printf 'in two: %s' "${HF_TOKEN:0:10}" >&2; sleep 0.1; echo "${HF_TOKEN:10}" >&2
for before in '' x xx; do printf '%s%s' "$before" "$HF_TOKEN" | base64 >&2; done
printf '%s' "$HF_TOKEN" | base64 | tr '+/' '-_' >&2
( set -x; : curl -H "Authorization: Bearer $HF_TOKEN" -u "user:$(printf 'u:%s' "$HF_TOKEN" | base64)" ) 2>&2
"""
ENDINGS = {
    "failed": 'echo "no access with $HF_TOKEN" >&2; exit 1',
    "signal": 'printf "no access with $HF_TOKEN" >&2; kill -SEGV $$',
    "not-applicable": 'echo "no access with $HF_TOKEN" >&2; exit 100',
    "uri": 'echo "https://user:$HF_TOKEN@host/x"',
    "quoted-uri": """echo "https://host/?token=$(python3 -c 'import os, urllib.parse as u
print(u.quote(os.environ["HF_TOKEN"], ""))')\"""",
    "output": 'name="$COG_OUTPUT_DIR/$(printf %s "$HF_TOKEN" | base64)"; echo 1 > "$name"; echo "$name"',
    "no-output": 'echo 1 > "$COG_OUTPUT_DIR/$(printf %s "$HF_TOKEN" | base64)"',
    "missing": 'echo "$COG_OUTPUT_DIR/$HF_TOKEN"',
    "two-lines": 'echo "$HF_TOKEN"; echo "$HF_TOKEN"',
    "no-text": "printf '\\xff%s' \"$HF_TOKEN\"",
    "flood": 'i=0; while [ $i -lt 4000 ]; do echo "$HF_TOKEN"; i=$((i + 1)); done',
    "listed": 'echo "{\\"name\\": \\"$HF_TOKEN\\", \\"uri\\": \\"x:y\\"}" > "$COG_ARTIFACTS_FILE"',
    "escaped": 'echo "{\\"name\\": \\"a\\", \\"uri\\": \\"x:\\\\u0068${HF_TOKEN:1}\\"}" > "$COG_ARTIFACTS_FILE"',
    "media": 'echo "{\\"name\\": \\"a\\", \\"uri\\": \\"x:y\\", \\"media_type\\": \\"$HF_TOKEN\\"}" > "$COG_ARTIFACTS_FILE"',
    "twice": 'for i in 1 2; do echo "{\\"name\\": \\"$HF_TOKEN\\", \\"uri\\": \\"x:y\\"}"; done > "$COG_ARTIFACTS_FILE"',
    "built": 'echo made > "$COG_OUTPUT_DIR/made"; echo "$COG_OUTPUT_DIR/made"',
}


def leaks(box: Sandbox, *said: str) -> list[str]:
    """Return the files and texts in which a value of the secret can be seen."""
    found = [f"{form} in {text!r}" for form in FORMS for text in said if form in text]
    for path in box.data.rglob("*"):
        if path.is_file() and (held := [form for form in FORMS if form.encode() in path.read_bytes()]):
            found.append(f"{held} in {path}")
        found += [f"{form} in the name {path}" for form in FORMS if form in str(path)]
    return found


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_ending_shows_the_value_of_a_secret(box: Sandbox, ending: str) -> None:
    """Whatever an adapter prints and however it ends: no row, record, log, line, error or JSON holds the value."""
    box.environ["HF_TOKEN"] = SECRET
    box.adapter("one", SAYS + ENDINGS[ending] + "\n", api=1, env={"secret": ["HF_TOKEN"]})
    box.add("a")
    run = box.adapt()
    result = run.results["a one"]
    said = [*run.log, str(result)]
    if result.error is not None:
        said += [str(result.error), json.dumps(result.error.to_json(), ensure_ascii=False)]
    assert leaks(box, *said) == []
    assert "a one plain [secret HF_TOKEN]" in run.log
    assert "a one in two: [secret HF_TOKEN]" in run.log
    wanted = {"built": Status.BUILT, "not-applicable": Status.NOT_APPLICABLE}
    assert result.status is wanted.get(ending, Status.FAILED)
    if ending == "not-applicable":
        assert result.reason == "no access with [secret HF_TOKEN]"


@pytest.mark.parametrize("ending", ["failed", "built"])
def test_no_view_shows_the_value_of_a_secret(
    box: Sandbox, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text and JSON of a run and of what looks back on it, also by way of doit, hold none of it."""
    monkeypatch.setenv("HF_TOKEN", SECRET)
    box.adapter("one", SAYS + ENDINGS[ending] + "\n", api=1, env={"secret": ["HF_TOKEN"]})
    model = box.add("a").model[:12]
    said = [here(box, "adapt", "--json"), here(box, "adapt", "--force")]
    looks = (
        ("logs", model, "one"),
        ("logs", model, "one", "--json"),
        ("explain", model, "one", "--json"),
        ("status", "--json"),
        ("models", "show", model, "--json"),
        ("cache", "ls", "--json"),
        ("artifacts", "ls", "--json"),
    )
    said += [here(box, *words) for words in looks]
    (box.root / "site" / "doit.cfg").write_text("[GLOBAL]\nloader = cogbuild\n")
    (box.root / "site" / "dodo.py").write_text("")
    for words in (("info", f"adapt:local/a@{model}:one"), ("run", "-a")):
        done = subprocess.run(
            [sys.executable, "-m", "doit", *words],
            cwd=box.root / "site",
            env={**os.environ, **box.environ},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "one" in done.stdout + done.stderr
        assert leaks(box, done.stdout, done.stderr) == []
    assert leaks(box, *(item.text for item in said)) == []


def test_an_artifact_named_with_a_secret_is_refused(box: Sandbox) -> None:
    """A URI with a hole in it is of no use, so it is an error that says what to do."""
    box.environ["HF_TOKEN"] = SECRET
    box.adapter("one", f"#!/bin/sh\n{ENDINGS['uri']}\n", env={"secret": ["HF_TOKEN"]})
    added = box.add("a")
    assert box.adapt().error("a one") == (
        f"one named an artifact of local/a@{added.model[:12]} with the value of a secret variable in it\n"
        "  printed  https://user:[secret HF_TOKEN]@host/x\n"
        "hint: name it without: names and URIs are recorded and shown"
    )


def test_a_test_shows_no_secret_either(box: Sandbox) -> None:
    """The test's log, its stdout and its last words are masked as the script's are."""
    box.environ["HF_TOKEN"] = SECRET
    test = '#!/bin/sh\necho "out $HF_TOKEN"\necho "refused with $HF_TOKEN" >&2\nexit 1\n'
    box.adapter("one", test=test, env={"secret": ["HF_TOKEN"]})
    box.add("a")
    run = box.adapt()
    assert "it said  refused with [secret HF_TOKEN]" in run.error("a one")
    assert leaks(box, *run.log, run.error("a one")) == []
    (log,) = (box.data / "logs").iterdir()
    assert log.read_text().splitlines() == ["refused with [secret HF_TOKEN]", "out [secret HF_TOKEN]"]


def test_another_value_of_a_secret_changes_nothing(box: Sandbox) -> None:
    """The value does not count: with another one all is fresh, and without it too."""
    box.environ["HF_TOKEN"] = SECRET
    box.adapter("one", env={"secret": ["HF_TOKEN"]})
    box.add("a")
    box.adapt()
    key = box.look("a", "one").key
    box.environ["HF_TOKEN"] = "another"
    assert box.look("a", "one").key == key
    assert box.adapt().results == {}
    assert leaks(box) == []


def test_a_secret_too_short_to_be_masked_is_said(box: Sandbox) -> None:
    """The log says which variable's value it can't be kept free of."""
    box.environ |= {"PIN": "123", "HF_TOKEN": SECRET}
    box.adapter(
        "one", '#!/bin/sh\necho "$PIN $HF_TOKEN" >&2\necho x:y\n', env={"secret": ["PIN", "HF_TOKEN"]}
    )
    box.add("a")
    assert box.adapt().log == [
        "a one 123 [secret HF_TOKEN]",
        "a one too short to be kept out of this log: PIN",
    ]


def test_a_check_shows_no_secret(box: Sandbox, tmp_path: Path) -> None:
    """`adapters check`, which records nothing, masks what it shows."""
    from cogbuild.housekeeping.trial import tiny, trial

    directory = box.adapter(
        "one", SAYS + ENDINGS["failed"] + "\n", env={"secret": ["HF_TOKEN"]}, activate=False
    )
    with (
        tiny({"HF_TOKEN": SECRET, "PATH": "/usr/bin:/bin"}) as (project, model),
        trial(project, directory, model, listener=lambda _event: None) as tried,
    ):
        run = tried.run()
    assert run.error is not None
    assert leaks(box, run.log.decode(), str(run.error)) == []
    assert b"plain [secret HF_TOKEN]" in run.log
