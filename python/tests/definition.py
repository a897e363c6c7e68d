"""The layer's definition in numpy and double precision, and formats decoded by ml_dtypes."""

import ml_dtypes
import numpy as np

E2M1 = np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float64)


def nibbles(packed):
    """[..., n] bytes -> [..., 2 n] codes, the low nibble first."""
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)


def spread(scales, shape, rows, columns):
    """A scale for each element: one serves `rows` x `columns`."""
    whole = scales.astype(np.float64).repeat(rows, axis=1).repeat(columns, axis=2)
    return whole[:, : shape[1], : shape[2]]


def decode(experts, matrix):
    """[E, out, in] float64 from the tensors that `experts` holds, by their documented formula."""
    tensor = {
        name: experts.tensor(f"{matrix}.{name}") for name in ("elements", "scales", "global_scale")
    }
    elements, scales = tensor["elements"], tensor["scales"]
    kind = experts.format(matrix)
    if kind == "nvfp4":
        values = E2M1[nibbles(elements)]
        parts = tensor["global_scale"].astype(np.float64)  # [E, parts]
        rows = values.shape[1] // parts.shape[1]
        return values * spread(scales, values.shape, 1, 16) * parts.repeat(rows, axis=1)[:, :, None]
    if kind == "mxfp4":
        values = E2M1[nibbles(elements)]
        return values * spread(scales, values.shape, 1, 32)
    if kind == "int4_g32":
        values = nibbles(elements).astype(np.float64) - 8
        return values * spread(scales, values.shape, 1, 32)
    values = elements.astype(np.float64)
    if kind == "fp8_block":
        return values * spread(scales, values.shape, 128, 128)
    if kind == "fp8_channel":
        return values * spread(scales, values.shape, 1, values.shape[2])
    assert scales is None, kind
    return values


def silu(x):
    return x / (1 + np.exp(-x))


def choose(logits, top_k):
    """softmax, top-k, renormalised: ids and weights [T, K]."""
    ids = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]
    chosen = np.exp(np.take_along_axis(logits, ids, axis=1) - logits.max(axis=1, keepdims=True))
    return ids, chosen / chosen.sum(axis=1, keepdims=True)


def moe(x, gate_up, down, ids, weights, gate_up_bias=None, down_bias=None):
    """out[t] = sum over k of weights[t, k] * down[e] . (silu(gate[e] . x) * (up[e] . x))."""
    out = np.zeros(x.shape)
    half = gate_up.shape[1] // 2
    for t in range(x.shape[0]):
        for e, weight in zip(ids[t], weights[t]):
            if e < 0:
                continue
            y = gate_up[e] @ x[t].astype(np.float64)
            y = y + (gate_up_bias[e] if gate_up_bias is not None else 0)
            y = down[e] @ (silu(y[:half]) * y[half:])
            out[t] += weight * (y + (down_bias[e] if down_bias is not None else 0))
    return out
