"""What ``cog.yaml`` and ``cog-adapters.yaml`` may say, and how they are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from cogbuild.errors.declarations import DeclarationError
from cogbuild.spec import Example, ModelSpec, Wishes
from cogbuild.spec.model import check_reference, parse_model, parse_wishes

FILE = Path("digits/cog.yaml")
PREDICT = "predict: predict.py:Predictor\n"
WHERE = "\n  file  digits/cog.yaml\n  line  {}"
FORM = "a reference such as predict.py:Predictor was expected"


def parse(text: str, **files: str | bytes) -> ModelSpec:
    """Parse *text* beside *files*, whose names have ``__`` for ``/`` and end in ``.txt`` or ``.py``."""
    have = {
        name.replace("__", "/") + (".py" if name == "predict" else ".txt"): data
        for name, data in files.items()
    }

    def read(path: str) -> bytes | None:
        data = have.get(path)
        return data.encode() if isinstance(data, str) else data

    return parse_model(text.encode(), FILE, read)


def refusal(text: str, **files: str | bytes) -> str:
    with pytest.raises(DeclarationError) as caught:
        parse(text, **files)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_todays_form_is_read() -> None:
    """`predict:` and `build:` give module, class and environment; Cog's other keys are passed over."""
    spec = parse(
        """
build:
  gpu: true
  cuda: "12.1"
  python_version: 3.10
  python_packages: [torch==2.0]
  python_requirements: requirements.txt
  python_extra_index_urls: [https://localhost/simple]
  system_packages: [ffmpeg]
  run: [echo]
predict: src/infer.py:Model
train: train.py:train
concurrency: {max: 4}
""",
        requirements="numpy\n",
    )
    assert spec == ModelSpec(
        module="src.infer",
        cls="Model",
        file="src/infer.py",
        python_version="3.10",
        requirements=("torch==2.0", "numpy"),
        pip_options=("--extra-index-url https://localhost/simple",),
        system_packages=("ffmpeg",),
        gpu=True,
    )


def test_form_of_2021_is_read() -> None:
    """`model:`, `environment:` and `examples:` mean what they meant."""
    spec = parse(
        """
environment:
  python_version: "3.8"
  architectures: [cpu]
  python_requirements: requirements.txt
model: "infer.py:JazzModel"
examples:
  - input: {notes: "@in.mid"}
    output: "@out.mid"
  - input: {notes: x}
""",
        requirements="torch==1.7",
    )
    assert spec == ModelSpec(
        module="infer",
        cls="JazzModel",
        file="infer.py",
        python_version="3.8",
        requirements=("torch==1.7",),
        examples=(Example({"notes": "@in.mid"}, "@out.mid"), Example({"notes": "x"}, None)),
    )


def test_run_is_another_word_for_predict() -> None:
    """Today's `run:` sets the same field."""
    assert parse("run: ./run.py:Runner").module == "run"


def test_environment_variables_of_today_are_not_the_environment_of_2021() -> None:
    """A list under `environment:` is Cog's variables and none of our business."""
    assert parse(PREDICT + "environment: [A=b]") == ModelSpec("predict", "Predictor", "predict.py")


def test_empty_sections_count_as_absent() -> None:
    """`build:` with nothing under it is what editors leave behind."""
    assert parse(PREDICT + "build:\n") == ModelSpec("predict", "Predictor", "predict.py")
    assert parse(PREDICT + "build:\n  python_packages:\n  gpu:\n  python_version:\n").requirements == ()


@pytest.mark.parametrize(
    ("written", "read"), [("3.10", "3.10"), ("'3.9'", "3.9"), ("3.11.4", "3.11.4"), ("3", "3")]
)
def test_python_version_is_the_text_on_the_page(written: str, read: str) -> None:
    """3.10 without quotes is not 3.1."""
    assert parse(PREDICT + f"build: {{python_version: {written}}}").python_version == read


