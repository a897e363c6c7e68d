#!/usr/bin/env python3
"""generate() of a random model of transformers, with its own experts and with ours.

    bench/generate.py [--model qwen3-30b-a3b] [--layers N] [--batch 1 32] [--tokens 64]
                      [--formats own nvfp4] [--device cuda] [--append FILE]

Prints one JSON line for every kind of experts and batch: tokens per second, the median of runs, and
how many of the greedy tokens are those of transformers' experts ("transformers", which is
grouped_mm). "batched_mm" is another implementation of transformers: what parts from it by rounding
alone. transformers' own runs stand first and last. Where tokens part, `margin` is how much the first
other token's logit lay below the best one's in transformers' run, and `noise` how far the two runs'
logits of that step are apart (root mean square), both in units of the spread of the step's logits: a
difference within rounding has a margin of a few times the noise. Needs torch, transformers and the
switchyard package.
"""

import argparse
import datetime
import gc
import json
import statistics
import subprocess
import sys
import time

import torch
import transformers

import switchyard.transformers

# transformers' implementations: the one for GPUs, and one to compare it with.
THEIRS = {"transformers": "grouped_mm", "batched_mm": "batched_mm"}
PROMPT = 8  # tokens: batched_mm copies the weights of every one of them
# Sizes as published; the tokenizer's and everything that has no size stay out.
MODELS = {
    "qwen3-30b-a3b": ("qwen3_moe", {
        "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32,
        "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151936,
        "intermediate_size": 6144, "moe_intermediate_size": 768, "num_experts": 128,
        "num_experts_per_tok": 8, "norm_topk_prob": True,
    }),
    "gpt-oss-small": ("gpt_oss", {  # gpt-oss-20b's layer, fewer of them
        "hidden_size": 2880, "num_hidden_layers": 6, "num_attention_heads": 64,
        "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 201088, "intermediate_size": 2880,
        "num_local_experts": 32, "num_experts_per_tok": 4,
    }),
    "tiny": ("qwen3_moe", {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 512, "intermediate_size": 96,
        "moe_intermediate_size": 32, "num_experts": 8, "num_experts_per_tok": 2,
    }),
}  # fmt: skip


def make_model(name, layers, device):
    family, sizes = MODELS[name]
    if layers:
        sizes = sizes | {"num_hidden_layers": layers}
    torch.manual_seed(0)
    with torch.device(device):
        config = transformers.AutoConfig.for_model(family, **sizes, pad_token_id=0, eos_token_id=None)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with torch.no_grad():
        for parameter in model.parameters():  # gpt-oss leaves some empty
            if parameter.dim() > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
            elif not torch.isfinite(parameter).all():
                parameter.zero_()
    return model.eval()


def use(model, kind, batches):
    """Seconds to change the experts to a kind of THEIRS, "own" (our experts in the model's type) or
    a weight format."""
    for module in model.modules():
        module.__dict__.pop("_switchyard_layer", None)  # frees what another kind had made
    gc.collect()
    if model.device.type == "cuda":
        torch.cuda.empty_cache()  # ours are not of PyTorch's allocator
    start = time.perf_counter()
    if kind in THEIRS:
        model.set_experts_implementation(THEIRS[kind])
    else:
        switchyard.transformers.configure(format=None if kind == "own" else kind)
        switchyard.transformers.prepare(model, [n for b in batches for n in (b, b * PROMPT)])
        model.set_experts_implementation(switchyard.transformers.NAME)
    return time.perf_counter() - start


@torch.no_grad()
def generate(model, prompt, tokens):
    """(new tokens [B, N], their steps' logits, seconds)"""
    synchronize = torch.cuda.synchronize if prompt.is_cuda else lambda: None
    synchronize()
    start = time.perf_counter()
    out = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=tokens,
        min_new_tokens=tokens, do_sample=False, return_dict_in_generate=True, output_logits=True,
    )  # fmt: skip
    synchronize()
    seconds = time.perf_counter() - start
    return out.sequences[:, prompt.shape[1] :], out.logits, seconds


def parted(want, got):
    """What `generate` gave twice: tokens until the sequences part, summed over the batch, and the
    largest margin and noise where they do."""
    same, margins, noises = 0, [0.0], [0.0]
    for row in range(want[0].shape[0]):
        differs = (want[0][row] != got[0][row]).nonzero()
        step = int(differs[0]) if len(differs) else want[0].shape[1]
        same += step
        if len(differs):
            scores, others = (outputs[1][step][row].float() for outputs in (want, got))
            gap = scores[want[0][row, step]] - scores[got[0][row, step]]
            margins.append(float(gap / scores.std()))
            noises.append(float((scores - others).square().mean().sqrt() / scores.std()))
    return {"same_tokens": same, "margin": round(max(margins), 4), "noise": round(max(noises), 4)}


def commit():
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return asked.stdout.strip()


def rows(options):
    model = make_model(options.model, options.layers, options.device)
    gpu = options.device.startswith("cuda")
    machine = torch.cuda.get_device_name() if gpu else "CPU"
    vocabulary = model.config.vocab_size
    prompts = {
        batch: torch.randint(1, vocabulary, (batch, PROMPT), device=options.device)
        for batch in options.batch
    }
    wanted = {}
    for kind in (*THEIRS, *options.formats, "transformers"):
        making = use(model, kind, options.batch)
        for batch, prompt in prompts.items():
            generate(model, prompt, 4)
            outputs = generate(model, prompt, options.tokens)
            seconds = [outputs[2]]
            while len(seconds) < options.runs:
                seconds.append(generate(model, prompt, options.tokens)[2])
            yield {
                "bench": "generate", "model": options.model,
                "layers": model.config.num_hidden_layers, "batch": batch, "experts": kind,
                "tokens_per_second": batch * options.tokens / statistics.median(seconds),
                "seconds": [round(s, 4) for s in seconds], "of": batch * options.tokens,
                **parted(wanted.setdefault(batch, outputs), outputs),
                "making_seconds": round(making, 1), "machine": machine,
                "torch": torch.__version__, "transformers": transformers.__version__,
                "commit": options.commit or commit(), "date": datetime.date.today().isoformat(),
            }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=MODELS, default="qwen3-30b-a3b")
    parser.add_argument("--layers", type=int, help="fewer layers than published")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--formats", nargs="+", default=["own", "nvfp4"], metavar="FORMAT")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--append", metavar="FILE")
    parser.add_argument("--commit", help="of the package; by default that of this folder")
    options = parser.parse_args()
    for row in rows(options):
        line = json.dumps(row)
        print(line)
        sys.stdout.flush()
        if options.append:
            with open(options.append, "a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
