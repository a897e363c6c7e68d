"""Arrays of other frameworks through DLPack."""

import numpy as np
import pytest
from conftest import start_jax
from switchyard import Experts, InvalidArgument, MoELayer


@pytest.fixture
def layer(case):
    return MoELayer(Experts.quantize(case.gate_up, case.down, "nvfp4"), top_k=2)


@pytest.fixture
def jnp():
    """jax.numpy on a CPU, JAX's default or not."""
    jax = start_jax()
    with jax.default_device(jax.devices("cpu")[0]):
        yield jax.numpy


def test_jax(layer, case, jnp):
    want = layer(case.x, router_logits=case.logits)
    out = layer(jnp.asarray(case.x), router_logits=jnp.asarray(case.logits))
    assert type(out) is type(jnp.zeros(1)) and out.device == jnp.zeros(1).device
    np.testing.assert_array_equal(np.asarray(out), want)
    half = jnp.asarray(case.x, jnp.bfloat16)
    out = layer(half, router_logits=jnp.asarray(case.logits, jnp.bfloat16))
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(out, np.float32), want, rtol=0.1, atol=0.05)
    experts = Experts.quantize(jnp.asarray(case.gate_up), jnp.asarray(case.down), "nvfp4")
    np.testing.assert_array_equal(
        MoELayer(experts, top_k=2)(case.x, router_logits=case.logits), want
    )


def test_torch(layer, case):
    torch = pytest.importorskip("torch")
    want = layer(case.x, router_logits=case.logits)
    x, logits = torch.from_numpy(case.x), torch.from_numpy(case.logits)
    out = layer(x, router_logits=logits)
    assert isinstance(out, torch.Tensor)
    np.testing.assert_array_equal(out.numpy(), want)
    assert layer(x.bfloat16(), router_logits=logits).dtype == torch.bfloat16
    np.testing.assert_array_equal(layer(x.requires_grad_(), router_logits=logits).numpy(), want)
    with pytest.raises(InvalidArgument, match="tokens: expected a contiguous"):
        layer(torch.zeros(128, 5).t(), router_logits=logits)
    weights = torch.from_numpy(case.gate_up).bfloat16(), torch.from_numpy(case.down).bfloat16()
    experts = Experts.from_arrays(*weights)
    np.testing.assert_array_equal(experts.dequantize("experts.down"), weights[1].float().numpy())
    fp8 = torch.from_numpy(case.gate_up).to(torch.float8_e4m3fn)
    scales = torch.ones(4, 1, 1)
    experts = Experts.from_arrays(
        {"elements": fp8, "scales": scales},
        {"elements": fp8, "scales": scales},
        format="fp8_tensor",
    )
    np.testing.assert_array_equal(experts.dequantize("experts.gate_up"), fp8.float().numpy())
