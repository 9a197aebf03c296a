"""Python environments: what is asked for, what is locked, what is made once."""

from __future__ import annotations

import io
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cogbuild.environment import (
    Lock,
    Python,
    Request,
    activate,
    find_python,
    list_environments,
    make_request,
    platform_name,
    realise,
    remove,
    resolve,
    sweep,
    tool,
)
from cogbuild.errors.environments import (
    EnvironmentNotMade,
    PackagesOutOfReach,
    PathRequirement,
    ResolveFailed,
    UnreadableRequirement,
    Unresolvable,
    UvMissing,
    UvTooOld,
)
from cogbuild.errors.state import DiskTrouble

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PYTHON = find_python()


class Site:
    """A directory of wheels that uv and pip are told of, and places for environments."""

    def __init__(self, directory: Path) -> None:
        self.wheels = directory / "wheels"
        self.envs = directory / "data" / "envs"
        self.wheels.mkdir()
        self.log: list[str] = []

    def wheel(self, name: str, version: str, *requires: str) -> Path:
        """Put a wheel with one module and one script into the directory."""
        info = f"{name}-{version}.dist-info"
        metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
        files = {
            f"{name}.py": f"VERSION = '{version}'\n\n\ndef main():\n    print(VERSION)\n",
            f"{info}/METADATA": "\n".join([*metadata, *(f"Requires-Dist: {item}" for item in requires)])
            + "\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/entry_points.txt": f"[console_scripts]\n{name}={name}:main\n",
        }
        files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
        made = self.wheels / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(made, "w") as archive:
            for path, text in files.items():
                archive.writestr(path, text)
        return made

    def lock(self, *requirements: str, **options: Any) -> Lock:
        """Resolve *requirements* for the running Python."""
        request = make_request(requirements, PYTHON, asked_by="adapter onnx")
        return resolve(request, PYTHON, asked_by="adapter onnx", on_line=self.said, **options)

    def realise(self, lock: Lock) -> Path:
        """Realise *lock* with the running Python."""
        return realise(lock, PYTHON, self.envs, on_line=self.said)

    def said(self, line: bytes) -> None:
        """Keep a line of the log."""
        self.log.append(line.decode())


@pytest.fixture(scope="session")
def uv_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a cache of uv that is not the user's."""
    return tmp_path_factory.mktemp("uv-cache")


