"""The PyTorch operators and the module, on a CPU."""

import copy
import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from switchyard import Experts, InvalidArgument, MoELayer, Unsupported

torch = pytest.importorskip("torch")
import switchyard.torch


@pytest.fixture
def layer(case):
    return MoELayer(Experts.quantize(case.gate_up, case.down, "nvfp4"), top_k=2, threads=2)


@pytest.fixture
def batch(case):
    return torch.from_numpy(case.x), torch.from_numpy(case.logits)


def moe(layer, x, **arrays):
    names = ("router_logits", "expert_ids", "expert_weights", "input_ids")
    return torch.ops.switchyard.moe(
        switchyard.torch.register(layer), x, *(arrays.get(n) for n in names)
    )


def test_functional_and_out(layer, case, batch):
    x, logits = batch
    want = layer(case.x, router_logits=case.logits)
    np.testing.assert_array_equal(moe(layer, x, router_logits=logits).numpy(), want)
    out = torch.empty_like(x)
    number = switchyard.torch.register(layer)
    assert torch.ops.switchyard.moe_out(number, x, logits, None, None, None, out) is None
    np.testing.assert_array_equal(out.numpy(), want)


def test_opcheck(layer, batch):
    x, logits = batch
    ids, weights = torch.tensor([[0, 1]] * 5), torch.full((5, 2), 0.5)
    number = switchyard.torch.register(layer)
    chosen = (number, x, None, ids, weights, None)
    routed = (number, x, logits, None, None, None)
    for arguments in (chosen, routed):
        torch.library.opcheck(torch.ops.switchyard.moe.default, arguments)
        torch.library.opcheck(
            torch.ops.switchyard.moe_out.default, (*arguments, torch.empty_like(x))
        )


def test_strided_inputs_and_other_integers(layer, case, batch):
    x, logits = batch
    want = moe(layer, x, router_logits=logits)
    strided = torch.stack([x, x], dim=2)[:, :, 0]
    assert not strided.is_contiguous()
    assert torch.equal(moe(layer, strided, router_logits=logits.t().contiguous().t()), want)
    weights, ids = logits.softmax(dim=1).topk(2)
    weights = weights / weights.sum(dim=1, keepdim=True)
    torch.testing.assert_close(moe(layer, x, expert_ids=ids, expert_weights=weights), want)


@pytest.mark.parametrize("recorded", [True, False])
def test_mistakes(layer, batch, recorded):
    """Where PyTorch records gradients, the call takes another way to the same sentence."""
    with torch.set_grad_enabled(recorded):
        mistakes(layer, *batch)


def mistakes(layer, x, logits):
    with pytest.raises(InvalidArgument, match=r"tokens: expected \[T, H\] with H = 128"):
        moe(layer, x[:, :64], router_logits=logits)
    with pytest.raises(InvalidArgument, match=r"tokens: expected \[T, H\].*got \[128\]"):
        moe(layer, x[0], router_logits=logits)
    with pytest.raises(InvalidArgument, match="tokens: expected f32, bf16 or f16, got f64"):
        moe(layer, x.double(), router_logits=logits)
    with pytest.raises(InvalidArgument, match="router_logits: expected logits, or expert_ids"):
        moe(layer, x)
    with pytest.raises(InvalidArgument, match="router_logits"):
        moe(layer, x, router_logits=logits[:3])
    with pytest.raises(NotImplementedError, match="SparseCPU"):
        moe(layer, x.to_sparse(), router_logits=logits)
    for tokens in (x.to_sparse(), x.to("meta")):
        with pytest.raises(InvalidArgument, match="tokens: expected a tensor with its values in mem"):
            layer(tokens, router_logits=logits)
    number = switchyard.torch.register(layer)
    with pytest.raises(InvalidArgument, match="out: expected a contiguous"):
        torch.ops.switchyard.moe_out(number, x, logits, None, None, None, torch.empty(128, 5).t())
    del layer
    with pytest.raises(
        InvalidArgument, match="layer: expected the number of a layer that lives, got 0"
    ):
        torch.ops.switchyard.moe(0, x, logits, None, None, None)


def test_operators_use_the_plan_that_fits_best(case, batch):
    x, logits = batch
    layer = MoELayer(Experts.quantize(case.gate_up, case.down, "nvfp4"), top_k=2, threads=1)
    want = moe(layer, x, router_logits=logits)  # made for 8 tokens, the next power of two
    assert [plan.max_tokens for plan in layer._plans] == [8]
    layer.plan(5)
    layer.plan(100)
    with torch.inference_mode():
        assert torch.equal(moe(layer, x, router_logits=logits), want)
        assert moe(layer, x.repeat(10, 1), router_logits=logits.repeat(10, 1)).shape == (50, 128)
    assert [plan.max_tokens for plan in layer._plans] == [5, 8, 100]


