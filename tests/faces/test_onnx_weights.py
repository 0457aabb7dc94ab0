"""The ONNX reader against the onnx package."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from faces import onnx_weights
from faces.errors import FacesError

onnx = pytest.importorskip("onnx", reason="onnx (dev extra) is the reference for the reader")


def test_reader_agrees_with_onnx_on_every_tensor_kind(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    arrays = {
        "f32": rng.standard_normal((3, 5)).astype(np.float32),
        "f16": rng.standard_normal(4).astype(np.float16),
        "i8": rng.integers(-128, 128, (2, 3, 4)).astype(np.int8),
        "u8": rng.integers(0, 256, 300).astype(np.uint8),
        "i64": np.array([-1, 2**40, -(2**62)], dtype=np.int64),
        "scalar": np.float32(1.5).reshape(()),
        "empty": np.zeros((0, 2), np.float32),
    }
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in arrays.items()]
    # The same kinds in the typed fields instead of raw bytes.
    tensors.append(onnx.helper.make_tensor("listed_f32", onnx.TensorProto.FLOAT, [2, 2], [1.0, -2.0, 3.5, 0.0]))
    tensors.append(onnx.helper.make_tensor("listed_i64", onnx.TensorProto.INT64, [3], [-5, 0, 2**50]))
    tensors.append(onnx.helper.make_tensor("listed_i8", onnx.TensorProto.INT8, [3], [-5, 0, 127]))
    node = onnx.helper.make_node("DequantizeLinear", ["i8", "f32"], ["out"], axis=-1, block_size=7, mode="text")
    graph = onnx.helper.make_graph([node], "g", [], [], tensors)
    path = tmp_path / "kinds.onnx"
    onnx.save(onnx.helper.make_model(graph), path)
    read = onnx_weights.read_graph(path)
    assert list(read.initialisers) == [tensor.name for tensor in tensors]
    for tensor in tensors:
        expected = onnx.numpy_helper.to_array(tensor)
        np.testing.assert_array_equal(read.initialisers[tensor.name], expected)
        assert read.initialisers[tensor.name].dtype == expected.dtype
        assert read.initialisers[tensor.name].shape == expected.shape
    assert read.nodes == (
        onnx_weights.Node("DequantizeLinear", ("i8", "f32"), ("out",), {"axis": -1, "block_size": 7}),
    )


@pytest.mark.parametrize(
    ("shape", "scale_shape", "axis", "block"),
    [((4, 6), (), 1, 0), ((4, 6), (4,), 0, 0), ((4, 6), (6,), 1, 0), ((4, 6), (4, 2), 1, 3), ((6, 3), (2, 3), 0, 3)],
)
def test_dequantisation_agrees_with_the_onnx_reference(
    shape: tuple[int, int], scale_shape: tuple[int, ...], axis: int, block: int
) -> None:
    from onnx.reference import ReferenceEvaluator

    rng = np.random.default_rng(5)
    q = rng.integers(-128, 128, shape).astype(np.int8)
    scale = rng.uniform(0.01, 0.1, scale_shape).astype(np.float32)
    zero = rng.integers(-10, 10, scale_shape).astype(np.int8)
    helper = onnx.helper
    node = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=axis, block_size=block)
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in (("q", q), ("s", scale), ("z", zero))
    ]
    out = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape)
    model = helper.make_model(helper.make_graph([node], "g", infos, [out]), opset_imports=[helper.make_opsetid("", 21)])
    outputs = ReferenceEvaluator(model).run(None, {"q": q, "s": scale, "z": zero})
    assert isinstance(outputs, list)
    (expected,) = outputs
    np.testing.assert_allclose(onnx_weights.dequantise(q, scale, zero, axis, block), expected, rtol=1e-6)


def test_constants_follow_dequantise_and_reshape_only(tmp_path: Path) -> None:
    helper = onnx.helper
    tensors = [
        onnx.numpy_helper.from_array(np.arange(6, dtype=np.int8), "q"),
        onnx.numpy_helper.from_array(np.float32(0.5).reshape(()), "s"),
        onnx.numpy_helper.from_array(np.array([2, -1], dtype=np.int64), "shape"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"]),
        helper.make_node("Reshape", ["w", "shape"], ["w2"]),
        helper.make_node("Reshape", ["data", "shape"], ["not_constant"]),
        helper.make_node("Relu", ["w2"], ["not_understood"]),
    ]
    path = tmp_path / "chain.onnx"
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [], [], tensors)), path)
    values = onnx_weights.constants(onnx_weights.read_graph(path))
    np.testing.assert_array_equal(values["w2"], np.arange(6, dtype=np.float32).reshape(2, 3) / 2)
    assert set(values) == {"q", "s", "shape", "w", "w2"}


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x3a\xff\xff\x03abc", struct.pack("<Q", 2**63), b"\xff" * 12])
def test_files_that_are_no_models_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    with pytest.raises(FacesError, match=r"bad\.onnx is not a readable ONNX file"):
        onnx_weights.read_graph(path)


def test_a_model_that_is_not_sface_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [])), path)
    with pytest.raises(FacesError, match="holds no tensor conv_1_conv2d_weight_reshaped, so it is not SFace"):
        onnx_weights.sface_state_dict(path)
