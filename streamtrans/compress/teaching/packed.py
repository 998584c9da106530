"""Adapters beside a frozen base, whose linears may be packed in four bits (QLoRA, arXiv 2305.14314).

Law: what is saved is the base as it was computed with while the adapters learnt: dequantised, then the adapters added.
``peft`` would merge into the packed weights and round once more.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from streamtrans.core import BadConfig, needs

ADAPTER = "default"


def adapt(part: nn.Module, rank: int, alpha: float, *, pack: bool, compute: torch.dtype) -> None:
    """Freeze ``part``, pack its linears if asked to, and put an adapter on each of them, in place.

    Raises:
        BadConfig: a package is missing.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise BadConfig(needs("adapters", "peft", "train")) from None
    part.requires_grad_(False)
    names = [name for name, module in part.named_modules() if type(module) is nn.Linear]
    if pack:
        for name in names:
            _put(part, name, _packed(part.get_submodule(name), compute))
        part.is_loaded_in_4bit = True  # type: ignore[assignment]  # how peft asks which adapters fit
    settings = LoraConfig(
        r=rank, lora_alpha=alpha, use_rslora=True, lora_dropout=0.0, bias="none", target_modules=names
    )
    inject_adapter_in_model(settings, part, ADAPTER)
    for parameter in part.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


@torch.no_grad()
def merged(part: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the name and the float32 value of every weight that has an adapter, with the adapter added."""
    from peft.tuners.lora import LoraLayer

    for name, module in part.named_modules():
        if isinstance(module, LoraLayer):
            yield f"{name}.weight", _dequantised(module.get_base_layer().weight) + module.get_delta_weight(ADAPTER)


def numbers(part: nn.Module) -> tuple[int, int]:
    """Return how many weights a part has without adapters, and how many numbers are held for them.

    Of packed matrices that is a number per two weights, one per 64 of them, and one per 256 of these.
    """
    weights = held = 0
    for name, parameter in part.named_parameters():
        if "lora_" not in name:
            state = getattr(parameter, "quant_state", None)
            weights += parameter.numel() if state is None else state.shape.numel()
            held += parameter.numel() + (0 if state is None else state.absmax.numel() + state.state2.absmax.numel())
    return weights, held


def held_bytes(part: nn.Module) -> int:
    """Return the bytes that a part holds in memory, with the scales of what is packed."""
    total = 0
    for tensor in (*part.parameters(), *part.buffers()):
        total += tensor.numel() * tensor.element_size()
        state = getattr(tensor, "quant_state", None)
        if state is not None:
            for scale in (state.absmax, state.state2.absmax):
                total += scale.numel() * scale.element_size()
    return total


def _packed(linear: nn.Module, compute: torch.dtype) -> nn.Module:
    try:
        import bitsandbytes
    except ImportError:
        raise BadConfig(needs("four-bit training", "bitsandbytes", "train")) from None
    assert isinstance(linear, nn.Linear)
    weight = linear.weight
    made = bitsandbytes.nn.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=compute,
        compress_statistics=True,
        quant_type="nf4",
    )
    made.weight = bitsandbytes.nn.Params4bit(
        weight.data.cpu(), requires_grad=False, quant_type="nf4", compress_statistics=True
    )
    made.bias = linear.bias
    packed: nn.Module = made.to(weight.device)  # packing happens on the way
    return packed


def _dequantised(weight: Tensor) -> Tensor:
    state = getattr(weight, "quant_state", None)
    if state is None:
        return weight.float()
    from bitsandbytes.functional import dequantize_4bit

    found: Tensor = dequantize_4bit(weight.data, state)
    return found.float()


def _put(part: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, last = name.rpartition(".")
    setattr(part.get_submodule(owner), last, module)
