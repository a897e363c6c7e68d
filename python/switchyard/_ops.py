"""The layer's single operations, for engines that send tokens to their experts themselves. Arrays in
host memory; results are numpy's, or of x's framework where they have x's type."""

from __future__ import annotations

import numpy as np

from . import _core
from ._arrays import Array, empty_like, integer, returned, shape
from ._errors import InvalidArgument
from ._experts import Experts


def route(
    logits: Array, config: _core.Config, *, correction_bias: Array | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(expert_ids [T, K] i32, expert_weights [T, K] f32) of logits [T, E] in host memory."""
    slots = (*shape(logits, "logits")[:1], config.top_k)
    ids, weights = np.empty(slots, np.int32), np.empty(slots, np.float32)
    _core.route(config, logits, correction_bias, ids, weights)
    return ids, weights


def group_by_expert(expert_ids: Array, experts: int) -> tuple[np.ndarray, np.ndarray]:
    """(offsets [E + 1] i64, rows [R] i32) of expert_ids [T, K] i32: expert e has the slots
    rows[offsets[e] : offsets[e + 1]], each token * K + slot. Other ids, -1 say, are left out."""
    slots = int(np.prod(shape(expert_ids, "expert_ids")))
    experts = integer(experts, "[group_by_expert] experts")
    if experts < 1:
        raise InvalidArgument(f"[group_by_expert] experts: expected 1 or more, got {experts}.")
    offsets, rows = np.empty(experts + 1, np.int64), np.empty(slots, np.int32)
    _core.group_by_expert(expert_ids, offsets, rows)
    return offsets, rows[: offsets[-1]]


def grouped_gemm(
    experts: Experts,
    matrix: str,
    x: Array,
    offsets: Array,
    *,
    rows: Array | None = None,
    top_k: int = 1,
    activation: _core.Config | None = None,
) -> Array:
    """out [R, n], like x: each row of x times its expert's matrix ("experts.gate_up",
    "experts.down"), plus its bias, then the activation of a config, if that is given.

    x         [T, in]  bf16, f16 or f32; with rows, row r reads x[rows[r] // top_k]; without, R = T
    offsets   [E + 1]  i64, rows [R]  i32: `group_by_expert`
    """
    _, out, _ = experts.shape(matrix)
    columns = out // 2 if activation is not None and activation.gated else out
    source = shape(x, "x") if rows is None else shape(rows, "rows")
    count = source[0] if source else 0
    made = empty_like(x, (count, columns))
    _core.grouped_gemm(experts._core, matrix, activation, top_k, x, offsets, rows, made)
    return returned(x, made)


def finalize(expert_out: Array, rows: Array, expert_weights: Array) -> Array:
    """out [T, H], like expert_out [R, H]: the sum over a token's slots of expert_weights [T, K] f32
    times their rows, in the slots' order."""
    tokens, hidden = shape(expert_weights, "expert_weights")[:1], shape(expert_out, "expert_out")[1:]
    made = empty_like(expert_out, (*tokens, *hidden))
    _core.finalize(expert_out, rows, expert_weights, made)
    return returned(expert_out, made)
