"""TensorFlow.js weight files: formats by hand, layouts against torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from faces.errors import FacesError
from faces.tfjs_weights import face_api_state_dict, face_mesh_state_dict, faceres_state_dict, read_tensors


def _write(folder: Path, entries: list[dict[str, Any]], data: bytes, *, graph: bool = False) -> tuple[Path, Path]:
    groups = [{"paths": ["model.bin"], "weights": entries}]
    manifest, binary = folder / "model.json", folder / "model.bin"
    manifest.write_text(json.dumps({"weightsManifest": groups} if graph else groups), encoding="utf-8")
    binary.write_bytes(data)
    return manifest, binary


def _model(folder: Path, tensors: dict[str, np.ndarray]) -> tuple[Path, Path]:
    """A model of float32 tensors."""
    entries = [{"name": name, "shape": list(tensor.shape), "dtype": "float32"} for name, tensor in tensors.items()]
    return _write(folder, entries, b"".join(tensor.astype("<f4").tobytes() for tensor in tensors.values()))


@pytest.mark.parametrize("graph", [False, True])
def test_every_number_format_by_hand(tmp_path: Path, graph: bool) -> None:
    entries: list[dict[str, Any]] = [
        {"name": "a", "shape": [2], "dtype": "float32"},
        {"name": "b", "shape": [1, 3], "dtype": "float32", "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1}},
        {"name": "c", "shape": [2], "dtype": "float32", "quantization": {"dtype": "uint16", "scale": 2, "min": 0.25}},
        {"name": "d", "shape": [2], "dtype": "float32", "quantization": {"dtype": "float16"}},
        {"name": "e", "shape": [], "dtype": "int32"},
    ]
    data = bytes.fromhex("0000803f 000000c0  00 02 ff  0100 0001  003c 00c0  ffffffff")
    tensors = read_tensors(*_write(tmp_path, entries, data, graph=graph))
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        "a": [1.0, -2.0],
        "b": [[-1.0, 0.0, 126.5]],
        "c": [2.25, 512.25],
        "d": [1.0, -2.0],
        "e": -1.0,
    }
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float32)}


def test_layouts_and_folding_against_torch(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = {
        "down/conv/filters": (3, 3, 2, 4), "down/conv/bias": (4,),
        "down/scale/weights": (4,), "down/scale/biases": (4,),
        "dense/conv0/filters": (3, 3, 2, 4), "dense/conv0/bias": (4,),
        "dense/conv1/depthwise_filter": (3, 3, 2, 1), "dense/conv1/pointwise_filter": (1, 1, 2, 4),
        "dense/conv1/bias": (4,), "head/weights": (2, 3), "head/bias": (3,), "fc": (2, 3),
    }  # fmt: skip
    given = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    state = {key: torch.from_numpy(value) for key, value in face_api_state_dict(*_model(tmp_path, given)).items()}
    assert set(state) == {
        "down.weight", "down.bias", "dense.conv0.weight", "dense.conv0.bias", "dense.conv1.depthwise.weight",
        "dense.conv1.pointwise.weight", "dense.conv1.pointwise.bias", "head.weight", "head.bias", "fc.weight",
    }  # fmt: skip
    image = rng.normal(size=(3, 3, 2)).astype(np.float32)  # (height, width, channels): one output cell
    x = torch.from_numpy(image).permute(2, 0, 1)[None]

    def cell(name: str) -> np.ndarray:
        return np.einsum("hwi,hwio->o", image, given[f"{name}/filters"]) + given[f"{name}/bias"]

    expected = cell("down/conv") * given["down/scale/weights"] + given["down/scale/biases"]
    found = functional.conv2d(x, state["down.weight"], state["down.bias"])[0, :, 0, 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    found = functional.conv2d(x, state["dense.conv0.weight"], state["dense.conv0.bias"])[0, :, 0, 0]
    np.testing.assert_allclose(found, cell("dense/conv0"), rtol=0, atol=1e-5)
    depth = np.einsum("hwi,hwi->i", image, given["dense/conv1/depthwise_filter"][..., 0])
    expected = depth @ given["dense/conv1/pointwise_filter"][0, 0] + given["dense/conv1/bias"]
    between = functional.conv2d(x, state["dense.conv1.depthwise.weight"], groups=2)
    found = functional.conv2d(between, state["dense.conv1.pointwise.weight"], state["dense.conv1.pointwise.bias"])[
        0, :, 0, 0
    ]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    row = torch.tensor([[1.0, 2.0]])
    found = functional.linear(row, state["head.weight"], state["head.bias"])[0]
    np.testing.assert_allclose(found, [1, 2] @ given["head/weights"] + given["head/bias"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(functional.linear(row, state["fc.weight"])[0], [1, 2] @ given["fc"], rtol=0, atol=1e-5)


def test_bad_files_are_refused(tmp_path: Path) -> None:
    entry = {"name": "a", "shape": [2], "dtype": "float32"}
    with pytest.raises(FacesError, match=r"describes 8 bytes of weights, but .*model\.bin holds 12"):
        read_tensors(*_write(tmp_path, [entry], bytes(12)))
    with pytest.raises(FacesError, match=r"no readable TensorFlow\.js model"):
        read_tensors(*_write(tmp_path, [entry], bytes(7)))
    with pytest.raises(FacesError, match=r"no readable TensorFlow\.js model \('complex64'\)"):
        read_tensors(*_write(tmp_path, [{**entry, "dtype": "complex64"}], bytes(8)))
    (tmp_path / "model.json").write_text("{", encoding="utf-8")
    with pytest.raises(FacesError, match=r"no readable TensorFlow\.js model"):
        read_tensors(tmp_path / "model.json", tmp_path / "model.bin")
    with pytest.raises(FacesError, match=r"absent\.json are no readable"):
        read_tensors(tmp_path / "absent.json", tmp_path / "model.bin")
    with pytest.raises(FacesError, match=r"holds no tensor 'conv1/convolution/merged_input', so it is not HSE-FaceRes"):
        faceres_state_dict(*_write(tmp_path, [entry], bytes(8)))
    with pytest.raises(
        FacesError, match=r"holds no tensor 'Stateful.*/conv2d_1/Conv2D_weights', so it is not MediaPipe"
    ):
        face_mesh_state_dict(*_write(tmp_path, [entry], bytes(8)))
