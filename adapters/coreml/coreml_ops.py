"""What MIL's operations do, in numpy: a name of an operation to a function of its named inputs.

Only what programs of the adapter held so far; ``coreml_windows.py`` has those that look at windows or steps.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from coreml_windows import WINDOWED

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray[Any, Any]

_NUMPY_TYPES = {
    "fp16": np.float16,
    "fp32": np.float32,
    "fp64": np.float64,
    "int8": np.int8,
    "uint8": np.uint8,
    "int16": np.int16,
    "uint16": np.uint16,
    "int32": np.int32,
    "int64": np.int64,
    "bool": np.bool_,
}
_erf = np.vectorize(math.erf, otypes=[np.float64])


def _unary(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, **_: function(x)


def _binary(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, y, **_: function(x, y)


def _reduced(function: Callable[..., Any]) -> Callable[..., Any]:
    def reduced(x: Array, axes: Array | None = None, keep_dims: Any = False, **_: Any) -> Any:
        along = None if axes is None else tuple(int(axis) for axis in np.atleast_1d(axes))
        return function(x, axis=along, keepdims=bool(keep_dims))

    return reduced


def _arg(function: Callable[..., Any]) -> Callable[..., Any]:
    def found(x: Array, axis: Any = -1, keep_dims: Any = False, **_: Any) -> Any:
        return function(x, axis=int(axis), keepdims=bool(keep_dims))

    return found


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _gelu(x: Array, mode: str = "EXACT", **_: Any) -> Any:
    if mode == "TANH_APPROXIMATION":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    if mode == "SIGMOID_APPROXIMATION":
        return x * _sigmoid(1.702 * x)
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)).astype(x.dtype))


def _softmax(x: Array, axis: Any = -1, **_: Any) -> Array:
    raised = np.exp(x - x.max(int(axis), keepdims=True))
    return raised / raised.sum(int(axis), keepdims=True)


def _layer_norm(
    x: Array, axes: Any = None, gamma: Any = 1, beta: Any = 0, epsilon: Any = 1e-5, **_: Any
) -> Any:
    along = tuple(range(x.ndim)) if axes is None else tuple(int(axis) for axis in axes)
    away = x - x.mean(along, keepdims=True)
    return away / np.sqrt((away**2).mean(along, keepdims=True) + epsilon) * gamma + beta


def _batch_norm(  # noqa: PLR0917 - as MIL names them
    x: Array, mean: Array, variance: Array, gamma: Any = None, beta: Any = None, epsilon: Any = 1e-5, **_: Any
) -> Any:
    def each(value: Any) -> Any:
        return value.reshape(-1, *[1] * (x.ndim - 2))

    scaled = (x - each(mean)) / np.sqrt(each(variance) + epsilon)
    scaled = scaled if gamma is None else scaled * each(gamma)
    return scaled if beta is None else scaled + each(beta)


def _instance_norm(x: Array, gamma: Any = None, beta: Any = None, epsilon: Any = 1e-5, **_: Any) -> Any:
    along = tuple(range(2, x.ndim))
    normal = _layer_norm(x, along, epsilon=epsilon)
    shape = (-1, *[1] * len(along))
    normal = normal if gamma is None else normal * gamma.reshape(shape)
    return normal if beta is None else normal + beta.reshape(shape)


def _matmul(x: Array, y: Array, transpose_x: Any = False, transpose_y: Any = False, **_: Any) -> Any:
    return (np.swapaxes(x, -1, -2) if transpose_x else x) @ (np.swapaxes(y, -1, -2) if transpose_y else y)


def _attention(query: Array, key: Array, value: Array, attn_mask: Any = None, **_: Any) -> Any:
    scores = query @ np.swapaxes(key, -1, -2) / np.sqrt(np.array(query.shape[-1], query.dtype))
    if attn_mask is not None:
        scores = np.where(attn_mask, scores, -np.inf) if attn_mask.dtype == bool else scores + attn_mask
    return _softmax(scores) @ value


def _slice_by_index(  # noqa: PLR0917 - as MIL names them
    x: Array,
    begin: Any,
    end: Any,
    stride: Any = None,
    begin_mask: Any = None,
    end_mask: Any = None,
    squeeze_mask: Any = None,
    **_: Any,
) -> Any:
    index: list[Any] = []
    for at in range(len(begin)):
        if squeeze_mask is not None and squeeze_mask[at]:
            index.append(int(begin[at]))
            continue
        first = None if begin_mask is not None and begin_mask[at] else int(begin[at])
        last = None if end_mask is not None and end_mask[at] else int(end[at])
        index.append(slice(first, last, None if stride is None else int(stride[at])))
    return x[tuple(index)]


def _slice_by_size(x: Array, begin: Any, size: Any, **_: Any) -> Any:
    ends = [None if many == -1 else int(first) + int(many) for first, many in zip(begin, size, strict=True)]
    return x[tuple(slice(int(first), last) for first, last in zip(begin, ends, strict=True))]


def _split(x: Array, axis: Any, num_splits: Any = None, split_sizes: Any = None, **_: Any) -> list[Any]:
    parts = int(num_splits) if split_sizes is None else [int(at) for at in np.cumsum(split_sizes)[:-1]]
    return list(np.split(x, parts, int(axis)))


def _gather(x: Array, indices: Any, axis: Any = 0, batch_dims: Any = 0, **_: Any) -> Any:
    if not batch_dims:
        return np.take(x, indices, int(axis))
    return np.stack(
        [_gather(*both, int(axis) - 1, int(batch_dims) - 1) for both in zip(x, indices, strict=True)]
    )


def _gather_nd(x: Array, indices: Array, batch_dims: Any = 0, **_: Any) -> Any:
    if batch_dims:
        return np.stack([_gather_nd(*both, int(batch_dims) - 1) for both in zip(x, indices, strict=True)])
    return x[tuple(np.moveaxis(indices, -1, 0))]


def _written(into: Array, index: Any, updates: Any, mode: str) -> Array:
    """Return *into* with *updates* at *index*, in one of MIL's modes."""
    changed = into.copy()
    if mode == "update":
        changed[index] = updates
        return changed
    how: Any = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "min": np.minimum, "max": np.maximum}
    how[mode].at(changed, index, updates)
    return changed


