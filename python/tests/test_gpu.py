"""Layers on a GPU with the arrays of PyTorch, CuPy and JAX that lie there."""

import numpy as np
import pytest
import switchyard
from switchyard import Experts, InvalidArgument, MoELayer, Unsupported

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)
import switchyard.torch
import torch_definition
from conftest import start_jax
from gpu import E, GpuCase, H, I, K, close, random

FORMATS = ["bf16", "fp16", "nvfp4", "mxfp4"]


@pytest.fixture(scope="module")
def case():
    return GpuCase()


@pytest.mark.parametrize("format", FORMATS)
def test_formats_and_batches(format):
    case = GpuCase(format)
    for tokens in (0, 1, 5, 16, 17, 130, 600):
        x, logits = case.batch(tokens)
        want = case.expected(x, *torch_definition.choose(logits, K))
        plan = case.layer.plan(max(tokens, 1))
        out = plan(x, router_logits=logits)
        assert out.device == x.device and out.dtype == x.dtype
        close(out, want)
        assert torch.equal(plan(x, router_logits=logits), out)


@pytest.mark.parametrize(
    "activation",
    ["swiglu", "geglu", "geglu_tanh", "swiglu_oai", "silu", "gelu", "relu", "relu2"],
)
def test_activations_with_biases(activation):
    case = GpuCase(activation=activation, bias=True)
    for tokens in (3, 200):
        x, logits = case.batch(tokens)
        want = case.expected(x, *torch_definition.choose(logits, K))
        close(case.layer.plan(tokens)(x, router_logits=logits), want)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("softmax", {}),
        ("softmax_renormalize", {}),
        ("topk_softmax", {}),
        ("sigmoid", {}),
        ("sigmoid_renormalize", {}),
        ("deepseek_v3", {"groups": 2, "topk_groups": 1}),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_routing(method, options, dtype):
    case = GpuCase(routing=method, **options)
    for tokens in (4, 150):
        x, logits = case.batch(tokens)
        logits = logits.to(getattr(torch, dtype))
        ids = torch.empty(tokens, K, dtype=torch.int32, device="cuda")
        weights = torch.empty(tokens, K, device="cuda")
        out = case.layer.plan(tokens)(
            x, router_logits=logits, chosen_ids=ids, chosen_weights=weights
        )
        want_ids, want_weights = torch_definition.choose(logits, K, method, **options)
        if dtype == "float32":  # no ties
            assert torch.equal(ids.long(), want_ids)
        torch.testing.assert_close(
            weights.double().sum(dim=1), want_weights.sum(dim=1), rtol=1e-5, atol=1e-6
        )
        close(out, case.expected(x, ids.long(), weights))


def test_route_is_the_layers_routing(case):
    _, logits = case.batch(50)
    ids, weights = switchyard.route(logits.cpu(), case.layer.config)
    want_ids, want_weights = torch_definition.choose(logits, K)
    np.testing.assert_array_equal(ids, want_ids.cpu())
    np.testing.assert_allclose(weights, want_weights.cpu(), rtol=1e-6)


def test_chosen_experts_slots_left_out_and_counters(case):
    for tokens in (6, 200):
        x, _ = case.batch(tokens)
        ids = torch.randint(0, E, (tokens, K), device="cuda", dtype=torch.int32)
        weights = random(tokens, K)
        ids[1, 0], ids[2], ids[3, 1], weights[4, 0] = -1, -1, E + 5, float("nan")
        counters = torch.zeros(3, dtype=torch.int64, device="cuda")
        out = case.layer(x, expert_ids=ids, expert_weights=weights, counters=counters)
        assert counters.tolist() == [1, 1, 0]
        weights[4, 0], ids[4, 0] = 0, -1
        close(out, case.expected(x, ids, weights))


def test_check_on_the_gpu():
    for format in ("bf16", "nvfp4", "mxfp4"):
        report = switchyard.check(f"moe t40 h256 i128 e8 k2 {format} act=bf16", device="cuda")
        assert report.passed and report.error_ratio <= 2


