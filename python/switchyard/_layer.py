"""MoELayer and Plan: running a layer."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import _core
from ._arrays import (
    Array, aligned, current_stream, empty_like, integer, is_torch, on_gpu, returned, shape,
)  # fmt: skip
from ._errors import InvalidArgument
from ._experts import Experts


def _line(sizes: dict[str, int], words: Sequence[str], options: dict[str, Any]) -> str:
    """A problem line; what is None or False is left out."""
    line = ["moe", *(f"{letter}{count}" for letter, count in sizes.items()), *words]
    for key, value in options.items():
        if value is True:
            line.append(key)
        elif value is not None and value is not False:
            line.append(f"{key}={value}")
    return " ".join(line)


def make_config(
    *,
    hidden: int,
    intermediate: int,
    experts: int,
    top_k: int,
    routing: str = "softmax_renormalize",
    activation: str = "swiglu",
    expert_map: Sequence[int] | None = None,
    renormalize: bool = True,
    router_weight_on_input: bool | None = None,
    **options: Any,
) -> _core.Config:
    """A layer's mathematics. `routing` and `activation` are names of docs/routing.md and of problem
    lines; options, where they differ from the name's defaults:

    groups, topk_groups, scaling, zero_experts     of the routing
    alpha, beta, limit, linear_beta                of the activation
    act="bf16"                                     what GEMM inputs are rounded to: f32, fp16,
                                                   fp8_tensor, fp8_token, fp8_block, nvfp4, mxfp8
    fused_alpha, dense                             flags
    shared, shared_gate, latent, norm_epsilon      of the shared expert and the latent projection
    """
    options["no_renormalize"] = not renormalize
    if router_weight_on_input is not None:
        options["on_input"] = int(router_weight_on_input)
    sizes = {
        "h": integer(hidden, "[moe] hidden"),
        "i": integer(intermediate, "[moe] intermediate"),
        "e": integer(experts, "[moe] experts"),
        "k": integer(top_k, "[moe] top_k"),
    }
    line = _line(sizes, [activation, routing], options)
    return _core.Config(line, [] if expert_map is None else [int(e) for e in expert_map])


def _changed(config: _core.Config, options: dict[str, Any]) -> _core.Config:
    """`config` with other key=value options."""
    if not options:
        return config
    fixed = {
        "top_k",
        "hidden",
        "intermediate",
        "experts",
        "routing",
        "activation",
        "expert_map",
    } & set(options)
    if fixed:
        raise InvalidArgument(
            f"[moe] {', '.join(sorted(fixed))}: expected none, because the checkpoint says it. Give "
            "the MoELayer a config of its own."
        )
    words = [word for word in config.line.split() if word.split("=")[0] not in options]
    return _core.Config(_line({}, words[1:], options), config.expert_map)


class Plan:
    """A layer planned for at most `max_tokens`. Made by `MoELayer.plan`.

    Calls may come from several threads and streams at once. On a CPU a plan keeps the workspaces
    that its calls needed; on a GPU they come from the caller's framework.
    """

    def __init__(self, core: _core.Plan, config: _core.Config, gpu: bool) -> None:
        self._core = core
        self._config = config
        self._gpu = gpu
        self._spare: list[np.ndarray] = []  # append and pop are atomic
        self.max_tokens: int = core.max_tokens
        self.workspace_bytes: int = core.workspace_bytes

    def explain(self) -> str:
        """The steps, their variants, bytes and FLOPs."""
        return self._core.explain()

    def __call__(
        self,
        x: Array,
        *,
        router_logits: Array | None = None,
        expert_ids: Array | None = None,
        expert_weights: Array | None = None,
        input_ids: Array | None = None,
        out: Array | None = None,
        chosen_ids: Array | None = None,
        chosen_weights: Array | None = None,
        counters: Array | None = None,
        token_count: Array | None = None,
        workspace: Array | None = None,
        stream: int | None = None,
    ) -> Array:
        """The layer's output [T, H], of x's framework, device and type unless `out` is given.

        x               [T, H]  bf16, f16 or f32, contiguous; T <= max_tokens
        router_logits   [T, E (+ zero experts)]  f32, bf16 or f16; or
        expert_ids      [T, K]  i32, -1 leaves the slot out; and
        expert_weights  [T, K]  f32, used as given; or none of them if the layer has a router
        input_ids       [T]  i32 or i64, hash routing only
        out             [T, H]  bf16, f16 or f32
        chosen_ids, chosen_weights  [T, K]  i32, f32: written
        counters        [3]  i64: bad expert ids, weights and logits that are not finite are added

        On a GPU (x lies there, PyTorch's or CuPy's) the call is enqueued and returns. token_count [1]
        i32 is T of a replayed graph; workspace (uint8 [workspace_bytes], 256-byte aligned) is
        allocated unless it is given; stream is a cudaStream_t, by default the framework's current.
        """
        if stream is not None and (out is None or workspace is None):
            raise InvalidArgument(
                "[moe.run] stream: expected out and workspace beside it. Arrays that are made here "
                "belong to the framework's current stream."
            )
        made = out is None
        if made:
            out = empty_like(x, shape(x, "tokens"))
        if self._gpu and on_gpu(x):
            if not is_torch(x):  # of PyTorch the extension takes them itself
                if workspace is None:
                    workspace = empty_like(x, (self.workspace_bytes,), "uint8")
                if stream is None:
                    stream = current_stream(x)
            self._core.enqueue(
                stream, x, router_logits, expert_ids, expert_weights, input_ids, out, chosen_ids,
                chosen_weights, workspace, token_count, counters,
            )  # fmt: skip
            return out
        if token_count is not None:
            raise InvalidArgument(
                "[moe.run] token_count: expected none, it is for arrays on a GPU."
            )
        added = None if counters is None else _host_counters(counters)
        space = workspace
        if space is None and not self._gpu:
            space = self._workspace()
        counted = self._core.run(
            x, router_logits, expert_ids, expert_weights, input_ids, out, chosen_ids,
            chosen_weights, space, None, None,
        )  # fmt: skip
        if workspace is None and space is not None:
            self._spare.append(space)
        if added is not None:
            added += counted
        return returned(x, out) if made else out

    def _workspace(self) -> np.ndarray:
        try:
            return self._spare.pop()
        except IndexError:
            return aligned(self.workspace_bytes)

    def __repr__(self) -> str:
        return f"Plan(max_tokens={self.max_tokens}, workspace_bytes={self.workspace_bytes})"


def _host_counters(counters: Array) -> np.ndarray:
    """The counters in memory that adding to it changes."""
    view = counters.numpy() if is_torch(counters) and not on_gpu(counters) else counters
    if not isinstance(view, np.ndarray) or view.dtype != np.int64 or view.shape != (3,):
        raise InvalidArgument(
            "[moe.run] counters: expected i64 [3] of numpy or PyTorch in host memory, because calls "
            f"add to it, got {type(counters).__name__} {getattr(counters, 'dtype', '')} "
            f"{list(getattr(counters, 'shape', []))}."
        )
    return view


class MoELayer:
    """A layer: mathematics, weights and a device.

    >>> layer = MoELayer(Checkpoint(directory).experts(3), device="cuda")
    >>> y = layer(x)                                     # the checkpoint's router chooses
    >>> layer = MoELayer(Experts.quantize(gate_up, down, "nvfp4"), top_k=8)
    >>> y = layer(x, router_logits=logits)

    experts:  taken over; they are the caller's again if this fails
    config:   from `make_config`; by default the checkpoint's, with options that are given
              (act="bf16"), or for arrays one of `top_k` and the other arguments of `make_config`,
              with their sizes
    device:   "cpu", "cuda" or "cuda:N", or a torch.device
    threads:  CPU only; 0 is one per core that this process may use
    """

    def __init__(
        self,
        experts: Experts,
        config: _core.Config | None = None,
        *,
        device: Any = "cpu",
        threads: int = 0,
        **options: Any,
    ) -> None:
        if not isinstance(experts, Experts):
            raise InvalidArgument(
                f"[moe] experts: expected Experts, got {type(experts).__name__}. Take a layer's from "
                "Checkpoint.experts(layer), or make them with Experts.from_arrays."
            )
        if config is None:
            config = self._config_of(experts, options)
        elif options:
            raise InvalidArgument(
                f"[moe] {', '.join(sorted(options))}: expected none beside a config. Make the "
                "config with them."
            )
        self.config = config
        self.device = str(device)
        self._gpu = self.device != "cpu"
        self._weights = experts._summary()
        self._torch_number = 0  # of switchyard.torch.register
        self._core = _core.Layer(config, experts._core, self.device, threads)
        self._plans: list[Plan] = []  # the smallest first
        self._planning = threading.Lock()

    @staticmethod
    def _config_of(experts: Experts, options: dict[str, Any]) -> _core.Config:
        if experts.config is not None:
            return _changed(experts.config, options)
        if "top_k" not in options:
            raise InvalidArgument(
                "[moe] top_k: expected it, because arrays do not say how many experts a token has."
            )
        local, hidden, intermediate = experts.shape("experts.down")
        if local == 0:
            raise InvalidArgument(
                "[moe] experts: expected weights, got none: a layer has taken them over. clone() them "
                "for a second layer."
            )
        expert_map = options.get("expert_map")
        sizes: dict[str, Any] = {
            "hidden": hidden,
            "intermediate": intermediate,
            "experts": local if expert_map is None else len(expert_map),
        }
        latent_up = experts.tensor("latent_up")
        if latent_up is not None:
            sizes |= {"hidden": latent_up.shape[0], "latent": latent_up.shape[1]}
        _, _, shared = experts.shape("shared.down")
        if shared:
            sizes |= {"shared": shared, "shared_gate": experts.tensor("shared_gate") is not None}
        return make_config(**(sizes | options))

    def plan(self, max_tokens: int) -> Plan:
        """Plans for batches of up to `max_tokens`, once: on a GPU this may compile kernels. Calls
        of the layer with that many tokens or fewer use it."""
        max_tokens = integer(max_tokens, "[moe.plan] max_tokens")
        with self._planning:
            for plan in self._plans:
                if plan.max_tokens == max_tokens:
                    return plan
            plan = Plan(self._core.plan(max_tokens), self.config, self._gpu)
            # Replaced, not changed: calls in other threads read it without the lock.
            self._plans = sorted([*self._plans, plan], key=lambda plan: plan.max_tokens)
            self._share_plans()
            return plan

    def _share_plans(self) -> None:
        """Gives the plans there are to the operators for PyTorch; under the lock."""
        if self._torch_number:
            _core.set_plans(self._torch_number, [plan._core for plan in self._plans])

    def plan_for(self, tokens: int) -> Plan:
        """The smallest plan there is for `tokens`; a new one, for the next power of two, if there
        is none."""
        for plan in self._plans:
            if plan.max_tokens >= tokens:
                return plan
        return self.plan(1 << max(tokens - 1, 0).bit_length())

    def __call__(self, x: Array, **arrays: Array) -> Array:
        """The layer's output [T, H] for x [T, H]; `Plan.__call__` has the arguments."""
        sizes = getattr(x, "shape", None)
        if sizes is None or len(sizes) != 2:
            raise InvalidArgument(
                f"[moe.run] tokens: expected an array [T, H] with H = {self.config.hidden}, got "
                f"{type(x).__name__ if sizes is None else list(sizes)}."
            )
        return self.plan_for(sizes[0])(x, **arrays)

    def __deepcopy__(self, memo: dict[int, Any]) -> MoELayer:
        return self  # nothing about a layer changes, and it cannot be copied

    def __repr__(self) -> str:
        return f"MoELayer({self._weights}, top_k={self.config.top_k}, device={self.device!r})"
