"""The device that ``--device`` stands for: never another one than was asked for."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from optishield.console import chosen_device
from optishield.devices import DeviceName, choose
from optishield.errors import ConfigError


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two GPUs, the second of which is the current one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_auto_takes_the_gpu_and_says_so(gpu: None, capsys: Any) -> None:
    assert chosen_device(DeviceName.auto) == torch.device("cuda", 1)
    assert capsys.readouterr() == (
        "",
        "optishield: computing on cuda:1; --device cpu computes on the processor\n",
    )


def test_auto_without_a_gpu_is_the_processor_in_silence(no_gpu: None, capsys: Any) -> None:
    assert chosen_device(DeviceName.auto) == torch.device("cpu")
    assert capsys.readouterr() == ("", "")


def test_a_named_device_is_taken_in_silence(gpu: None, capsys: Any) -> None:
    assert chosen_device(DeviceName.cuda) == torch.device("cuda", 1)
    assert chosen_device(DeviceName.cpu) == torch.device("cpu")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("built_for", "message"),
    [(None, "was built without CUDA; install a build for CUDA, or use --device cpu"), ("12.8", "sees no GPU; check")],
)
def test_an_absent_gpu_is_never_replaced(
    no_gpu: None, monkeypatch: pytest.MonkeyPatch, built_for: str | None, message: str
) -> None:
    monkeypatch.setattr(torch, "version", SimpleNamespace(cuda=built_for))
    with pytest.raises(ConfigError, match=message):
        choose("cuda")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="There is no device 'gpu'; choose one of auto, cpu, cuda"):
        choose("gpu")


def test_the_option_does_not_load_torch() -> None:
    code = "import sys, optishield.devices; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
