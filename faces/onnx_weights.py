"""Reads weights out of ONNX files, without the ``onnx`` package.

Only what the registered weight files need is understood: initialisers, and the constant operators
``DequantizeLinear`` (per tensor, per axis and per block) and ``Reshape``. The wire format is Protocol Buffers
(https://protobuf.dev/programming-guides/encoding/), the field numbers are those of ``onnx.proto3`` (ONNX 1.16).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faces.errors import FacesError

Array = NDArray[np.generic]

_DTYPES: dict[int, type[np.generic]] = {
    1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64,
}  # fmt: skip

_NORM_NAMES = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}


@dataclass(frozen=True)
class Node:
    """One operator of the graph.

    Attributes:
        op_type: operator name, e.g. ``Conv``.
        inputs: names of its inputs.
        outputs: names of its outputs.
        integers: its integer attributes by name.
    """

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    integers: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """The nodes (in file order) and the initialisers of an ONNX graph."""

    nodes: tuple[Node, ...]
    initialisers: dict[str, Array]


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Decodes a base-128 integer (as unsigned 64 bit); returns it and the next position."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError("varint longer than 10 bytes")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Walks one message; integers for wire type 0, byte views for the others."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == 2:
            length, at = _varint(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise IndexError(f"wire type {kind}")
        if at + length > len(data):
            raise IndexError("truncated field")
        yield number, data[at : at + length]
        at += length


def _text(value: int | memoryview) -> str:
    return bytes(_view(value)).decode("utf-8")


def _view(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise IndexError("number where bytes are due")
    return value


def _integers(value: int | memoryview) -> list[int]:
    """A repeated int64 field: one number, or a packed run of them."""
    if isinstance(value, int):
        return [_signed(value)]
    numbers, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        numbers.append(_signed(number))
    return numbers


def _tensor(data: memoryview) -> tuple[str, Array]:
    dims: list[int] = []
    name, kind, raw = "", 0, memoryview(b"")
    floats: list[float] = []
    numbers: list[int] = []
    for number, value in _fields(data):
        if number == 1:
            dims += _integers(value)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 4:
            view = _view(value)
            floats += struct.unpack(f"<{len(view) // 4}f", view)
        elif number in (5, 7):
            numbers += _integers(value)
        elif number == 8:
            name = _text(value)
        elif number == 9:
            raw = _view(value)
    if kind not in _DTYPES:
        raise IndexError(f"tensor {name} has element type {kind}, known are {sorted(_DTYPES)}")
    dtype = np.dtype(_DTYPES[kind])
    if len(raw):
        return name, np.frombuffer(raw, dtype=dtype.newbyteorder("<")).astype(dtype).reshape(dims)
    return name, np.array(floats if kind == 1 else numbers, dtype=dtype).reshape(dims)


def _node(data: memoryview) -> Node:
    inputs: list[str] = []
    outputs: list[str] = []
    integers: dict[str, int] = {}
    op_type = ""
    for number, value in _fields(data):
        if number == 1:
            inputs.append(_text(value))
        elif number == 2:
            outputs.append(_text(value))
        elif number == 4:
            op_type = _text(value)
        elif number == 5:
            parts = dict(_fields(_view(value)))
            if isinstance(parts.get(3), int):
                integers[_text(parts[1])] = _integers(parts[3])[0]
    return Node(op_type, tuple(inputs), tuple(outputs), integers)


def read_graph(path: Path) -> Graph:
    """Parses nodes and initialisers of an ONNX file.

    Raises:
        FacesError: if the file is not a readable ONNX model.
    """
    nodes: list[Node] = []
    initialisers: dict[str, Array] = {}
    try:
        model = [_view(value) for number, value in _fields(memoryview(path.read_bytes())) if number == 7]
        for number, value in _fields(model[0]):
            if number == 1:
                nodes.append(_node(_view(value)))
            elif number == 5:
                name, array = _tensor(_view(value))
                initialisers[name] = array
    except (IndexError, KeyError, ValueError, struct.error) as error:
        raise FacesError(f"{path} is not a readable ONNX file ({error}); fetch it again.") from error
    return Graph(tuple(nodes), initialisers)


def dequantise(
    quantised: Array, scale: Array, zero_point: Array | None, axis: int = 1, block_size: int = 0
) -> NDArray[np.float32]:
    """(q - zero point) * scale in float32: ONNX ``DequantizeLinear``, opset 21.

    Args:
        quantised: integer tensor.
        scale: scalar, one per index of ``axis``, or (``block_size`` > 0) one per block along ``axis``.
        zero_point: same shape as ``scale``, or None for zero.
        axis: the axis that ``scale`` runs along.
        block_size: elements per block along ``axis``; 0 means not blocked.
    """

    def spread(given: Array) -> NDArray[np.float32]:
        values = given.astype(np.float32)
        if values.ndim == 0 or values.size == 1:
            return values.reshape(())
        if block_size:
            return np.take(np.repeat(values, block_size, axis=axis), np.arange(quantised.shape[axis]), axis=axis)
        return values.reshape([-1 if i == axis % quantised.ndim else 1 for i in range(quantised.ndim)])

    shifted = quantised.astype(np.float32)
    if zero_point is not None:
        shifted = shifted - spread(zero_point)
    return shifted * spread(scale)


def constants(graph: Graph) -> dict[str, Array]:
    """Initialisers plus every tensor that follows from them by ``DequantizeLinear`` and ``Reshape``."""
    values = dict(graph.initialisers)
    for node in graph.nodes:
        if node.op_type not in ("DequantizeLinear", "Reshape") or any(name not in values for name in node.inputs):
            continue
        given = [values[name] for name in node.inputs]
        if node.op_type == "Reshape":
            values[node.outputs[0]] = given[0].reshape(given[1].tolist())
        else:
            zero = given[2] if len(given) > 2 else None
            values[node.outputs[0]] = dequantise(
                given[0], given[1], zero, node.integers.get("axis", 1), node.integers.get("block_size", 0)
            )
    return values


def sface_state_dict(path: Path) -> dict[str, NDArray[np.float32]]:
    """Weights of SFace in the names of :class:`faces.recognisers.SFace`.

    Args:
        path: the published ONNX file, float or int8 block-quantised.

    Raises:
        FacesError: if the file is not readable or lacks a tensor of SFace.
    """
    values = constants(read_graph(path))
    state: dict[str, NDArray[np.float32]] = {}

    def take(key: str, *names: str) -> None:
        found = [name for name in names if name in values]
        if not found:
            raise FacesError(f"{path} holds no tensor {names[0]}, so it is not SFace; fetch it again.")
        state[key] = np.ascontiguousarray(values[found[0]], dtype=np.float32)

    def take_norm(key: str, prefix: str) -> None:
        for ours, theirs in _NORM_NAMES.items():
            take(f"{key}.{ours}", f"{prefix}_{theirs}")

    layers = ["conv_1", *(f"conv_{k}{part}" for k in range(2, 15) for part in ("_dw", ""))]
    for index, layer in enumerate(layers):
        key = f"backbone.{index}"
        take(f"{key}.0.weight", f"{layer}_conv2d_weight_reshaped", f"{layer}_conv2d_weight")
        take_norm(f"{key}.1", f"{layer}_batchnorm")
        take(f"{key}.2.weight", f"{layer}_relu_gamma")
        state[f"{key}.2.weight"] = state[f"{key}.2.weight"].ravel()
    take_norm("feature_norm", "bn1")
    for part in ("weight", "bias"):
        take(f"project.{part}", f"pre_fc1_{part}_dequantized", f"pre_fc1_{part}")
    take_norm("embedding_norm", "fc1")
    return state
