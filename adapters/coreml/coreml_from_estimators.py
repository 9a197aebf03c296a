"""scikit-learn estimators to Core ML's own kinds of models, by coremltools' converter."""

from __future__ import annotations

import copy
import importlib.metadata
import re
from typing import TYPE_CHECKING, Any

from cogbuild_adapter import NotApplicable
from cogbuild_adapter.array_calls import all_entered

if TYPE_CHECKING:
    from cogbuild_adapter import Network

#: What coremltools 9 converts; it says so in a log and otherwise tries, or fails somewhere inside.
_NEWEST = {"sklearn": ("scikit-learn", (1, 5)), "xgboost": ("XGBoost", (1, 4))}
_PACKAGES = {"sklearn": ["scikit-learn"], "xgboost": ["xgboost", "xgboost-cpu"]}


def convert(network: Network) -> Any:
    """Return the specification of an estimator; it takes one row at a time."""
    import coremltools

    library = type(network.value).__module__.partition(".")[0]
    if library not in _NEWEST or network.kind == "booster":
        raise NotApplicable(
            f"coremltools {coremltools.__version__} has no conversion for {library}'s {type(network.value).__name__}"
        )
    _check_version(library, coremltools.__version__)
    array = all_entered(network.calls)[0]
    if array.dtype.kind not in "fi" or array.ndim != 2:
        raise NotApplicable(
            f"the predictor calls its estimator with an array of {array.dtype}, and Core ML takes rows of numbers"
        )
    if any(call.method == "decision_function" for call in network.calls):
        raise NotApplicable("the examples ask for raw scores, which Core ML's classifiers do not give")
    try:
        return coremltools.converters.sklearn.convert(_plain(network.value)).get_spec()
    except (MemoryError, OSError, ImportError):
        raise
    except Exception as error:
        # coremltools hides its own reason: what it returns instead of a model is refused by the next step.
        name = getattr(network.value, "steps", [("", network.value)])[-1][1]
        raise NotApplicable(
            f"coremltools {coremltools.__version__} cannot convert this {type(name).__name__}"
        ) from error


def _check_version(library: str, converter: str) -> None:
    called, newest = _NEWEST[library]
    found = next(filter(None, map(_version, _PACKAGES[library])), "?")
    numbers = tuple(map(int, re.findall(r"\d+", found)[:2]))
    if numbers > newest:
        known = ".".join(map(str, newest))
        raise NotApplicable(
            f"coremltools {converter} converts {called} up to {known}, and the model uses {found}"
        )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _plain(estimator: Any) -> Any:
    """Return *estimator* with its two classes told apart in the one way that coremltools knows; the numbers are the same."""
    changed = copy.deepcopy(estimator)
    for step in [changed, *(part for _, part in getattr(changed, "steps", []))]:
        if type(step).__name__ == "LogisticRegression" and len(step.classes_) == 2:
            step.multi_class = "ovr"
    return changed
