"""Layers of every source against the definition in numpy."""

import subprocess
import sys
import threading

import definition
import ml_dtypes
import numpy as np
import pytest
import switchyard
from conftest import FIXTURES

FORMATS = ["f32", "bf16", "fp8_block", "fp8_channel", "nvfp4", "mxfp4", "int4_g32"]


def quantized_layer(case, format="f32", **options):
    experts = switchyard.Experts.quantize(case.gate_up, case.down, format)
    return switchyard.MoELayer(experts, top_k=case.top_k, act="f32", threads=2, **options)


def close(got, want):
    """Within f32's rounding of sums of a few hundred terms."""
    np.testing.assert_allclose(np.asarray(got, np.float64), want, rtol=1e-4, atol=2e-6)


def expected(case, experts):
    ids, weights = definition.choose(case.logits.astype(np.float64), case.top_k)
    gate_up, down = (definition.decode(experts, f"experts.{m}") for m in ("gate_up", "down"))
    return definition.moe(case.x, gate_up, down, ids, weights)


@pytest.mark.parametrize("format", FORMATS)
def test_quantised_layer_is_the_definition(case, format):
    experts = switchyard.Experts.quantize(case.gate_up, case.down, format)
    assert experts.format() == format
    want = expected(case, experts)
    decoded = experts.dequantize("experts.gate_up")
    np.testing.assert_allclose(decoded, definition.decode(experts, "experts.gate_up"), rtol=1e-6)
    assert np.abs(decoded - case.gate_up).max() < 0.2 / 4
    layer = switchyard.MoELayer(experts, top_k=case.top_k, act="f32")
    close(layer(case.x, router_logits=case.logits), want)


@pytest.mark.parametrize("format", FORMATS)
def test_arrays_in_a_format_are_taken_as_they_are(case, format):
    made = switchyard.Experts.quantize(case.gate_up, case.down, format)

    def fields(matrix, as_bytes):
        found = {f: made.tensor(f"{matrix}.{f}") for f in ("elements", "scales", "global_scale")}
        found = {f: a for f, a in found.items() if a is not None}
        if as_bytes:  # engines often hold 8-bit floats as bytes
            found = {f: a.view(np.uint8) if a.dtype.itemsize == 1 else a for f, a in found.items()}
        return found

    for as_bytes in (False, True):
        experts = switchyard.Experts.from_arrays(
            fields("experts.gate_up", as_bytes), fields("experts.down", as_bytes), format=format
        )
        for matrix in ("experts.gate_up", "experts.down"):
            np.testing.assert_array_equal(experts.dequantize(matrix), made.dequantize(matrix))


def test_chosen_experts_and_slots_left_out(case):
    ids = np.array([[0, 3], [1, -1], [-1, -1], [2, 2], [3, 1]], np.int32)
    weights = np.linspace(0.1, 1, 10, dtype=np.float32).reshape(5, 2)
    want = definition.moe(case.x, case.gate_up, case.down, ids, weights)
    layer = quantized_layer(case)
    close(layer(case.x, expert_ids=ids, expert_weights=weights), want)


def test_bad_expert_ids_are_dropped_and_counted(case):
    ids = np.array([[0, 9]] * 5, np.int32)
    weights = np.full((5, 2), 0.5, np.float32)
    weights[0, 0] = np.nan
    counters = np.zeros(3, np.int64)
    out = quantized_layer(case)(case.x, expert_ids=ids, expert_weights=weights, counters=counters)
    assert counters.tolist() == [5, 1, 0]
    assert not np.isnan(out).any()


def test_routing_comes_back_and_is_route(case):
    layer = quantized_layer(case)
    ids, weights = np.empty((5, 2), np.int32), np.empty((5, 2), np.float32)
    layer(case.x, router_logits=case.logits, chosen_ids=ids, chosen_weights=weights)
    want_ids, want_weights = definition.choose(case.logits.astype(np.float64), 2)
    np.testing.assert_array_equal(ids, want_ids)
    np.testing.assert_allclose(weights, want_weights, rtol=1e-6)
    routed = switchyard.route(case.logits, layer.config)
    np.testing.assert_array_equal(routed[0], ids)
    np.testing.assert_array_equal(routed[1], weights)