REFUSALS = {
    "no class": (
        "predict: predict.py",
        "predict names the file predict.py, but no class in it"
        + WHERE.format(1)
        + "\nhint: name the class too, as in `predict: predict.py:Predictor`",
    ),
    "nothing to run": (
        "build: {}",
        "digits/cog.yaml names no class to run\nhint: add a line such as `predict: predict.py:Predictor`",
    ),
    "two": (
        PREDICT + "run: run.py:Runner",
        "digits/cog.yaml has both predict and run\n  line  2\nhint: keep one of them: both name the class to run",
    ),
    "two times": (
        PREDICT + "model: infer.py:Model",
        "digits/cog.yaml has both predict and model\n  line  2\nhint: keep one of them: both name the class to run",
    ),
    "class alone": ("predict: Predictor", f"predict is 'Predictor', {FORM}" + WHERE.format(1)),
    "dotted": ("model: infer.Model", f"model is 'infer.Model', {FORM}" + WHERE.format(1)),
    "outside": ("predict: ../predict.py:P", f"predict is '../predict.py:P', {FORM}" + WHERE.format(1)),
    "no name": ("predict: predict.py:2P", f"predict is 'predict.py:2P', {FORM}" + WHERE.format(1)),
    "list": ("predict: [a]", "predict is a list, text was expected" + WHERE.format(1)),
    "build": (PREDICT + "build: torch", "build is 'torch', a mapping was expected" + WHERE.format(2)),
    "gpu": (
        PREDICT + "build:\n  gpu: maybe",
        "build.gpu is 'maybe', true or false was expected" + WHERE.format(3),
    ),
    "packages": (
        PREDICT + "build:\n  python_packages: torch",
        "build.python_packages is 'torch', a list was expected" + WHERE.format(3),
    ),
    "python": (
        PREDICT + "build:\n  python_version: '2.7'",
        "build.python_version is '2.7', a version of Python 3 such as 3.11 was expected" + WHERE.format(3),
    ),
    "python list": (
        PREDICT + "build:\n  python_version: [3]",
        "build.python_version is a list, a version of Python 3 such as 3.11 was expected" + WHERE.format(3),
    ),
    "package": (
        PREDICT + "build:\n  python_packages:\n  - numpy\n  - torch 2",
        "'torch 2' is not a requirement that pip would take" + WHERE.format(5),
    ),
    "requirements gone": (
        PREDICT + "build:\n  python_requirements: reqs.txt",
        "the requirements file reqs.txt is not in the model" + WHERE.format(3),
    ),
    "requirements outside": (
        PREDICT + "build:\n  python_requirements: ../reqs.txt",
        "the requirements file ../reqs.txt is not in the model" + WHERE.format(3),
    ),
    "examples": (
        "model: infer.py:Model\nexamples:\n- input: x",
        "examples.input is 'x', a mapping was expected" + WHERE.format(3),
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal_names_the_value_the_file_and_the_line(case: str) -> None:
    """Each thing that can be wrong has its own whole message."""
    text, message = REFUSALS[case]
    assert refusal(text) == message


def test_reference_without_class_offers_the_only_one_that_fits() -> None:
    """Where the file has one class that predicts, the message has the line to write."""
    source = "class Helper: pass\nclass Digits:\n    def predict(self): ...\n"
    assert refusal("build: {}\npredict: 'predict.py:'", predict=source) == (
        "predict names the file predict.py, but no class in it\n"
        "  class found  Digits\n"
        "  file         digits/cog.yaml\n"
        "  line         2\n"
        "hint: write `predict: predict.py:Digits`"
    )


def test_reference_without_class_does_not_guess_between_two() -> None:
    """Two classes that would do are no reason to offer one."""
    source = "class A:\n    def predict(self): ...\nclass B:\n    def run(self): ...\n"
    assert "class found" not in refusal("predict: predict.py", predict=source)


# Requirements files


def requirements(text: str | bytes, **files: str | bytes) -> ModelSpec:
    return parse(PREDICT + "build: {python_requirements: requirements.txt}", requirements=text, **files)


def test_requirements_are_read_as_pip_reads_them() -> None:
    """Comments, continued lines, hashes, options, URLs and editable paths are understood."""
    spec = requirements(
        """\
# what it needs
numpy==1.26  # not 2
torch==2.0 \\
    --hash=sha256:00 \\
    --hash=sha256:01
pillow ; python_version < "3.12"
git+https://localhost/x#egg=y
-e ./lib
--extra-index-url https://localhost/simple
--pre
-i https://localhost/other
"""
    )
    assert spec.requirements == (
        "numpy==1.26",
        "torch==2.0",
        'pillow ; python_version < "3.12"',
        "git+https://localhost/x#egg=y",
        "./lib",
    )
    assert spec.pip_options == (
        "--extra-index-url https://localhost/simple",
        "--pre",
        "--index-url https://localhost/other",
    )


@pytest.mark.parametrize("option", ["-r", "--requirement", "--requirement=", "-r="])
def test_files_named_in_requirements_are_followed(option: str) -> None:
    """`-r` is relative to the file that says it, and a circle ends."""
    space = "" if option.endswith("=") else " "
    spec = requirements(f"{option}{space}deps/base.txt\na", deps__base="-r../requirements.txt\nb\n")
    assert spec.requirements == ("b", "a")


def test_constraints_bind_without_installing() -> None:
    """What `-c` names is kept apart, also what that file names with `-r`."""
    spec = requirements("a\n-c limits.txt", limits="b<2\n-r more.txt", more="c<3")
    assert (spec.requirements, spec.constraints) == (("a",), ("b<2", "c<3"))


def test_requirements_in_utf16_are_read() -> None:
    """PowerShell writes them so."""
    assert requirements("numpy\r\n".encode("utf-16")).requirements == ("numpy",)


@pytest.mark.parametrize("line", ["num py", "!!!", "--target /tmp", "numpy>=1.*.2"])
def test_line_that_is_no_requirement_is_refused(line: str) -> None:
    """The message names the requirements file, not the file that names it."""
    assert refusal(
        PREDICT + "build: {python_requirements: requirements.txt}", requirements=f"numpy\n\n{line}\n"
    ) == (f"'{line}' is not a requirement that pip would take\n  file  requirements.txt\n  line  3")


def test_file_named_in_requirements_has_to_be_there() -> None:
    """A missing file is reported where it is named."""
    assert refusal(
        PREDICT + "build: {python_requirements: requirements.txt}", requirements="a\n-r gone.txt"
    ) == ("the requirements file gone.txt is not in the model\n  file  requirements.txt\n  line  2")


def test_chain_of_requirements_files_ends() -> None:
    """A hundred files that name each other are enough."""
    chain: dict[str, str | bytes] = {f"r{i}": f"-r r{i + 1}.txt" for i in range(200)}
    assert refusal(PREDICT + "build: {python_requirements: r0.txt}", **chain) == (
        "r100.txt is larger than it looks: more than 100 requirements files lead to it"
    )


# The reference and the file it names

SPEC = ModelSpec("predict", "Predictor", "predict.py")


@pytest.mark.parametrize(
    "source",
    [
        "class Predictor: ...",
        "def Predictor(x): ...",
        "async def Predictor(x): ...",
        "from lib import Net as Predictor",
        "import Predictor",
        "Predictor = make()",
        "Predictor: type = make()",
        "a, (Predictor, *b) = make()",
        "try:\n    import fast\nexcept ImportError:\n    class Predictor: ...",
        "if True:\n    x = 1\nelse:\n    Predictor = x",
        "match 1:\n    case 1:\n        Predictor = 2",
        "from lib import *",
        "x = '\\d'\nclass Predictor: ...",
    ],
)
def test_class_is_found_however_it_is_made(source: str) -> None:
    """Whatever binds the name in the module will do."""
    check_reference(SPEC, source.encode(), FILE)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "cog.yaml names predict.py, which is not in the model\n  file  digits/cog.yaml"),
        (
            b"x = 1\nclass Predictor\n",
            (
                "predict.py is not Python that can be read\n  file     digits/predict.py\n"
                "  line     2\n  problem  expected ':'"
            ),
        ),
        (
            b"\0",
            (
                "predict.py is not Python that can be read\n  file     digits/predict.py\n"
                "  problem  source code string cannot contain null bytes"
            ),
        ),
        (
            b"class Predicter: ...",
            "predict.py has no Predictor, which cog.yaml names\n  file     digits/predict.py\n  closest  Predicter",
        ),
        (
            b"class Digits:\n    def run(self): ...",
            "predict.py has no Predictor, which cog.yaml names\n  file     digits/predict.py\n  closest  Digits",
        ),
        (
            b"def f():\n    class Predictor: ...",
            "predict.py has no Predictor, which cog.yaml names\n  file  digits/predict.py",
        ),
    ],
)
def test_reference_to_what_is_not_there_is_refused(source: bytes | None, message: str) -> None:
    """File missing, file broken and class missing are three messages."""
    with pytest.raises(DeclarationError) as caught:
        check_reference(SPEC, source, FILE)
    assert str(caught.value) == message


