"""APF: what crosses between the device and the server, each side alone, and the training of the server."""

from __future__ import annotations

import multiprocessing
import struct
from collections.abc import Callable
from dataclasses import asdict
from multiprocessing.connection import Connection

import pytest
import torch
from torch import Tensor

from faces.families import load_recogniser
from protectors import apf
from protectors.apf import Apf
from protectors.apf_sides import Device, Search, Server, Transfer, mate
from protectors.auxiliary import Faces, auxiliary_faces
from protectors.errors import ProtectorError
from protectors.noise_message import pack, unpack
from protectors.trained import Weights
from protectors.unet import UNet

HEADER_BYTES = 13

# What is trained here stays out of the cache of the user.
pytestmark = pytest.mark.usefixtures("own_cache")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def search(**changed: float | str) -> Search:
    given = {
        "probe": "sface", "levels": 8, "start_levels": 1, "step_levels": 2, "steps": 2, "diversity": 0.5,
        "momentum": 0.0,
    }  # fmt: skip
    return Search(**{**given, **changed})  # type: ignore[arg-type]


def tiny(**settings: float | str) -> Apf:
    given = {
        "preset": "paper",
        "steps": 1,
        "width": 4,
        "people": 2,
        "captures": 2,
        "epochs": 1,
        "universal": 1,
        "batch": 4,
    }
    return Apf(**{**given, **settings})  # type: ignore[arg-type]


def some_noise(count: int = 2, side: int = 21, levels: int = 8) -> Tensor:
    drawn = torch.randint(-levels, levels + 1, (count, 3, side, side), generator=seeded(side))
    return drawn.to(torch.int8)


def untrained(levels: int = 8, universal: Tensor | None = None) -> Weights:
    return Transfer(4, levels, universal, residual=False).state_dict()


# -- the message -------------------------------------------------------------------------------------------------------


def test_message_is_a_header_and_one_byte_a_value() -> None:
    noise = torch.tensor([-128, -1, 127], dtype=torch.int8).reshape(1, 3, 1, 1)
    expected = b"NOIS" + bytes((1,)) + struct.pack("<II", 1, 1) + bytes((0x80, 0xFF, 0x7F))
    assert pack(noise) == expected
    assert torch.equal(unpack(expected), noise)


def test_message_keeps_the_order_of_values() -> None:
    noise = some_noise()
    back = unpack(pack(noise.transpose(2, 3)))
    assert back.dtype == torch.int8
    assert torch.equal(back, noise.transpose(2, 3))
    assert unpack(pack(noise[:0])).shape == (0, 3, 21, 21)


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        (torch.zeros(2, 3, 4, 4), r"int8 noise \(N, 3, S, S\), got torch\.float32 \(2, 3, 4, 4\)"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.int8), r"got torch\.int8 \(2, 1, 4, 4\)"),
        (torch.zeros(2, 3, 4, 5, dtype=torch.int8), r"got torch\.int8 \(2, 3, 4, 5\)"),
        (torch.zeros(3, 4, 4, dtype=torch.int8), r"got torch\.int8 \(3, 4, 4\)"),
    ],
)
def test_other_tensors_are_not_sent(noise: Tensor, words: str) -> None:
    with pytest.raises(ProtectorError, match=words):
        pack(noise)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda m: m[:12], "12 bytes are no message with noise; it must start with NOIS"),
        (lambda m: b"", "0 bytes are no message"),
        (lambda m: b"JFIF" + m[4:], "are no message with noise"),
        (lambda m: m[:4] + b"\x02" + m[5:], "has version 2, this side speaks 1"),
        (lambda m: m[:-1], r"says 2 photos of 21 pixels, 2659 bytes, but has 2658"),
        (lambda m: m + b"\0", r"2659 bytes, but has 2660"),
        (lambda m: m[:5] + struct.pack("<II", 3, 21) + m[13:], "says 3 photos of 21 pixels, 3982 bytes, but has 2659"),
        (lambda m: m[:5] + struct.pack("<II", 2**32 - 1, 2**32 - 1) + m[13:], "but has 2659"),
    ],
)
def test_damaged_messages_are_refused_by_both_sides(damage: Callable[[bytes], bytes], words: str) -> None:
    message = damage(pack(some_noise()))
    photos = torch.zeros(2, 3, 21, 21)
    device = Device(photos, torch.rand(2, 5, 2), torch.zeros(2, dtype=torch.int64), search())
    for side in (unpack, Server(untrained(), width=4, levels=8, residual=False), device.apply):
        with pytest.raises(ProtectorError, match=words):
            side(message)


