"""What the tests on a GPU share."""

import numpy as np
import pytest
import torch_definition
from switchyard import Experts, MoELayer

torch = pytest.importorskip("torch")

E, H, I, K = 8, 256, 128, 2
TYPES = {"fp16": torch.float16}  # of tokens and half-precision weights; the others are bfloat16


def random(*shape, scale=1.0):
    """f32 on the GPU."""
    return (torch.rand(shape, device="cuda") * 2 - 1) * scale


class GpuCase:
    """A random layer in `format`, its weights as the layer has them, and batches for it."""

    def __init__(self, format="bf16", activation="swiglu", bias=False, **options):
        torch.manual_seed(3)
        gated = activation not in ("silu", "gelu", "relu", "relu2")
        self.activation, self.type = activation, TYPES.get(format, torch.bfloat16)
        matrices = random(E, (1 + gated) * I, H, scale=0.2), random(E, H, I, scale=0.2)
        self.biases = [random(*m.shape[:2], scale=0.1) if bias else None for m in matrices]
        fields = [{"elements": m, "bias": b} for m, b in zip(matrices, self.biases)]
        experts = Experts.quantize(*fields, format, gated=gated)
        self.weights = [
            torch.from_numpy(experts.dequantize(f"experts.{m}")).cuda() for m in ("gate_up", "down")
        ]
        act = "fp16" if format == "fp16" else "bf16"
        self.layer = MoELayer(
            experts, top_k=K, activation=activation, act=act, device="cuda", **options
        )

    def batch(self, tokens):
        """x [T, H] and logits [T, E]."""
        return random(tokens, H).to(self.type), random(tokens, E, scale=3)

    def expected(self, x, ids, weights):
        return torch_definition.moe(x, *self.weights, ids, weights, self.activation, self.biases)


def close(got, want):
    """Within the rounding of the intermediate and the output to 8 bits."""
    assert got.shape == want.shape and torch.isfinite(got).all()
    error = torch.linalg.vector_norm(got.double().to(want.device) - want)
    assert error <= 2**-7 * torch.linalg.vector_norm(want)


def numpy(x):
    return np.asarray(x.double().cpu())
