#!/usr/bin/env python3
"""Times torch._grouped_mm as a whole MoE layer, beside rows that `switchyard bench` has just made.

    peers.py ROWS.jsonl [--out OTHER.jsonl]

For every own row of a preset: the same layer, batch and load, from router logits, in a CUDA graph of
eight layers with another routing each; other memory is read before it, so that L2 is cold and the
launch of the graph is not part of its time. Appends rows of the same form, with the
ceilings of the run they are compared with. Needs PyTorch and a GPU.
"""

import argparse
import json
import statistics

import torch
import torch.nn.functional as F

ROUTINGS = 8
BF16 = {"device": "cuda", "dtype": torch.bfloat16}
OTHER_MEMORY = torch.ones(36 << 20, device="cuda")  # 144 MiB


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", help="what `switchyard bench --out` wrote")
    parser.add_argument("--out", help="file to append to; the same one by default")
    parser.add_argument("--samples", type=int, default=30)
    return parser.parse_args()


class Layer:
    """One layer's random weights and its mathematics, as a problem line describes them."""

    def __init__(self, line):
        words = line.split()
        size = {w[0]: int(w[1:]) for w in words[1:] if w[0] in "hiek" and w[1:].isdigit()}
        self.hidden, self.inner, self.experts, self.k = (size[c] for c in "hiek")
        self.options = dict(w.split("=") for w in words if "=" in w)
        self.oai, self.deepseek = "swiglu_oai" in words, "deepseek_v3" in words
        outputs = 2 * self.inner
        self.gate_up = self.random(self.experts, outputs, self.hidden) / self.hidden**0.5
        self.down = self.random(self.experts, self.hidden, self.inner) / self.inner**0.5
        self.biases = None  # of gate_up and down
        if "bias" in words:
            widths = (outputs, self.hidden)
            self.biases = [0.1 * self.random(self.experts, width) for width in widths]
        self.correction = 0.01 * torch.randn(self.experts, device="cuda")

    @staticmethod
    def random(*shape):
        return torch.empty(shape, **BF16).normal_()

    def route(self, logits):
        """Ids and weights [T, K]."""
        if not self.deepseek:  # softmax of the chosen: the same as softmax, top-k, renormalise
            values, ids = logits.topk(self.k, dim=1)
            return ids, values.softmax(dim=1)
        groups, kept = int(self.options["groups"]), int(self.options["topk_groups"])
        scores = logits.sigmoid()
        choice = (scores + self.correction).view(-1, groups, self.experts // groups)
        best = choice.topk(2, dim=2).values.sum(dim=2).topk(kept, dim=1).indices
        mask = torch.zeros(choice.shape[:2], device="cuda").scatter_(1, best, 1.0)[:, :, None]
        ids = choice.masked_fill(mask == 0, -1.0).flatten(1).topk(self.k, dim=1).indices
        weights = scores.gather(1, ids)
        weights = weights / weights.sum(dim=1, keepdim=True)
        return ids, weights * float(self.options["scaling"])

    def activate(self, x):
        gate, up = x.chunk(2, dim=1)
        if not self.oai:
            return F.silu(gate) * up
        gate, up = gate.clamp(max=7.0), up.clamp(-7.0, 7.0)
        return gate * torch.sigmoid(1.702 * gate) * (up + 1)

    def run(self, tokens, logits):
        """The layer by grouped products: sort by expert, FC1, activation, FC2, weighted sum."""
        ids, weights = self.route(logits)
        sorted_ids, order = ids.flatten().sort(stable=True)
        ends = torch.searchsorted(
            sorted_ids, torch.arange(self.experts, device="cuda"), right=True, out_int32=True
        )
        rows = torch._grouped_mm(tokens[order // self.k], self.gate_up.transpose(1, 2), offs=ends)
        if self.biases:
            rows = rows + self.biases[0][sorted_ids]
        rows = torch._grouped_mm(self.activate(rows), self.down.transpose(1, 2), offs=ends)
        if self.biases:
            rows = rows + self.biases[1][sorted_ids]
        back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device="cuda"))
        slots = rows[back].view(len(tokens), self.k, self.hidden)
        return torch.bmm(weights.to(torch.bfloat16)[:, None], slots)[:, 0], ids

    def reference(self, tokens, logits):
        """The same in f32, token by token."""
        ids, weights = self.route(logits)
        out = torch.zeros(tokens.shape, device="cuda")
        for t in range(len(tokens)):
            for e, weight in zip(ids[t].tolist(), weights[t]):
                row = self.gate_up[e].float() @ tokens[t].float()
                row = row + (self.biases[0][e].float() if self.biases else 0)
                row = self.down[e].float() @ self.activate(row[None])[0]
                out[t] += weight * (row + (self.biases[1][e].float() if self.biases else 0))
        return out


def random_logits(layer, tokens, load, turn):
    """The loads of `switchyard bench`."""
    logits = torch.randn(tokens, layer.experts, device="cuda")
    rank = (torch.arange(layer.experts, device="cuda") - turn * layer.k) % layer.experts
    if load == "zipf":
        logits -= 1.2 * torch.log1p(rank.float())
    if load == "hot":
        logits += 20.0 * (rank < layer.k)
    if load == "balanced":
        first = (torch.arange(tokens, device="cuda") + turn)[:, None] * layer.k
        logits.scatter_add_(
            1,
            (first + torch.arange(layer.k, device="cuda")) % layer.experts,
            torch.full((tokens, layer.k), 20.0, device="cuda"),
        )
    return logits


@torch.no_grad()
def measure(layer, own, samples):
    """Our row `own`, with what torch takes for the same."""
    m = own["m"]
    tokens = layer.random(m, layer.hidden)
    routings = [random_logits(layer, m, own["routing_load"], i) for i in range(ROUTINGS)]
    active = statistics.mean(layer.run(tokens, r)[1].unique().numel() for r in routings)
    few = min(m, 32)
    exact = layer.reference(tokens[:few], routings[0][:few])
    out = layer.run(tokens, routings[0])[0][:few].float()
    error = ((out - exact).norm() / exact.norm()).item()
    assert error < 0.02, f"{own['preset']} m={m}: relative error {error:.3g}"

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outs = [layer.run(tokens, r)[0] for r in routings]
    times = []
    for _ in range(samples + 2):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        OTHER_MEMORY.sum()
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1000 / ROUTINGS)
    times = sorted(times[2:])
    del outs

    expert = (own["bytes"] - 4 * m * layer.hidden) / own["active_experts"]
    moved = active * expert + 4 * m * layer.hidden
    floor = max(moved / own["ceiling_read_tbs"], own["flops"] / own["ceiling_mma_tflops"]) * 1e-6
    median = times[samples // 2]
    row = {key: value for key, value in own.items() if key not in ("workspace_bytes", "host_us", "repeatable")}
    return row | {
        "peer": f"torch {torch.__version__}", "variant": "torch._grouped_mm",
        "active_experts": active, "bytes": moved, "floor_us": floor, "efficiency": floor / median,
        "median_us": median, "p10_us": times[samples // 10], "p90_us": times[-1 - samples // 10],
        "samples": samples, "error_ratio": None, "relative_error": error,
        "cuda": torch.version.cuda,
    }  # fmt: skip


def main():
    options = arguments()
    with open(options.rows) as file:
        rows = [json.loads(line) for line in file]
    latest = {}  # by what is measured: rows may be of several passes
    for row in rows:
        if row["peer"] is None and row["preset"]:
            latest[row["preset"], row["routing_load"], row["m"]] = row
    line, layer = None, None
    with open(options.out or options.rows, "a") as out:
        for own in latest.values():
            same_layer = own["problem"].split(maxsplit=2)[2]
            if line != same_layer:
                layer = None  # frees the weights of the last one first
                line, layer = same_layer, Layer(own["problem"])
            row = measure(layer, own, options.samples)
            out.write(json.dumps(row, sort_keys=True) + "\n")
            print(
                f"{own['preset']:16} {own['m']:6} {row['active_experts']:7.1f} "
                f"{row['median_us']:9.1f} us, ours {own['median_us']:9.1f}, "
                f"x{row['median_us'] / own['median_us']:.2f}, error {row['relative_error']:.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
