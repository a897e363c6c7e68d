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

from ._errors import InvalidArgument, Unsupported
from ._layer import MoELayer

_layers: dict[int, weakref.ref[MoELayer]] = {}  # read faster than a WeakValueDictionary
_numbers = itertools.count(1)


def register(layer: MoELayer) -> int:
    """The number of `layer` for the operators. It ends with the layer."""
    if layer._torch_number == 0:
        number = layer._torch_number = next(_numbers)
        _layers[number] = weakref.ref(layer)
        weakref.finalize(layer, _layers.pop, number)
    return layer._torch_number


def _layer(number: int) -> MoELayer:
    reference = _layers.get(number)
    layer = reference() if reference is not None else None
    if layer is None:
        raise InvalidArgument(
            f"[torch] layer: expected the number of a layer that lives, got {number}. Keep the "
            "MoELayer."
        )
    return layer


_ARRAYS = (
    "int layer, Tensor x, Tensor? router_logits, Tensor? expert_ids, Tensor? expert_weights, "
    "Tensor? input_ids"
)
_library = torch.library.Library("switchyard", "DEF")
_library.define(f"moe({_ARRAYS}) -> Tensor", tags=(torch.Tag.needs_exact_strides,))
_library.define(f"moe_out({_ARRAYS}, Tensor(a!) out) -> ()", tags=(torch.Tag.needs_exact_strides,))


def _moe_out(layer, x, router_logits, expert_ids, expert_weights, input_ids, out) -> None:
    layer = _layer(layer)
    # In line: calls of Python functions show in an operator's time.
    if not x.is_contiguous():
        x = x.contiguous()
    if router_logits is not None and not router_logits.is_contiguous():
        router_logits = router_logits.contiguous()
    if expert_ids is not None and not (
        expert_ids.dtype is torch.int32 and expert_ids.is_contiguous()
    ):
        expert_ids = expert_ids.to(torch.int32).contiguous()
    if expert_weights is not None and not (
        expert_weights.dtype is torch.float32 and expert_weights.is_contiguous()
    ):
        expert_weights = expert_weights.to(torch.float32).contiguous()
    if input_ids is not None:
        input_ids = input_ids.contiguous()
    shape = x.shape
    if layer._gpu and x.is_cuda and len(shape) == 2:  # Plan.__call__, without its questions
        layer.plan_for(shape[0])._core.enqueue(
            None, x, router_logits, expert_ids, expert_weights, input_ids, out, None, None, None,
            None, None,
        )  # fmt: skip
        return
    layer(
        x, router_logits=router_logits, expert_ids=expert_ids, expert_weights=expert_weights,
        input_ids=input_ids, out=out,
    )  # fmt: skip


def _wants_gradient(arrays) -> bool:
    return torch.is_grad_enabled() and any(a is not None and a.requires_grad for a in arrays)


def _moe(layer, x, router_logits, expert_ids, expert_weights, input_ids) -> torch.Tensor:
    if torch.is_grad_enabled():
        arrays = (x, router_logits, expert_ids, expert_weights, input_ids)
        if _wants_gradient(arrays):
            return _NoGradient.apply(layer, *arrays)
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    _moe_out(layer, x, router_logits, expert_ids, expert_weights, input_ids, out)
    return out


_NO_GRADIENT = (
    "there is no gradient of switchyard::moe. Call it under torch.no_grad(), or train with PyTorch's "
    "own experts."
)


class _NoGradient(torch.autograd.Function):
    """The forward of a call whose backward is refused."""

    @staticmethod
    def forward(ctx, *arguments):
        return _moe(*arguments)

    @staticmethod
    def backward(ctx, *gradients):
        raise Unsupported(f"[torch] backward: {_NO_GRADIENT}")


_library.impl("moe", _moe, "CompositeExplicitAutograd")
_library.impl("moe_out", _moe_out, "CompositeExplicitAutograd")
# Not register_autograd: its Python costs every call more than the rest of ours.
_library.impl("moe", torch.library.fallthrough_kernel, "Autograd")


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
