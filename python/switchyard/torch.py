"""PyTorch operators and a module.

    torch.ops.switchyard.moe(layer, x, router_logits, expert_ids, expert_weights, input_ids)
    torch.ops.switchyard.moe_out(layer, x, ..., out)                  # writes out

`layer` is the number that `register` gives for a `MoELayer`; arrays are those of `Plan.__call__`,
None where there is none. On a GPU they run on the current stream and can be captured in a CUDA
graph after `layer.plan(max_tokens)`. There is no gradient.
"""

from __future__ import annotations

import itertools
import weakref

import torch

from . import _core
from ._errors import InvalidArgument, Unsupported
from ._layer import MoELayer

_layers: weakref.WeakValueDictionary[int, MoELayer] = weakref.WeakValueDictionary()
_numbers = itertools.count(1)


def register(layer: MoELayer) -> int:
    """The number of `layer` for the operators. It ends with the layer."""
    if not isinstance(layer, MoELayer):
        raise InvalidArgument(
            f"[torch] layer: expected a MoELayer, got {type(layer).__name__}. Make one of it."
        )
    if layer._torch_number == 0:
        with layer._planning:
            if layer._torch_number == 0:
                number = next(_numbers)
                _layers[number] = layer
                weakref.finalize(layer, _core.erase_plans, number)
                layer._torch_number = number
                layer._share_plans()
    return layer._torch_number


def _make_plan(number: int, tokens: int) -> None:
    layer = _layers.get(number)
    if layer is None:
        raise InvalidArgument(
            f"[torch] layer: expected the number of a layer that lives, got {number}. Keep the "
            "MoELayer."
        )
    layer.plan_for(tokens)


_ARRAYS = (
    "int layer, Tensor x, Tensor? router_logits, Tensor? expert_ids, Tensor? expert_weights, "
    "Tensor? input_ids"
)
_EXACT = (torch.Tag.needs_exact_strides,)
_library = torch.library.Library("switchyard", "DEF")
_library.define(f"moe({_ARRAYS}) -> Tensor", tags=_EXACT)
_library.define(f"moe_out({_ARRAYS}, Tensor(a!) out) -> ()", tags=_EXACT)
_library.define(f"_moe_recorded({_ARRAYS}) -> Tensor", tags=_EXACT)
_core.implement_operators(_make_plan)


def _moe_recorded(layer, *arrays) -> torch.Tensor:
    """moe, where PyTorch records what gradients need; called by it."""
    try:
        if _wants_gradient(arrays):
            return _NoGradient.apply(layer, *arrays)
        with torch.no_grad():
            return torch.ops.switchyard.moe(layer, *arrays)
    except BaseException as error:
        _core.keep_error(error)
        return torch.empty(0)


def _wants_gradient(arrays) -> bool:
    return torch.is_grad_enabled() and any(a is not None and a.requires_grad for a in arrays)


_NO_GRADIENT = (
    "there is no gradient of switchyard::moe. Call it under torch.no_grad(), or train with PyTorch's "
    "own experts."
)


class _NoGradient(torch.autograd.Function):
    """The forward of a call whose backward is refused."""

    @staticmethod
    def forward(ctx, *arguments):
        return torch.ops.switchyard.moe(*arguments)

    @staticmethod
    def backward(ctx, *gradients):
        raise Unsupported(f"[torch] backward: {_NO_GRADIENT}")


_library.impl("_moe_recorded", _moe_recorded, "CompositeExplicitAutograd")
# Not register_autograd: its Python would cost every call more than the rest of ours.
for _name in ("moe", "_moe_recorded"):
    _library.impl(_name, torch.library.fallthrough_kernel, "Autograd")


@torch.library.register_fake("switchyard::moe", lib=_library)
def _(layer, x, router_logits, expert_ids, expert_weights, input_ids):
    # A compiled graph has no _NoGradient: it would take the gradient for zero.
    if _wants_gradient((x, router_logits, expert_ids, expert_weights, input_ids)):
        raise Unsupported(f"[torch] compile: {_NO_GRADIENT}")
    return x.new_empty(x.shape)


@torch.library.register_fake("switchyard::moe_out", lib=_library)
def _(layer, x, router_logits, expert_ids, expert_weights, input_ids, out):
    return None


class MoE(torch.nn.Module):
    """A `MoELayer` as a module: [..., H] -> [..., H]. The layer's weights are no parameters.

    dtype: what tokens are cast to, for a layer on a GPU that takes one type only; the output is
    cast back to x's. max_tokens: planned at once.
    """

    def __init__(
        self, layer: MoELayer, *, max_tokens: int | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.layer = layer
        self.number = register(layer)
        self.dtype = dtype
        if max_tokens is not None:
            layer.plan(max_tokens)

    def forward(
        self,
        x: torch.Tensor,
        router_logits: torch.Tensor | None = None,
        expert_ids: torch.Tensor | None = None,
        expert_weights: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """x [..., H]; router_logits [..., E], or expert_ids and expert_weights [..., K]."""

        def rows(array: torch.Tensor | None) -> torch.Tensor | None:
            return None if array is None else array.reshape(-1, array.shape[-1])

        tokens = x.reshape(-1, x.shape[-1])
        if self.dtype is not None:
            tokens = tokens.to(self.dtype)
        out = torch.ops.switchyard.moe(
            self.number,
            tokens,
            rows(router_logits),
            rows(expert_ids),
            rows(expert_weights),
            None if input_ids is None else input_ids.reshape(-1),
        )
        return out.to(x.dtype).view(x.shape)

    def extra_repr(self) -> str:
        return repr(self.layer)
