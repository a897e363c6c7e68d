"""Wrong arguments are named, with the rule, the value and the way out."""

import numpy as np
import pytest
import switchyard
from conftest import FIXTURES
from switchyard import Experts, InvalidArgument, MoELayer


@pytest.fixture
def layer(case):
    return MoELayer(Experts.quantize(case.gate_up, case.down, "mxfp4"), top_k=2)


CONFIG = switchyard.make_config(hidden=128, intermediate=64, experts=4, top_k=2)


def refused(*parts):
    return pytest.raises(InvalidArgument, match=".*".join(parts))


def test_exceptions_are_pythons_too():
    assert issubclass(InvalidArgument, ValueError)
    assert issubclass(switchyard.Unsupported, NotImplementedError)
    assert issubclass(switchyard.DeviceError, RuntimeError)


def test_shapes(layer, case):
    with refused(r"tokens: expected \[T, H\] with H = 128, got \[5, 64\]"):
        layer(np.zeros((5, 64), np.float32), router_logits=case.logits)
    with refused("tokens", r"\[T, H\]", r"got \[128\]"):
        layer(case.x[0], router_logits=case.logits)
    with refused(r"router_logits: expected \[5, 4\], got \[4, 4\]"):
        layer(case.x, router_logits=case.logits[:4])
    with refused(r"out: expected \[5, 128\], got \[4, 128\]"):
        layer(case.x, router_logits=case.logits, out=np.empty((4, 128), np.float32))
    with refused("at most 8 tokens, got 9"):
        layer.plan(8)(np.zeros((9, 128), np.float32), router_logits=np.zeros((9, 4), np.float32))


def test_types(layer, case):
    ids, weights = np.zeros((5, 2), np.int64), np.ones((5, 2), np.float32)
    with refused("expert_ids: expected i32, got i64"):
        layer(case.x, expert_ids=ids, expert_weights=weights)
    with refused("expert_weights: expected f32, got f64"):
        layer(case.x, expert_ids=ids.astype(np.int32), expert_weights=weights.astype(np.float64))
    with refused("tokens: expected f32, bf16 or f16, got f64"):
        layer(case.x.astype(np.float64), router_logits=case.logits)
    with refused("tokens: expected a type that Switchyard knows"):
        layer(case.x.astype(np.complex64), router_logits=case.logits)