def test_router_of_the_layer(case):
    router = np.random.default_rng(1).standard_normal((4, 128)).astype(np.float32)
    experts = switchyard.Experts.from_arrays(case.gate_up, case.down, format="f32", router=router)
    layer = switchyard.MoELayer(experts, top_k=2, act="f32")
    logits = case.x.astype(np.float64) @ router.T.astype(np.float64)
    ids, weights = definition.choose(logits, 2)
    close(layer(case.x), definition.moe(case.x, case.gate_up, case.down, ids, weights))


@pytest.mark.parametrize("order", ["gate_up", "up_gate", "interleaved"])
@pytest.mark.parametrize("format", ["f32", "nvfp4", "mxfp4"])
def test_gate_order(case, order, format):
    rows = np.arange(128)
    rows = {
        "gate_up": rows,
        "up_gate": np.roll(rows, 64),
        "interleaved": rows.reshape(2, 64).T.ravel(),
    }[order]
    bias = np.random.default_rng(2).standard_normal((4, 128)).astype(np.float32)
    plain = switchyard.Experts.quantize({"elements": case.gate_up, "bias": bias}, case.down, format)
    other = switchyard.Experts.quantize(
        {"elements": case.gate_up[:, rows], "bias": bias[:, rows]}, case.down, format, order=order
    )
    for name in ("elements", "scales", "global_scale", "bias"):
        a, b = (e.tensor(f"experts.gate_up.{name}") for e in (plain, other))
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(a, b)


def test_gate_order_of_stored_blocks(case):
    rows = np.roll(np.arange(256), 128)  # up first
    whole = np.concatenate([case.gate_up, case.gate_up * 2], axis=1)
    plain = switchyard.Experts.quantize(whole, case.down, "fp8_block")
    fields = {f: plain.tensor(f"experts.gate_up.{f}") for f in ("elements", "scales")}
    stored = {"elements": fields["elements"][:, rows], "scales": fields["scales"][:, ::-1]}
    down = {f: plain.tensor(f"experts.down.{f}") for f in ("elements", "scales")}
    again = switchyard.Experts.from_arrays(stored, down, format="fp8_block", order="up_gate")
    for f, array in fields.items():
        np.testing.assert_array_equal(again.tensor(f"experts.gate_up.{f}"), array)
    with pytest.raises(switchyard.InvalidArgument, match="order: expected gate_up"):
        switchyard.Experts.from_arrays(stored, down, format="fp8_block", order="interleaved")


def test_biases(case):
    rng = np.random.default_rng(3)
    up_bias, down_bias = (rng.standard_normal(s).astype(np.float32) for s in ((4, 128), (4, 128)))
    experts = switchyard.Experts.from_arrays(
        {"elements": case.gate_up, "bias": up_bias},
        {"elements": case.down, "bias": down_bias.astype(ml_dtypes.bfloat16)},
        format="f32",
    )
    ids, weights = definition.choose(case.logits.astype(np.float64), 2)
    down_bias = down_bias.astype(ml_dtypes.bfloat16).astype(np.float64)
    want = definition.moe(case.x, case.gate_up, case.down, ids, weights, up_bias, down_bias)
    close(switchyard.MoELayer(experts, top_k=2, act="f32")(case.x, router_logits=case.logits), want)