# -- the device --------------------------------------------------------------------------------------------------------


def test_mates_are_other_photos_of_the_same_person() -> None:
    identity = torch.tensor([7, 3, 7, 5, 3, 7])
    assert mate(identity).tolist() == [2, 4, 5, 3, 1, 0]
    assert mate(identity[:0]).tolist() == []


def test_noise_raises_the_distance_to_the_mate_far_more_than_random_noise(heads: Faces) -> None:
    device = Device(heads.images, heads.points5, heads.identity, search(steps=4))
    noise = unpack(device.request(seeded(1)))
    assert noise.dtype == torch.int8
    assert int(noise.int().abs().amax()) == 8
    sface = load_recogniser("sface")
    with torch.no_grad():
        mates = sface.embed(heads.images, heads.points5)[mate(heads.identity)]

    @torch.no_grad()
    def distance(change: Tensor) -> Tensor:
        shown = (heads.images + change / 255).clamp(0, 1)
        return (sface.embed(shown, heads.points5) - mates).square().sum(1)

    before, random = distance(torch.zeros(())), distance(some_noise(4, 112).sign() * 8.0)
    assert bool((distance(noise) - before > 5 * (random - before).abs() + 0.3).all())


def test_one_step_is_the_sign_of_the_gradient(heads: Faces) -> None:
    # Worked out again: no diverse input, one photo at a time, -2 cos for the squared distance of unit vectors.
    device = Device(heads.images[:2], heads.points5[:2], heads.identity[:2], search(steps=1, diversity=0.0))
    noise = unpack(device.request(seeded(5)))
    start = (2 * torch.rand(2, 3, 112, 112, generator=seeded(5)) - 1) / 255
    sface = load_recogniser("sface")
    for photo, other in ((0, 1), (1, 0)):
        image = heads.images[photo]
        delta = ((image + start[photo]).clamp(0, 1) - image).requires_grad_()
        away = sface.embed(heads.images[other][None], heads.points5[other][None])
        cosine = (sface.embed((image + delta)[None], heads.points5[photo][None]) * away).sum()
        (gradient,) = torch.autograd.grad(-2 * cosine, delta)
        moved = (image + delta.detach() + gradient.sign() * 2 / 255).clamp(0, 1) - image
        expected = (moved * 255).round().to(torch.int8)
        assert float((noise[photo] == expected).float().mean()) > 0.99


def test_a_single_photo_is_led_away_from_itself(heads: Faces) -> None:
    device = Device(heads.images[:1], heads.points5[:1], heads.identity[:1], search(steps=3, diversity=0.0))
    changed = device.apply(device.request(seeded()))
    sface = load_recogniser("sface")
    own, after = (sface.embed(images, heads.points5[:1]) for images in (heads.images[:1], changed))
    assert float((own * after).sum()) < 0.7


