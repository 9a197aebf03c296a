"""MIL's operations that look at windows of an image or at one step after the other, in numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Array = np.ndarray[Any, Any]


def _padding(
    sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int], pad_type: str, pad: Any
) -> Any:
    """Return how much is added before and after each dimension; *spans* are the windows' sizes with their gaps."""
    if pad_type == "valid":
        return [(0, 0)] * len(spans)
    if pad_type == "custom":
        return [(int(pad[2 * at]), int(pad[2 * at + 1])) for at in range(len(spans))]
    both = []
    for size, span, stride in zip(sizes, spans, strides, strict=True):
        more = max(0, (-(-size // stride) - 1) * stride + span - size)
        less, rest = more // 2, more - more // 2
        both.append((rest, less) if pad_type == "same_lower" else (less, rest))
    return both


def _windows(
    x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], how: tuple[Any, ...]
) -> Array:
    """Return the windows of *x*, batch x channels x positions… x window…; *how* is padding, ceil mode and what pads."""
    padding, ceil_mode, value = how
    spans = [(size - 1) * gap + 1 for size, gap in zip(kernel, dilations, strict=True)]
    both = [(0, 0), (0, 0), *padding]
    if ceil_mode:
        for at, (span, stride) in enumerate(zip(spans, strides, strict=True), 2):
            before, after = both[at]
            over = (x.shape[at] + before + after - span) % stride
            # A last window that would begin in the padding is left out, as everywhere.
            fits = (x.shape[at] + before + after - span) // stride * stride + stride < x.shape[at] + before
            both[at] = (before, after + (stride - over if over and fits else 0))
    padded = np.pad(x, both, constant_values=value)
    axes = tuple(range(2, x.ndim))
    all_windows = np.lib.stride_tricks.sliding_window_view(padded, spans, axes)
    steps = tuple(slice(None, None, stride) for stride in strides)
    gaps = tuple(slice(None, None, gap) for gap in dilations)
    return all_windows[(slice(None), slice(None), *steps, *gaps)]


def _numbers(values: Any, many: int) -> list[int]:
    return [1] * many if values is None else [int(value) for value in values]


def _conv(  # noqa: PLR0917 - as MIL names them
    x: Array,
    weight: Array,
    bias: Any = None,
    strides: Any = None,
    pad_type: str = "valid",
    pad: Any = None,
    dilations: Any = None,
    groups: Any = 1,
    **_: Any,
) -> Any:
    kernel = list(weight.shape[2:])
    many = len(kernel)
    strides, dilations = _numbers(strides, many), _numbers(dilations, many)
    spans = [(size - 1) * gap + 1 for size, gap in zip(kernel, dilations, strict=True)]
    padding = _padding(x.shape[2:], spans, strides, pad_type, pad)
    windows = _windows(x, kernel, strides, dilations, (padding, False, 0))
    axes = [1, *range(2 + many, 2 + 2 * many)]
    parts = [
        np.moveaxis(np.tensordot(seen, filters, (axes, range(1, 2 + many))), -1, 1)
        for seen, filters in zip(
            np.split(windows, int(groups), 1), np.split(weight, int(groups)), strict=True
        )
    ]
    made = np.concatenate(parts, 1)
    return made if bias is None else made + bias.reshape(-1, *[1] * many)


def _conv_transpose(  # noqa: PLR0917 - as MIL names them
    x: Array,
    weight: Array,
    bias: Any = None,
    pad: Any = None,
    output_shape: Any = None,
    pad_type: str = "valid",
    strides: Any = None,
    dilations: Any = None,
    groups: Any = 1,
    **_: Any,
) -> Any:
    if pad_type not in ("valid", "custom"):
        raise NotImplementedError(f"conv_transpose with padding {pad_type}")
    kernel = list(weight.shape[2:])
    many = len(kernel)
    strides, dilations = _numbers(strides, many), _numbers(dilations, many)
    sizes = [
        (size - 1) * stride + (span - 1) * gap + 1
        for size, stride, span, gap in zip(x.shape[2:], strides, kernel, dilations, strict=True)
    ]
    channels = weight.shape[1]
    full = np.zeros((len(x), channels * int(groups), *sizes), x.dtype)
    for group, (seen, filters) in enumerate(
        zip(np.split(x, int(groups), 1), np.split(weight, int(groups)), strict=True)
    ):
        for at in np.ndindex(*kernel):
            where = tuple(
                slice(place * gap, place * gap + (size - 1) * stride + 1, stride)
                for place, gap, size, stride in zip(at, dilations, x.shape[2:], strides, strict=True)
            )
            part = np.moveaxis(np.tensordot(seen, filters[(..., *at)], (1, 0)), -1, 1)
            full[(slice(None), slice(group * channels, (group + 1) * channels), *where)] += part
    padding = _padding(sizes, kernel, strides, pad_type, pad)
    wanted = [size - before - after for size, (before, after) in zip(sizes, padding, strict=True)]
    if output_shape is not None:
        wanted = [int(size) for size in output_shape[-many:]]
    short = [
        max(0, before + size - have) for size, have, (before, _) in zip(wanted, sizes, padding, strict=True)
    ]
    full = np.pad(full, [(0, 0), (0, 0), *((0, more) for more in short)])
    cut = tuple(slice(before, before + size) for size, (before, _) in zip(wanted, padding, strict=True))
    made = full[(slice(None), slice(None), *cut)]
    return made if bias is None else made + bias.reshape(-1, *[1] * many)


def _pooled(kind: str) -> Callable[..., Any]:
    def pooled(  # noqa: PLR0917 - as MIL names them
        x: Array,
        kernel_sizes: Any,
        strides: Any = None,
        pad_type: str = "valid",
        pad: Any = None,
        ceil_mode: Any = False,
        exclude_padding_from_average: Any = False,
        **_: Any,
    ) -> Any:
        kernel = [int(size) for size in kernel_sizes]
        strides = _numbers(strides, len(kernel))
        padding = _padding(x.shape[2:], kernel, strides, pad_type, pad)
        ones = [1] * len(kernel)
        axes = tuple(range(x.ndim, x.ndim + len(kernel)))
        value = -np.inf if kind == "max" else 0
        windows = _windows(x, kernel, strides, ones, (padding, bool(ceil_mode), value))
        if kind == "max":
            return windows.max(axes)
        if not exclude_padding_from_average:
            return windows.mean(axes)
        counted = _windows(np.ones_like(x), kernel, strides, ones, (padding, bool(ceil_mode), 0))
        return windows.sum(axes) / counted.sum(axes)

    return pooled


def _upsampled(x: Array, scale_factor_height: Any = 1, scale_factor_width: Any = 1, **_: Any) -> Any:
    tall, wide = float(scale_factor_height), float(scale_factor_width)
    if tall % 1 or wide % 1:
        raise NotImplementedError("upsampling by a fraction")
    return x.repeat(int(tall), 2).repeat(int(wide), 3)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
}


def _lstm(  # noqa: PLR0917 - as MIL names them
    x: Array,
    initial_h: Array,
    initial_c: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Any = None,
    peephole: Any = None,
    weight_ih_back: Any = None,
    weight_hh_back: Any = None,
    bias_back: Any = None,
    peephole_back: Any = None,
    direction: str = "forward",
    output_sequence: Any = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    **_: Any,
) -> list[Any]:
    if peephole is not None or peephole_back is not None:
        raise NotImplementedError("an LSTM with peepholes")
    gates = tuple(_ACTIVATIONS[name] for name in (recurrent_activation, cell_activation, activation))
    if direction == "bidirectional":
        half = initial_h.shape[1] // 2
        runs = [
            _one_way(x, (initial_h[:, :half], initial_c[:, :half]), (weight_ih, weight_hh, bias), gates),
            _one_way(
                x[::-1],
                (initial_h[:, half:], initial_c[:, half:]),
                (weight_ih_back, weight_hh_back, bias_back),
                gates,
            ),
        ]
        runs[1] = (runs[1][0][::-1], *runs[1][1:])
        sequence, hidden, cell = (np.concatenate(both, -1) for both in zip(*runs, strict=True))
    else:
        backwards = direction == "reverse"
        steps = x[::-1] if backwards else x
        sequence, hidden, cell = _one_way(steps, (initial_h, initial_c), (weight_ih, weight_hh, bias), gates)
        sequence = sequence[::-1] if backwards else sequence
    return [sequence if output_sequence else hidden[None], hidden, cell]


def _one_way(
    x: Array, state: tuple[Array, Array], weights: tuple[Any, Any, Any], gates: tuple[Any, ...]
) -> Any:
    """Return all hidden states, the last one and the last cell; gates are stored in the order input, forget, output, cell."""
    recurrent, candidate, squashed = gates
    hidden, cell = state
    weight_ih, weight_hh, bias = weights
    sequence = []
    for step in x:
        mixed = step @ weight_ih.T + hidden @ weight_hh.T + (0 if bias is None else bias)
        given, kept, shown, new = np.split(mixed, 4, 1)
        cell = recurrent(kept) * cell + recurrent(given) * candidate(new)
        hidden = recurrent(shown) * squashed(cell)
        sequence.append(hidden)
    return np.stack(sequence), hidden, cell


WINDOWED: dict[str, Callable[..., Any]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "max_pool": _pooled("max"),
    "avg_pool": _pooled("average"),
    "upsample_nearest_neighbor": _upsampled,
    "lstm": _lstm,
}
