"""The gates of a ConvLSTM in one pass over memory, compiled by torch (inductor: C++ on the CPU, Triton on the GPU).

Between two convolutions a ConvLSTM step is a dozen element-wise operations; one by one they cost as much as the
convolution. Fused, each voxel's 4 x hidden gate values are read once where they lie (channels last) and h and c are
written once. Training keeps the gates and c alone and works the rest out again in a fused backward.

Compiling takes seconds, once a machine (torch keeps the result in TORCHINDUCTOR_CACHE_DIR). Hence ``choose``: "off"
(default), "on" (training). Nothing is compiled behind a person's back: bf16 numbers of the two paths differ in their
last digit, and a patient's masks must not depend on how many patients were done before. Without a compiler, or where
compiling fails, the plain operations go on: the same to 2e-6 in float32, to bf16's own rounding under autocast
(tests/model/test_convlstm_fused.py). Measurements: docs/performance.md.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import logging
import os
import shutil
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

_log = logging.getLogger(__name__)
Mode = Literal["on", "off"]
Kernel = Callable[..., tuple[Tensor, Tensor]]

# Maps with fewer voxels in a batch stay with the plain operations: the call would cost more than it saves.
FEWEST_ROWS = 2048
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
# Beyond this the rational tanh below is 1 to within its error.
TANH_END = 4.97
# a * b + c in one instruction where the processor has it: a tenth faster, and more exact.
OPTIONS: dict[str, Any] = {"cpp.enable_floating_point_contract_flag": "fast"}
# From torch 2.13 on; before, all kernels share one limit of recompilations.
ISOLATED: dict[str, Any] = {n: True for n in inspect.signature(torch.compile).parameters if n == "isolate_recompiles"}

_state: dict[str, Any] = {"mode": "off", "broken": False}


def choose(mode: Mode) -> None:
    """Whether gates are compiled in this process from now on."""
    _state["mode"] = mode


@functools.cache
def compiler_at_hand(device: str) -> bool:
    """Whether torch can compile for "cpu" or "cuda" here."""
    if device == "cuda":
        return importlib.util.find_spec("triton") is not None
    return os.name == "posix" and any(shutil.which(name) for name in ("g++", "clang++"))


def wanted(x: Tensor) -> bool:
    """Whether the step that takes x (B, C, *space) should be fused."""
    rows = x.numel() // max(1, x.shape[1])
    if _state["broken"] or _state["mode"] == "off" or rows < FEWEST_ROWS or torch.compiler.is_compiling():
        return False
    return x.dtype != torch.float64 and x.dim() in CHANNELS_LAST and compiler_at_hand(x.device.type)


def joined(x: Tensor, h: Tensor) -> Tensor:
    """cat[x, h] in channels last and the precision in which the convolution will work."""
    device = x.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    layout = CHANNELS_LAST[x.dim()]
    return torch.cat([part.to(kind).contiguous(memory_format=layout) for part in (x, h)], dim=1)


def lstm_gates(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """h and c (B, H, *space) from the convolution's (B, 4H, *space), in the order input, forget, output, candidate.

    h has the precision of the gates, c keeps its own.
    """
    pair: tuple[Tensor, Tensor] = _Gates.apply(_rows(gates), _rows(c))  # type: ignore[no-untyped-call]
    h, c = (t.view(gates.shape[0], *gates.shape[2:], -1).movedim(-1, 1) for t in pair)
    return h, c


def _rows(t: Tensor) -> Tensor:
    """(N, C), one row a voxel: a view where the channels lie last."""
    return t.movedim(1, -1).reshape(-1, t.shape[1])


class _Gates(torch.autograd.Function):
    """Keeps gates and c; what lies between is worked out again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(gates, c)
        return _call(_forward, gates, c)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_h: Tensor, grad_c: Tensor) -> tuple[Tensor, Tensor]:
        return _call(_backward, *ctx.saved_tensors, grad_h.contiguous(), grad_c.contiguous())


def _call(kernel: Kernel, *tensors: Tensor) -> tuple[Tensor, Tensor]:
    """The compiled kernel; any number of rows, one compilation for each number of channels and precision.

    Where compiling fails this call runs the same equations uncompiled, and ``wanted`` says no from now on.
    """
    for tensor in tensors:
        torch._dynamo.maybe_mark_dynamic(tensor, 0)
        torch._dynamo.mark_static(tensor, 1)
    try:
        return _compiled(kernel, tensors[1].shape[1], tensors[0].dtype, tensors[0].device.type)(*tensors)
    except Exception as error:  # whatever a compiler may raise: missing headers, full disk, no rights
        _log.debug("no fused gates: %s", type(error).__name__)
        _state["broken"] = True
        return kernel(*tensors)


@functools.cache
def _compiled(kernel: Kernel, hidden: int, kind: torch.dtype, device: str) -> Kernel:
    """One compiled function for each, so that none counts against another's limit of recompilations."""
    _tell_once()
    made: Kernel = torch.compile(kernel, options=OPTIONS if device == "cpu" else None, **ISOLATED)
    return made


@functools.cache
def _tell_once() -> None:
    """A warning, as its level: this is a wait, and logging shows nothing less by default."""
    _log.warning("Compiling the gates of the recurrent cells for speed: up to half a minute, kept for later runs.")


def _tanh(x: Tensor, rough: bool) -> Tensor:
    """rough: a rational of degree 7 whose error of 1.3e-4 is a fifteenth of bf16's step below 1, at half the time.

    Else by way of exp, which inductor has as a fast vector function where tanh is a slow one; error 2e-7.
    """
    if not rough:
        return 2 * torch.sigmoid(2 * x) - 1
    x = x.clamp(-TANH_END, TANH_END)
    y = x * x
    return x * (((y + 378) * y + 17325) * y + 135135) / (((28 * y + 3150) * y + 62370) * y + 135135)


def _sigmoid(x: Tensor, rough: bool) -> Tensor:
    return 0.5 * _tanh(0.5 * x, rough) + 0.5 if rough else torch.sigmoid(x)


def _activated(gates: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rough = gates.dtype in (torch.bfloat16, torch.float16)
    i, f, o, g = gates.float().chunk(4, dim=1)
    return _sigmoid(i, rough), _sigmoid(f, rough), _sigmoid(o, rough), _tanh(g, rough)


def _forward(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Compiled: h and the new c."""
    i, f, o, g = _activated(gates)
    new = f * c.float() + i * g
    h = o * _tanh(new, gates.dtype != torch.float32)
    return h.to(gates.dtype), new.to(c.dtype)


def _backward(gates: Tensor, c: Tensor, grad_h: Tensor, grad_c: Tensor) -> tuple[Tensor, Tensor]:
    """Compiled: gradients of gates and of the old c."""
    i, f, o, g = _activated(gates)
    old, grad_h = c.float(), grad_h.float()
    t = _tanh(f * old + i * g, gates.dtype != torch.float32)
    grad = grad_c.float() + grad_h * o * (1 - t * t)
    grads = (grad * g * i * (1 - i), grad * old * f * (1 - f), grad_h * t * o * (1 - o), grad * i * (1 - g * g))
    return torch.cat(grads, dim=1).to(gates.dtype), (grad * f).to(c.dtype)
