"""Switchyard runs the mixture-of-experts layer of a language model, from the checkpoint as it was
published, on a CPU or a GPU.

    >>> import switchyard
    >>> layer = switchyard.MoELayer(switchyard.Checkpoint(directory).experts(3))
    >>> y = layer(x)  # x [T, H] of numpy, PyTorch, CuPy or JAX

`switchyard.torch` has operators for PyTorch, `switchyard.transformers` experts for transformers.
"""

from collections.abc import Iterable
from typing import NamedTuple

from . import _core
from ._errors import DeviceError, Error, InvalidArgument, Unsupported
from ._experts import Checkpoint, CheckpointLayer, Experts
from ._layer import MoELayer, Plan, make_config
from ._ops import finalize, group_by_expert, grouped_gemm, route

__all__ = [
    "CheckReport",
    "Checkpoint",
    "CheckpointLayer",
    "DeviceError",
    "Error",
    "Experts",
    "InvalidArgument",
    "MoELayer",
    "Plan",
    "Unsupported",
    "check",
    "finalize",
    "group_by_expert",
    "grouped_gemm",
    "make_config",
    "preset",
    "preset_names",
    "route",
    "tune",
]  # fmt: skip
__version__ = _core.version()


class CheckReport(NamedTuple):
    """How far a layer's output is from the definition in double precision."""

    error_ratio: float  # in units of an honest run's own error; at most 2 passes
    max_abs_error: float
    zeros: float  # share of exact zeros in the reference
    finite_match: bool
    repeatable: bool
    routing_exact: bool
    passed: bool


def check(problem: str, seed: int = 0, device: str = "cpu") -> CheckReport:
    """Runs a random case of a problem line, "moe t16 h512 i256 e16 k4 nvfp4", and compares it."""
    return CheckReport(*_core.check(problem, seed, device))


def tune(problems: str | Iterable[str], file: str | None = None, device: int = 0) -> int:
    """Measures which variants serve these layers (problem lines) best on a GPU, and keeps the picks in
    `file`, or where plans look for them. Returns how many were measured; `switchyard tune` on the
    command line does it in a process that a crash does not end."""
    lines = [problems] if isinstance(problems, str) else problems
    return _core.tune("\n".join(lines), file, device)


def preset(name: str, tokens: int) -> str:
    """The problem line of a published model's layer ("qwen3-30b-a3b")."""
    return _core.preset(name, tokens)


def preset_names() -> list[str]:
    return _core.preset_names().split()
