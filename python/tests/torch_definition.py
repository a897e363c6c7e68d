"""The layer's definition in PyTorch and double precision, on any device."""

import torch
import torch.nn.functional as F


def choose(logits, top_k, method="softmax_renormalize", groups=1, topk_groups=1):
    """ids [T, K] i64 and weights [T, K] f64 of logits [T, E]."""
    z = logits.double()
    scores = z.softmax(dim=1) if "softmax" in method else z.sigmoid()
    ranked = scores
    if method == "deepseek_v3":
        grouped = scores.view(len(z), groups, -1)
        best = grouped.topk(2, dim=2).values.sum(dim=2).topk(topk_groups, dim=1).indices
        out = torch.ones(len(z), groups, dtype=torch.bool, device=z.device).scatter_(1, best, False)
        ranked = grouped.masked_fill(out[:, :, None], -1.0).flatten(1)
    ids = ranked.topk(top_k, dim=1).indices
    weights = scores.gather(1, ids)
    if method not in ("softmax", "sigmoid"):
        weights = weights / weights.sum(dim=1, keepdim=True)
    return ids, weights


def activate(y, activation):
    """[..., 2I] or, without a gate, [..., I] -> [..., I]."""
    plain = {"silu": F.silu, "gelu": F.gelu, "relu": F.relu, "relu2": lambda y: F.relu(y) ** 2}
    if activation in plain:
        return plain[activation](y)
    gate, up = y.chunk(2, dim=-1)
    if activation == "swiglu_oai":
        gate, up = gate.clamp(max=7.0), up.clamp(-7.0, 7.0)
        return gate * torch.sigmoid(1.702 * gate) * (up + 1)
    gates = {
        "swiglu": F.silu,
        "geglu": F.gelu,
        "geglu_tanh": lambda g: F.gelu(g, approximate="tanh"),
    }
    return gates[activation](gate) * up


def moe(x, gate_up, down, ids, weights, activation="swiglu", biases=(None, None)):
    """out [T, H] f64 of x [T, H], gate_up [E, 2I, H], down [E, H, I], ids and weights [T, K]."""
    x, gate_up, down = x.double(), gate_up.double(), down.double()
    out = torch.zeros_like(x)
    for expert in range(len(gate_up)):
        tokens, slots = (ids == expert).nonzero(as_tuple=True)
        y = x[tokens] @ gate_up[expert].t()
        y = activate(y if biases[0] is None else y + biases[0][expert], activation)
        y = y @ down[expert].t()
        y = y if biases[1] is None else y + biases[1][expert]
        out.index_add_(0, tokens, weights[tokens, slots].double()[:, None] * y)
    return out
