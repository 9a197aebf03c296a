"""The OpenAPI schema of a model's server, in the form that Cog's own builder writes.

Cog's package does not hold the builder's generator, and its server validates nothing without a schema.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
import traceback
from typing import Any

from cogbuild_adapter.contract import AdapterError

_ID = {"title": "Id", "type": "string"}
_TIME = {"type": "string", "format": "date-time"}
_TEXT = {"type": "string"}
#: Types as they were called in 2021.
_KINDS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}


def schema(reference: str) -> dict[str, Any]:
    """Return the schema for the predictor that *reference* names; imports the model's module, without ``setup()``."""
    from cog._inspector import create_predictor
    from cog.predictor import load_predictor_from_ref

    file, _, name = reference.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        load_predictor_from_ref(reference)
        # Cog imports a/b.py as the module b.
        module = importlib.import_module(os.path.basename(file).removesuffix(".py"))
        found = create_predictor(module.__name__, name)
    except Exception as error:
        traceback.print_exc()
        text = str(error).strip().split("\n")[0]
        raise AdapterError(f"the model cannot be loaded: {type(error).__name__}: {text}") from None
    return _document(*_inputs(found.inputs), found.output.json_type())


def _inputs(fields: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the schema of the inputs, and those of their choices by name."""
    properties, required, choices = {}, [], {}
    for name, field in sorted(fields.items(), key=lambda item: item[1].order):
        properties[name], needed = _input(name, field)
        if needed:
            required.append(name)
        if field.choices:
            kind = field.type.primitive.json_type()["type"]
            choices[name] = {
                "title": name,
                "description": "An enumeration.",
                "enum": field.choices,
                "type": kind,
            }
    made: dict[str, Any] = {"title": "Input", "type": "object", "properties": properties}
    return (made | {"required": required} if required else made), choices


def _input(name: str, field: Any) -> tuple[dict[str, Any], bool]:
    """Return the schema of one input, and whether it has to be given."""
    made: dict[str, Any] = {"x-order": field.order}
    if field.choices:
        made["allOf"] = [{"$ref": f"#/components/schemas/{name}"}]
    else:
        made |= {"title": _title(name), **field.type.json_type()}
    optional = field.type.repetition.name.startswith("OPTIONAL")
    default = _default(field.default)
    if default is not None:
        made["default"] = field.type.json_encode(default)
    if optional:
        made["nullable"] = True
    limits = {
        "description": field.description,
        "minimum": field.ge,
        "maximum": field.le,
        "minLength": field.min_length,
        "maxLength": field.max_length,
        "pattern": field.regex,
        "deprecated": field.deprecated or None,
    }
    made |= {key: value for key, value in limits.items() if value is not None}
    return made, default is None and not optional


def _default(value: Any) -> Any:
    if isinstance(value, dataclasses.Field):
        made = value.default_factory() if callable(value.default_factory) else value.default
        return None if made is dataclasses.MISSING else made
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _title(name: str) -> str:
    return name.replace("_", " ").title()


def _document(inputs: dict[str, Any], choices: dict[str, Any], output: dict[str, Any]) -> dict[str, Any]:
    response = {
        "input": _ref("Input"),
        "output": _ref("Output"),
        "id": _ID,
        "version": {"title": "Version", **_TEXT},
        "created_at": {"title": "Created At", **_TIME},
        "started_at": {"title": "Started At", **_TIME},
        "completed_at": {"title": "Completed At", **_TIME},
        "status": {"title": "Status", **_TEXT},
        "error": {"title": "Error", **_TEXT},
        "logs": {"title": "Logs", **_TEXT},
        "metrics": {"title": "Metrics", "type": "object"},
    }
    schemas = {
        "Input": inputs,
        "Output": output,
        **choices,
        "PredictionRequest": _object("PredictionRequest", {"id": _ID, "input": _ref("Input")}),
        "PredictionResponse": _object("PredictionResponse", response),
        "Status": {
            "title": "Status",
            "description": "An enumeration.",
            "enum": ["starting", "processing", "succeeded", "canceled", "failed"],
            "type": "string",
        },
        "HTTPValidationError": _object(
            "HTTPValidationError",
            {"detail": {"title": "Detail", "type": "array", "items": _ref("ValidationError")}},
        ),
        "ValidationError": _validation_error(),
    }
    return {
        "openapi": "3.0.2",
        "info": {"title": "Cog", "version": "0.1.0"},
        "paths": _paths(),
        "components": {"schemas": schemas},
    }


def _paths() -> dict[str, Any]:
    wrong = {"422": _answer("Validation Error", _ref("HTTPValidationError"))}
    cancelled = {
        "name": "prediction_id",
        "in": "path",
        "required": True,
        "schema": {"title": "Prediction ID", **_TEXT},
    }
    return {
        "/": {"get": _operation("Root", "root__get", {})},
        "/health-check": {"get": _operation("Healthcheck", "healthcheck_health_check_get", {})},
        "/predictions": {
            "post": {
                **_operation("Predict", "predict_predictions_post", _ref("PredictionResponse"), wrong),
                "description": "Run a single prediction on the model",
                "requestBody": {"content": {"application/json": {"schema": _ref("PredictionRequest")}}},
            }
        },
        "/predictions/{prediction_id}/cancel": {
            "post": {
                **_operation("Cancel", "cancel_predictions__prediction_id__cancel_post", {}, wrong),
                "parameters": [cancelled],
            }
        },
    }


def _operation(
    summary: str, name: str, result: dict[str, Any], more: dict[str, Any] | None = None
) -> dict[str, Any]:
    answers = {"200": _answer("Successful Response", result), **(more or {})}
    return {"summary": summary, "operationId": name, "responses": answers}


def _answer(description: str, form: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": form}}}


def _validation_error() -> dict[str, Any]:
    place = {"title": "Location", "type": "array", "items": {"anyOf": [_TEXT, {"type": "integer"}]}}
    parts = {"loc": place, "msg": {"title": "Message", **_TEXT}, "type": {"title": "Error Type", **_TEXT}}
    return {**_object("ValidationError", parts), "required": ["loc", "msg", "type"]}


def _object(title: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {"title": title, "type": "object", "properties": properties}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def run_arguments(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the inputs as Cog's server of 2021 told them: every value but the choices is text, or nothing."""
    schemas = document["components"]["schemas"]
    return {
        name: _argument(made, schemas.get(name, {}) if "allOf" in made else {})
        for name, made in schemas["Input"]["properties"].items()
    }


def _argument(made: dict[str, Any], choices: dict[str, Any]) -> dict[str, Any]:
    kind = (choices or made).get("type", "")
    if kind == "string" and made.get("format") == "uri":
        kind = "Path"
    return {
        "type": _KINDS.get(kind, kind),
        "default": _shown(made.get("default")),
        "min": _shown(made.get("minimum")),
        "max": _shown(made.get("maximum")),
        "options": [_shown(choice) for choice in choices["enum"]] if choices else None,
        "help": made.get("description"),
    }


def _shown(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)
