"""The gates of a ConvLSTM in one pass over memory, compiled by torch (inductor: C++ on the CPU, Triton on the GPU).

Between two convolutions a ConvLSTM step is a dozen element-wise operations; one by one they cost as much as the
convolution. Fused, each voxel's 4 x hidden gate values are read once where they lie (channels last) and h and c are
written once. cat[x, h] is made in one pass, too. Training keeps the gates and c alone and works the rest out again in
a fused backward.

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
Kernel = Callable[..., Any]

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


def joined(x: Tensor, h: Tensor | None) -> Tensor:
    """cat[x, h] in channels last and the precision in which the convolution will work; None: x alone."""
    device = x.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    if h is None:
        return x.to(kind).contiguous(memory_format=CHANNELS_LAST[x.dim()])
    rows: Tensor = _Join.apply(x.flatten(2), h.flatten(2), kind)  # type: ignore[no-untyped-call]
    return _maps(rows.flatten(0, 1), x)


def lstm_gates(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """h and c (B, H, *space) from the convolution's (B, 4H, *space), in the order input, forget, output, candidate.

    h has the precision of the gates, c keeps its own.
    """
    pair: tuple[Tensor, Tensor] = _Gates.apply(_rows(gates), _rows(c))  # type: ignore[no-untyped-call]
    return _maps(pair[0], gates), _maps(pair[1], gates)


def _rows(t: Tensor) -> Tensor:
    """(N, C), one row a voxel: a view where the channels lie last."""
    return t.movedim(1, -1).reshape(-1, t.shape[1]).contiguous()


def _maps(rows: Tensor, like: Tensor) -> Tensor:
    """The inverse of _rows for maps of the size of ``like``."""
    return rows.view(like.shape[0], *like.shape[2:], -1).movedim(-1, 1)


class _Join(torch.autograd.Function):
    """x (B, C, N), h (B, H, N) -> (B, N, C + H): turned round, rounded and joined in one pass over memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, kind: torch.dtype) -> Tensor:
        ctx.hidden, ctx.kinds = h.shape[1], (x.dtype, h.dtype)
        return _call(_join, 2, x, h, kind)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, h = grad.transpose(1, 2).tensor_split([grad.shape[2] - ctx.hidden], dim=1)
        return x.to(ctx.kinds[0]), h.to(ctx.kinds[1]), None


class _Gates(torch.autograd.Function):
    """Keeps gates and c; what lies between is worked out again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(gates, c)
        return _call(_forward, 0, gates, c)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_h: Tensor, grad_c: Tensor) -> tuple[Tensor, Tensor]:
        return _call(_backward, 0, *ctx.saved_tensors, grad_h.contiguous(), grad_c.contiguous())


def _call(kernel: Kernel, axis: int, *given: Any) -> Any:
    """The compiled kernel; any number of voxels (``axis``), one compilation for each number of channels and precision.

    Where compiling fails this call runs the same equations uncompiled, and ``wanted`` says no from now on.
    """
    # detached: whether a gradient is wanted would count as another kernel, and be compiled again
    given = tuple(t.detach() if isinstance(t, Tensor) else t for t in given)
    tensors = [t for t in given if isinstance(t, Tensor)]
    for tensor in tensors:
        torch._dynamo.maybe_mark_dynamic(tensor, axis)
        torch._dynamo.mark_static(tensor, 1)
    try:
        channels = tuple(t.shape[1] for t in tensors)
        return _compiled(kernel, channels, tensors[0].dtype, tensors[0].device.type)(*given)
    except Exception as error:  # whatever a compiler may raise: missing headers, full disk, no rights
        _log.debug("no fused gates: %s", type(error).__name__)
        _state["broken"] = True
        return kernel(*given)


@functools.cache
def _compiled(kernel: Kernel, channels: tuple[int, ...], kind: torch.dtype, device: str) -> Kernel:
    """One compiled function for each, so that none counts against another's limit of recompilations."""
    _tell_once()
    made: Kernel = torch.compile(kernel, options=OPTIONS if device == "cpu" else None, **ISOLATED)
    return made


@functools.cache
def _tell_once() -> None:
    """A warning, as its level: this is a wait, and logging shows nothing less by default."""
    _log.warning("Compiling the gates of the recurrent cells for speed: up to half a minute, kept for later runs.")


def _tanh(x: Tensor, rough: bool) -> Tensor:
    """rough: a rational of degree 5 whose error of 5.2e-5 is a 75th of bf16's step below 1, at half the time.

    Its numbers are a least-maximum fit on [0, TANH_END]. Else by way of exp, which inductor has as a fast vector
    function where tanh is a slow one; error 2e-7.
    """
    if not rough:
        return 2 * torch.sigmoid(2 * x) - 1
    x = x.clamp(-TANH_END, TANH_END)
    y = x * x
    return x * ((108.05 * y + 16425.3) * y + 160110.3) / ((2059.99 * y + 69754.1) * y + 160110.3)


def _sigmoid(x: Tensor, rough: bool) -> Tensor:
    return 0.5 * _tanh(0.5 * x, rough) + 0.5 if rough else torch.sigmoid(x)


def _activated(gates: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rough = gates.dtype in (torch.bfloat16, torch.float16)
    i, f, o, g = gates.float().chunk(4, dim=1)
    return _sigmoid(i, rough), _sigmoid(f, rough), _sigmoid(o, rough), _tanh(g, rough)


def _join(x: Tensor, h: Tensor, kind: torch.dtype) -> Tensor:
    """Compiled: see _Join."""
    return torch.cat([x.transpose(1, 2).to(kind), h.transpose(1, 2).to(kind)], dim=2)


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
