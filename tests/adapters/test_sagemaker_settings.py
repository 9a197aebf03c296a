"""Are the parameters of sagemaker checked before anything is done, as SageMaker would, and what is asked of it?"""

from __future__ import annotations

import importlib
import sys
from dataclasses import asdict
from typing import Any

import pytest
from adapter_runs import ADAPTERS, KIT, adapter_spec
from aws import ECR, REGION, ROLE

sys.path[:0] = [str(KIT)]
sys.path.append(str(ADAPTERS / "sagemaker"))
settings: Any = importlib.import_module("sagemaker_settings")
aws: Any = importlib.import_module("sagemaker_aws")
AdapterError: Any = importlib.import_module("cogbuild_adapter").AdapterError


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Read the settings with some parameters given."""

    def reading(**params: str) -> Any:
        for name, value in params.items():
            monkeypatch.setenv(f"COG_PARAM_{name.upper()}", value)
        return settings.read()

    return reading


def test_what_is_declared_is_what_is_read(read: Any) -> None:
    """Each parameter has the default that the declaration says."""
    assert asdict(read()) == adapter_spec("sagemaker").params


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("role", "Serves", "arn:aws:iam::ACCOUNT:role/NAME"),
        ("role", "arn:aws:iam::123456789012:user/x", "arn:aws:iam::ACCOUNT:role/NAME"),
        ("name", "a_b", "letters, digits and dashes between them"),
        ("name", "a" * 44, "at most 43 characters"),
        ("package_group", "-a", "letters, digits and dashes between them"),
        ("model_data", "bucket/x.tar.gz", "s3://BUCKET/KEY.tar.gz, or s3://BUCKET/PREFIX/"),
        ("model_data", "s3://bucket/weights", "s3://BUCKET/KEY.tar.gz, or s3://BUCKET/PREFIX/"),
        ("async_output", "out", "s3://BUCKET/PREFIX"),
        ("instance_type", "m5.large", "a type such as ml.m5.large"),
        ("instance_type", "", "a type such as ml.m5.large"),
        ("instance_count", "0", "1 or more"),
        ("instance_count", "two", "a whole number"),
        ("memory_mb", "1500", "1024, 2048, 3072, 4096, 5120 or 6144"),
        ("concurrency", "201", "from 1 to 200"),
        ("startup_timeout", "30", "from 60 to 3600 seconds, or 0"),
        ("approval", "yes", "PendingManualApproval, Approved or Rejected"),
        ("endpoint", "gpu", "none, plain, serverless or async"),
        ("env", "A=b", "an object of names and values, such as {LOG_LEVEL: debug}"),
    ],
)
def test_a_parameter_that_cannot_be_is_named(read: Any, name: str, value: str, wanted: str) -> None:
    """With what it is and what it has to be."""
    with pytest.raises(AdapterError) as refused:
        read(**{"role": ROLE, name: value})
    shown = value if value == "0" or (value.isdecimal() and name != "name") else repr(value)
    assert str(refused.value) == f"the parameter {name} is {shown}, but it has to be {wanted}"


def test_variables_are_what_sagemaker_takes(read: Any) -> None:
    """Names, lengths and how many; other values than text become JSON."""
    assert read(role=ROLE, env='{"A": "b", "N": 3, "F": false}').env == {"A": "b", "N": "3", "F": "false"}
    for env, why in (
        ('{"A-B": "c"}', "the parameter env has the name 'A-B', which no variable can have"),
        (f'{{"A": "{"x" * 1025}"}}', "in the parameter env, A has more than 1024 characters"),
        (
            "{" + ",".join(f'"A{n}": ""' for n in range(101)) + "}",
            "the parameter env has 101 variables, and SageMaker takes 100",
        ),
    ):
        with pytest.raises(AdapterError) as refused:
            read(env=env)
        assert str(refused.value) == why


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", "a"),
        ("model_data", "s3://bucket/x.tar.gz"),
        ("package_group", "a"),
        ("endpoint", "plain"),
        ("env", '{"A": "b"}'),
    ],
)
def test_what_is_for_a_model_needs_a_role(read: Any, name: str, value: str) -> None:
    """Else somebody would wait for an endpoint that nobody makes."""
    with pytest.raises(AdapterError) as refused:
        read(**{name: value})
    assert str(refused.value) == (
        f"the parameter {name} is for a model at SageMaker, which needs the parameter role: arn:aws:iam::ACCOUNT:role/NAME"
    )


@pytest.mark.parametrize("params", [{"endpoint": "async"}, {"async_output": "s3://bucket/out"}])
def test_the_place_for_outputs_belongs_to_async(read: Any, params: dict[str, str]) -> None:
    """One without the other is a mistake."""
    with pytest.raises(AdapterError) as refused:
        read(role=ROLE, **params)
    assert str(refused.value) == (
        "the parameter async_output, s3://BUCKET/PREFIX, is needed by the endpoint async and by no other"
    )


def test_the_region_is_the_registrys() -> None:
    """SageMaker takes images from ECR of its own region."""
    assert settings.region_of(ECR) == REGION
    assert settings.region_of("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn") == "cn-north-1"
    for host in ("registry.local:5000", "dkr.ecr.eu-west-1.amazonaws.com", f"{ECR}.evil.example"):
        with pytest.raises(AdapterError, match="SageMaker takes images from ECR only"):
            settings.region_of(host)


def test_names_fit_and_begin_with_the_repo(read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for what tells them apart."""
    monkeypatch.setenv("COG_REPO_USER", "ada.l")
    monkeypatch.setenv("COG_REPO_NAME", "a_very_long_name_of_a_repository_of_models")
    monkeypatch.setenv("COG_MODEL_ID", "0123456789abcdef" * 2)
    made = settings.prefix(read(role=ROLE))
    assert made == "ada-l-a-very-long-name-of-a-re-0123456789ab"
    assert len(f"{made}-serverless-01234567") <= 63
    assert settings.prefix(read(name="lang")) == "lang"


def test_what_sagemaker_adds_is_no_difference() -> None:
    """It answers with more than it was given, and leaves out what is empty; everything else is another thing."""
    wanted = {"A": [{"B": 1, "Env": {}}], "C": "x"}
    assert aws._covers({"A": [{"B": 1, "More": 2}], "C": "x", "D": 3}, wanted)
    for found in ({"A": [], "C": "x"}, {"A": [{"B": 2}], "C": "x"}, {"A": [{"B": 1}]}, "x"):
        assert not aws._covers(found, wanted)
