"""Checkpoint and Experts: where weights come from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from . import _core
from ._arrays import Array, host, integer, with_type
from ._errors import InvalidArgument

Order = Literal["gate_up", "up_gate", "interleaved"]
Matrix = Array | Mapping[str, Array]


class CheckpointLayer(NamedTuple):
    """One layer with experts, from names, shapes and config alone."""

    layer: int
    prefix: str
    scheme: str
    gate_up: str
    down: str
    expert_bytes: int
    other_bytes: int


class Checkpoint:
    """A model directory (config.json, *.safetensors), or one .safetensors file.

    Reads the config, the index and the headers of files; weights are read by `experts`.

    >>> checkpoint = Checkpoint("~/models/gpt-oss-20b")
    >>> layer = MoELayer(checkpoint.experts(3))
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._core = _core.Checkpoint(os.path.expanduser(os.fspath(directory)))

    def __repr__(self) -> str:
        return f"Checkpoint({self.family}, {len(self.layers)} layers with experts)"

    @property
    def family(self) -> str:
        """ "mixtral", "deepseek_v3", ..."""
        return self._core.family

    @property
    def layers(self) -> list[CheckpointLayer]:
        return [CheckpointLayer(**layer) for layer in self._core.layers]

    def experts(self, layer: int, *, tp: str | None = None, ep: str | None = None) -> Experts:
        """Loads model layer `layer`: experts, router, shared expert.

        tp, ep: "RANK/RANKS" loads that tensor- or expert-parallel part and reads its bytes only.
        """
        layer = integer(layer, "[checkpoint] layer")
        config = self._core.config(layer, tp, ep)
        return Experts(self._core.load(layer, tp, ep), config)


_FIELDS = (
    "elements",
    "scales",
    "zeros",
    "global_scale",
    "group_of_column",
    "bias",
    "input_factor",
    "input_scale",
)
_MATRICES = ("experts.gate_up", "experts.down", "shared.gate_up", "shared.down")