def _scatter(data: Array, indices: Any, updates: Any, axis: Any = 0, mode: str = "add", **_: Any) -> Any:
    index = (slice(None),) * (int(axis) % data.ndim) + (indices,)
    return _written(data, index, updates, mode)


def _scatter_nd(data: Array, indices: Any, updates: Any, mode: str = "add", **_: Any) -> Any:
    return _written(data, tuple(np.moveaxis(indices, -1, 0)), updates, mode)


def _reshape(x: Array, shape: Any, **_: Any) -> Any:
    sizes = [x.shape[at] if size == 0 and x.size else int(size) for at, size in enumerate(shape)]
    return x.reshape(sizes)


def _squeeze(x: Array, axes: Any = None, **_: Any) -> Any:
    return np.squeeze(x, None if axes is None else tuple(int(axis) for axis in axes))


def _concat(values: Any, axis: Any, interleave: Any = False, **_: Any) -> Any:
    if interleave:
        raise NotImplementedError("interleaved concat")
    parts = values if isinstance(values, list) else [values]
    return np.concatenate([np.atleast_1d(part) for part in parts], int(axis))


def _pad(x: Array, pad: Any, mode: str = "constant", constant_val: Any = 0, **_: Any) -> Any:
    both = [(int(pad[at]), int(pad[at + 1])) for at in range(0, len(pad), 2)]
    both = [(0, 0)] * (x.ndim - len(both)) + both
    if mode == "constant":
        return np.pad(x, both, constant_values=constant_val)
    return np.pad(x, both, "edge" if mode == "replicate" else "reflect")


def _crop(x: Array, crop_height: Any, crop_width: Any, **_: Any) -> Any:
    (top, bottom), (left, right) = crop_height, crop_width
    return x[..., int(top) : x.shape[-2] - int(bottom), int(left) : x.shape[-1] - int(right)]


def _cumsum(x: Array, axis: Any = 0, exclusive: Any = False, reverse: Any = False, **_: Any) -> Any:
    given = np.flip(x, int(axis)) if reverse else x
    total = np.cumsum(given, int(axis), dtype=x.dtype)
    total = total - given if exclusive else total
    return np.flip(total, int(axis)) if reverse else total


def _topk(x: Array, k: Any = 1, axis: Any = -1, ascending: Any = False, **_: Any) -> list[Any]:
    order = np.argsort(x if ascending else -x, int(axis), kind="stable")
    chosen = np.take(order, range(int(k)), int(axis))
    return [np.take_along_axis(x, chosen, int(axis)), chosen]


def _clip(x: Array, alpha: Any, beta: Any, **_: Any) -> Any:
    return np.clip(x, alpha, beta)


def _normal(x: Array, axes: Any, epsilon: Any) -> Any:
    return x / np.sqrt((x**2).sum(axes, keepdims=True) + epsilon)


