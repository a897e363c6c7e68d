"""The PyTorch operators and the module, on a GPU."""

import numpy as np
import pytest
from switchyard import Experts, InvalidArgument, MoELayer, Unsupported

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)
import switchyard.torch
import torch_definition
from gpu import GpuCase, H, I, K, close

moe, moe_out = torch.ops.switchyard.moe, torch.ops.switchyard.moe_out


@pytest.fixture(scope="module", params=["bf16", "nvfp4"])
def case(request):
    return GpuCase(request.param)


@pytest.fixture
def number(case):
    return switchyard.torch.register(case.layer)


def chosen(logits):
    """ids [T, K] i64 and weights [T, K] f32."""
    ids, weights = torch_definition.choose(logits, K)
    return ids, weights.float()


@pytest.mark.parametrize("tokens", [0, 1, 40])
def test_functional_and_out(case, number, tokens):
    x, logits = case.batch(tokens)
    want = case.expected(x, *chosen(logits))
    routed = moe(number, x, logits, None, None, None)
    close(routed, want)
    given = moe(number, x, None, *chosen(logits), None)
    close(given, want)
    out = torch.full_like(x, torch.nan)
    assert moe_out(number, x, None, *chosen(logits), None, out) is None
    assert torch.equal(out, given)


def test_opcheck(case, number):
    x, logits = case.batch(5)
    for arguments in (
        (number, x, logits, None, None, None),
        (number, x, None, *chosen(logits), None),
    ):
        torch.library.opcheck(moe.default, arguments)
        torch.library.opcheck(moe_out.default, (*arguments, torch.empty_like(x)))


def test_inputs_are_made_contiguous(case, number):
    x, logits = case.batch(6)
    want = moe(number, x, logits, None, None, None)
    strided = torch.stack([x, x], dim=2)[:, :, 0]
    assert not strided.is_contiguous()
    assert torch.equal(moe(number, strided, logits.t().contiguous().t(), None, None, None), want)


@pytest.mark.parametrize("recorded", [True, False])
def test_mistakes(case, number, recorded):
    with torch.set_grad_enabled(recorded):
        mistakes(number, *case.batch(5))


def mistakes(number, x, logits):
    with pytest.raises(InvalidArgument, match="tokens: expected bf16, like the experts"):
        moe(number, x.float(), logits, None, None, None)
    with pytest.raises(InvalidArgument, match="router_logits: expected an array on cuda:0"):
        moe(number, x, logits.cpu(), None, None, None)
    with pytest.raises(InvalidArgument, match="out: expected a contiguous"):
        moe_out(number, x, logits, None, None, None, x.new_empty(H, 5).t())
    with pytest.raises(InvalidArgument, match="Keep the MoELayer"):
        moe(10**6, x, logits, None, None, None)
    host = MoELayer(
        Experts.quantize(np.zeros((8, 2 * I, H), "f4"), np.zeros((8, H, I), "f4"), "nvfp4"), top_k=K
    )
    with pytest.raises(InvalidArgument, match="tokens: expected an array in host memory"):
        moe(switchyard.torch.register(host), x, logits, None, None, None)
    assert moe(number, x.cpu(), logits.cpu(), None, None, None).device.type == "cpu"


@pytest.mark.parametrize("options", [{}, {"dynamic": True}, {"mode": "reduce-overhead"}])
def test_compiles_as_one_graph(case, number, options):
    router = torch.nn.Linear(H, 8, bias=False, device="cuda", dtype=case.type)
    module = switchyard.torch.MoE(case.layer, max_tokens=64)

    def block(x):
        return x + torch.relu(module(x * 2, router_logits=router(x).float()))

    compiled = torch.compile(block, fullgraph=True, **options)
    with torch.no_grad():
        for tokens in (12, 12, 12, 64, 3):
            x, _ = case.batch(tokens)
            torch.testing.assert_close(compiled(x), block(x), rtol=2e-2, atol=2e-2)


def test_module(case):
    x, logits = case.batch(24)
    module = switchyard.torch.MoE(case.layer, max_tokens=32)
    want = module(x, router_logits=logits)
    close(want, case.expected(x, *chosen(logits)))
    folded = module(x.view(2, 12, H), router_logits=logits.view(2, 12, -1))
    assert torch.equal(folded.view(24, H), want)


def test_autocast(case, number):
    x, logits = case.batch(8)
    want = moe(number, x, logits, None, None, None)
    module = switchyard.torch.MoE(case.layer, dtype=torch.bfloat16)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        linear = torch.nn.functional.linear(x.float(), torch.eye(H, device="cuda"))
        assert linear.dtype == torch.bfloat16 and torch.equal(linear, x)
        assert torch.equal(moe(number, linear, logits, None, None, None), want)
        widened = module(x.float(), router_logits=logits)
    assert widened.dtype == torch.float32 and torch.equal(widened, want.float())
    with torch.autocast("cuda", dtype=torch.float16):  # casts our inputs as little
        assert torch.equal(moe(number, x, logits, None, None, None), want)


def test_no_gradient_is_said(case, number):
    x, logits = case.batch(3)
    out = moe(number, x.requires_grad_(), logits, None, None, None)
    with pytest.raises(Unsupported, match="no gradient of switchyard::moe"):
        out.float().sum().backward()
    with torch.inference_mode():
        close(moe(number, x, logits, None, None, None), case.expected(x, *chosen(logits)))


def test_calls_leave_no_memory_behind(case, number):
    x, logits = case.batch(6)
    ids, weights = chosen(logits)

    def calls():
        moe(number, x, logits, None, None, None)
        moe(number, x.t().contiguous().t(), None, ids, weights.half(), None)  # all are copied
        moe_out(number, x, None, ids, weights, None, torch.empty_like(x))
        with torch.no_grad(), pytest.raises(InvalidArgument):
            moe(number, x, logits[:3], None, None, None)

    calls()
    before = torch.cuda.memory_allocated()
    for _ in range(20):
        calls()
    assert torch.cuda.memory_allocated() == before
