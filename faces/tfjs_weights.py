"""Reads weights of TensorFlow.js models, without that library, into the names and layouts of torch modules.

A model is a JSON manifest beside one binary file. Tensors lie in the binary file one after another, in manifest order,
as float32, or quantised: to float16, or to integers of which ``q * scale + min`` is the value.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faces.errors import FacesError

Floats = NDArray[np.float32]

_DTYPES = {"float32": "<f4", "float16": "<f2", "uint8": "u1", "uint16": "<u2", "int32": "<i4"}


def read_tensors(manifest: Path, binary: Path) -> dict[str, Floats]:
    """All tensors of a model by name, dequantised, in the layouts of TensorFlow.

    Args:
        manifest: ``*-weights_manifest.json``, or ``model.json`` with the key ``weightsManifest``.
        binary: the weight file that belongs to it; models of several files are not understood.

    Raises:
        FacesError: if a file is unreadable or they do not belong together.
    """
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        groups = content["weightsManifest"] if isinstance(content, dict) else content
        entries = [entry for group in groups for entry in group["weights"]]
        data = binary.read_bytes()
        tensors: dict[str, Floats] = {}
        start = 0
        for entry in entries:
            quantisation = entry.get("quantization")
            dtype = np.dtype(_DTYPES[quantisation["dtype"] if quantisation else entry["dtype"]])
            shape = tuple(int(side) for side in entry["shape"])
            count = math.prod(shape)
            values = np.frombuffer(data, dtype, count, start)
            start += count * dtype.itemsize
            if quantisation and "scale" in quantisation:
                # In double precision, rounded once: what the library of the format does.
                values = values * float(quantisation["scale"]) + float(quantisation["min"])
            tensors[entry["name"]] = values.astype(np.float32).reshape(shape)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise FacesError(f"{binary} and {manifest} are no readable TensorFlow.js model ({error}).") from error
    if start != len(data):
        raise FacesError(f"{manifest} describes {start} bytes of weights, but {binary} holds {len(data)}.")
    return tensors


def _kernel(tensor: Floats) -> Floats:
    """Convolution kernel from (height, width, in, out) to (out, in, height, width)."""
    return np.ascontiguousarray(tensor.transpose(3, 2, 0, 1))


def _depthwise(tensor: Floats) -> Floats:
    """Depthwise kernel from (height, width, channels, 1) to (channels, 1, height, width)."""
    return np.ascontiguousarray(tensor.transpose(2, 3, 0, 1))


def face_api_state_dict(manifest: Path, binary: Path) -> dict[str, Floats]:
    """Weights of a face-api model; the torch modules are named as its tensors are.

    ``a/b/filters`` becomes ``a.b.weight``; a separable convolution becomes ``depthwise`` and ``pointwise``; where a
    channel-wise gain and shift follow a convolution (``scale``, in dlib's network), they are folded into it.

    Raises:
        FacesError: As for :func:`read_tensors`.
    """
    tensors = read_tensors(manifest, binary)
    state: dict[str, Floats] = {}
    for name, tensor in tensors.items():
        prefix, _, kind = name.rpartition("/")
        key = prefix.replace("/", ".")
        if kind == "filters" and prefix.endswith("/conv"):
            block = prefix.removesuffix("/conv")
            gain, shift = tensors[f"{block}/scale/weights"], tensors[f"{block}/scale/biases"]
            key = block.replace("/", ".")
            state[f"{key}.weight"] = _kernel(tensor * gain)
            state[f"{key}.bias"] = tensors[f"{prefix}/bias"] * gain + shift
        elif kind == "filters":
            state[f"{key}.weight"] = _kernel(tensor)
        elif kind == "depthwise_filter":
            state[f"{key}.depthwise.weight"] = _depthwise(tensor)
        elif kind == "pointwise_filter":
            state[f"{key}.pointwise.weight"] = _kernel(tensor)
        elif kind == "bias" and not prefix.endswith("/conv"):
            state[f"{key}.pointwise.bias" if f"{prefix}/depthwise_filter" in tensors else f"{key}.bias"] = tensor
        elif kind == "weights" and tensor.ndim == 2:
            state[f"{key}.weight"] = np.ascontiguousarray(tensor.T)
        elif kind == "fc":
            state["fc.weight"] = np.ascontiguousarray(tensor.T)
    return state


def faceres_state_dict(manifest: Path, binary: Path) -> dict[str, Floats]:
    """Weights of the descriptor of HSE-FaceRes in the names of :class:`faces.faceres.FaceRes`.

    Batch norm is folded into the convolutions; the heads for age and gender are left out.

    Raises:
        FacesError: As for :func:`read_tensors`, or if the model lacks a tensor.
    """
    tensors = read_tensors(manifest, binary)
    layers = ["conv1", *(f"conv_{kind}_{k}" for k in range(1, 14) for kind in ("dw", "pw"))]
    state: dict[str, Floats] = {}
    try:
        for index, layer in enumerate(layers):
            if "_dw_" in layer:
                gain = tensors[f"{layer}_bn/batchnorm_1/mul"][:, None]
                kernel = _depthwise(tensors[f"{layer}/depthwise_kernel"] * gain)
            else:
                kernel = _kernel(tensors[f"{layer}/convolution/merged_input"])
            state[f"backbone.{index}.0.weight"] = kernel
            state[f"backbone.{index}.0.bias"] = tensors[f"{layer}_bn/batchnorm_1/sub"]
    except KeyError as error:
        raise FacesError(f"{binary} holds no tensor {error}, so it is not HSE-FaceRes.") from error
    return state


def face_mesh_state_dict(manifest: Path, binary: Path) -> dict[str, Floats]:
    """Weights of MediaPipe's Face Mesh in the names of :class:`faces.face_mesh.FaceMesh`.

    The layers of the model are numbered along the trunk, then in each of its heads; the head that finds contours a
    second time is left out.

    Raises:
        FacesError: As for :func:`read_tensors`, or if the model lacks a tensor.
    """
    tensors = read_tensors(manifest, binary)
    root = "StatefulPartitionedCall/model_1"
    state: dict[str, Floats] = {}

    def conv(key: str, number: int) -> None:
        layer = f"{root}/conv2d_{number}"
        last = f"{layer}/Conv2D/ReadVariableOp" in tensors  # no batch norm was folded into the last of a head
        kernel, bias = (
            ("Conv2D/ReadVariableOp", "BiasAdd/ReadVariableOp") if last else ("Conv2D_weights", "Conv2D_bn_offset")
        )
        state[f"{key}.weight"] = _kernel(tensors[f"{layer}/{kernel}"])
        state[f"{key}.bias"] = tensors[f"{layer}/{bias}"]

    def prelu(key: str, number: int) -> None:
        state[f"{key}.weight"] = tensors[f"{root}/p_re_lu_{number}/Neg"].reshape(-1)

    def block(key: str, depthwise: int, pointwise: int, slope: int) -> None:
        kernel = tensors[f"{root}/depthwise_conv2d_{depthwise}/depthwise/ReadVariableOp"]
        state[f"{key}.depthwise.weight"] = _depthwise(kernel)
        conv(f"{key}.pointwise", pointwise)
        prelu(f"{key}.prelu", slope)

    def head(key: str, blocks: int, depthwise: int, pointwise: int, slope: int) -> None:
        for k in range(blocks):
            block(f"{key}.{k}", depthwise + k, pointwise + k, slope + k)
        conv(f"{key}.{blocks}", pointwise + blocks)
        prelu(f"{key}.{blocks + 1}", slope + blocks)
        block(f"{key}.{blocks + 2}", depthwise + blocks, pointwise + blocks + 1, slope + blocks + 1)
        conv(f"{key}.{blocks + 3}", pointwise + blocks + 2)

    try:
        conv("trunk.0", 1)
        prelu("trunk.1", 1)
        for k in range(1, 15):
            block(f"trunk.{k + 1}", k, k + 1, k + 1)
        head("mesh", 3, 15, 16, 16)
        head("flag", 1, 23, 28, 26)
    except KeyError as error:
        raise FacesError(f"{binary} holds no tensor {error}, so it is not MediaPipe's Face Mesh.") from error
    return state
