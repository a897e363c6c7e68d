"""A small random Mixtral whose experts are ours, in MXFP4."""

import tempfile

import torch
from transformers import AutoModelForCausalLM, MixtralConfig

config = MixtralConfig(
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=128,
    eos_token_id=None,
)
with tempfile.TemporaryDirectory() as name:
    AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(name)

    # [transformers_model]
    import switchyard.transformers

    switchyard.transformers.configure(format="mxfp4", free_weights=True)  # or not: BF16 stays BF16
    model = AutoModelForCausalLM.from_pretrained(name, experts_implementation="switchyard")
    # [transformers_model]

print(model.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=8, do_sample=False).shape)
