"""Our experts in tiny random models of transformers against its own, on a CPU."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
import switchyard.transformers
from switchyard import Unsupported

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
SMALL = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 128, "max_position_embeddings": 256, "pad_token_id": 0, "head_dim": 16,
}  # fmt: skip
MODELS = {
    "mixtral": {"intermediate_size": 96, "num_local_experts": 4},
    "qwen3_moe": {
        "intermediate_size": 96, "moe_intermediate_size": 32, "num_experts": 8,
        "num_experts_per_tok": 3,
    },
    "deepseek_v3": {
        "intermediate_size": 96, "moe_intermediate_size": 32, "n_routed_experts": 8,
        "num_experts_per_tok": 3, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1,
        "q_lora_rank": 32, "kv_lora_rank": 32,
        "qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 16, "num_key_value_heads": 4,
    },
    "gpt_oss": {
        "intermediate_size": 32, "num_local_experts": 4, "num_experts_per_tok": 2,
        "sliding_window": 64,
    },
}  # fmt: skip


def model_of(family, dtype=torch.float32, **options):
    torch.manual_seed(5)
    config = transformers.AutoConfig.for_model(family, **(SMALL | MODELS[family] | options))
    model = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():  # gpt-oss starts with empty ones, others with small ones
        torch.nn.init.normal_(parameter, std=0.15)
    return model.to(dtype).eval()


@pytest.fixture(autouse=True)
def default_options():
    yield
    switchyard.transformers.configure()


@torch.no_grad()
def logits_of(model, implementation):
    model.set_experts_implementation(implementation)
    return model(torch.arange(24, device=model.device).view(2, 12) % 128).logits


@pytest.mark.parametrize("family", MODELS)
def test_same_logits_as_transformers_own(family):
    model = model_of(family)
    want = logits_of(model, "eager")
    got = logits_of(model, "switchyard")
    used = [m for m in model.modules() if "_switchyard_layer" in m.__dict__]
    assert used, "our experts did not run"
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def experts_of(model):
    return [module for module in model.modules() if hasattr(module, "is_concatenated")]


@torch.no_grad()
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", MODELS)
def test_bf16_is_as_near_to_the_truth_as_transformers(family, device):
    """Layer by layer on the same inputs: a whole model may choose another expert for a token."""
    model = model_of(family, torch.bfloat16).to(device)
    exact = model_of(family, torch.bfloat16).to(device).double()
    calls = []
    for module in experts_of(model):
        module.register_forward_hook(lambda module, inputs, output: calls.append((inputs, output)))
    logits_of(model, "eager")
    recorded = list(calls)
    exact.set_experts_implementation("eager")
    model.set_experts_implementation("switchyard")
    assert len(recorded) == len(experts_of(model)) > 0
    for module, truth, ((x, ids, weights), theirs) in zip(
        experts_of(model), experts_of(exact), recorded
    ):
        want = truth(x.double(), ids, weights.double())
        ours = module(x, ids, weights).double()
        assert (ours - want).norm() <= 2 * (theirs.double() - want).norm()


@torch.no_grad()
@pytest.mark.parametrize("family", MODELS)
def test_generates_the_same_tokens(family):
    model = model_of(family)
    prompt = torch.arange(1, 9).view(1, 8)
    tokens = {}
    for name in ("eager", "switchyard"):
        model.set_experts_implementation(name)
        tokens[name] = model.generate(prompt, max_new_tokens=12, do_sample=False)
    assert torch.equal(tokens["eager"], tokens["switchyard"])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("format", ["mxfp4", "nvfp4"])
def test_quantised_on_load_and_freed(tmp_path, format, device):
    model = model_of("qwen3_moe", torch.bfloat16).to(device)
    want = logits_of(model, "eager").float()
    model.save_pretrained(tmp_path)
    switchyard.transformers.configure(format=format, free_weights=True)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, experts_implementation="switchyard", dtype=torch.bfloat16
    ).to(device)
    got = logits_of(loaded, "switchyard").float()
    experts = loaded.model.layers[0].mlp.experts
    assert experts.gate_up_proj.numel() == 0
    distance = (got - want).norm() / want.norm()
    assert 1e-4 < distance < 0.5


@torch.no_grad()
def test_weights_that_change_are_copied_again():
    model = model_of("mixtral")
    logits_of(model, "switchyard")
    for module in experts_of(model):
        module.gate_up_proj.mul_(0.5)
        module.down_proj.mul_(0.5)
    torch.testing.assert_close(
        logits_of(model, "switchyard"), logits_of(model, "eager"), rtol=1e-4, atol=1e-4
    )


@torch.no_grad()
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", MODELS)
def test_prepared_models_have_their_layers_and_plans(family, device):
    model = model_of(family, torch.bfloat16).to(device)
    switchyard.transformers.prepare(model, tokens=(4, 32))
    layers = [module.__dict__["_switchyard_layer"][0] for module in experts_of(model)]
    logits_of(model, "switchyard")
    assert layers == [module.__dict__["_switchyard_layer"][0] for module in experts_of(model)]
    assert [plan.max_tokens for layer in layers for plan in layer._plans] == [4, 32] * len(layers)


def test_what_we_cannot_run_says_so():
    module = model_of("mixtral").model.layers[0].mlp.experts
    module.has_post_expert_norm = True
    with pytest.raises(Unsupported, match="MixtralExperts: it normalises after each expert"):
        switchyard.transformers.make_layer(module, 2)


@torch.no_grad()
@pytest.mark.parametrize("device", DEVICES)
def test_compiles_as_one_graph(device):
    model = model_of("qwen3_moe", torch.bfloat16).to(device)
    logits_of(model, "switchyard")
    block = model.model.layers[0].mlp
    x = torch.randn(1, 6, SMALL["hidden_size"], device=device, dtype=torch.bfloat16)
    want = block(x)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), want)
