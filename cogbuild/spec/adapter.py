"""Reads ``cog-adapter.yaml``: the declaration of a build adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from cogbuild.errors.declarations import BadValue, NamesCollide, NeedsItself, UnknownApi, UnknownVariable
from cogbuild.spec import COG_VARIABLES, AdapterSpec, PythonSpec, Requirement, _values
from cogbuild.spec._checked import Form, Items, bad_value, checked, key_name, near, once_each
from cogbuild.spec._yaml import Document, read_yaml
from cogbuild.spec.names import artifact_variable, is_param_name, param_variable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from cogbuild.spec._yaml import Place

__all__ = ["check_adapter_key", "check_params", "parse_adapter"]


def _pattern(value: str) -> str:
    try:
        from pathspec import PathSpec

        parsed = PathSpec.from_lines("gitignore", [value]).patterns
    except ValueError:
        parsed = []
    if not any(pattern.include is not None for pattern in parsed):
        raise ValueError("a pattern such as **, *.py or !docs/**")
    return value


def _requirement(value: str) -> str:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        Requirement(value)
    except InvalidRequirement:
        raise ValueError("a requirement such as onnx or onnx>=1.17") from None
    return value


def _program(value: str) -> str:
    if not value or "/" in value or not value.isprintable():
        raise ValueError("a program's name such as podman")
    return value


Name = Annotated[str, AfterValidator(_values.adapter_name)]
File = Annotated[str, AfterValidator(_values.inside)]
Variable = Annotated[str, AfterValidator(_values.variable)]


class _Env(Form):
    pass_: Items[Variable] = Field(default=(), alias="pass")
    hash: Items[Variable] = ()
    secret: Items[Variable] = ()


class _Python(Form):
    packages: Items[Annotated[str, AfterValidator(_requirement)]] = ()
    with_model: bool = False
    kit: bool = False


class _Requires(Form):
    setting: Literal["docker_registry", "artifact_store"] | None = None
    program: Annotated[str, AfterValidator(_program)] | None = None
    programs: Items[Annotated[str, AfterValidator(_program)]] = ()
    package: str | None = None
    for_: str | None = Field(default=None, alias="for")


def _natural(least: int, most: int) -> Callable[[int], int]:
    def check(value: int) -> int:
        if not least <= value <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return value

    return check


class _Adapter(Form):
    name: Name
    script: File
    description: str = ""
    api: int | None = None
    inputs: Items[Annotated[str, AfterValidator(_pattern)]] = ("**",)
    uses: Items[str] | None = None
    examples: bool = False
    env: _Env = _Env()
    params: dict[str, Any] = Field(default_factory=dict)
    python: _Python | None = None
    needs: Items[Name] = ()
    timeout: Annotated[float | None, BeforeValidator(_values.duration)] = None
    retries: Annotated[int, AfterValidator(_natural(0, 100))] = 0
    large_writes: bool = False
    state: bool = False
    epoch: Annotated[int, AfterValidator(_natural(0, 2**31 - 1))] = 1
    test: File | None = None
    requires: Items[_Requires] = ()


def parse_adapter(data: bytes, path: Path) -> AdapterSpec:
    """Return what ``cog-adapter.yaml`` declares; *path* is for messages only."""
    document = read_yaml(data, path)
    form = checked(_Adapter, document)
    _check(form, document)
    return AdapterSpec(
        name=form.name,
        script=form.script,
        description=form.description,
        api=form.api,
        inputs=form.inputs,
        uses=form.uses,
        examples=form.examples,
        env_pass=form.env.pass_,
        env_hash=form.env.hash,
        env_secret=form.env.secret,
        params=form.params,
        python=_python(form.python),
        needs=form.needs,
        timeout=form.timeout,
        retries=form.retries,
        large_writes=form.large_writes,
        state=form.state,
        epoch=form.epoch,
        test=form.test,
        requires=tuple(map(_requirement_of, form.requires)),
    )


def _requirement_of(form: _Requires) -> Requirement:
    programs = (form.program,) if form.program else form.programs
    return Requirement(form.setting, programs, form.package, form.for_)


def _python(form: _Python | None) -> PythonSpec | None:
    if form is None:
        return None
    return PythonSpec(packages=form.packages, with_model=form.with_model, kit=form.kit)


def _check(form: _Adapter, document: Document) -> None:
    if form.api not in (None, 1):
        raise UnknownApi(api=form.api, **document.where(("api",)))
    for i, name in enumerate(form.uses or ()):
        if name not in COG_VARIABLES:
            raise UnknownVariable(variable=name, **near(name, COG_VARIABLES), **document.where(("uses", i)))
    if form.inputs and form.inputs[0].startswith("!"):
        raise bad_value(
            document,
            ("inputs", 0),
            "a pattern that takes files in, such as **, before those that leave some out",
        )
    for place in (("uses",), ("needs",), ("env", "pass"), ("env", "hash"), ("env", "secret")):
        once_each(document, *place)
    _check_env(form.env, document)
    check_params(document, ("params",), form.params)
    for i, item in enumerate(form.requires):
        if [bool(item.setting), bool(item.program), bool(item.programs)].count(True) != 1:
            raise bad_value(document, ("requires", i), "setting:, program: or programs:, one of them,")
    if form.name in form.needs:
        raise NeedsItself(adapter=form.name, **document.where(("needs", form.needs.index(form.name))))
    _check_collisions(document, ("needs",), form.needs, artifact_variable)


def _check_env(env: _Env, document: Document) -> None:
    kinds: dict[str, str] = {}
    for kind, names in (("pass", env.pass_), ("hash", env.hash), ("secret", env.secret)):
        for i, name in enumerate(names):
            if name in kinds:
                raise bad_value(document, ("env", kind, i), f"a variable that is not under {kinds[name]} too")
            kinds[name] = kind


def check_params(document: Document, place: Place, params: Iterable[str]) -> None:
    """Refuse parameters whose names make no variable, or the same one."""
    for name in params:
        if not is_param_name(name):
            raise _bad_key(document, (*place, name), "at most 64 letters, digits, dashes and underscores")
    _check_collisions(document, place, params, param_variable)


def check_adapter_key(document: Document, place: Place) -> None:
    """Refuse a key that is to name an adapter and can't."""
    try:
        _values.adapter_name(str(place[-1]))
    except ValueError as error:
        raise _bad_key(document, place, str(error)) from None


def _bad_key(document: Document, place: Place, expected: str) -> BadValue:
    key = f"a name in {key_name(place[:-1])}"
    return BadValue(key=key, value=repr(place[-1]), expected=expected, **document.where(place))


def _check_collisions(
    document: Document, place: Place, names: Iterable[str], variable: Callable[[str], str]
) -> None:
    taken: dict[str, str] = {}
    for i, name in enumerate(names):
        first = taken.setdefault(variable(name), name)
        if first != name:
            step: str | int = name if place != ("needs",) else i
            raise NamesCollide(
                first=first,
                second=name,
                key=key_name(place),
                variable=variable(name),
                **document.where((*place, step)),
            )