OPERATIONS: dict[str, Callable[..., Any]] = {
    **WINDOWED,
    **{name: _unary(getattr(np, name)) for name in ("abs", "exp", "sqrt", "sin", "cos", "tan", "tanh")},
    **{name: _unary(getattr(np, name)) for name in ("floor", "ceil", "sign", "square", "logical_not")},
    **{name: _binary(getattr(np, name)) for name in ("maximum", "minimum", "equal", "not_equal", "less")},
    **{name: _binary(getattr(np, name)) for name in ("less_equal", "greater", "greater_equal", "mod")},
    **{name: _binary(getattr(np, name)) for name in ("logical_and", "logical_or", "logical_xor")},
    **{f"a{name}": _unary(getattr(np, f"arc{name}")) for name in ("sin", "cos", "tan", "tanh")},
    **{name: _unary(getattr(np, name)) for name in ("sinh", "cosh", "exp2")},
    "add": _binary(np.add),
    "sub": _binary(np.subtract),
    "mul": _binary(np.multiply),
    "real_div": _binary(np.divide),
    "floor_div": _binary(np.floor_divide),
    "pow": _binary(np.power),
    "identity": _unary(lambda x: x),
    "round": _unary(np.rint),
    "relu": _unary(lambda x: np.maximum(x, 0)),
    "relu6": _unary(lambda x: np.clip(x, 0, 6)),
    "sigmoid": _unary(_sigmoid),
    "silu": _unary(lambda x: x * _sigmoid(x)),
    "softplus": _unary(lambda x: np.logaddexp(x, 0)),
    "softsign": _unary(lambda x: x / (1 + np.abs(x))),
    "erf": _unary(_erf),
    "leaky_relu": lambda x, alpha=0.01, **_: np.where(x >= 0, x, alpha * x),
    "prelu": lambda x, alpha, **_: np.where(x >= 0, x, alpha.reshape(-1, *[1] * (x.ndim - 2)) * x),
    "elu": lambda x, alpha=1.0, **_: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0))),
    "sigmoid_hard": lambda x, alpha=0.2, beta=0.5, **_: np.clip(alpha * x + beta, 0, 1),
    "linear_activation": lambda x, alpha, beta, **_: alpha * x + beta,
    "log": lambda x, epsilon=0.0, **_: np.log(x + epsilon),
    "rsqrt": lambda x, epsilon=0.0, **_: 1 / np.sqrt(x + epsilon),
    "inverse": lambda x, epsilon=0.0, **_: 1 / (x + epsilon),
    "clip": _clip,
    "gelu": _gelu,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "l2_norm": lambda x, epsilon=1e-6, **_: _normal(x, tuple(range(x.ndim - 3, x.ndim)), epsilon),
    "linear": lambda x, weight, bias=0, **_: x @ weight.T + bias,
    "matmul": _matmul,
    "einsum": lambda values, equation, **_: np.einsum(equation, *values),
    "scaled_dot_product_attention": _attention,
    "reduce_sum": _reduced(np.sum),
    "reduce_mean": _reduced(np.mean),
    "reduce_max": _reduced(np.max),
    "reduce_min": _reduced(np.min),
    "reduce_prod": _reduced(np.prod),
    "reduce_sum_square": _reduced(lambda x, **how: np.sum(x**2, **how)),
    "reduce_l2_norm": _reduced(lambda x, **how: np.sqrt(np.sum(x**2, **how))),
    "reduce_l1_norm": _reduced(lambda x, **how: np.sum(np.abs(x), **how)),
    "reduce_log_sum_exp": _reduced(lambda x, **how: np.log(np.sum(np.exp(x - x.max()), **how)) + x.max()),
    "reduce_argmax": _arg(np.argmax),
    "reduce_argmin": _arg(np.argmin),
    "argsort": lambda x, axis=-1, ascending=False, **_: np.argsort(
        x if ascending else -x, int(axis), kind="stable"
    ),
    "topk": _topk,
    "cumsum": _cumsum,
    "cast": lambda x, dtype, **_: np.asarray(x).astype(_NUMPY_TYPES[dtype]),
    "select": lambda cond, a, b, **_: np.where(cond, a, b),
    "shape": lambda x, **_: np.array(x.shape),
    "reshape": _reshape,
    "transpose": lambda x, perm, **_: np.transpose(x, [int(at) for at in perm]),
    "expand_dims": lambda x, axes, **_: np.expand_dims(x, tuple(int(at) for at in axes)),
    "squeeze": _squeeze,
    "concat": _concat,
    "stack": lambda values, axis, **_: np.stack(values if isinstance(values, list) else [values], int(axis)),
    "split": _split,
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "reverse": lambda x, axes=None, **_: np.flip(x, None if axes is None else tuple(map(int, axes))),
    "gather": _gather,
    "gather_along_axis": lambda x, indices, axis=0, **_: np.take_along_axis(x, indices, int(axis)),
    "gather_nd": _gather_nd,
    "scatter": _scatter,
    "scatter_nd": _scatter_nd,
    "tile": lambda x, reps, **_: np.tile(x, [int(times) for times in reps]),
    "fill": lambda shape, value=0.0, **_: np.full([int(size) for size in shape], value),
    "range_1d": lambda start, end, step, **_: np.arange(start, end, step),
    "one_hot": lambda indices, one_hot_vector_size, axis=-1, on_value=1, off_value=0, **_: np.moveaxis(
        np.where(np.arange(int(one_hot_vector_size)) == indices[..., None], on_value, off_value),
        -1,
        int(axis),
    ),
    "band_part": lambda x, lower=-1, upper=-1, **_: np.where(
        (np.tri(*x.shape[-2:], int(upper) if upper >= 0 else x.shape[-1], dtype=bool))
        & (~np.tri(*x.shape[-2:], -int(lower) - 1 if lower >= 0 else -x.shape[-2], dtype=bool)),
        x,
        0,
    ),
    "pad": _pad,
    "crop": _crop,
}
