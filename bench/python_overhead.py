#!/usr/bin/env python3
"""Times what a call costs the host from Python: until it returns, while the GPU's queue has room.

    bench/python_overhead.py [--preset qwen3-30b-a3b] [--tokens 1 8 32 128 512] [--append FILE]

Prints one JSON line for every batch size, in microseconds:

    torch_op_us   torch.ops.switchyard.moe: output and workspace from PyTorch's allocator
    torch_op_given_us  the same with experts and weights that were chosen before
    torch_out_us  torch.ops.switchyard.moe_out: workspace from PyTorch's allocator
    raw_us        plan(...) with the caller's out, workspace and stream
    launch_us     the part of raw_us that the CUDA driver takes to launch the kernels: by how much
                  raw_us is longer than the same call with no tokens, which launches none

`torch_op_host_us`, `torch_out_host_us` and `raw_host_us` are without launch_us, which a caller in C++
pays as well. A processor may run at two speeds within a second, so the calls come in rounds, a few of
each kind; differences are taken within a round, and numbers are medians over the rounds. Needs torch, a
GPU and the switchyard package. `--device cpu` times a tiny layer instead, to try it out.
"""

import argparse
import datetime
import json
import statistics
import subprocess
import time

import torch

import switchyard.torch

ROUNDS, WARM_UP, QUEUED = 200, 50, 10  # rounds, those before them, and a round's calls of a kind


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="qwen3-30b-a3b")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 8, 32, 128, 512])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--append", metavar="FILE")
    parser.add_argument("--commit")
    return parser.parse_args()


def random_layer(preset, device):
    """A BF16 layer of the preset's sizes, whose weights are all one number."""
    words = switchyard.preset(preset, 1).split()
    size = {w[0]: int(w[1:]) for w in words if w[0] in "hiek" and w[1:].isdigit()}
    if device == "cpu":
        size |= {"h": 64, "i": 32}
    gate_up = torch.full((size["e"], 2 * size["i"], size["h"]), 0.01, dtype=torch.bfloat16)
    down = torch.full((size["e"], size["h"], size["i"]), 0.01, dtype=torch.bfloat16)
    experts = switchyard.Experts.from_arrays(gate_up, down)
    return switchyard.MoELayer(experts, top_k=size["k"], act="bf16", device=device)


def call_us(call):
    """The median of a few calls, which the GPU's queue has room for."""
    took = []
    for _ in range(QUEUED):
        start = time.perf_counter_ns()
        call()
        took.append(time.perf_counter_ns() - start)
    return statistics.median(took) / 1000


def one_round(calls, synchronize):
    took = {}
    for name, call in calls.items():
        synchronize()
        took[name] = call_us(call)
    launch = took["raw_us"] - took.pop("no_launch_us")
    return took | {
        "launch_us": launch,
        "torch_op_host_us": took["torch_op_us"] - launch,
        "torch_out_host_us": took["torch_out_us"] - launch,
        "raw_host_us": took["raw_us"] - launch,
    }


def measure(layer, tokens, device):
    config = layer.config
    x = torch.randn(tokens, config.hidden, device=device, dtype=torch.bfloat16)
    logits = torch.randn(tokens, config.experts, device=device)
    plan, number = layer.plan(tokens), switchyard.torch.register(layer)
    out = torch.empty_like(x)
    buffers = {}
    if device != "cpu":
        workspace = torch.empty(plan.workspace_bytes, dtype=torch.uint8, device=device)
        buffers = {"workspace": workspace, "stream": torch.cuda.current_stream().cuda_stream}
    synchronize = (lambda: None) if device == "cpu" else torch.cuda.synchronize
    ids = logits.topk(config.top_k).indices.int()
    weights = torch.rand(tokens, config.top_k, device=device)
    none, no_logits, no_out = x[:0], logits[:0], out[:0]
    op, op_out = torch.ops.switchyard.moe, torch.ops.switchyard.moe_out
    calls = {
        "torch_op_us": lambda: op(number, x, logits, None, None, None),
        "torch_op_given_us": lambda: op(number, x, None, ids, weights, None),
        "torch_out_us": lambda: op_out(number, x, logits, None, None, None, out),
        "raw_us": lambda: plan(x, router_logits=logits, out=out, **buffers),
        "no_launch_us": lambda: plan(none, router_logits=no_logits, out=no_out, **buffers),
    }
    with torch.inference_mode():
        rounds = [one_round(calls, synchronize) for _ in range(WARM_UP + ROUNDS)][WARM_UP:]
    return {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}


def commit():
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return asked.stdout.strip()


def main():
    options = arguments()
    gpu = options.device != "cpu"
    layer = random_layer(options.preset, options.device)
    for tokens in sorted(options.tokens):
        row = {"bench": "python_overhead", "preset": options.preset, "format": "bf16", "m": tokens}
        row |= {name: round(us, 2) for name, us in measure(layer, tokens, options.device).items()}
        row |= {
            "calls": ROUNDS * QUEUED, "gpu": torch.cuda.get_device_name() if gpu else None,
            "torch": torch.__version__, "commit": options.commit or commit(),
            "date": datetime.date.today().isoformat(),
        }  # fmt: skip
        line = json.dumps(row, sort_keys=True)
        print(line, flush=True)
        if options.append:
            with open(options.append, "a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
