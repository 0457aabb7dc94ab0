"""SFace against onnxruntime; the small recogniser and the margin heads."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from faces import weights
from faces.alignment import align
from faces.errors import FacesError
from faces.recognisers import CosineHead, SFace, SmallRecogniser, load_sface
from faces.samples import FaceSet, five_points
from faces.synthetic import generate


@pytest.fixture(scope="module")
def heads() -> FaceSet:
    """Six synthetic people, three pictures each."""
    return generate(6, 3, size=64, seed=11)


@pytest.fixture(scope="module")
def sface(sface_weights: Path) -> SFace:
    return load_sface(sface_weights)


def _aligned(heads: FaceSet, size: int = 112) -> torch.Tensor:
    return align(heads.images.float(), five_points(heads.landmarks), size)


def _multiply_adds(network: nn.Module, frame: torch.Tensor) -> int:
    count = 0

    def add(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal count
        assert isinstance(module, (nn.Conv2d, nn.Linear))
        weight = module.weight
        count += weight[0].numel() * output[0].numel() if isinstance(module, nn.Conv2d) else weight.numel()

    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(add)
    with torch.no_grad():
        network(frame)
    return count


def test_sface_agrees_with_onnxruntime_on_the_original_file(
    sface: SFace, heads: FaceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx (dev extra) prepares the reference")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime (dev extra) is the reference")
    kept: dict[str, bytes] = {}

    def keep(original: Path) -> bytes:
        kept["model"] = original.read_bytes()
        return weights._derive_sface(original)

    monkeypatch.setitem(weights._DERIVE, "sface", keep)
    weights.fetch("sface", tmp_path)
    model = onnx.load_from_string(kept["model"])
    # The file lists its weights as inputs, which the runtime does not accept.
    data = [item for item in model.graph.input if item.name == "data"]
    del model.graph.input[:]
    model.graph.input.extend(data)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    noise = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(0)) * 255
    batch = torch.cat([_aligned(heads)[::6], noise])
    expected = np.concatenate([session.run(None, {"data": image[None].numpy()})[0] for image in batch])
    with torch.no_grad():
        found = sface(batch).numpy()
    assert np.abs(expected).mean() > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_folding_keeps_the_embeddings_and_the_gradients(sface: SFace, heads: FaceSet) -> None:
    batch = _aligned(heads)[:2]
    folded = sface.folded()
    assert not any(isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) for module in folded.modules())
    gradients = []
    for network in (sface, folded):
        x = batch.clone().requires_grad_(True)
        embedding = network.embed(x)
        embedding[:, :8].sum().backward()
        assert x.grad is not None
        gradients.append((embedding.detach(), x.grad))
    torch.testing.assert_close(gradients[0][0], gradients[1][0], rtol=0, atol=1e-5)
    # Rounding flips a few of the millions of PReLU kinks, so gradients agree in the mean, not in every pixel.
    difference = (gradients[0][1] - gradients[1][1]).norm() / gradients[0][1].norm()
    assert float(difference) < 0.01
    with pytest.raises(FacesError, match="folded already"):
        folded.folded()


def test_sface_returns_unit_vectors_and_tells_people_apart(sface: SFace, heads: FaceSet) -> None:
    with torch.no_grad():
        embeddings = sface.embed(_aligned(heads))
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(len(heads)))
    cosines = embeddings @ embeddings.T
    same = heads.identity[:, None] == heads.identity
    off = ~torch.eye(len(heads), dtype=torch.bool)
    genuine, impostor = cosines[same & off], cosines[~same]
    assert float(genuine.mean()) > float(impostor.mean()) + 0.2


def test_channel_order_matters(sface: SFace, heads: FaceSet) -> None:
    # Guards against a silent swap of red and blue: it visibly moves the embedding.
    batch = _aligned(heads)[:4]
    with torch.no_grad():
        cosine = (sface.embed(batch) * sface.embed(batch.flip(1))).sum(1)
    assert SFace.channel_order == "RGB"
    assert float(cosine.max()) < 0.98


def test_sface_can_be_fine_tuned_at_half_size(sface_weights: Path, heads: FaceSet) -> None:
    network = load_sface(sface_weights, input_size=56).train()
    torch.manual_seed(0)
    loss = CosineHead(128, 6).loss(network(_aligned(heads, 56)[:4]), heads.identity[:4])
    loss.backward()
    missing = [name for name, value in network.named_parameters() if value.grad is None or not bool(value.grad.any())]
    # The bias in front of a batch norm has no effect in training mode.
    assert [name for name in missing if name != "project.bias"] == []


def test_sface_cost_is_as_stated() -> None:
    torch.manual_seed(0)
    assert _multiply_adds(SFace(112).eval(), torch.zeros(1, 3, 112, 112)) == pytest.approx(574e6, rel=0.01)
    assert _multiply_adds(SFace(56).eval(), torch.zeros(1, 3, 56, 56)) == pytest.approx(154e6, rel=0.01)


def test_sface_refuses_other_input() -> None:
    network = SFace()
    with pytest.raises(FacesError, match=r"\(N, 3, 112, 112\), got \(1, 3, 64, 64\)"):
        network.embed(torch.zeros(1, 3, 64, 64))
    with pytest.raises(FacesError, match=r"floating-point images .* got .* torch.uint8"):
        network.embed(torch.zeros(1, 3, 112, 112, dtype=torch.uint8))
    with pytest.raises(FacesError, match="112 or 56 pixels, got 64"):
        SFace(64)


def test_missing_weights_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPTISHIELD_CACHE", str(tmp_path))
    with pytest.raises(FacesError, match="optishield weights fetch sface"):
        load_sface()
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    with pytest.raises(FacesError, match=r"broken\.safetensors does not hold SFace"):
        load_sface(tmp_path / "broken.safetensors")


@pytest.mark.parametrize(("channels", "size", "millions"), [(1, 16, 12.3), (1, 32, 12.7), (3, 32, 13.1), (1, 64, 12.7)])
def test_small_recogniser_cost_is_as_stated(channels: int, size: int, millions: float) -> None:
    network = SmallRecogniser(channels, size)
    frame = torch.rand(2, channels, size, size)
    assert _multiply_adds(network, frame[:1]) == pytest.approx(millions * 1e6, rel=0.01)
    embeddings = network.embed(frame)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))
    assert embeddings.shape == (2, 128)


def test_small_recogniser_embeds_each_frame_by_itself() -> None:
    torch.manual_seed(0)
    network = SmallRecogniser(1, 16)
    frames = torch.rand(3, 1, 16, 16)
    with torch.no_grad():
        network.train()(frames)  # moves the statistics, so that they are not the trivial ones
        together, alone = network.eval()(frames), network(frames[1:2])
    torch.testing.assert_close(together[1:2], alone)


def test_small_recogniser_learns_synthetic_people(heads: FaceSet) -> None:
    torch.manual_seed(0)
    frames = functional.interpolate(heads.linear().mean(1, keepdim=True), size=16, mode="area")
    network, head = SmallRecogniser(1, 16, width=8, embedding_dim=32), CosineHead(32, 6)
    optimiser = torch.optim.Adam([*network.parameters(), *head.parameters()], 3e-3)
    losses = []
    for _ in range(25):
        loss = head.loss(network(frames), heads.identity)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 3
    predicted = head(network(frames)).argmax(1)
    assert float((predicted == heads.identity).float().mean()) == 1.0


def test_small_recogniser_refuses_other_input() -> None:
    with pytest.raises(FacesError, match=r"8 <= size <= 128.*got 1, 4, 24 and 128"):
        SmallRecogniser(1, 4)
    with pytest.raises(FacesError, match=r"\(N, 1, 16, 16\), got \(2, 3, 16, 16\)"):
        SmallRecogniser(1, 16).embed(torch.zeros(2, 3, 16, 16))


@pytest.mark.parametrize("kind", ["cos", "arc"])
def test_margin_heads_follow_their_equations(kind: str) -> None:
    torch.manual_seed(0)
    head = CosineHead(16, 5, margin=0.3, scale=20.0, kind=kind).double()
    x, labels = torch.randn(7, 16, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    weight = head.weight.detach().numpy()
    a, b = x.numpy() / np.linalg.norm(x, axis=1, keepdims=True), weight / np.linalg.norm(weight, axis=1, keepdims=True)
    cosines = a @ b.T
    for n, label in enumerate(labels.tolist()):
        true = cosines[n, label]
        cosines[n, label] = true - 0.3 if kind == "cos" else math.cos(math.acos(true) + 0.3)
    np.testing.assert_allclose(head(x, labels).detach().numpy(), 20 * cosines, rtol=1e-5)
    np.testing.assert_allclose(head(x).detach().numpy(), 20 * (a @ b.T), rtol=1e-5)


def test_arc_margin_stays_monotone_up_to_opposite_vectors() -> None:
    head = CosineHead(2, 1, margin=0.3, scale=1.0, kind="arc")
    head.weight.data = torch.tensor([[1.0, 0.0]])
    angles = torch.linspace(0, math.pi, 200)
    logits = head(torch.stack([angles.cos(), angles.sin()], 1), torch.zeros(200, dtype=torch.int64))[:, 0]
    assert bool((logits.diff() < 1e-4).all())
    assert bool(torch.isfinite(logits).all())


def test_scale_is_trained_on_request_only() -> None:
    assert not CosineHead(4, 2).log_scale.requires_grad
    head = CosineHead(4, 2, learn_scale=True)
    head.loss(torch.randn(3, 4), torch.tensor([0, 1, 0])).backward()
    assert head.log_scale.grad is not None


def test_margin_head_refuses_bad_arguments() -> None:
    with pytest.raises(FacesError, match="'cos' and 'arc', got 'sphere'"):
        CosineHead(4, 2, kind="sphere")
    with pytest.raises(FacesError, match=r"0 <= margin < 1 and scale > 0, got 1.5 and 24"):
        CosineHead(4, 2, margin=1.5)
