"""Linear layers for inference on CPU: weights laid out once, so that reading eight tokens costs little more than one.

A plain float32 product leaves its vector path at two to four rows and lays the weights out anew in every call: it
takes two to three times as long, and a draft gains nothing. Packed for oneDNN it doesn't, and bfloat16 and int8 read
a half and a quarter of the bytes. The kernels behind are no public interface of torch, so each is tried once, with a
real product, before it is used; what doesn't work here is replaced by the next best, and the log says so.

Law: with int8 what a row gives doesn't depend on its neighbours, to the last bit.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamtrans.core import BadConfig
from streamtrans.model import native
from streamtrans.model.kvspn import CrossModelAttention
from streamtrans.model.layers import Attention
from streamtrans.model.network import Network
from streamtrans.model.pages import settle

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.float32}
"""What linear layers can be packed in → the dtype of everything around them."""

JOINED = "joined"
"""Beside them, for other devices and dtypes: projections of the same input are joined, and nothing is packed."""

SMALL = 2**17
"""Weights below which a plain float32 product beats a packed one: the call costs more than the weights do."""

ROWS = 8
"""Rows that a layout is made for: a draft's. One row is read as fast from it."""

_TINY = 1e-30

_log = logging.getLogger(__name__)


class PackedLinear(nn.Module):
    """A linear in float32 or bfloat16, its weights in the order in which oneDNN reads them."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), ROWS)
        self.bias = None if bias is None else bias.detach()
        self.product = torch.ops.mkldnn._linear_pointwise.default

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., inputs)`` to ``(..., outputs)``."""
        return self.product(x, self.packed, self.bias, "none", [], "")


class Int8Linear(nn.Module):
    """A linear of whole numbers: a scale per output for the weights, one per row for what is read.

    oneDNN takes one scale for all rows, so it is told 1 and each row is scaled afterwards. What is read is shifted
    into unsigned bytes, for only those have an instruction on processors without AMX.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        whole, self.step = _whole(weight)
        self.packed = torch.ops.onednn.qlinear_prepack(whole, None)
        self.bias = None if bias is None else bias.detach().float()
        self.zeros = torch.zeros(len(self.step), dtype=torch.int64)
        self.product = torch.ops.onednn.qlinear_pointwise.default

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., inputs)`` to ``(..., outputs)``."""
        largest = _largest(x)
        # Adding a half and cutting off rounds; 128 is zero.
        whole = (x * (127.0 / largest)).add_(128.5).to(torch.uint8)
        sums = self.product(
            whole, 1.0, 128, self.packed, self.step, self.zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return _finish(sums, largest, self.bias)


class Int8Product(nn.Module):
    """The same through torch's own product of whole numbers, where oneDNN's packed one is not to be had."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.whole, self.step = _whole(weight)
        self.bias = None if bias is None else bias.detach().float()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., inputs)`` to ``(..., outputs)``."""
        largest = _largest(x)
        whole = (x * (127.0 / largest)).round_().to(torch.int8)
        sums = torch._int_mm(whole.flatten(0, -2), self.whole.t()).float().mul_(self.step)
        return _finish(sums.view(*x.shape[:-1], -1), largest, self.bias)


class Panels(nn.Module):
    """A linear in panels, as ``products.c`` reads them: alone, or as a part of a pass that is one call.

    Weights are float32 or bfloat16, sums and what surrounds them float32. What weights in bfloat16 multiply is rounded
    to it, where the processor has an instruction for that; float32 saved in it is widened, and nothing rounded.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        if native.library() is None:
            raise RuntimeError(native.why_not())
        self.outputs, inputs = weight.shape
        self._keep(weight.detach(), None if bias is None else bias.detach().float(), inputs)

    def _keep(self, weight: Tensor, bias: Tensor | None, inputs: int) -> None:
        kind, half = native.FLOAT, weight.bfloat16()
        if weight.dtype == torch.bfloat16 and native.has(native.ROUNDED):
            kind = native.ROUNDED
        elif torch.equal(
            half.to(weight.dtype), weight
        ):  # as in checkpoints of bfloat16: half the bytes, no other number
            kind, weight = native.HALF, half
        self.weights = _panels(weight, 1 if kind == native.FLOAT else 2)
        self.bias = _padded(native.zeros(self.outputs) if bias is None else bias)
        self.laid = native.Linear(
            native.address(self.weights), native.address(self.bias), None, None, kind, inputs, self.outputs
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., inputs)`` to ``(..., outputs)``."""
        rows = x.flatten(0, -2).float().contiguous()
        out = native.empty(len(rows), -(-self.outputs // native.LANES) * native.LANES)
        native.call(
            "streamtrans_linear",
            ctypes.byref(self.laid),
            rows.data_ptr(),
            len(rows),
            out.data_ptr(),
            out.shape[1],
            torch.get_num_threads(),
        )
        return out[:, : self.outputs].to(x.dtype).unflatten(0, x.shape[:-1])


class Int8Panels(Panels):
    """The same of whole numbers, as :class:`Int8Linear` makes them."""

    def _keep(self, weight: Tensor, bias: Tensor | None, inputs: int) -> None:
        if not native.has(native.WHOLE) or inputs % native.LANES:
            raise RuntimeError("this processor has no instruction for whole numbers that products.c knows")
        whole, step = _whole(weight)
        self.weights = _panels(whole, 4)
        self.bias = _padded(native.zeros(self.outputs) if bias is None else bias)
        self.step, self.shift = (_padded(each) for each in (step, 128 * whole.sum(1, dtype=torch.int32)))
        laid = (native.address(each) for each in (self.weights, self.bias, self.step, self.shift))
        self.laid = native.Linear(*laid, native.WHOLE, inputs, self.outputs)


def _padded(rows: Tensor) -> Tensor:
    """Return ``(outputs, ...)`` with zeros at the end, as many as fill an even number of panels."""
    missing = -len(rows) % (2 * native.PANEL)
    return torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])])


