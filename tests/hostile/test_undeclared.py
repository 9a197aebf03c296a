"""What an adapter uses without declaring it is out of its reach, or named by ``adapters check``."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest
from commands import Said, cogbuild
from conftest import Sandbox

from cogbuild.housekeeping.watching import Seen, read_traces

pytestmark = pytest.mark.slow

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
ECHO = 'cat weights.bin > "$COG_OUTPUT_DIR/x" 2>/dev/null || cat marks.txt > "$COG_OUTPUT_DIR/x"; echo x'


def check(box: Sandbox, script: str, *options: str) -> Said:
    """Write an adapter and check it."""
    directory = box.adapter("one", f"#!/bin/sh\n{script}\n{ECHO}\n", activate=False)
    return cogbuild(box, "adapters", "check", str(directory), "--quick", *options)


# -- denied -------------------------------------------------------------------------------------------------------


def test_what_lies_beside_a_model_is_not_beside_its_workspace(box: Sandbox) -> None:
    """``../x`` of a live model's directory is not there for the script, at whatever level this machine protects."""
    directory = box.model("a")
    (directory.parent / "x").write_text("undeclared")
    box.configure(models=[str(directory)])
    box.adapter("one", "#!/bin/sh\ncat ../x ../../x >&2\necho x:y\n")
    run = box.adapt()
    assert run.exit_code == 0
    assert "undeclared" not in " ".join(run.log)
    assert any("No such file" in line for line in run.log)


def test_what_inputs_do_not_admit_is_not_there(box: Sandbox) -> None:
    """A file of the model that `inputs` leaves out can't be read, also by its name in the store."""
    box.adapter("one", "#!/bin/sh\nls >&2; cat weights.bin\necho x:y\n", inputs=["*.py"])
    box.add("a")
    assert box.adapt().log[:2] == ["a one predict.py", "a one cat: weights.bin: No such file or directory"]


def test_undeclared_variables_are_not_there(box: Sandbox) -> None:
    """Of cogbuild's own environment the script has nothing but what is always passed and what it declares."""
    box.environ |= {
        "MINE": "1",
        "PYTHONPATH": "/x",
        "LD_PRELOAD": "",
        "COGBUILD_JOBS": "1",
        "SSH_AUTH_SOCK": "/s",
    }
    box.adapter("one", "#!/bin/sh\nenv | cut -d= -f1 | sort | tr '\\n' ' ' >&2\necho x:y\n", uses=[])
    box.add("a")
    (line,) = box.adapt().log
    assert line.removeprefix("a one ").split() == [
        "COG_ARTIFACTS_FILE",
        "COG_FIDELITY_FILE",
        "COG_OUTPUT_DIR",
        "HOME",
        "PATH",
        "PWD",
    ]


# -- reported -----------------------------------------------------------------------------------------------------


@needs_strace
def test_a_clean_adapter_has_nothing_to_report(box: Sandbox) -> None:
    """Its own files, the model, its output, its own temporary files, the system's programs: all of that is declared."""
    directory = box.root / "adapters" / "one"
    directory.mkdir(parents=True)
    (directory / "helper").write_text("x")
    temporary = 't=$(mktemp); echo 1 > "$t"; cat "$t" >&2; rm "$t"'
    said = check(box, f'cat "$(dirname "$0")/helper" >&2; {temporary}; python3 -c "import json"')
    assert said.err == b""
    assert said.out.decode().splitlines()[-1] == "one keeps the contract: the second run made the same bytes"
    assert len(said.out.decode().splitlines()) == 5


@needs_strace
def test_what_a_run_is_told_by_files_is_declared(box: Sandbox) -> None:
    """The examples and the list of artifacts are cogbuild's own; what a test reads is not watched at all."""
    reading = 'cat "$COG_EXAMPLES_FILE" "$COG_ARTIFACTS_FILE" >&2'
    directory = box.adapter(
        "one",
        f"#!/bin/sh\n{reading}\n{ECHO}\n",
        test=f'#!/bin/sh\n{reading}\ncat "$COG_ARTIFACT_PATH" /etc/hostname >&2\n',
        examples=True,
        api=1,
        activate=False,
    )
    said = cogbuild(box, "adapters", "check", str(directory), "--quick")
    assert (said.code, said.err) == (0, b"")
    assert "does not declare" not in said.out.decode()