def test_out_workspace_and_stream_of_the_callers(case):
    x, logits = case.batch(7)
    plan = case.layer.plan(8)
    want = plan(x, router_logits=logits)
    out = torch.full_like(x, torch.nan)
    workspace = torch.empty(plan.workspace_bytes, dtype=torch.uint8, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    returned = plan(
        x, router_logits=logits, out=out, workspace=workspace, stream=stream.cuda_stream
    )
    assert returned is out
    stream.synchronize()
    assert torch.equal(out, want)


def test_arrays_on_the_host(case):
    x, logits = case.batch(9)
    out = case.layer(x.cpu(), router_logits=logits.cpu())
    assert out.device.type == "cpu"
    close(out.cuda(), case.expected(x, *torch_definition.choose(logits, K)))


def test_parameters_and_tensors_with_gradients(case):
    x, logits = case.batch(3)
    want = case.layer(x, router_logits=logits)
    parameter = torch.nn.Parameter(x.clone())
    assert torch.equal(case.layer(parameter, router_logits=logits.requires_grad_()), want)


def refused(*parts):
    return pytest.raises(InvalidArgument, match=".*".join(parts))


def test_wrong_devices(case):
    x, logits = case.batch(5)
    with refused("router_logits: expected an array on cuda:0"):
        case.layer(x, router_logits=logits.cpu())
    with refused("out: expected an array on cuda:0"):
        case.layer(x, router_logits=logits, out=x.cpu())
    host = MoELayer(
        Experts.quantize(np.zeros((E, 2 * I, H), "f4"), np.zeros((E, H, I), "f4"), "nvfp4"), top_k=K
    )
    with refused("tokens: expected an array in host memory"):
        host(x, router_logits=logits)


def test_wrong_types(case):
    x, logits = case.batch(5)
    with refused("tokens: expected bf16, like the experts"):
        case.layer(x.float(), router_logits=logits)
    with refused("out: expected bf16, like the experts"):
        case.layer(x, router_logits=logits, out=torch.empty_like(x, dtype=torch.float32))
    with refused("router_logits: expected f32, bf16 or f16, got f64"):
        case.layer(x, router_logits=logits.double())
    ids, weights = torch.zeros(5, K, dtype=torch.int64, device="cuda"), random(5, K)
    with refused("expert_ids: expected i32, got i64"):
        case.layer(x, expert_ids=ids, expert_weights=weights)
    with refused("expert_weights: expected f32, got bf16"):
        case.layer(x, expert_ids=ids.int(), expert_weights=weights.bfloat16())


def test_wrong_shapes(case):
    x, logits = case.batch(5)
    with refused(rf"tokens: expected \[T, H\] with H = {H}"):
        case.layer(x[:, :64].contiguous(), router_logits=logits)
    with refused(r"router_logits: expected \[5, 8\], got \[4, 8\]"):
        case.layer(x, router_logits=logits[:4])
    with refused("at most 4 tokens, got 5"):
        case.layer.plan(4)(x, router_logits=logits)
    with refused("router_logits", "or expert_ids and expert_weights"):
        case.layer(x)


def test_strides_and_alignment(case):
    x, logits = case.batch(5)
    for name, arrays in {
        "tokens": {"x": torch.stack([x, x], dim=2)[:, :, 0], "router_logits": logits},
        "router_logits": {"x": x, "router_logits": logits.t().contiguous().t()},
        "out": {"x": x, "router_logits": logits, "out": torch.empty(H, 5, device="cuda").t()},
    }.items():
        with refused(f"{name}: expected a contiguous row-major array"):
            case.layer(**arrays)
    odd = torch.zeros(5 * H + 1, device="cuda", dtype=torch.bfloat16)[1:].view(5, H)
    with refused("tokens: expected an address aligned to 16 bytes"):
        case.layer(odd, router_logits=logits)
    with refused("out: expected an address aligned to 16 bytes"):
        case.layer(x, router_logits=logits, out=odd)
    plan = case.layer.plan(8)
    shifted = torch.empty(plan.workspace_bytes + 256, dtype=torch.uint8, device="cuda")[16:]
    with refused("workspace: expected an address aligned to 256 bytes"):
        plan(x, router_logits=logits, workspace=shifted)
    with refused("workspace: expected at least"):
        plan(x, router_logits=logits, workspace=shifted[240:250])
    with refused("overlaps tokens"):
        case.layer(x, router_logits=logits, out=x)


def test_what_a_gpu_has_not_says_so():
    experts = Experts.quantize(random(E, 2 * I, H), random(E, H, I), "int4_g32")
    with pytest.raises(Unsupported, match="Run the layer on the CPU"):
        MoELayer(experts, top_k=K, act="bf16", device="cuda")


def test_two_devices():
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    first = GpuCase()
    weights = [w.bfloat16() for w in first.weights]
    second = MoELayer(Experts.from_arrays(*weights), top_k=K, device="cuda:1")
    x, logits = first.batch(20)
    want = first.layer(x, router_logits=logits)
    there = x.to("cuda:1"), logits.to("cuda:1")
    assert torch.cuda.current_device() == 0
    assert torch.equal(second(there[0], router_logits=there[1]).to("cuda:0"), want)
    number = switchyard.torch.register(second)
    out = torch.ops.switchyard.moe(number, *there, None, None, None)
    assert out.device == there[0].device and torch.equal(out.to("cuda:0"), want)
    with refused("tokens: expected an array on cuda:1, got one on cuda:0"):
        torch.ops.switchyard.moe(number, x, logits, None, None, None)
    with refused("tokens: expected an array on cuda:1, got one on cuda:0"):
        second(x, router_logits=logits)


def test_cupy():
    cupy = pytest.importorskip("cupy")
    case = GpuCase("fp16")
    x, logits = case.batch(5)
    want = case.layer(x, router_logits=logits)
    out = case.layer(cupy.asarray(x), router_logits=cupy.asarray(logits))
    assert np.array_equal(cupy.asnumpy(out), want.cpu().numpy())
    with cupy.cuda.Stream(non_blocking=True) as stream:
        out = case.layer(cupy.asarray(x), router_logits=cupy.asarray(logits))
        stream.synchronize()
        assert np.array_equal(cupy.asnumpy(out), want.cpu().numpy())
    with refused("tokens: expected a contiguous"):
        case.layer(cupy.asarray(x)[:, ::2], router_logits=cupy.asarray(logits))
    weights = [cupy.asarray(w.half()) for w in case.weights]
    layer = MoELayer(
        Experts.from_arrays(*weights, format="fp16"), top_k=K, act="fp16", device="cuda"
    )
    assert torch.equal(layer(x, router_logits=logits), want)


def test_jax_gives_weights_and_no_tokens(case):
    """Its arrays belong to streams that nobody else can wait for."""
    jax = start_jax()
    if jax.default_backend() != "gpu":
        pytest.skip("JAX has no GPU here")
    x, logits = case.batch(5)
    weights = [jax.dlpack.from_dlpack(w.bfloat16()) for w in case.weights]  # a layer copies them
    layer = MoELayer(Experts.from_arrays(*weights), top_k=K, device="cuda")
    assert torch.equal(layer(x, router_logits=logits), case.layer(x, router_logits=logits))
    with refused("tokens: expected an array in host memory"):
        case.layer(jax.dlpack.from_dlpack(x), router_logits=jax.dlpack.from_dlpack(logits))
