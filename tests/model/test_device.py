"""In which precision the network computes: bf16 only where the processor has instructions for it."""

import pytest
import torch

from napari_convlstm_tumor.model import device

CPU = torch.device("cpu")


def product():
    a = torch.ones(2, 2)
    with device.fast_precision(CPU):
        return (a @ a).dtype


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"architecture": "arm"}, torch.float32),
    ],
)
def test_bf16_only_where_the_cpu_has_it(monkeypatch, known, expected):
    """torch imitates bf16 elsewhere, 100 times as slow: both sample patients took 28 s, one of them over 10 minutes."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    assert product() == expected


def test_float32_where_torch_does_not_say(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert product() == torch.float32


@pytest.mark.parametrize("has_it", [True, False])
def test_a_gpu_that_only_imitates_it_computes_in_float32(monkeypatch, has_it):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: has_it or including_emulation)
    assert device.computes_bf16("cuda") is has_it