def test_strides_and_alignment(layer, case):
    wide = np.zeros((5, 256), np.float32)
    with refused(
        r"tokens: expected a contiguous row-major array, got shape \[5, 128\] with strides \[256, 1\]"
    ):
        layer(wide[:, :128], router_logits=case.logits)
    with refused("router_logits: expected a contiguous"):
        layer(case.x, router_logits=np.asfortranarray(case.logits))
    with refused("out: expected a contiguous"):
        layer(case.x, router_logits=case.logits, out=wide[:, ::2])
    odd = np.zeros(5 * 128 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(5, 128)
    with refused("tokens: expected an address aligned to its f32"):
        layer(odd, router_logits=case.logits)
    shifted = switchyard._arrays.aligned(layer.plan(8).workspace_bytes + 64)[4:]
    with refused("workspace: expected an address aligned to 64 bytes"):
        layer.plan(8)(case.x, router_logits=case.logits, workspace=shifted)


def test_arrays_that_are_none(layer, case):
    with refused("tokens", "got list"):
        layer(case.x.tolist(), router_logits=case.logits)
    with refused("router_logits: expected an array", "got str"):
        layer(case.x, router_logits="logits")
    with refused("router_logits: expected logits, or expert_ids and expert_weights"):
        layer(case.x)
    frozen = case.x.copy()
    frozen.flags.writeable = False
    with refused("out: expected a writable array"):
        layer(case.x, router_logits=case.logits, out=frozen)
    with refused("overlaps"):
        layer(case.x, router_logits=case.logits, out=case.x)
    with refused("stream: expected out and workspace"):
        layer(case.x, router_logits=case.logits, stream=0)
    for counters in ([0, 0, 0], np.zeros(2, np.int64), np.zeros(3, np.float32)):
        with refused(r"counters: expected i64 \[3\]"):
            layer(case.x, router_logits=case.logits, counters=counters)
    with refused("tokens: expected an array of numbers, got object"):
        layer(case.x.astype(object), router_logits=case.logits)
    with refused(r"expert_ids: expected \[5, 2\], got none"):
        layer(case.x, expert_weights=np.ones((5, 2), np.float32))
    with refused(r"expert_weights: expected \[5, 2\], got none"):
        layer(case.x, expert_ids=np.zeros((5, 2), np.int32))
    with refused("token_count"):
        layer(case.x, router_logits=case.logits, token_count=np.ones(1, np.int32))


def test_layers(case):
    experts = Experts.quantize(case.gate_up, case.down, "nvfp4")
    with refused("top_k"):
        MoELayer(experts)
    with refused("swigloo", "swiglu"):
        MoELayer(experts, top_k=2, activation="swigloo")
    with refused("expected cpu, cuda or cuda:N, got 'gpu'"):
        MoELayer(experts, top_k=2, device="gpu")
    with refused(r"experts.gate_up: expected \[4, 64, 128\], got \[4, 128, 128\]"):
        MoELayer(experts, switchyard.make_config(hidden=128, intermediate=32, experts=4, top_k=2))
    assert experts.shape() == (4, 128, 128)  # still the caller's
    MoELayer(experts, top_k=2)
    assert experts.shape() == (0, 0, 0)
    for options in ({"top_k": 2}, {"config": CONFIG}):
        with refused("clone"):
            MoELayer(experts, **options)
    with refused("experts: expected Experts, got Checkpoint. Take a layer's"):
        MoELayer(switchyard.Checkpoint(FIXTURES / "qwen3_moe_ct_nvfp4"))


def test_numbers(layer, case):
    experts = Experts.quantize(case.gate_up, case.down, "nvfp4")
    for top_k in (2.0, None, "2"):
        with refused("top_k: expected an integer, got"):
            MoELayer(experts, top_k=top_k)
    with refused(r"top_k: expected 1\.\.4"):
        MoELayer(experts, top_k=5)
    with refused("max_tokens: expected an integer, got '8'"):
        layer.plan("8")
    with refused(r"max_tokens: expected an integer below 2\^31"):
        layer.plan(1 << 40)
    with refused("max_tokens: expected 0 or more, got -1"):
        layer.plan(-1)


def test_single_operations(layer, case):
    with refused(r"logits: expected \[T, 4\], the config's experts, got \[5, 3\]"):
        switchyard.route(case.logits[:, :3].copy(), layer.config)
    experts, ids = Experts.quantize(case.gate_up, case.down, "nvfp4"), np.zeros((5, 2), np.int32)
    offsets, rows = switchyard.group_by_expert(ids, 4)
    for what, operation in {
        "logits": lambda nothing: switchyard.route(nothing, layer.config),
        "expert_ids": lambda nothing: switchyard.group_by_expert(nothing, 4),
        "x": lambda nothing: switchyard.grouped_gemm(experts, "experts.down", nothing, offsets),
        "expert_out": lambda nothing: switchyard.finalize(nothing, rows, np.ones((5, 2), "f4")),
    }.items():
        with refused(f"{what}: expected an array of numpy, PyTorch, CuPy or JAX, got list"):
            operation([[1.0]])
    with refused("experts: expected 1 or more, got 0"):
        switchyard.group_by_expert(ids, 0)


def test_weights(case):
    with refused("nvfp5"):
        Experts.quantize(case.gate_up, case.down, "nvfp5")
    for down in (None, {"elements": None}):
        with refused("experts.down: expected an array, got None"):
            Experts.quantize(case.gate_up, down, "nvfp4")
    with refused("elements: expected bf16", r"got f32 \[4, 128, 128\]. Name the format"):
        MoELayer(Experts.from_arrays(case.gate_up, case.down), top_k=2)
    with refused("gate_up: expected an array, or a dict", "scale"):
        Experts.from_arrays({"elements": case.gate_up, "scale": case.down}, case.down)
    with refused("order: expected gate_up, up_gate or interleaved, got 'down'"):
        Experts.from_arrays(case.gate_up, case.down, format="f32", order="down")
    with refused("finite"):
        Experts.quantize(
            np.where(case.gate_up > 0, np.inf, 0).astype(np.float32), case.down, "mxfp4"
        )
    with refused("tensor of MoeWeights", "routr"):
        Experts.from_arrays(case.gate_up, case.down, format="f32", routr=case.logits)
    experts = Experts.from_arrays(
        {"elements": np.zeros((4, 128, 64), np.uint8)}, case.down, format="mxfp4"
    )
    with refused("experts.gate_up", "scales: expected f8_e8m0"):
        MoELayer(experts, top_k=2)


def test_checkpoints(tmp_path):
    checkpoint = switchyard.Checkpoint(FIXTURES / "qwen3_moe_ct_nvfp4")
    experts = checkpoint.experts(checkpoint.layers[0].layer)
    assert "act=nvfp4" in experts.config.line
    with refused("top_k: expected none, because the checkpoint says it"):
        MoELayer(experts, top_k=1)
    with refused("act", "bf17", "there are f32, "):
        MoELayer(experts, act="bf17")
    with refused("layer: expected one of"):
        checkpoint.experts(99)
    with refused(r"layer: expected an integer, got CheckpointLayer\(layer=0"):
        checkpoint.experts(checkpoint.layers[0])
    with refused("RANK/RANKS"):
        checkpoint.experts(checkpoint.layers[0].layer, ep="2/2")
    with refused("nowhere: no such file or directory. Check the path, or download the model"):
        switchyard.Checkpoint(tmp_path / "nowhere")


def test_a_gpu_that_is_not_there(case):
    experts = Experts.from_arrays(case.gate_up, case.down, format="f32")
    try:
        MoELayer(experts, top_k=2, device="cuda:99")
    except (switchyard.DeviceError, switchyard.Unsupported, InvalidArgument) as error:
        assert str(error)
    else:
        pytest.fail("a layer on cuda:99")