@pytest.fixture
def site(tmp_path: Path, uv_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Give a site whose wheels lie in one directory and which never uses the network."""
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_CACHE_DIR", str(uv_cache))
    made = Site(tmp_path)
    monkeypatch.setenv("UV_FIND_LINKS", str(made.wheels))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_COMPILE_BYTECODE", "0")
    return made


class TestPython:
    def test_the_running_interpreter_is_used_where_nothing_is_asked(self) -> None:
        """Without a wish the running interpreter is used, and not the virtual environment it runs in."""
        version = ".".join(map(str, sys.version_info[:3]))
        assert (PYTHON.version, PYTHON.asked, PYTHON.note) == (version, None, "")
        assert os.path.realpath(PYTHON.path) == os.path.realpath(sys.executable)
        assert not (Path(PYTHON.path).parents[1] / "pyvenv.cfg").exists()

    def test_the_running_minor_version_answers_for_itself(self) -> None:
        """A wish that the running interpreter meets needs no search and gets no note."""
        minor = ".".join(map(str, sys.version_info[:2]))
        found = find_python(minor)
        assert (found.path, found.version, found.note) == (PYTHON.path, PYTHON.version, "")

    @pytest.mark.parametrize("asked", ["3.0.99", "--help", "/bin/sh", "three"])
    def test_a_version_that_is_not_here_is_noted(self, asked: str) -> None:
        """Where the version asked for is not here, the running one is used and the note says so."""
        found = find_python(asked)
        assert found.version == PYTHON.version
        assert found.note == f"python {asked} was asked for and is not here: {PYTHON.version} is used instead"

    def test_a_missing_patch_release_is_replaced_by_its_neighbour(self) -> None:
        """A patch release that is not here is replaced by one of the same minor version, with a note."""
        asked = ".".join([*map(str, sys.version_info[:2]), "99"])
        found = find_python(asked)
        assert found.version == PYTHON.version
        assert found.note == f"python {asked} was asked for and is not here: {PYTHON.version} is used instead"

    @pytest.mark.slow  # it asks every interpreter there is
    def test_another_installed_version_is_found_by_uv(self) -> None:
        """A version that is installed beside the running one is used without a note."""
        listed = tool.run("python", "list", "--only-installed").stdout.decode()
        others = set(re.findall(r"cpython-(\d+\.\d+\.\d+)-", listed)) - {PYTHON.version}
        if not others:
            pytest.skip("only one Python is installed here")
        found = find_python(min(others))
        assert (found.version, found.note) == (min(others), "")
        assert found.path != PYTHON.path

    def test_asking_again_starts_no_process(self) -> None:
        """The answer is kept: the second time nothing is started."""
        first = find_python("3.0")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert find_python("3.0") is first
        assert resource.getrusage(resource.RUSAGE_CHILDREN) == before


class TestRequest:
    def test_order_and_spelling_do_not_count(self) -> None:
        """Requirements that mean the same give the same request."""
        one = make_request(["Scikit_Learn >1, <2", "onnx[b,a]", "onnx[a,b]"], PYTHON, asked_by="x")
        two = make_request(["onnx[a,b]", "scikit-learn<2,>1"], PYTHON, asked_by="y")
        assert one == two
        assert one.requirements == ("onnx[a,b]", "scikit-learn<2,>1")
        assert one.platform == platform_name()
        assert one.platform.startswith("linux-")

    def test_python_platform_and_requirements_count(self) -> None:
        """Another requirement, another Python and another platform each give another request, for ever the same."""
        other = Python("/bin/python", "3.10.2")
        requests = [make_request([name], python, asked_by="x") for name in "ab" for python in (PYTHON, other)]
        requests += [Request(requests[0].requirements, PYTHON.version, "linux-riscv64-glibc2.36")]
        assert len({request.digest for request in requests}) == 5
        pinned = Request(("onnx", "six"), "3.11.7", "linux-x86_64-glibc2.36")
        assert pinned.digest == "140faad21512c5a63e88f1cb3799747687e837b5e9f02a7f7fd30bf4c8cf9761"

    def test_an_address_may_stand_without_a_name(self) -> None:
        """A requirement that is only a repository's address stays as it is, as in models of 2021."""
        address = "git+https://example.org/user/package.git@main"
        assert make_request([address], PYTHON, asked_by="x").requirements == (address,)

    def test_what_is_no_requirement_is_refused_in_words(self) -> None:
        """A line that pip's files allow, but that is no requirement, is named with who asked."""
        with pytest.raises(UnreadableRequirement) as refused:
            make_request(["--extra-index-url x"], PYTHON, asked_by="model 0123456789ab")
        assert str(refused.value) == (
            "--extra-index-url x is not a requirement\n"
            "  asked by  model 0123456789ab\n"
            "  reason    Expected package name at the start of dependency specifier\n"
            "hint: write it like onnx or onnx>=1.16; options such as indexes belong into UV_INDEX or UV_FIND_LINKS"
        )

    @pytest.mark.parametrize("place", ["file:///srv/a-1.0-py3-none-any.whl", "git+file:///srv/a"])
    def test_a_path_of_one_machine_is_refused(self, place: str) -> None:
        """A lock is to be the same elsewhere, so it names no path."""
        with pytest.raises(PathRequirement) as refused:
            make_request([f"alpha @ {place}"], PYTHON, asked_by="adapter onnx")
        assert str(refused.value) == (
            f"the requirement alpha @ {place} names a path of one machine\n"
            "  asked by  adapter onnx\n"
            "hint: ask for the package by name, and name the directory that holds its wheel in UV_FIND_LINKS"
        )


class TestResolve:
    def test_a_lock_pins_versions_and_files(self, site: Site) -> None:
        """A lock names each package, those that were not asked for too, with version and hash, and no place."""
        site.wheel("alpha", "1.0")
        site.wheel("gamma", "2.0", "alpha")
        lock = site.lock("gamma")
        assert re.sub("sha256:[0-9a-f]{64}", "sha256:HEX", lock.text) == (
            "alpha==1.0 \\\n    --hash=sha256:HEX\ngamma==2.0 \\\n    --hash=sha256:HEX\n"
        )
        assert lock.python == PYTHON.version
        assert site.log[0] == f"resolving packages for Python {PYTHON.version}"

    def test_rows_name_what_counts(self) -> None:
        """A lock's rows are its Python and each package with version and files."""
        text = (
            "a==1.0 \\\n    --hash=sha256:12 \\\n    --hash=sha256:34\nb @ git+https://example.org/b@12ab\n"
        )
        lock = Lock(text, "3.11.7")
        assert lock.rows() == [
            ("python", "3.11.7"),
            ("python:a", "1.0 (files 8810bca489d11bab)"),
            ("python:b", "git+https://example.org/b@12ab"),
        ]
        assert lock.digest == "5cd98d18f29044a894dc30ba2cf928078b7f3fa689d5d0d8f5b9f9b20c6dbf7b"
        assert Lock(text, "3.11.8").digest != lock.digest

    def test_nothing_asked_for_is_an_empty_lock(self, site: Site) -> None:
        """Without requirements the lock is empty, and so is its environment."""
        lock = site.lock()
        assert lock.text == ""
        assert (site.realise(lock) / "bin" / "python3").exists()

    def test_a_lock_stays_until_it_is_upgraded(self, site: Site) -> None:
        """With the previous lock a newer wheel changes nothing; an upgrade takes it."""
        site.wheel("alpha", "1.0")
        first = site.lock("alpha")
        site.wheel("alpha", "1.1")
        assert site.lock("alpha", previous=first) == first
        upgraded = site.lock("alpha", previous=first, upgrade=True)
        assert dict(upgraded.rows())["python:alpha"].startswith("1.1 ")

    def test_what_cannot_be_met_is_told_with_all_facts(self, site: Site) -> None:
        """A conflict names who asked, for which Python, why that one, and quotes uv's explanation."""
        site.wheel("alpha", "1.0")
        site.wheel("beta", "1.0", "alpha<1")
        python = Python(PYTHON.path, PYTHON.version, "3.0", "python 3.0 was asked for and is not here")
        request = make_request(["beta", "alpha"], python, asked_by="adapter onnx")
        with pytest.raises(Unresolvable) as refused:
            resolve(request, python, asked_by="adapter onnx for model 0123456789ab")
        quoted = str(refused.value.facts["uv_says"])
        assert "beta depend on alpha<1" in " ".join(quoted.split())
        assert str(refused.value) == (
            "no set of packages meets what adapter onnx for model 0123456789ab asks for\n"
            "  requirements  alpha, beta\n"
            f"  python        {PYTHON.version}\n"
            "  note          python 3.0 was asked for and is not here\n"
            "  uv says       " + quoted.replace("\n", "\n" + " " * 16) + "\n"
            "hint: change the requirements, or install the Python that they were made for"
        )

    def test_a_package_that_does_not_build_is_told_apart(self, site: Site) -> None:
        """A source package whose build breaks is neither a conflict nor a network that is down."""
        project = '[build-system]\nrequires = []\nbuild-backend = "broken"\nbackend-path = ["."]\n'
        with tarfile.open(site.wheels / "old-1.0.tar.gz", "w:gz") as archive:
            for name, text in {"pyproject.toml": project, "broken.py": "raise SystemExit('no')\n"}.items():
                entry = tarfile.TarInfo(f"old-1.0/{name}")
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text.encode()))
        with pytest.raises(ResolveFailed) as refused:
            site.lock("old")
        assert refused.value.title == "what adapter onnx asks for could not be resolved"
        assert "old==1.0" in str(refused.value.facts["uv_says"])

    def test_threads_that_ask_for_the_same_share_one_run(self, site: Site) -> None:
        """Eight threads that ask at once cause one run of uv and get one lock."""
        site.wheel("alpha", "1.0")
        with ThreadPoolExecutor(8) as pool:
            locks = set(pool.map(lambda _: site.lock("alpha"), range(8)))
        assert len(locks) == 1
        assert sum(line.startswith("resolving") for line in site.log) == 1

    def test_threads_that_fail_together_each_say_who_asked(self, site: Site) -> None:
        """A shared failure names, for each thread, the pair that asked in it."""
        request = make_request(["nosuch"], PYTHON, asked_by="x")

        def fail(who: str) -> str:
            with pytest.raises(Unresolvable) as refused:
                resolve(request, PYTHON, asked_by=who, on_line=site.said)
            return str(refused.value.facts["asked_by"])

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(fail, "abcd")) == list("abcd")


