#!/usr/bin/env python3
"""Compares `switchyard run --device cuda` with transformers' own MoE blocks at published sizes.

    transformers_blocks.py [--switchyard PROGRAM] [--device cuda] [--only mixtral,...] [--work DIR]

Each layer gets random weights, is written as the checkpoint that transformers saves, and is run by
transformers in BF16 and in float64, which is the truth, and by switchyard from the files. switchyard
must choose the same experts and be at most twice as far from the truth as transformers' BF16 run.
Needs PyTorch, transformers, safetensors, a GPU with 100 GB and room for a 7 GB file.
"""

import argparse
import copy
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from fixtures import checkpoint, runtime  # noqa: E402
from fixtures.families import FAMILIES  # noqa: E402

LAYERS = {
    "mixtral-8x7b": FAMILIES["mixtral"].sized(
        num_hidden_layers=1, hidden_size=4096, intermediate_size=14336, num_local_experts=8
    ),
    "qwen3-30b-a3b": FAMILIES["qwen3_moe"].sized(
        hidden_size=2048, moe_intermediate_size=768, num_experts=128, num_experts_per_tok=8
    ),
    # One of eight tensor-parallel parts: the whole layer takes 23 GB, and 90 more in float64.
    "deepseek-v3-tp8": FAMILIES["deepseek_v3"].sized(
        num_hidden_layers=1, first_k_dense_replace=0, hidden_size=7168, moe_intermediate_size=256,
        n_routed_experts=256, num_experts_per_tok=8, n_group=8, topk_group=4,
    ),
    "gpt-oss-120b": FAMILIES["gpt_oss"].sized(
        hidden_size=2880, intermediate_size=2880, num_local_experts=128, num_experts_per_tok=4
    ),
}  # fmt: skip
BATCHES = (1, 16, 256)  # one token, the small-batch kernel, the large one


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--switchyard", default="build/release/bin/switchyard")
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--only", default=",".join(LAYERS), help="names, separated by commas")
    parser.add_argument("--work", help="folder for the checkpoints")
    return parser.parse_args()


def chosen(ids):
    """Experts of each token, whatever their order."""
    return ids.sort(dim=1).values.long()


@torch.no_grad()
def stable_tokens(block, exact, hidden, count, device):
    """[count, H] BF16 tokens whose experts survive BF16 rounding and 2^-8 noise on the router."""
    generator = torch.Generator(device).manual_seed(1)
    pool = torch.randn(8 * count, hidden, generator=generator, device=device).to(torch.bfloat16)
    ids = chosen(runtime.route(exact, pool.double(), exact=True))
    stable = (chosen(runtime.route(block, pool)) == ids).all(dim=1)
    weight = runtime.router_of(exact).weight
    saved = weight.data.clone()
    for _ in range(4):
        noise = torch.randn(saved.shape, generator=generator, device=device)
        weight.data = saved * (1 + noise.double() * 2.0**-8)
        stable &= (chosen(runtime.route(exact, pool.double(), exact=True)) == ids).all(dim=1)
    weight.data = saved
    tokens = pool[stable][:count]
    assert len(tokens) == count, f"only {len(tokens)} stable tokens"
    return tokens


def write(model, family, folder):
    """The checkpoint as published."""
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    checkpoint.write_json(folder / "config.json", family.publish({}, config)[1])


def run_switchyard(options, folder, layer, tokens):
    save_file({"tokens": tokens.cpu().contiguous()}, folder / "in")
    (folder / "out").unlink(missing_ok=True)
    command = [
        options.switchyard, "run", folder, "--layer", layer, "--device", options.device,
        "--input", folder / "in", "--output", folder / "out", "--json",
    ]  # fmt: skip
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
    return load_file(folder / "out")


def error(output, exact):
    """(of all elements together, of the worst row relative to its largest value)"""
    difference = output.double() - exact
    rows = difference.abs().amax(dim=1) / exact.abs().amax(dim=1)
    return (difference.norm() / exact.norm()).item(), rows.max().item()


def compare(name, options, folder):
    """Prints a line for each batch; true if all pass."""
    family = LAYERS[name]
    model = checkpoint.new_model(family, seed=1, device=options.device)
    write(model, family, folder)
    (layer, block), = runtime.moe_blocks(model).items()
    exact_block = copy.deepcopy(block).double()
    tokens = stable_tokens(block, exact_block, family.config["hidden_size"], max(BATCHES), options.device)
    passed = True
    for batch in BATCHES:
        part = tokens[:batch]
        honest = runtime.run_block(block, part)
        exact = runtime.run_block(exact_block, part, exact=True)
        ours = run_switchyard(options, folder, layer, part)
        same = torch.equal(chosen(ours["expert_ids"]), chosen(exact.ids).cpu())
        mine, theirs = (error(o.to(options.device), exact.output) for o in (ours["output"], honest.output))
        good = same and all(a <= 2 * b for a, b in zip(mine, theirs))
        passed &= good
        print(
            f"{name:16} {batch:4} tokens  experts {'same' if same else 'DIFFER'}  error of all "
            f"{mine[0]:.2e} (transformers {theirs[0]:.2e})  of the worst row {mine[1]:.2e} "
            f"({theirs[1]:.2e})  {'passed' if good else 'FAILED'}",
            flush=True,
        )
    return passed


def main():
    options = arguments()
    passed = True
    for name in options.only.split(","):
        with tempfile.TemporaryDirectory(dir=options.work) as folder:
            passed &= compare(name, options, Path(folder))
        if options.device == "cuda":
            torch.cuda.empty_cache()
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