def test_device_adds_what_comes_back_within_the_range_of_a_photo() -> None:
    photos = torch.tensor([0.0, 0.5, 1.0]).reshape(1, 3, 1, 1).expand(1, 3, 8, 8).clone()
    grey = torch.full((1, 3, 8, 8), 0.5)
    device = Device(torch.cat((photos, grey)), torch.rand(2, 5, 2), torch.zeros(2, dtype=torch.int64), search())
    levels = torch.tensor([-8, 4, 7], dtype=torch.int8).reshape(1, 3, 1, 1).expand(2, 3, 8, 8)
    changed = device.apply(pack(levels))
    assert torch.allclose(changed[0, :, 3, 3], torch.tensor([0.0, 0.5 + 4 / 255, 1.0]))
    # Colour would give a grey photo away: it takes the mean of the three, one level.
    assert torch.allclose(changed[1], grey[0] + 1 / 255)


def test_device_refuses_what_was_not_agreed() -> None:
    device = Device(torch.zeros(2, 3, 21, 21), torch.rand(2, 5, 2), torch.zeros(2, dtype=torch.int64), search())
    with pytest.raises(ProtectorError, match=r"replied for photos \(1, 3, 21, 21\), but noise of \(2, 3, 21, 21\)"):
        device.apply(pack(some_noise(1)))
    with pytest.raises(ProtectorError, match="changes of 128 levels, more than the budget of 8"):
        device.apply(pack(torch.full((2, 3, 21, 21), -128, dtype=torch.int8)))


# -- the server --------------------------------------------------------------------------------------------------------


def test_network_is_the_unet_plus_a_scaled_and_mixed_universal_perturbation() -> None:
    universal = 0.02 * torch.randn(3, 112, 112, generator=seeded())
    network, plain = Transfer(4, 8, universal, residual=False), Transfer(4, 8, None, residual=False)
    with torch.no_grad():
        network.alpha.fill_(0.7)
        network.beta.fill_(0.01)
        network.weight.copy_(torch.randn(3, 3, generator=seeded(1)))
        network.bias.copy_(torch.tensor([0.01, -0.02, 0.0]))
    noise = some_noise(2, 112).float()
    mixed = torch.einsum("oi,ihw->ohw", network.weight, 2 * 0.7 * universal + 0.01) + network.bias[:, None, None]
    expected = (plain.transfer(noise * 2 / 255) + mixed).clamp(-16 / 255, 16 / 255) / 2
    assert torch.allclose(network(noise), expected, atol=1e-6)
    assert torch.allclose(plain(noise), (plain.transfer(noise * 2 / 255) / 2).clamp(-8 / 255, 8 / 255), atol=1e-7)


def test_residual_network_starts_close_to_the_noise_itself() -> None:
    # A tenth of what the other network starts with, beside the noise.
    universal = 0.02 * torch.randn(3, 112, 112, generator=seeded())
    whole, tenth = (Transfer(4, 8, universal, residual=residual) for residual in (False, True))
    noise = some_noise(2, 112).float()
    added = whole.transfer(noise * 2 / 255) + 2 * universal
    assert torch.allclose(tenth(noise), (noise * 2 / 255 + 0.1 * added).clamp(-16 / 255, 16 / 255) / 2, atol=1e-6)


def test_server_keeps_the_budget_whatever_its_network_says() -> None:
    weights = untrained(universal=torch.ones(3, 112, 112))
    reply = unpack(Server(weights, width=4, levels=5, residual=False)(pack(some_noise())))
    assert reply.dtype == torch.int8
    assert reply.shape == (2, 3, 21, 21)
    assert int(reply.max()) == 5
    assert int(reply.min()) >= -5


def test_server_takes_no_photos_too() -> None:
    server = Server(untrained(), width=4, levels=8, residual=False)
    assert unpack(server(pack(some_noise()[:0]))).shape == (0, 3, 21, 21)


@pytest.mark.parametrize("side", [1, 2, 15, 16, 17, 41, 112])
def test_unet_restores_any_size(side: int) -> None:
    network = UNet(5, 3, 4, seed=0)
    found = network(torch.rand(2, 5, side, side, generator=seeded()))
    assert found.shape == (2, 3, side, side)
    assert bool(found.isfinite().all())