class TestIndex:
    def test_uv_is_told_what_only_pip_was_told(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """The places and indexes that pip knows are handed over, where uv's own variables do not speak."""
        monkeypatch.chdir(tmp_path)
        pip = {
            "PIP_FIND_LINKS": "wheels  http://127.0.0.1/w",
            "PIP_INDEX_URL": "http://127.0.0.1/simple",
            "PIP_EXTRA_INDEX_URL": "http://127.0.0.1/a http://127.0.0.1/b",
        }
        told = tool.variables({**pip, "HOME": "/h", "PYTHONPATH": "/p"})
        assert {name: value for name, value in told.items() if name not in pip} == {
            "HOME": "/h",
            "UV_COMPILE_BYTECODE": "1",
            "UV_FIND_LINKS": f"{tmp_path}/wheels,http://127.0.0.1/w",
            "UV_INDEX_URL": "http://127.0.0.1/simple",
            "UV_EXTRA_INDEX_URL": "http://127.0.0.1/a http://127.0.0.1/b",
        }

    @pytest.mark.parametrize("own", ["UV_INDEX_URL", "UV_DEFAULT_INDEX"])
    def test_uvs_own_variables_win(self, own: str) -> None:
        """Where uv was told itself, pip's variables are not handed over."""
        told = tool.variables({"PIP_INDEX_URL": "http://127.0.0.1/pip", own: "http://127.0.0.1/uv"})
        assert told == {
            "PIP_INDEX_URL": "http://127.0.0.1/pip",
            "UV_COMPILE_BYTECODE": "1",
            own: "http://127.0.0.1/uv",
        }

    def test_a_site_that_configures_only_pip_works(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """With PIP_FIND_LINKS and PIP_NO_INDEX alone, packages are locked and installed."""
        monkeypatch.delenv("UV_FIND_LINKS")
        monkeypatch.delenv("UV_NO_INDEX")
        monkeypatch.setenv("PIP_FIND_LINKS", str(site.wheels))
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        site.wheel("alpha", "1.0")
        assert (site.realise(site.lock("alpha")) / "bin" / "alpha").exists()

    def test_the_cache_does_not_choose_versions(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """An old version that lies in uv's cache is not locked while the index has a newer one."""
        site.wheel("alpha", "1.0")
        site.wheel("alpha", "1.1")
        with index(site, monkeypatch):
            assert "alpha==1.0" in site.lock("alpha<1.1").text
            assert "alpha==1.1" in site.lock("alpha").text

    def test_without_the_index_the_cache_answers(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """When the index does not answer, what was asked before is locked and installed from uv's cache."""
        site.wheel("alpha", "1.0")
        with index(site, monkeypatch):
            before = site.lock("alpha")
            remove(site.realise(before))
        assert site.lock("alpha") == before
        assert "the package index does not answer: trying uv's cache" in site.log
        assert (site.realise(before) / "bin" / "alpha").exists()

    def test_an_index_out_of_reach_has_its_own_error(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither index nor cache: the error says that packages can't be reached, not that none fit."""
        with index(site, monkeypatch):
            pass
        with pytest.raises(PackagesOutOfReach) as refused:
            site.lock("neverseen")
        quoted = str(refused.value.facts["uv_says"])
        assert "neverseen" in quoted
        assert str(refused.value) == (
            "the packages for adapter onnx can't be reached\n"
            "  requirements  neverseen\n"
            f"  python        {PYTHON.version}\n"
            "  uv says       " + quoted.replace("\n", "\n" + " " * 16) + "\n"
            "hint: connect to the package index and run the command again, "
            "or name a directory of wheels in UV_FIND_LINKS"
        )

    def test_an_upgrade_does_not_fall_back_on_the_cache(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An upgrade that can't ask the index fails, instead of calling old versions new."""
        site.wheel("alpha", "1.0")
        with index(site, monkeypatch):
            before = site.lock("alpha")
        with pytest.raises(PackagesOutOfReach):
            site.lock("alpha", previous=before, upgrade=True)

    def test_the_public_index_answers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A package from the index that this machine uses is locked, installed and imported."""
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        monkeypatch.setenv("UV_HTTP_TIMEOUT", "5")
        site = Site(tmp_path)
        try:
            env = site.realise(site.lock("six"))
        except PackagesOutOfReach:
            pytest.skip("the package index is out of reach")
        subprocess.run([env / "bin" / "python", "-c", "import six"], check=True)


class TestRealise:
    def test_a_script_runs_under_its_environment(self, site: Site, tmp_path: Path) -> None:
        """`#!/usr/bin/env python3` runs the environment's Python, which sees its packages and nobody else's."""
        site.wheel("alpha", "1.0")
        env = site.realise(site.lock("alpha"))
        script = tmp_path / "adapter.py"
        script.write_text(
            "#!/usr/bin/env python3\nimport alpha, importlib.util, sys\n"
            "print(alpha.VERSION, importlib.util.find_spec('pytest'), sys.prefix)\n"
        )
        script.chmod(0o755)
        variables = activate(env, {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHOME": "/nowhere"})
        assert not {"PYTHONPATH", "PYTHONHOME"} & set(variables)
        assert variables["VIRTUAL_ENV"] == str(env)
        printed = subprocess.run([script], env=variables, capture_output=True, text=True, check=True).stdout
        assert printed == f"1.0 None {env}\n"

    def test_commands_of_packages_run(self, site: Site) -> None:
        """A command that a package brings runs from its final place."""
        site.wheel("alpha", "1.0")
        env = site.realise(site.lock("alpha"))
        assert subprocess.run([env / "bin" / "alpha"], capture_output=True, check=True).stdout == b"1.0\n"

    def test_bytecode_is_there_before_the_first_run(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Runs see an environment read-only, so it is compiled when it is made; uv's own variable turns that off."""
        site.wheel("alpha", "1.0")
        lock = site.lock("alpha")
        env = site.realise(lock)
        assert list(env.rglob("*.pyc")) == []
        remove(env)
        monkeypatch.delenv("UV_COMPILE_BYTECODE")
        assert [file.name[:6] for file in site.realise(lock).rglob("*.pyc")] == ["alpha."]

    def test_an_environment_is_made_once(self, site: Site) -> None:
        """The second call starts no process, writes nothing and returns the same directory."""
        site.wheel("alpha", "1.0")
        lock = site.lock("alpha")
        env = site.realise(lock)
        assert env == site.envs / lock.digest[:20]
        before = resource.getrusage(resource.RUSAGE_CHILDREN), (env / ".last-used").stat()
        assert site.realise(lock) == env
        assert (resource.getrusage(resource.RUSAGE_CHILDREN), (env / ".last-used").stat()) == before

    def test_use_is_noted_once_a_day(self, site: Site) -> None:
        """An environment that was last used two days ago is marked as used now."""
        lock = site.lock()
        env = site.realise(lock)
        os.utime(env / ".last-used", (1.0, time.time() - 2 * 86400))
        site.realise(lock)
        (listed,) = list_environments(site.envs)
        assert abs(listed.last_used - time.time()) < 60

    def test_threads_and_processes_make_one(self, site: Site) -> None:
        """Two processes with eight threads each ask at once: one environment is made, all get it."""
        site.wheel("alpha", "1.0")
        lock = site.lock("alpha")
        code = (
            "import sys; from concurrent.futures import ThreadPoolExecutor; from pathlib import Path\n"
            "from cogbuild.environment import Lock, find_python, realise\n"
            "lock, envs = Lock(sys.argv[1], sys.argv[2]), Path(sys.argv[3])\n"
            "say = lambda line: print(line.decode(), flush=True)\n"
            "with ThreadPoolExecutor(8) as pool:\n"
            "    paths = set(pool.map(lambda _: realise(lock, find_python(), envs, on_line=say), range(8)))\n"
            "print('got', *paths)\n"
        )
        argv = [sys.executable, "-c", code, lock.text, lock.python, str(site.envs)]
        running = [
            subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for _ in range(2)
        ]
        lines = [line for process in running for line in process.communicate()[0].splitlines()]
        assert [process.returncode for process in running] == [0, 0], lines
        assert sum(line.startswith("making environment") for line in lines) == 1
        assert lines.count(f"got {site.envs / lock.digest[:20]}") == 2

    def test_a_maker_killed_half_way_leaves_nothing_that_counts(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After SIGKILL in the middle of an installation the next call makes the environment, and sweeps."""
        site.wheel("omega", "1.0")
        lock = site.lock("omega")
        code = (
            "import sys; from pathlib import Path; from cogbuild.environment import Lock, find_python, realise\n"
            "realise(Lock(sys.argv[1], sys.argv[2]), find_python(), Path(sys.argv[3]))\n"
        )
        asked, release = threading.Event(), threading.Event()

        class Silent(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.set()
                release.wait(30)

        with serving(Silent) as address, monkeypatch.context() as patch:
            patch.delenv("UV_FIND_LINKS")
            patch.delenv("UV_NO_INDEX")
            patch.setenv("UV_INDEX_URL", f"{address}/simple")
            patch.setenv("UV_HTTP_RETRIES", "0")
            argv = [sys.executable, "-c", code, lock.text, lock.python, str(site.envs)]
            maker = subprocess.Popen(argv, cwd=ROOT)
            assert asked.wait(20)
            maker.send_signal(signal.SIGKILL)
            maker.wait()
            release.set()
        (half,) = site.envs.glob(".making-*")
        assert (half / "bin" / "python").exists()
        assert list_environments(site.envs) == []
        env = site.realise(lock)
        assert sorted(path.name for path in site.envs.iterdir()) == [".locks", env.name]
        assert (env / "bin" / "omega").exists()

    def test_an_environment_whose_interpreter_is_gone_is_made_again(self, site: Site) -> None:
        """After its Python was uninstalled, an environment does not count as there."""
        lock = site.lock()
        env = site.realise(lock)
        (env / "bin" / "python").unlink()
        (env / "bin" / "python").symlink_to(site.wheels / "gone")
        assert site.realise(lock) == env
        assert os.access(env / "bin" / "python", os.X_OK)

    def test_a_replaced_file_is_not_installed(
        self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A wheel that changed under its name does not match the lock's hash, and nothing is left of the attempt."""
        site.wheel("delta", "1.0")
        lock = site.lock("delta")
        site.wheel("delta", "1.0", "other")
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))  # the user's would still have the first
        with pytest.raises(EnvironmentNotMade) as refused:
            site.realise(lock)
        quoted = str(refused.value.facts["uv_says"])
        assert "mismatch" in quoted
        assert str(refused.value) == (
            f"the locked packages of environment {lock.digest[:20]} can't be installed\n"
            "  uv says  " + quoted.replace("\n", "\n" + " " * 11) + "\n"
            "hint: if a locked file is gone or was replaced, lock again with `cogbuild adapters lock --upgrade`"
        )
        assert [path.name for path in site.envs.iterdir()] == [".locks"]

    def test_a_lock_is_for_one_python(self, site: Site) -> None:
        """A lock that was made for another Python is not realised with this one."""
        with pytest.raises(ValueError, match=r"a lock for Python 3\.0\.1 can't be realised with"):
            site.realise(Lock("", "3.0.1"))

    def test_a_disk_that_refuses_is_told(self, tmp_path: Path) -> None:
        """Where environments can't be written, the error is the data directory's."""
        (tmp_path / "envs").write_text("a file where a directory should be")
        with pytest.raises(DiskTrouble):
            realise(Lock("", PYTHON.version), PYTHON, tmp_path / "envs")


class TestRemove:
    def test_environments_are_listed_with_size_and_use(self, site: Site) -> None:
        """A listing has what gc needs; a directory that is not there is an empty one."""
        assert list_environments(site.envs) == []
        env = site.realise(site.lock())
        (listed,) = list_environments(site.envs)
        assert (listed.digest_prefix, listed.path) == (env.name, env)
        files = [path for path in env.rglob("*") if path.is_symlink() or path.is_file()]
        assert listed.size == sum(path.lstat().st_size for path in files)

    def test_a_removed_environment_is_made_again(self, site: Site) -> None:
        """Removing leaves nothing; asking again makes it anew, and removing twice is no error."""
        lock = site.lock()
        env = site.realise(lock)
        assert remove(env)
        assert remove(env)
        assert [path.name for path in site.envs.iterdir()] == [".locks"]
        assert site.realise(lock) == env

    def test_nothing_is_removed_while_it_is_made(self, site: Site) -> None:
        """While another makes environments of the same first digit, removing declines and sweeping passes over."""
        import fcntl

        env = site.realise(site.lock())
        leftover = site.envs / f".making-{env.name}-00000000"
        leftover.mkdir()
        with (site.envs / ".locks" / env.name[0]).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert not remove(env)
            sweep(site.envs)
            assert leftover.exists()
        assert env.exists()
        sweep(site.envs)
        assert not leftover.exists()
        assert remove(env)


class TestUv:
    def test_a_missing_uv_is_told_with_its_remedy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without the uv package the error says how to get it."""
        monkeypatch.setitem(sys.modules, "uv", None)
        tool._program.cache_clear()
        with pytest.raises(UvMissing) as refused:
            tool.run("--version")
        assert str(refused.value) == (
            "uv, which makes Python environments, is not installed beside cogbuild\n"
            f"  python  {sys.executable}\n"
            "  reason  import of uv halted; None in sys.modules\n"
            f"hint: install it with `{sys.executable} -m pip install uv`"
        )

    def test_an_uv_that_is_too_old_is_told_with_its_remedy(self) -> None:
        """An option that uv does not know means that it is too old; its version is told."""
        with pytest.raises(UvTooOld) as refused:
            tool.run("venv", "--an-option-of-the-future")
        facts = refused.value.facts
        assert refused.value.title == f"uv at {facts['program']} is too old to make Python environments"
        assert refused.value.advice == f"upgrade it with `{sys.executable} -m pip install --upgrade uv`"
        assert str(facts["version"]).startswith("uv ")
        assert "--an-option-of-the-future" in str(facts["uv_says"])


@contextmanager
def serving(handler: type[SimpleHTTPRequestHandler]) -> Iterator[str]:
    """Serve on loopback and give the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def index(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the site's wheels reachable only through an index on loopback, which stops at the end."""
    root = site.wheels.parent / "index"
    for wheel in site.wheels.iterdir():
        page = root / "simple" / wheel.name.split("-")[0]
        page.mkdir(parents=True, exist_ok=True)
        shutil.copy(wheel, page)
    for page in root.glob("simple/*"):
        links = [f'<a href="{wheel.name}">{wheel.name}</a>' for wheel in page.glob("*.whl")]
        (page / "index.html").write_text(f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>")

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options, directory=str(root))

        def end_headers(self) -> None:
            self.send_header("Cache-Control", "max-age=0")  # so that uv asks again
            super().end_headers()

        def log_message(self, *args: object) -> None:
            pass

    monkeypatch.delenv("UV_FIND_LINKS")
    monkeypatch.delenv("UV_NO_INDEX")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with serving(Quiet) as address:
        monkeypatch.setenv("UV_INDEX_URL", f"{address}/simple")
        yield