@pytest.mark.parametrize("source", [b"(" * 5000, b"-" * 200_000 + b"1", b"x = " + b"a." * 50_000 + b"a"])
def test_source_that_nests_too_deeply_is_refused(source: bytes) -> None:
    """A hostile file ends in a message, not in a crash."""
    with pytest.raises(DeclarationError):
        check_reference(SPEC, source, FILE)


def test_grammar_of_a_newer_python_is_not_judged() -> None:
    """A model for a Python newer than ours may use what ours can't read."""
    newer = ModelSpec("predict", "Predictor", "predict.py", python_version="3.99")
    check_reference(newer, b"class Predictor: ...\nnew syntax here\n", FILE)
    with pytest.raises(DeclarationError):
        check_reference(newer, b"new syntax here\n", FILE)


# What a model wants of adapters

WISHES = Path("digits/cog-adapters.yaml")


def test_wishes_are_read() -> None:
    """Adapters, their parameters and examples arrive."""
    text = b"adapters: [onnx]\nparams: {onnx: {opset: 17}, tvm: }\nexamples:\n- {input: {x: 1}, output: [2]}\n- input:\n"
    assert parse_wishes(text, WISHES) == Wishes(
        ("onnx",), {"onnx": {"opset": 17}, "tvm": {}}, (Example({"x": 1}, [2]), Example({}))
    )


