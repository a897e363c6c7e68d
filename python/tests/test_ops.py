"""The single operations, put together to a layer."""

import numpy as np
import pytest
import switchyard
from switchyard import Experts, InvalidArgument, MoELayer


@pytest.fixture
def experts(case):
    return Experts.from_arrays(
        {"elements": case.gate_up, "bias": case.gate_up[:, :, 0].copy()}, case.down, format="f32"
    )


def test_the_operations_are_the_layer(case, experts):
    layer = MoELayer(experts.clone(), top_k=2, act="f32")
    ids, weights = switchyard.route(case.logits, layer.config)
    ids[1, 0] = -1
    want = layer(case.x, expert_ids=ids, expert_weights=weights)
    offsets, rows = switchyard.group_by_expert(ids, 4)
    assert offsets[-1] == len(rows) == 2 * len(case.x) - 1
    for expert in range(4):
        mine = rows[offsets[expert] : offsets[expert + 1]]
        np.testing.assert_array_equal(mine, np.flatnonzero(ids == expert))
    hidden = switchyard.grouped_gemm(
        experts, "experts.gate_up", case.x, offsets, rows=rows, top_k=2, activation=layer.config
    )
    assert hidden.shape == (len(rows), 64)
    products = switchyard.grouped_gemm(experts, "experts.down", hidden, offsets)
    out = switchyard.finalize(products, rows, weights)
    np.testing.assert_allclose(out, want, rtol=1e-5, atol=1e-5)


def test_of_torch(case, experts):
    torch = pytest.importorskip("torch")
    offsets = np.array([0, 2, 5, 5, 5])
    got = switchyard.grouped_gemm(experts, "experts.down", torch.ones(5, 64), offsets)
    want = case.down.sum(axis=2)[[0, 0, 1, 1, 1]]
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-5, atol=1e-5)


def test_mistakes(case, experts):
    ids = np.zeros((5, 2), np.int32)
    with pytest.raises(InvalidArgument, match="expert_ids: expected i32"):
        switchyard.group_by_expert(ids.astype(np.int64), 4)
    offsets, rows = switchyard.group_by_expert(ids, 4)
    with pytest.raises(InvalidArgument, match="matrix: expected experts.gate_up"):
        switchyard.grouped_gemm(experts, "gate_up", case.x, offsets, rows=rows, top_k=2)
    with pytest.raises(InvalidArgument, match="grouped_gemm.*rows: expected token"):
        switchyard.grouped_gemm(experts, "experts.gate_up", case.x, offsets, rows=rows, top_k=1)
    with pytest.raises(InvalidArgument, match="grouped_gemm.*x: expected"):
        switchyard.grouped_gemm(experts, "experts.down", case.x, offsets, rows=rows, top_k=2)
    with pytest.raises(InvalidArgument, match="finalize.*expert_weights"):
        switchyard.finalize(case.x, rows[:5], np.ones((5, 2)))
