"""Experts for Hugging Face transformers, under the name "switchyard".

    >>> import switchyard.transformers
    >>> model = AutoModelForCausalLM.from_pretrained(name, experts_implementation="switchyard")

The model's own router chooses; our layer runs the experts. Each layer copies its experts on the
first call, and again if they moved or changed; `prepare` does it for all at once. `configure`
quantises them on the way and may free the model's own. Inference only: no gradient flows through
the experts. Prepare a model, or call it once, before `torch.compile`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from . import torch as switchyard_torch
from ._errors import Unsupported
from ._experts import Experts, Order
from ._layer import MoELayer, make_config

NAME = "switchyard"


@dataclasses.dataclass
class _Options:
    format: str | None = None
    free_weights: bool = False


_options = _Options()
_COPIES_AT_ONCE = 4  # each has its experts in host memory once or twice


def configure(*, format: str | None = None, free_weights: bool = False) -> None:
    """For layers that have not run yet: quantise experts to `format` ("nvfp4", "mxfp4", ...; None
    keeps their type), and free the model's own copy once ours is made."""
    _options.format = format
    _options.free_weights = free_weights


# transformers' names of activations; what has another gate is found in _activation_of.
_GATED = {
    "silu": "swiglu",
    "swish": "swiglu",
    "gelu": "geglu",
    "gelu_pytorch_tanh": "geglu_tanh",
    "gelu_new": "geglu_tanh",
}
_PLAIN = {"silu": "silu", "gelu": "gelu", "relu": "relu", "relu2": "relu2"}
# Names of weight formats, and of what a GEMM's input is rounded to.
_DTYPES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "f32"}


def _hidden_act(module: torch.nn.Module) -> str:
    config = module.config
    for key in ("hidden_act", "hidden_activation", "mlp_hidden_act"):
        if isinstance(getattr(config, key, None), str):
            return getattr(config, key)
    return "none"


def _declined(module: torch.nn.Module, why: str) -> Unsupported:
    return Unsupported(
        f"[transformers] {type(module).__name__}: {why}. Use experts_implementation='grouped_mm' "
        "for this model."
    )


def _activation_of(module: torch.nn.Module) -> dict[str, Any]:
    """Our name of the module's activation, with its constants."""
    own_gate = type(module)._apply_gate.__module__ != "transformers.integrations.moe"
    if own_gate:
        if type(module).__name__ in ("GptOssExperts", "OpenAIPrivacyFilterExperts"):
            return {
                "activation": "swiglu_oai",
                "alpha": module.alpha,
                "beta": 1.0,
                "limit": module.limit,
            }
        raise _declined(module, "its gate is not known here")
    names, act = (_GATED if module.has_gate else _PLAIN), _hidden_act(module)
    if act not in names:
        raise _declined(module, f"expected an activation of {', '.join(names)}, got {act}")
    return {"activation": names[act]}


def _matrices(module: torch.nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """gate_up and down as [E, out, in] with their biases."""

    def fields(name: str) -> dict[str, torch.Tensor]:
        elements = getattr(module, name).detach()
        found = {"elements": elements.transpose(1, 2) if module.is_transposed else elements}
        if module.has_bias:
            found["bias"] = getattr(module, f"{name}_bias").detach()
        return found

    return fields("gate_up_proj" if module.has_gate else "up_proj"), fields("down_proj")


def _order(module: torch.nn.Module) -> Order:
    # gpt-oss interleaves gate and up without saying so to the decorator.
    interleaved = (
        not module.is_concatenated
        or type(module)._apply_gate.__module__ != "transformers.integrations.moe"
    )
    return "interleaved" if module.has_gate and interleaved else "gate_up"


def make_layer(module: torch.nn.Module, top_k: int, format: str | None = None) -> MoELayer:
    """A layer of the experts of a transformers module, on its device."""
    if getattr(module, "has_post_expert_norm", False):  # not every transformers 5 has it
        raise _declined(module, "it normalises after each expert")
    activation = _activation_of(module)
    gate_up, down = _matrices(module)
    weight = gate_up["elements"]
    if weight.dtype not in _DTYPES:
        raise _declined(module, f"expected bf16, f16 or f32 experts, got {weight.dtype}")
    own_format = _DTYPES[weight.dtype]
    order = _order(module)
    if format is None:
        experts = Experts.from_arrays(gate_up, down, format=own_format, order=order)
    else:
        experts = Experts.quantize(gate_up, down, format, order=order, gated=module.has_gate)
    count, hidden, intermediate = experts.shape("experts.down")
    config = make_config(
        hidden=hidden,
        intermediate=intermediate,
        experts=count,
        top_k=top_k,
        routing="topk",
        act=own_format,
        **activation,
    )
    device = "cpu" if weight.device.type == "cpu" else f"cuda:{weight.device.index or 0}"
    threads = torch.get_num_threads() if device == "cpu" else 0
    return MoELayer(experts, config, device=device, threads=threads)


def _free(module: torch.nn.Module) -> None:
    for name in ("gate_up_proj", "up_proj", "down_proj"):
        if isinstance(getattr(module, name, None), torch.nn.Parameter):
            weight = getattr(module, name)
            weight.data = weight.data.new_empty((0,) * weight.dim())


def _layer_of(module: torch.nn.Module, top_k: int) -> MoELayer:
    """The module's layer; a new one if its weights moved or changed since it was made."""
    made = module.__dict__.get("_switchyard_layer")
    if made is not None and torch.compiler.is_compiling():
        return made[0]
    weight = module.down_proj
    state = (weight.device, weight.dtype, weight.data_ptr(), weight._version)
    if made is None or (made[1] != state and weight.numel() > 0):
        layer = make_layer(module, top_k, _options.format)
        if _options.free_weights:
            _free(module)
        made = (layer, state)
        module.__dict__["_switchyard_layer"] = made
    return made[0]


def prepare(model: torch.nn.Module, tokens: Iterable[int] = (1, 16, 128)) -> None:
    """Makes the layers of a model that is in its place, a few at once, and plans them for batches
    of these sizes: a call that finds no plan for its tokens makes one, and a smaller call then runs
    with that one, however large."""
    plans = sorted(set(tokens))

    def make(module: torch.nn.Module) -> None:
        layer = _layer_of(module, module.config.num_experts_per_tok)
        for count in plans:
            layer.plan(count)

    experts = [module for module in model.modules() if hasattr(module, "is_concatenated")]
    for module in experts[:1]:  # compiles what the others load
        make(module)
    with ThreadPoolExecutor(_COPIES_AT_ONCE) as pool:
        list(pool.map(make, experts[1:]))


def experts_forward(
    self: torch.nn.Module,
    hidden_states: torch.Tensor,
    top_k_index: torch.Tensor,
    top_k_weights: torch.Tensor,
) -> torch.Tensor:
    """What transformers calls: hidden_states [T, H], top_k_index and top_k_weights [T, K]. Ids of
    other ranks' experts are num_experts, which the layer leaves out like all that it has not."""
    number = switchyard_torch.register(_layer_of(self, top_k_index.shape[-1]))
    return torch.ops.switchyard.moe(number, hidden_states, None, top_k_index, top_k_weights, None)


ALL_EXPERTS_FUNCTIONS.register(NAME, experts_forward)