def _panels(weight: Tensor, each: int) -> Tensor:
    """Return ``(outputs, inputs)`` as ``(panels, inputs / each, 32, each)``, where it is read fast."""
    panels = _padded(weight).unflatten(0, (-1, native.PANEL)).unflatten(2, (-1, each))
    return settle(panels.transpose(1, 2))


def _whole(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``weight`` as whole numbers within ±127, and what one is worth per output, for rows of at most 1."""
    weight = weight.detach().float()
    step = weight.abs().amax(1).clamp_min_(_TINY).div_(127.0)
    return (weight / step[:, None]).round_().to(torch.int8), step / 127.0


def _largest(x: Tensor) -> Tensor:
    """Return the largest absolute value ``(..., 1)`` of each row; a row of zeros gets something to divide by."""
    return x.abs().amax(-1, keepdim=True).clamp_min_(_TINY)


def _finish(sums: Tensor, largest: Tensor, bias: Tensor | None) -> Tensor:
    """Scale each row back, in place. Single operations each: a fused one may round by where a row stands."""
    sums = sums.mul_(largest)
    return sums if bias is None else sums.add_(bias)


def make_linear(weight: Tensor, bias: Tensor | None, precision: str) -> nn.Module:
    """Return the fastest linear that works here for ``weight`` ``(outputs, inputs)`` in a precision.

    Args:
        weight: in the dtype of :data:`PRECISIONS`.
        bias: ``(outputs,)`` in the same dtype.
        precision: one of :data:`PRECISIONS`, as :func:`usable` returned it.
    """
    if precision == "int8":
        return next(kind for kind in (Int8Linear, Int8Product) if works(kind))(weight, bias)
    if (precision == "bfloat16" or weight.numel() >= SMALL) and works(PackedLinear, weight.dtype):
        return PackedLinear(weight, bias)
    return plain_linear(weight, bias)


def make_panels(weight: Tensor, bias: Tensor | None, precision: str) -> nn.Module:
    """Return a linear for passes that are one call; :func:`paneled` says whether there are such."""
    return (Int8Panels if precision == "int8" else Panels)(weight, bias)


def for_many(precision: str, *widths: int) -> Make:
    """Return what makes linears of such widths that read many rows at once, unlike the few of a pass.

    oneDNN's are the fastest, but for whole numbers without AMX: rows are made whole and scaled back between its calls.
    """
    whole = precision == "int8" and not torch.cpu._is_amx_tile_supported()
    return make_panels if whole and paneled(precision, *widths) else make_linear


def paneled(precision: str, *widths: int) -> bool:
    """Return whether passes of such widths can be one call here: see :mod:`streamtrans.model.fused`."""
    if precision not in PRECISIONS or native.library() is None or any(width % native.LANES for width in widths):
        return False
    return works(Int8Panels) if precision == "int8" else works(Panels, PRECISIONS[precision])


def plain_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return torch's linear on these very weights."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return linear


def usable(precision: str) -> str:
    """Return the precision that can be had on this processor in the place of the one wished; the log says why.

    Raises:
        BadConfig: there is no such precision.
    """
    if precision not in PRECISIONS:
        raise BadConfig(f"no linear layer is packed in {precision!r}; use {', '.join(PRECISIONS)}")
    if precision == "int8" and not (works(Int8Linear) or works(Int8Product)):
        _log.warning("no product of whole numbers is fast here: taking bfloat16 in the place of int8")
        precision = "bfloat16"
    if precision == "bfloat16" and not has_bfloat16():
        _log.warning("this processor has no bfloat16 instructions: taking float32")
        precision = "float32"
    if precision != "int8" and not works(PackedLinear, PRECISIONS[precision]):
        _log.info("oneDNN's packed %s product is not to be had: drafts gain less", precision)
    return precision


def has_bfloat16() -> bool:
    """Return whether the processor multiplies bfloat16 in hardware (AVX512-BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@functools.cache
def works(kind: type[nn.Module], dtype: torch.dtype = torch.float32) -> bool:
    """Try a kind of linear once: it must exist, be right, and not be a reference implementation.

    The first row is as large as whole numbers get: where sums saturate (AVX2 without VNNI) it comes out wrong.
    """
    torch_random = torch.Generator().manual_seed(0)
    weight = torch.randn(_TRIAL, _TRIAL, generator=torch_random).to(dtype)
    rows = torch.randn(ROWS, _TRIAL, generator=torch_random).to(dtype)
    weight[0] = rows[0] = 1.0
    wanted = F.linear(rows.float(), weight.float())
    try:
        linear = kind(weight, None)
        found = linear(rows).float()
        took, plain = (_seconds(product, rows) for product in (linear, plain_linear(weight, None)))
    except (AttributeError, RuntimeError) as error:
        _log.info("%s (%s) can't be used: %s", kind.__name__, dtype, str(error).splitlines()[0])
        return False
    apart = float((found - wanted).abs().max() / wanted.abs().max())
    if apart > _WRONG or took > _SLOW * plain:
        _log.info("%s (%s) is off by %.3f and takes %.1f times as long", kind.__name__, dtype, apart, took / plain)
        return False
    return True


_TRIAL = 256
_WRONG = 0.05
_SLOW = 30.0
"""A reference implementation takes a hundred times as long and more; a busy machine doesn't make thirty of one."""


def _seconds(linear: nn.Module, rows: Tensor) -> float:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        linear(rows)
        times.append(time.perf_counter() - began)
    return min(times)


Make = Callable[[Tensor, "Tensor | None", str], nn.Module]
"""Makes a linear of weights, a bias and a precision."""


@torch.no_grad()
def pack(network: Network, precision: str) -> Make:
    """Lay out all linears of a network for inference, in place; what a layer reads at once becomes one product.

    The token embedding stays, and the logits get a packed copy of it. Convolutions, norms and the text encoder, which
    only training needs, stay as they are.

    Args:
        network: on its device and in its dtype. It can't be trained or saved any more.
        precision: one of :data:`PRECISIONS`, or :data:`JOINED`.

    Returns:
        What made those of the decoder: :func:`make_panels` where its passes can be one call.
    """
    config, decoder = network.config, network.model.decoder
    widths = (config.d_model, config.head_width, config.decoder_ffn_dim, config.speculator_ffn_dim)
    at_once = config.decoder_attention_heads <= native.HEADS and paneled(precision, *widths)
    make = make_panels if at_once else make_linear
    join(network.model.encoder, precision, for_many(precision, config.d_model, config.encoder_ffn_dim))
    for part in (decoder, network.speculator):
        if part is not None:
            join(part, precision, make)
    if precision != JOINED:
        decoder.head = make(decoder.embed_tokens.weight, None, precision)
    return make


def join(part: nn.Module, precision: str, make: Make = make_linear) -> None:
    """Lay out the linears of a stack of layers, as :func:`pack` does those of a network."""
    for layer in list(part.modules()):
        for name, attention in list(layer.named_children()):
            if isinstance(attention, Attention) and name == "encoder_attn":
                attention.kv_proj = _joined(attention, "k_proj", "v_proj")
            elif isinstance(attention, Attention | CrossModelAttention):
                _join_own(attention)
    if precision != JOINED:
        _replace(part, precision, make)


def _join_own(attention: Attention | CrossModelAttention) -> None:
    """Join queries, keys and values, where all three are of the same rows."""
    if attention.k_proj is not None:
        attention.qkv_proj = _joined(attention, "q_proj", "k_proj", "v_proj")


def _joined(attention: nn.Module, *names: str) -> nn.Linear:
    """Take projections out of ``attention`` and return them end to end."""
    parts: list[nn.Linear] = [attention.get_submodule(name) for name in names]  # type: ignore[misc]
    weights: list[Tensor] = [part.weight for part in parts]
    biases: list[Tensor] = [torch.zeros_like(part.weight[:, 0]) if part.bias is None else part.bias for part in parts]
    for name in names:
        delattr(attention, name)
    return plain_linear(torch.cat(weights), torch.cat(biases))


def _replace(module: nn.Module, precision: str, make: Make) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear):
            # A memory is read once, all its frames together: that isn't a pass.
            fitting = for_many(precision, child.in_features) if name == "kv_proj" else make
            setattr(module, name, fitting(child.weight, child.bias, precision))
        else:
            _replace(child, precision, make)
