"""Arrays of numpy, PyTorch, CuPy and JAX, without importing any but numpy."""

from __future__ import annotations

import operator
import sys
from typing import Any

import numpy as np

from ._errors import InvalidArgument

Array = Any
"""An array of numpy, PyTorch, CuPy or JAX, or another one that has __dlpack__."""

# Types that numpy borrows from ml_dtypes, and the integers of their size.
_STORED_AS = {
    "bfloat16": "uint16",
    "float8_e4m3fn": "uint8",
    "float8_e5m2": "uint8",
    "float8_e8m0fnu": "uint8",
}


def integer(value: Any, what: str) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise InvalidArgument(f"{what}: expected an integer, got {value!r}.") from None
    if abs(number) >= 2**31:
        raise InvalidArgument(f"{what}: expected an integer below 2^31, got {number}.")
    return number


def shape(x: Array, what: str) -> tuple[int, ...]:
    if not hasattr(x, "shape"):
        storage(x, what)  # refuses it
    return tuple(x.shape)


def is_torch(x: Array) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def is_cupy(x: Array) -> bool:
    return type(x).__module__.partition(".")[0] == "cupy"


def is_jax(x: Array) -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(x, jax.Array)


def on_gpu(x: Array) -> bool:
    """Whether `x` lies in a GPU's memory."""
    if is_torch(x):
        return x.is_cuda
    return is_cupy(x)


def storage(x: Array, what: str) -> tuple[Array, str]:
    """`x` as an array that DLPack takes, and the name of its elements' type if that got lost.
    Shares memory with `x`."""
    if is_torch(x):
        torch = sys.modules["torch"]
        if x.layout != torch.strided or x.is_meta:
            raise InvalidArgument(
                f"[python] {what}: expected a tensor with its values in memory, got a {x.layout} one "
                f"on {x.device}."
            )
        name = str(x.dtype).removeprefix("torch.")
        x = x.detach()
        if name in _STORED_AS:
            return x.view(getattr(torch, _STORED_AS[name])), name
        return x, ""
    if isinstance(x, np.ndarray) and x.dtype.name in _STORED_AS:
        return x.view(_STORED_AS[x.dtype.name]), x.dtype.name
    if isinstance(x, np.ndarray) and x.dtype.kind not in "biufc":
        raise InvalidArgument(f"[python] {what}: expected an array of numbers, got {x.dtype}.")
    if hasattr(x, "__dlpack__") or isinstance(x, np.ndarray):
        return x, ""
    raise InvalidArgument(
        f"[python] {what}: expected an array of numpy, PyTorch, CuPy or JAX, got "
        f"{type(x).__name__}."
    )


def host(x: Array, what: str) -> tuple[np.ndarray, str]:
    """`x` in host memory, contiguous, as numpy, and the name of its type if numpy has none."""
    if is_torch(x):
        x, name = storage(x.detach().cpu().contiguous(), what)
        if name == "bfloat16":  # numpy takes torch's uint16 since 2.3 only
            return x.view(sys.modules["torch"].int16).numpy().view(np.uint16), name
        return x.numpy(), name
    if is_cupy(x):
        x = x.get()
    elif not isinstance(x, np.ndarray):
        if not hasattr(x, "__array__") and not hasattr(x, "__dlpack__"):
            storage(x, what)  # refuses it
        x = np.asarray(x)
    array, name = storage(np.ascontiguousarray(x), what)
    return array, name


def empty_like(x: Array, shape: tuple[int, ...], dtype: str | None = None) -> Array:
    """An array of the same framework and device, uninitialised; `dtype` if it is another one. Of
    numpy for JAX, whose arrays are never written: `returned` turns it into one."""
    if is_torch(x):
        return x.new_empty(shape, dtype=getattr(sys.modules["torch"], dtype) if dtype else None)
    if is_cupy(x):
        return sys.modules["cupy"].empty(shape, dtype or x.dtype)
    return np.empty(shape, dtype or getattr(x, "dtype", None))


def returned(x: Array, out: Array) -> Array:
    """`out`, made by `empty_like(x)`, as an array of x's framework, where x lies."""
    return sys.modules["jax"].device_put(out, x.sharding) if is_jax(x) else out


def aligned(nbytes: int, alignment: int = 64) -> np.ndarray:
    """Host bytes whose address is a multiple of `alignment`."""
    space = np.empty(nbytes + alignment, np.uint8)
    start = -space.ctypes.data % alignment
    return space[start : start + nbytes]


def current_stream(x: Array) -> int:
    """The stream that work on `x`, an array of CuPy, is enqueued on: a cudaStream_t."""
    return sys.modules["cupy"].cuda.get_current_stream().ptr


def with_type(array: np.ndarray, name: str) -> np.ndarray:
    """`array` as ml_dtypes' type `name`, where ml_dtypes is there."""
    if name not in _STORED_AS:
        return array
    try:
        import ml_dtypes
    except ImportError:
        return array
    return array.view(getattr(ml_dtypes, name))