def test_threads_call_at_once(layer, batch):
    x, logits = batch
    want = moe(layer, x, router_logits=logits)

    @torch.inference_mode()
    def calls(_):
        return all(torch.equal(moe(layer, x, router_logits=logits), want) for _ in range(50))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(calls, range(8)))


def test_layers_of_pytorchs_devices_and_of_nothing(case):
    experts = Experts.quantize(case.gate_up, case.down, "nvfp4")
    with pytest.raises(InvalidArgument, match="layer: expected a MoELayer, got Experts"):
        switchyard.torch.MoE(experts)
    with pytest.raises(InvalidArgument, match="expected cpu, cuda or cuda:N, got 'meta'"):
        MoELayer(experts, top_k=2, device=torch.device("meta"))
    assert MoELayer(experts, top_k=2, device=torch.device("cpu")).device == "cpu"


def test_a_number_ends_with_its_layer(case, batch):
    x, logits = batch
    layer = MoELayer(Experts.from_arrays(case.gate_up, case.down, format="f32"), top_k=2)
    number = switchyard.torch.register(layer)
    assert switchyard.torch.register(layer) == number
    del layer
    gc.collect()
    with pytest.raises(InvalidArgument, match="Keep the MoELayer"):
        torch.ops.switchyard.moe(number, x, logits, None, None, None)


def test_module_in_a_compiled_model(layer, batch):
    x, logits = batch
    module = switchyard.torch.MoE(layer, max_tokens=16)
    want = module(x, router_logits=logits)

    def model(x, logits):
        return torch.relu(module(x * 1.0, router_logits=logits)) + 1

    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, logits), torch.relu(want) + 1)
    torch.testing.assert_close(compiled(x[:3], logits[:3]), torch.relu(want[:3]) + 1)
    folded = module(x.view(5, 1, 128), router_logits=logits.view(5, 1, 4))
    assert torch.equal(folded.view(5, 128), want)
    assert module(x[:0], router_logits=logits[:0]).shape == (0, 128)
    assert not list(module.parameters())
    assert copy.deepcopy(module).layer is layer


def test_autocast(layer, batch):
    x, logits = batch
    module = switchyard.torch.MoE(layer)
    want = module(x, router_logits=logits)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        linear = torch.nn.functional.linear(x, torch.eye(128))
        assert linear.dtype == torch.bfloat16
        assert module(linear, router_logits=logits).dtype == torch.bfloat16
        assert torch.equal(module(x, router_logits=logits), want)


def test_no_gradient_is_said(layer, batch):
    x, logits = batch
    out = moe(layer, x.requires_grad_(), router_logits=logits)
    with pytest.raises(Unsupported, match="no gradient of switchyard::moe"):
        out.sum().backward()


def test_a_compiled_model_takes_no_gradient_for_zero(layer, batch):
    x, logits = batch
    module = switchyard.torch.MoE(layer)
    compiled = torch.compile(
        lambda x: x + module(x * 1.0, router_logits=logits), fullgraph=True, backend="aot_eager"
    )
    with pytest.raises(Exception, match="no gradient of switchyard::moe"):
        compiled(x.clone().requires_grad_())
    with torch.no_grad():
        want = x + module(x, router_logits=logits)
        torch.testing.assert_close(compiled(x.clone().requires_grad_()), want)


def test_what_a_gpu_is_given(layer, batch, monkeypatch):
    """Without a GPU: a layer on a CPU refuses a call that is enqueued once it took the arguments."""
    x, logits = batch
    plan = layer.plan(8)
    monkeypatch.setattr("switchyard._layer.on_gpu", lambda x: True)
    monkeypatch.setattr(plan, "_gpu", True)
    out, ids = torch.empty_like(x), torch.zeros(5, 2, dtype=torch.int32)
    workspace = torch.empty(plan.workspace_bytes, dtype=torch.uint8)
    for arrays in (
        {"router_logits": logits},
        {"router_logits": logits, "out": out, "workspace": workspace},
        {"router_logits": logits, "out": out, "workspace": workspace, "stream": 0},
        {"expert_ids": ids, "expert_weights": torch.ones(5, 2), "chosen_ids": ids.clone()},
        {"router_logits": logits, "token_count": ids[0, :1], "counters": torch.zeros(3).long()},
    ):
        for tokens in (x, torch.nn.Parameter(x), x.clone().requires_grad_()):
            with pytest.raises(InvalidArgument, match="expected a layer on a GPU, got one on cpu"):
                plan(tokens, **arrays)
    host = {"router_logits": logits.numpy(), "out": out.numpy(), "workspace": workspace.numpy()}
    with pytest.raises(InvalidArgument, match="expected a layer on a GPU, got one on cpu"):
        plan(x.numpy(), **host, stream=2**47)
    with pytest.raises(InvalidArgument, match="out: expected an array"):
        plan(x, router_logits=logits, out="out")