def test_unet_is_that_of_the_paper() -> None:
    # 3 x 3 kernels and biases, by hand: down 3-64-128-256-512; up 512-256, then with what is beside 512-128, 256-64,
    # 128-3.
    channels = [(3, 64), (64, 128), (128, 256), (256, 512), (512, 256), (512, 128), (256, 64), (128, 3)]
    network = UNet(3, 3, 64, seed=0)
    assert sum(value.numel() for value in network.parameters()) == sum(9 * a * b + b for a, b in channels)
    # The start depends on the seed alone and keeps the size of what comes in, roughly.
    given = torch.randn(2, 3, 64, 64, generator=seeded())
    state = torch.random.get_rng_state()
    first, again, other = (UNet(3, 3, 64, seed)(given) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert 0.3 < float(first.detach().std()) < 3


# -- between them ------------------------------------------------------------------------------------------------------


def _serve(pipe: Connection, weights: dict[str, Tensor], width: int, levels: int) -> None:
    torch.set_num_threads(1)
    server = Server(weights, width=width, levels=levels, residual=False)
    while request := pipe.recv_bytes():
        pipe.send_bytes(server(request))


def test_server_in_another_process_gives_the_same_photos(heads: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    # The other process is started anew and has nothing but the weights and what comes through the pipe.
    weights = untrained(universal=0.02 * torch.randn(3, 112, 112, generator=seeded()))
    monkeypatch.setattr(apf, "train", lambda *_: weights)
    near, far = tiny(), tiny()
    given = (heads.images[:2], heads.points5[:2], heads.identity[:2])
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    numbers = {name: value.numpy() for name, value in weights.items()}
    process = context.Process(target=_serve_numbers, args=(theirs, numbers, 4, 8), daemon=True)
    process.start()
    crossed: list[bytes] = []

    def carried(request: bytes) -> bytes:
        crossed.append(request)
        ours.send_bytes(request)
        assert ours.poll(60)
        return ours.recv_bytes()

    far.transport = carried
    assert torch.equal(far.protect(*given, seeded(3)), near.protect(*given, seeded(3)))
    ours.send_bytes(b"")
    process.join(60)
    assert process.exitcode == 0
    # One message, with one byte for each value of the noise and nothing else.
    assert [len(message) for message in crossed] == [HEADER_BYTES + 2 * 3 * 112 * 112]
    assert crossed[0] == near.device(*given).request(seeded(3))


def _serve_numbers(pipe: Connection, numbers: dict[str, object], width: int, levels: int) -> None:
    _serve(pipe, {name: torch.as_tensor(value) for name, value in numbers.items()}, width, levels)


def test_pixels_are_not_in_the_message(heads: Faces) -> None:
    # Not one row of the photo is in the message, neither as bytes nor as floats.
    message = Device(heads.images[:2], heads.points5[:2], heads.identity[:2], search()).request(seeded())
    pixels = (heads.images[:2] * 255).round().to(torch.uint8)
    for rows in (pixels, heads.images[:2]):
        middle = rows[:, :, 56, 40:72].reshape(6, 32)
        assert not any(row.numpy().tobytes() in message for row in middle)


def test_training_is_done_once_and_the_server_learns(heads: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = apf.train

    def counted(*arguments: object) -> Weights:
        calls.append(arguments)
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(apf, "train", counted)
    protector = tiny(epochs=6, width=8, batch=2, rate=3e-3)
    assert calls == []
    given = (heads.images[:2], heads.points5[:2], heads.identity[:2])
    state = torch.random.get_rng_state()
    first = protector.protect(*given, seeded(1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first, protector.protect(*given, seeded(1)))
    assert torch.equal(first, tiny(epochs=6, width=8, batch=2, rate=3e-3).protect(*given, seeded(1)))
    assert len(calls) == 1
    # On its own noise it does better for its recogniser than the untrained network.
    noise = protector.device(*given).request(seeded(1))
    resnet = load_recogniser("dlib-resnet")
    mates = resnet.embed(heads.images[:2], heads.points5[:2]).flip(0)
    weights = Transfer(8, 8, None, residual=False).state_dict()
    distances = []
    for server in (Server(weights, width=8, levels=8, residual=False), protector.server()):
        changed = protector.device(*given).apply(server(noise))
        distances.append((resnet.embed(changed, given[1]) - mates).square().sum(1).mean())
    assert float(distances[1]) > float(distances[0]) * 1.2


def test_loss_falls_along_its_gradient_as_adam_does(heads: Faces) -> None:
    # One step of Adam changes each weight by the rate, against the sign of its gradient: worked out again for the bias
    # of the last layer, whose gradient is that of the mean distance to the mates.
    protector = tiny(universal=0, batch=100, epochs=1, rate=1e-3)
    settings = protector._search, protector._training
    trained = apf.train(*settings, "synthetic", torch.device("cpu"))
    faces = auxiliary_faces("synthetic", people=2, captures=2)
    noise = unpack(Device(faces.images, faces.points5, faces.identity, settings[0]).request(seeded(0)))
    network = Transfer(4, 8, None, residual=False)
    resnet = load_recogniser("dlib-resnet")
    shown = (faces.images + network(noise.float())).clamp(0, 1)
    mates = resnet.embed(faces.images, faces.points5)[torch.tensor([1, 0, 3, 2])]
    cosine = (resnet.embed(shown, faces.points5) * mates).sum(1).mean()
    before = network.transfer.up[-1].get_parameter("bias")
    (gradient,) = torch.autograd.grad(2 * cosine, before)
    expected = before - 1e-3 * gradient.sign()
    assert torch.allclose(trained["transfer.up.3.bias"], expected, atol=2e-5)
    assert "universal" not in trained


def test_settings_of_presets() -> None:
    chosen = {name: Apf(preset=name) for name in ("reduced", "paper", "released")}
    assert asdict(chosen["paper"]._search) == {
        "probe": "sface", "levels": 8, "start_levels": 1, "step_levels": 2, "steps": 10, "diversity": 0.5,
        "momentum": 0.0,
    }  # fmt: skip
    assert chosen["reduced"]._search == chosen["paper"]._search
    training = chosen["paper"]._training
    assert (training.people * training.captures, training.epochs, training.batch) == (100_000, 50, 100)
    assert (training.rate, training.width, training.residual) == (1e-4, 64, False)
    released = chosen["released"]
    assert (released._search.levels, released._search.momentum, released._training.universal) == (16, 0.9, 0)
    assert released._training.rate == 1e-5
    assert dict(chosen["paper"].declaration.settings)["people"] == "2000"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"preset": "fast"}, "apf takes preset = reduced, paper, released, got fast"),
        ({"surrogates": "sface"}, "apf takes two recognisers.*got surrogates = sface"),
        ({"surrogates": "sface+faceres"}, "faceres is kept for judging"),
        ({"steps": 0}, "apf takes steps >= 1, got 0"),
        ({"diversity": 1.5}, r"apf takes diversity as a probability, 0\.\.1, got 1\.5"),
        ({"momentum": -0.1}, r"apf takes momentum as a decay, 0\.\.1, got -0\.1"),
        ({"universal": -1}, "apf takes universal >= 0 passes, got -1"),
        ({"rate": 0.0}, "apf takes a rate between 0 and 1, got 0"),
        ({"step_levels": 0}, "apf takes step_levels >= 1, got 0"),
        ({"epochs": 0}, "apf takes epochs >= 1, got 0"),
        ({"width": 0}, "apf takes width >= 1, got 0"),
        ({"budget": "large"}, "budget = large must be native, uniform, or a number"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, float | str], words: str) -> None:
    with pytest.raises(ProtectorError, match=words):
        tiny(**settings)