def test_no_wishes_want_every_adapter() -> None:
    """An empty file changes nothing; an empty list of adapters wants none."""
    assert parse_wishes(b"", WISHES) == Wishes()
    assert parse_wishes(b"adapters: []", WISHES).adapters == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "exmples: []",
            (
                "exmples is not a key that cogbuild knows\n  closest  examples\n"
                "  file     digits/cog-adapters.yaml\n  line     1"
            ),
        ),
        (
            "params: {onnx: 18}",
            "params.onnx is 18, a mapping was expected\n  file  digits/cog-adapters.yaml\n  line  1",
        ),
        (
            "params: {'a b': {}}",
            (
                "a name in params is 'a b', a name of at most 64 letters, digits, dots, dashes and underscores was expected"
                "\n  file  digits/cog-adapters.yaml\n  line  1"
            ),
        ),
        (
            "params:\n  onnx: {'a=b': 1}",
            (
                "a name in params.onnx is 'a=b', at most 64 letters, digits, dashes and underscores was expected"
                "\n  file  digits/cog-adapters.yaml\n  line  2"
            ),
        ),
        (
            "params: {onnx: {a-b: 1, A_B: 1}}",
            (
                "a-b and A_B in params.onnx would both become COG_PARAM_A_B\n  file  digits/cog-adapters.yaml\n  line  1"
                "\nhint: rename one of them"
            ),
        ),
        ("adapters: [a, a]", "adapters names a twice\n  file  digits/cog-adapters.yaml\n  line  1"),
        (
            "examples:\n- output: 1\n  inputs: {}",
            (
                "examples.inputs is not a key that cogbuild knows\n  closest  input\n"
                "  file     digits/cog-adapters.yaml\n  line     3"
            ),
        ),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(text: str, message: str) -> None:
    """Unknown keys, wrong kinds and names that make no variable are said with their line."""
    with pytest.raises(DeclarationError) as caught:
        parse_wishes(text.encode(), WISHES)
    assert str(caught.value) == message
