#!/usr/bin/env python3
"""Prints the rows of bench/results as tables of docs/performance.md.

    tables.py layers ROWS.jsonl...   presets against batch sizes: ours, and each peer
    tables.py cost ROWS.jsonl...     batch, experts and top-k against time (bench/cases/cost.txt)
    tables.py dense ROWS.jsonl...    of the dense GEMMs the best tactic of every batch size, and of those
                                     that read whole sums

A cell is the median in microseconds and its share of the floor. Of several rows for one cell the last
counts.
"""

import json
import re
import sys


def table(corner, rows, columns, cell):
    print(f"| {corner} | " + " | ".join(map(str, columns)) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name in rows:
        print(f"| {name} | " + " | ".join(cell(name, column) for column in columns) + " |")
    print()


def text(row):
    if not row:
        return "-"
    us = row["median_us"]
    return f"{us:.{1 if us < 100 else 0}f} ({row['efficiency']:.2f})"


def layers(rows):
    def name(row):
        format = f", {row['format']}" if row["format"] != "bf16" else ""
        peer = f", {row['variant']}" if row["peer"] else ""
        load = f", {row['routing_load']}" if row["routing_load"] != "random" else ""
        return row["preset"] + format + load + peer

    rows = [row for row in rows if row["preset"]]
    chosen = {(name(row), row["m"]): row for row in rows}
    names = list(dict.fromkeys(map(name, rows)))
    table(
        "us (share of the floor)", names, sorted({row["m"] for row in rows}),
        lambda line, m: text(chosen.get((line, m))),
    )  # fmt: skip


def cost(rows):
    def sizes(row):
        return tuple(int(re.search(rf" {c}(\d+)", row["problem"])[1]) for c in "tek")

    rows = [row for row in rows if not row["preset"] and not row["peer"]]
    chosen = {sizes(row): row for row in rows}
    usual_e, usual_k = 128, 8
    batches = sorted({t for t, e, k in chosen if e == usual_e and k == usual_k})
    table("M", ["us (share of the floor)"], batches, lambda _, t: text(chosen[t, usual_e, usual_k]))
    few = sorted({t for t, e, _ in chosen if e != usual_e})
    for corner, values, key in (
        ("E", sorted({e for _, e, k in chosen if k == usual_k}), lambda t, v: (t, v, usual_k)),
        ("k", sorted({k for _, e, k in chosen if e == usual_e}), lambda t, v: (t, usual_e, v)),
    ):
        table(
            corner, values, [f"M = {t}" for t in few],
            lambda v, t, key=key: text(chosen.get(key(int(t[4:]), v))),
        )  # fmt: skip


def dense(rows):
    """m, the best tactic, the best with whole sums (sk1), and what splitting them gains."""
    problems = {}
    for row in rows:
        if row.get("bench") == "dense":
            name = re.sub(r" t\d+", "", row["problem"])
            problems.setdefault(name, {}).setdefault(row["m"], {})[row["variant"]] = row
    for name, batches in problems.items():
        print(f"{name}\n")
        print("| m | us | share of the floor | tactic | us, sk1 | tactic | gain |")
        print("|---" * 7 + "|")
        for m, tactics in sorted(batches.items()):
            best = min(tactics.values(), key=lambda row: row["median_us"])
            whole = [row for row in tactics.values() if " sk1 " in row["variant"]]
            other = min(whole, key=lambda row: row["median_us"]) if whole else None
            print(
                f"| {m} | {best['median_us']:.1f} | {best['efficiency']:.2f} | {best['variant']} | "
                + (
                    f"{other['median_us']:.1f} | {other['variant']} | "
                    f"{other['median_us'] / best['median_us']:.2f}x |"
                    if other
                    else "- | - | - |"
                )
            )
        print()


def main():
    if len(sys.argv) < 3 or sys.argv[1] not in ("layers", "cost", "dense"):
        sys.exit(__doc__)
    rows = []
    for path in sys.argv[2:]:
        with open(path) as file:
            rows += [json.loads(line) for line in file]
    {"layers": layers, "cost": cost, "dense": dense}[sys.argv[1]](rows)


if __name__ == "__main__":
    main()