def test_expert_parallel_parts_sum_to_the_layer(case):
    whole = quantized_layer(case)(case.x, router_logits=case.logits)
    parts = []
    for rank in range(2):
        mine = slice(2 * rank, 2 * rank + 2)
        expert_map = [e - 2 * rank if e // 2 == rank else -1 for e in range(4)]
        experts = switchyard.Experts.quantize(case.gate_up[mine], case.down[mine], "f32")
        layer = switchyard.MoELayer(experts, top_k=2, act="f32", expert_map=expert_map)
        assert layer.config.experts == 4 and layer.config.expert_map == expert_map
        parts.append(layer(case.x, router_logits=case.logits))
    close(sum(parts), whole)


def test_no_tokens(case):
    layer = quantized_layer(case)
    assert layer(case.x[:0], router_logits=case.logits[:0]).shape == (0, 128)
    assert layer.plan(0)(case.x[:0], router_logits=case.logits[:0]).shape == (0, 128)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_types_of_tokens(case, dtype):
    x = case.x.astype(dtype)
    ids, weights = definition.choose(case.logits.astype(np.float64), 2)
    want = definition.moe(x.astype(np.float32), case.gate_up, case.down, ids, weights)
    layer = quantized_layer(case)
    out = layer(x, router_logits=case.logits)
    assert out.dtype == dtype
    np.testing.assert_allclose(out.astype(np.float64), want, rtol=1e-2, atol=1e-3)
    exact = np.empty(x.shape, np.float32)
    assert layer(x, router_logits=case.logits, out=exact) is exact
    close(exact, want)


@pytest.mark.parametrize("name", ["qwen3_moe_ct_nvfp4", "gpt_oss_mxfp4", "deepseek_v3_bf16"])
def test_checkpoints_give_what_other_tools_recorded(name):
    safetensors = pytest.importorskip("safetensors.numpy")
    recorded = safetensors.load_file(FIXTURES / name / "expected.safetensors")
    checkpoint = switchyard.Checkpoint(FIXTURES / name)
    assert checkpoint.layers
    for description in checkpoint.layers:
        index = description.layer
        layer = switchyard.MoELayer(checkpoint.experts(index), act="bf16")  # as they were recorded
        x = recorded[f"{index}.tokens"]
        ids = np.empty((len(x), layer.config.top_k), np.int32)
        out = layer(x, chosen_ids=ids)
        np.testing.assert_array_equal(np.sort(ids), np.sort(recorded[f"{index}.expert_ids"]))
        want = recorded[f"{index}.output_bf16"].astype(np.float64)
        assert np.linalg.norm(out.astype(np.float64) - want) < 0.02 * np.linalg.norm(want)


def test_checkpoint_parts():
    checkpoint = switchyard.Checkpoint(FIXTURES / "qwen3_moe_ct_nvfp4")
    index = checkpoint.layers[0].layer
    whole = checkpoint.experts(index)
    half = checkpoint.experts(index, ep="1/2")
    assert half.shape()[0] * 2 == whole.shape()[0]
    assert half.config.expert_map[0] == -1
    x = np.random.default_rng(0).standard_normal((4, whole.config.hidden)).astype(np.float32)
    parts = [switchyard.MoELayer(checkpoint.experts(index, ep=f"{r}/2"))(x) for r in range(2)]
    np.testing.assert_allclose(sum(parts), switchyard.MoELayer(whole)(x), rtol=1e-4, atol=1e-5)


def test_same_bits_from_several_threads_at_once(case):
    layer = quantized_layer(case, "nvfp4")
    plan = layer.plan(8)
    want = plan(case.x, router_logits=case.logits).tobytes()
    wrong = []

    def work():
        for _ in range(20):
            if plan(case.x, router_logits=case.logits).tobytes() != want:
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


FORK = """
import os, signal
import numpy as np
from switchyard import Experts, MoELayer

random = np.random.default_rng(0)
gate_up, down = random.normal(size=(4, 64, 64)), random.normal(size=(4, 64, 32))
experts = Experts.quantize(gate_up.astype("f4"), down.astype("f4"), "nvfp4")
layer = MoELayer(experts, top_k=2, threads=3)
x, logits = random.normal(size=(8, 64)).astype("f4"), random.normal(size=(8, 4)).astype("f4")
want = layer(x, router_logits=logits)
child = os.fork()
if child == 0:
    signal.alarm(20)  # a child that hangs ends
    same = np.array_equal(layer(x, router_logits=logits), want)
    del layer
    os._exit(0 if same else 1)
raise SystemExit(os.waitpid(child, 0)[1] != 0)
"""


def test_forked_child_runs_the_layer_and_ends():
    """In a process without the threads of other tests' libraries."""
    assert subprocess.run([sys.executable, "-c", FORK], timeout=60).returncode == 0


def test_plans_are_chosen_and_kept(case):
    layer = quantized_layer(case)
    assert layer.plan_for(5).max_tokens == 8
    assert layer.plan_for(7) is layer.plan_for(8)
    assert layer.plan(100).max_tokens == 100
    assert layer.plan_for(60).max_tokens == 100
    assert layer.plan_for(3).max_tokens == 8
    assert "cpu" in layer.plan(100).explain()


def test_check_and_presets():
    report = switchyard.check("moe t4 h64 i32 e4 k2 nvfp4", seed=3)
    assert report.passed and report.error_ratio <= 2
    assert "gpt-oss-20b" in switchyard.preset_names()
    assert switchyard.preset("mixtral-8x7b", 4).startswith("moe t4 h4096 i14336 e8 k2")


def test_tuning_reads_problem_lines_first():
    wrong = "moe t8 h64 i32 e4 k2 swigloo"
    for problems in (wrong, ["moe t8 h64 i32 e4 k2", wrong]):
        with pytest.raises(switchyard.InvalidArgument, match="swiglu"):
            switchyard.tune(problems)