@needs_strace
def test_undeclared_files_are_named(box: Sandbox) -> None:
    """Files read by an absolute path, by a relative one, by a child and by being executed are reported, each once."""
    place = box.root / "elsewhere"
    place.mkdir()
    (place / "vocab\n.txt").write_text("a b c")
    box.script(place / "tool", f"#!/bin/sh\ncd {place}\ncat ./vocab* >&2\ntest -f asked\n")
    (place / "asked").touch()
    (box.root / "adapters").mkdir()
    (box.root / "adapters" / "beside").write_text("1")
    said = check(
        box, f'cat "$(dirname "$0")/../beside" >&2; {place}/tool; {place}/tool; cat {place}/absent; :'
    )
    assert said.code == 0
    assert said.err == b""
    assert said.out.decode().splitlines()[4:] == [
        "it reads what it does not declare, so that a change there goes unnoticed:",
        f"  {box.root}/adapters/beside",
        f"  {place}/asked",
        f"  {place}/tool",
        f"  {place}/vocab\\n.txt",
        "one keeps the contract: the second run made the same bytes",
    ]


@needs_strace
def test_connections_are_named(box: Sandbox) -> None:
    """Whom the script asks over the network or a socket is reported, also where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket\nsocket.create_connection(('127.0.0.1', {port}))\n"
        code += "s = socket.socket(socket.AF_UNIX)\ns.connect_ex('/run/docker.sock.not')\n"
        said = check(box, f'python3 -c "{code}"', "--json")
    found = json.loads(said.out)
    assert found["undeclared"]["connections"] == ["/run/docker.sock.not", f"127.0.0.1:{port}"]
    assert found["undeclared"]["not_watched"] is None
    assert said.code == 0


def test_without_strace_it_says_so(box: Sandbox, tmp_path: Path) -> None:
    """The check goes on and says that nobody watched."""
    (tmp_path / "bin").mkdir()
    for name in ("sh", "cat", "python3", "env"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or name)
    box.environ["PATH"] = str(tmp_path / "bin")
    said = check(box, ":")
    assert said.err.decode() == "note: what it reads was not watched: strace is not installed\n"
    assert said.out.decode().splitlines()[-1] == "one keeps the contract: the second run made the same bytes"


@needs_strace
def test_who_refuses_to_be_watched_is_checked_all_the_same(box: Sandbox) -> None:
    """A script that ends otherwise under strace is run again without, and that is said."""
    said = check(box, "grep -q 'TracerPid:.0$' /proc/self/status || exit 3")
    assert said.code == 0
    assert said.err.decode() == "note: what it reads was not watched: it ended otherwise under strace\n"


def test_traces_are_read_whatever_they_hold(tmp_path: Path) -> None:
    """Lines that are cut, that failed, that hold odd names or that nobody knows do no harm."""
    trace = tmp_path / "trace.1"
    trace.write_bytes(
        b'execve("/usr/s", ["./s"], 0x7ff /* 3 vars */) = 0\n'
        b'openat(AT_FDCWD</w>, "../x", O_RDONLY) = 3</x>\n'
        b'openat(AT_FDCWD</w>, "in", O_RDONLY) = 3</w/in>\n'
        b'openat(AT_FDCWD</w>, "no", O_RDONLY) = -1 ENOENT (No such file or directory)\n'
        b'openat(AT_FDCWD</w>, "/t/made", O_RDWR|O_CREAT|O_EXCL, 0600) = 4</t/made>\n'
        b'openat(AT_FDCWD</w>, "/t/made", O_RDONLY) = 4</t/made>\n'
        b'openat(AT_FDCWD</w>, "/q\\377\\"\\n", O_RDONLY|O_CLOEXEC) = 4</q\\377"\\n>\n'
        b'newfstatat(5</d>, "below", {st_mode=S_IFREG|0644, st_size=1, ...}, 0) = 0\n'
        b'newfstatat(5</d>, "", {st_mode=S_IFREG|0644, st_size=1, ...}, AT_EMPTY_PATH) = 0\n'
        b'\xff\xfe cut off\nopenat(AT_FDCWD</w>, "x'
    )
    seen = read_traces([trace], ["/usr"])
    assert seen == Seen(files=("/d/below", '/q\udcff"\n', "/x"))
