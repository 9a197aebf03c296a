"""What SageMaker is asked to keep: the model, a version of a model package, an endpoint configuration.

Nothing there can be changed once it is made, so each name ends in a digest of what it names: made again it is found, and
what differs has another name. Endpoints, which cost, are not made.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from cogbuild_adapter import AdapterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sagemaker_settings import Settings

_CONTENT_TYPES = ["application/json", "application/octet-stream"]
#: Ends the description of a package version, by which it is found again.
_MARK = "content "


class SageMaker:
    """SageMaker in one region."""

    def __init__(self, region: str) -> None:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        patient = Config(retries={"mode": "standard", "max_attempts": 6}, user_agent_extra="cogbuild")
        try:
            self._client: Any = boto3.client("sagemaker", region_name=region, config=patient)
        except BotoCoreError as error:
            raise AdapterError(f"SageMaker cannot be asked: {error}") from None

    def image_of(self, arn: str) -> str:
        """Return the image of a model."""
        found = self._asked("describe_model", ModelName=arn.rpartition("/")[2])
        image: str = found["PrimaryContainer"]["Image"]
        return image

    def model(self, prefix: str, image: str, settings: Settings) -> tuple[str, str]:
        """Return name and ARN of the model, made where it is not there."""
        wanted = {"PrimaryContainer": _container(image, settings), "ExecutionRoleArn": settings.role}
        wanted["PrimaryContainer"]["Mode"] = "SingleModel"
        name = f"{prefix}-{_digest(wanted)}"
        found = self._kept("model", "ModelName", name, wanted)
        return name, found["ModelArn"]

    def endpoint_config(self, prefix: str, model: str, settings: Settings) -> Any:
        """Return the ARN of the endpoint configuration, made where it is not there."""
        wanted = endpoint_config(model, settings)
        name = f"{prefix}-{settings.endpoint}-{_digest(wanted)}"
        return self._kept("endpoint_config", "EndpointConfigName", name, wanted)["EndpointConfigArn"]

    def package(self, image: str, settings: Settings) -> Any:
        """Return the ARN of a version in the model package group, made where no version has the same content."""
        group = settings.package_group
        wanted = {
            "InferenceSpecification": {
                "Containers": [_container(image, settings)],
                "SupportedContentTypes": _CONTENT_TYPES,
                "SupportedResponseMIMETypes": _CONTENT_TYPES,
                "SupportedRealtimeInferenceInstanceTypes": [settings.instance_type],
                "SupportedTransformInstanceTypes": [settings.instance_type],
            }
        }
        mark = f"{_MARK}{_digest(wanted)}"
        if self._found("describe_model_package_group", ModelPackageGroupName=group) is None:
            self._asked("create_model_package_group", ModelPackageGroupName=group)
        for version in self._versions(group):
            if str(version.get("ModelPackageDescription", "")).endswith(mark):
                return version["ModelPackageArn"]
        made = self._asked(
            "create_model_package",
            ModelPackageGroupName=group,
            ModelPackageDescription=f"{image.rpartition('@')[2]}, {mark}",
            ModelApprovalStatus=settings.approval,
            # Two who ask at the same time get the same version.
            ClientToken=hashlib.sha256(f"{group} {mark}".encode()).hexdigest()[:36],
            **wanted,
        )
        return made["ModelPackageArn"]

    def _versions(self, group: str) -> list[dict[str, Any]]:
        found, more = [], {}
        while True:
            answer = self._asked("list_model_packages", ModelPackageGroupName=group, MaxResults=100, **more)
            found += answer["ModelPackageSummaryList"]
            if not answer.get("NextToken"):
                return found
            more = {"NextToken": answer["NextToken"]}

    def _kept(self, kind: str, key: str, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
        """Return what SageMaker has by that name, made where it has nothing."""
        found = self._found(f"describe_{kind}", **{key: name})
        if found is None:
            self._asked(f"create_{kind}", **{key: name}, **wanted)
            print(f"made the {kind.replace('_', ' ')} {name}")
            found = self._asked(f"describe_{kind}", **{key: name})
        else:
            print(f"the {kind.replace('_', ' ')} {name} is there already")
        if differing := [field for field, value in wanted.items() if not _covers(found.get(field), value)]:
            raise AdapterError(
                f"SageMaker has a {kind.replace('_', ' ')} {name} with another {', '.join(differing)}: delete it there"
            )
        return found

    def _found(self, operation: str, **request: Any) -> dict[str, Any] | None:
        """Return what a question is answered with; nothing where there is no such thing."""
        return self._asked(operation, absent=True, **request)

    def _asked(self, operation: str, *, absent: bool = False, **request: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        call: Callable[..., Any] = getattr(self._client, operation)
        named = self._client.meta.method_to_api_mapping[operation]
        try:
            return call(**request)
        except ClientError as error:
            code, why = (error.response.get("Error", {}).get(part, "") for part in ("Code", "Message"))
            if absent and code in ("ValidationException", "ResourceNotFound"):
                return None
            raise AdapterError(f"SageMaker refuses {named}: {why or code} ({code})") from None
        except BotoCoreError as error:
            raise AdapterError(f"SageMaker cannot be asked for {named}: {error}") from None


def endpoint_config(model: str, settings: Settings) -> dict[str, Any]:
    """Return the request for an endpoint configuration with one variant."""
    variant: dict[str, Any] = {"VariantName": "AllTraffic", "ModelName": model}
    if settings.endpoint == "serverless":
        limits = {"MemorySizeInMB": settings.memory_mb, "MaxConcurrency": settings.concurrency}
        return {"ProductionVariants": [{**variant, "ServerlessConfig": limits}]}
    variant |= {
        "InitialInstanceCount": settings.instance_count,
        "InstanceType": settings.instance_type,
        "InitialVariantWeight": 1.0,
    }
    if settings.startup_timeout:
        variant["ContainerStartupHealthCheckTimeoutInSeconds"] = settings.startup_timeout
    if settings.endpoint == "plain":
        return {"ProductionVariants": [variant]}
    return {
        "ProductionVariants": [variant],
        "AsyncInferenceConfig": {
            "OutputConfig": {"S3OutputPath": settings.async_output},
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": settings.concurrency},
        },
    }


def _container(image: str, settings: Settings) -> dict[str, Any]:
    made: dict[str, Any] = {"Image": image, "Environment": settings.env}
    if settings.model_data.endswith("/"):
        source = {
            "S3Uri": settings.model_data,
            "S3DataType": "S3Prefix",
            "CompressionType": "None",
        }
        made["ModelDataSource"] = {"S3DataSource": source}
    elif settings.model_data:
        made["ModelDataUrl"] = settings.model_data
    return made


def _covers(found: Any, wanted: Any) -> bool:
    """Whether *found* has all of *wanted*; SageMaker adds fields of its own, and leaves out what is empty."""
    if isinstance(wanted, dict):
        has = found or {}
        return isinstance(has, dict) and all(_covers(has.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        same = isinstance(found, list) and len(found) == len(wanted)
        return same and all(_covers(one, other) for one, other in zip(found, wanted, strict=True))
    return bool(found == wanted)


def _digest(value: Any) -> str:
    """Return what tells apart two requests of one kind for one model."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]