def _rows_in_order(array: np.ndarray, out: int, order: Order, what: str) -> np.ndarray:
    """`array` with its gate rows before its up rows. Axis 1 is 2I rows, or the blocks of rows that
    share a scale."""
    if order == "gate_up" or array.ndim < 2 or array.shape[1] == 1:
        return array
    rows = array.shape[1]
    if rows != out and (order == "interleaved" or rows % 2 or out % rows):
        raise InvalidArgument(
            f"[experts] order: expected gate_up for the {rows} blocks of rows of {what}, got "
            f"{order}. A block has gate and up rows."
        )
    if order == "up_gate":
        return np.concatenate([array[:, rows // 2 :], array[:, : rows // 2]], axis=1)
    return np.concatenate([array[:, ::2], array[:, 1::2]], axis=1)


def _fields_of(matrix: Matrix, what: str) -> dict[str, Array]:
    fields = dict(matrix) if isinstance(matrix, Mapping) else {"elements": matrix}
    unknown = sorted(set(fields) - set(_FIELDS))
    if unknown or "elements" not in fields:
        raise InvalidArgument(
            f"[experts] {what}: expected an array, or a dict with 'elements' and any of "
            f"{', '.join(_FIELDS[1:])}, got {unknown or sorted(fields)}."
        )
    if fields["elements"] is None:
        raise InvalidArgument(f"[experts] {what}: expected an array, got None.")
    return {name: array for name, array in fields.items() if array is not None}


class Experts:
    """The weights of one layer, in host memory: routed experts, and a shared expert, a router and
    latent projections where there are any.

    Made by `Checkpoint.experts`, `Experts.from_arrays` and `Experts.quantize`. A `MoELayer` takes
    the weights over; `clone()` them to keep a copy.
    """

    def __init__(self, weights: _core.Weights, config: _core.Config | None = None) -> None:
        self._core = weights
        self._config = config

    @classmethod
    def from_checkpoint(
        cls,
        directory: str | os.PathLike[str],
        layer: int,
        *,
        tp: str | None = None,
        ep: str | None = None,
    ) -> Experts:
        """`Checkpoint(directory).experts(layer)`."""
        return Checkpoint(directory).experts(layer, tp=tp, ep=ep)

    @classmethod
    def from_arrays(
        cls,
        gate_up: Matrix,
        down: Matrix,
        *,
        format: str = "bf16",
        order: Order = "gate_up",
        shared_gate_up: Matrix | None = None,
        shared_down: Matrix | None = None,
        **tensors: Array,
    ) -> Experts:
        """Copies arrays that are already in `format` (bf16, nvfp4, mxfp4, fp8_block, int4, ...).

        gate_up: [E, 2I, H], or [E, I, H] for an activation without a gate
        down:    [E, H, I]

        Either is an array of elements, or a dict of arrays:

        elements         [E, out, in]; 4-bit types as bytes [E, out, in / 2], low nibble first;
                         8-bit floats as such or as bytes
        scales           [E, ceil(out / rows), ceil(in / cols)] of the format's blocks, row-major
        global_scale     [E, parts]  f32, multiplies (nvfp4; 1 or 2 parts)
        zeros            [E, out, groups]  u8, 0..15 (int4_gN_zp)
        bias             [E, out]  f32, bf16 or f16
        input_scale      [E] or [1]  f32, static activation scale
        input_factor     [E or 1, in]  f32 (AWQ)
        group_of_column  [E, in]  i32 (GPTQ's act order)

        order: how gate and up rows lie in gate_up: "gate_up" (gate first), "up_gate" (up first, as
        TensorRT-LLM and FlashInfer have it) or "interleaved" (gate, up, gate, up, as gpt-oss).
        tensors: router [E, H], router_bias [E], correction_bias [E], hash_table [vocabulary, K],
        shared_gate [H], latent_down [L, H], latent_norm [L], latent_up [H, L].
        """
        self = cls(_core.Weights())
        given = zip(_MATRICES, (gate_up, down, shared_gate_up, shared_down))
        for name, matrix in given:
            if matrix is not None or name.startswith("experts."):
                self._set_matrix(name, matrix, format, order)
        self._set_tensors(tensors)
        return self

    @classmethod
    def quantize(
        cls,
        gate_up: Matrix,
        down: Matrix,
        format: str,
        *,
        order: Order = "gate_up",
        gated: bool = True,
        shared_gate_up: Matrix | None = None,
        shared_down: Matrix | None = None,
        **tensors: Array,
    ) -> Experts:
        """Quantises f32, bf16 or f16 arrays to `format`, rounding to nearest even.

        Arrays and options as in `from_arrays`; a dict may have "elements" and "bias". gated:
        gate_up has gate and up rows, which get a global scale each (nvfp4).
        """
        self = cls(_core.Weights())
        given = zip(_MATRICES, (gate_up, down, shared_gate_up, shared_down))
        for name, matrix in given:
            if matrix is not None or name.startswith("experts."):
                parts = 2 if gated and name.endswith("gate_up") else 1
                self._quantize_matrix(name, matrix, format, order, parts)
        self._set_tensors(tensors)
        return self

    def clone(self) -> Experts:
        """A copy, for a second layer."""
        return Experts(self._core.clone(), self._config)

    def tensor(self, name: str) -> np.ndarray | None:
        """A copy of a tensor, under the library's name for it: "router", "experts.gate_up.scales".
        4-bit elements are bytes, two to a byte; types that numpy has not are ml_dtypes' if that is
        installed, else unsigned integers."""
        found = self._core.get(name)
        return None if found is None else with_type(found[0].copy(), found[1])

    def format(self, matrix: str = "experts.gate_up") -> str:
        """The format of "experts.gate_up", "experts.down", "shared.gate_up" or "shared.down"."""
        return self._core.format(matrix)

    def dequantize(self, matrix: str) -> np.ndarray:
        """[E, out, in]  f32 of a matrix, named as in `format`."""
        out = np.empty(self.shape(matrix), np.float32)
        self._core.dequantize(matrix, out)
        return out

    def shape(self, matrix: str = "experts.gate_up") -> tuple[int, int, int]:
        """(E, out, in) of a matrix, named as in `format`; zeros if there is none."""
        self.format(matrix)  # refuses other names
        found = self._core.get(f"{matrix}.elements")
        if found is None:
            return 0, 0, 0
        experts, rows, columns = found[0].shape
        return experts, rows, columns * (2 if found[1] in ("float4_e2m1fn", "uint4") else 1)

    @property
    def config(self) -> _core.Config | None:
        """The mathematics that a checkpoint says; None for arrays."""
        return self._config

    def __repr__(self) -> str:
        return f"Experts({self._summary()})"

    def _summary(self) -> str:
        experts, rows, columns = self.shape()
        if experts == 0:
            return "none: a layer has taken them"
        return f"{experts} of gate_up [{rows}, {columns}] {self.format()}"

    def _host_fields(
        self, name: str, matrix: Matrix, order: Order
    ) -> dict[str, tuple[np.ndarray, str]]:
        fields = {
            field: host(array, f"{name}.{field}")
            for field, array in _fields_of(matrix, name).items()
        }
        if name.endswith("gate_up") and order != "gate_up":
            elements = fields["elements"][0]
            out = elements.shape[1] if elements.ndim == 3 else 0
            if order not in ("up_gate", "interleaved"):
                raise InvalidArgument(
                    f"[experts] order: expected gate_up, up_gate or interleaved, got '{order}'."
                )
            for field in ("elements", "scales", "zeros", "bias"):
                if field in fields:
                    array, dtype = fields[field]
                    fields[field] = _rows_in_order(array, out, order, f"{name}.{field}"), dtype
            if "global_scale" in fields and order == "up_gate":
                array, dtype = fields["global_scale"]
                fields["global_scale"] = np.ascontiguousarray(array[:, ::-1]), dtype
        if "bias" in fields:
            fields["bias"] = as_f32(*fields["bias"]), ""
        return fields

    def _set_matrix(self, name: str, matrix: Matrix, format: str, order: Order) -> None:
        self._core.set_format(name, format)
        for field, (array, dtype) in self._host_fields(name, matrix, order).items():
            self._core.set(f"{name}.{field}", array, dtype)

    def _quantize_matrix(
        self, name: str, matrix: Matrix, format: str, order: Order, parts: int
    ) -> None:
        fields = self._host_fields(name, matrix, order)
        elements, dtype = fields.pop("elements")
        self._core.quantize(name, elements, dtype, format, parts)
        for field, (array, dtype) in fields.items():
            self._core.set(f"{name}.{field}", array, dtype)

    def _set_tensors(self, tensors: Mapping[str, Any]) -> None:
        for name, array in tensors.items():
            if array is not None:
                if name in ("router_bias", "correction_bias", "shared_gate", "latent_norm"):
                    array = as_f32(*host(array, name))
                self._core.set(name, *host(array, name))


def as_f32(array: np.ndarray, dtype: str) -> np.ndarray:
    """Biases and the like are f32 in the library; bf16 and f16 widen without loss."""
    if dtype == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32) if array.dtype == np.float16 else array
