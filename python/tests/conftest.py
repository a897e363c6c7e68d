import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

FIXTURES = Path(__file__).resolve().parents[2] / "tests" / "fixtures"


@dataclasses.dataclass
class Case:
    """A small random layer and batch."""

    gate_up: np.ndarray  # [E, 2I, H]
    down: np.ndarray  # [E, H, I]
    x: np.ndarray  # [T, H]
    logits: np.ndarray  # [T, E]
    top_k: int = 2


@pytest.fixture
def case():
    rng = np.random.default_rng(7)
    tokens, hidden, intermediate, experts = 5, 128, 64, 4

    def uniform(*shape, scale):
        return rng.uniform(-scale, scale, shape).astype(np.float32)

    return Case(
        gate_up=uniform(experts, 2 * intermediate, hidden, scale=0.2),
        down=uniform(experts, hidden, intermediate, scale=0.2),
        x=uniform(tokens, hidden, scale=1),
        logits=uniform(tokens, experts, scale=3),
    )


def start_jax():
    """The module jax, started: that makes its last GPU the thread's current one, for PyTorch too."""
    jax = pytest.importorskip("jax")
    jax.devices()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.set_device(0)
    return jax
