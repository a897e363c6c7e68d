"""Layers on a GPU with the arrays of PyTorch, CuPy and JAX that lie there."""

import gc

import definition
import numpy as np
import pytest

from switchyard import Experts, InvalidArgument, MoELayer

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)
import switchyard.torch


@pytest.fixture
def layer(case):
    experts = Experts.from_arrays(
        *(torch.from_numpy(w).bfloat16() for w in (case.gate_up, case.down))
    )
    return MoELayer(experts, top_k=case.top_k, device="cuda")


@pytest.fixture
def batch(case):
    return torch.from_numpy(case.x).bfloat16().cuda(), torch.from_numpy(case.logits).cuda()


def expected(case, x):
    """The definition with weights and tokens in BF16."""
    gate_up, down = (
        torch.from_numpy(w).bfloat16().double().numpy() for w in (case.gate_up, case.down)
    )
    ids, weights = definition.choose(case.logits.astype(np.float64), case.top_k)
    return definition.moe(x.double().cpu().numpy(), gate_up, down, ids, weights)


def close(got, want):
    """Within BF16's rounding of the intermediate and the output."""
    error = np.linalg.norm(got.double().cpu().numpy() - want)
    assert error < 2**-7 * np.linalg.norm(want)


def test_torch(layer, case, batch):
    x, logits = batch
    want = expected(case, x)
    out = layer(x, router_logits=logits)
    assert out.device == x.device and out.dtype == torch.bfloat16
    close(out, want)
    number = switchyard.torch.register(layer)
    assert torch.equal(torch.ops.switchyard.moe(number, x, logits, None, None, None), out)
    torch.library.opcheck(torch.ops.switchyard.moe.default, (number, x, logits, None, None, None))


def test_two_streams(layer, batch):
    x, logits = batch
    layer.plan(8)
    want = layer(x, router_logits=logits)
    outs = []
    for _ in range(2):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            outs += [layer(x, router_logits=logits) for _ in range(10)]
    torch.cuda.synchronize()
    assert all(torch.equal(out, want) for out in outs)


def test_cuda_graph(layer, batch):
    x, logits = batch
    plan = layer.plan(8)
    want = plan(x, router_logits=logits)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = plan(x, router_logits=logits)
    out.zero_()
    graph.replay()
    assert torch.equal(out, want)


def test_arrays_in_flight_may_be_dropped(layer, batch):
    x, logits = batch
    want = layer(x, router_logits=logits)
    for _ in range(50):
        out = layer(x.clone(), router_logits=logits.clone())
        gc.collect()
    assert torch.equal(out, want)


def test_arrays_on_the_host(layer, case, batch):
    x, logits = batch
    out = layer(x.cpu(), router_logits=logits.cpu())
    assert out.device.type == "cpu"
    close(out, expected(case, x))


def test_mistakes(layer, case, batch):
    x, logits = batch
    with pytest.raises(InvalidArgument, match="router_logits: expected an array on cuda:0"):
        layer(x, router_logits=logits.cpu())
    with pytest.raises(InvalidArgument, match="tokens: expected an address aligned to 16 bytes"):
        layer(
            torch.zeros(5 * 128 + 1, device="cuda").bfloat16()[1:].view(5, 128),
            router_logits=logits,
        )
    with pytest.raises(InvalidArgument, match="tokens: expected bf16, like the experts"):
        layer(x.float(), router_logits=logits)
    host = MoELayer(Experts.quantize(case.gate_up, case.down, "nvfp4"), top_k=2)
    with pytest.raises(InvalidArgument, match="tokens: expected an array in host memory"):
        host(x, router_logits=logits)


def test_cupy(layer, batch):
    cupy = pytest.importorskip("cupy")
    x, logits = batch
    half = MoELayer(
        Experts.from_arrays(
            *(np.zeros(s, np.float16) + 0.01 for s in ((4, 128, 128), (4, 128, 64))), format="fp16"
        ),
        top_k=2,
        act="fp16",
        device="cuda",
    )
    want = half(x.half(), router_logits=logits)
    out = half(cupy.asarray(x.half()), router_logits=cupy.asarray(logits))
    assert np.array_equal(cupy.asnumpy(out), want.cpu().numpy())


def test_jax_is_refused(layer, batch):
    """Its arrays belong to streams that nobody else can wait for."""
    jax = pytest.importorskip("jax")
    if jax.default_backend() != "gpu":
        pytest.skip("JAX has no GPU here")
    x, logits = batch
    with pytest.raises(InvalidArgument, match="tokens: expected an array in host memory"):
        layer(jax.dlpack.from_dlpack(x), router_logits=jax.dlpack.from_dlpack(logits))
