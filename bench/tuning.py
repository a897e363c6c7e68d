#!/usr/bin/env python3
"""Tables of tuning runs (docs/tuning.md).

    tuning.py same A.jsonl B.jsonl DETAILS.jsonl...   do two runs pick the same?
    tuning.py model DETAILS.jsonl...                  the cost model's choice against the pick
    tuning.py best PICKS.jsonl DETAILS.jsonl...       a pick against all variants (--exhaustive)
    tuning.py keys PICKS.jsonl [COUNT [SEED]]         problem lines at random, one a line

PICKS are what `switchyard tune --out` wrote, DETAILS what `--details` did. How much slower a variant is
than another is said by the loads in which it is most: its worst regret, of medians of one run.
"""

import json
import random
import statistics
import sys


def lines(*paths):
    for path in paths:
        with open(path) as file:
            yield from map(json.loads, file)


def picks(path):
    return {row["problem"]: row["config"] for row in lines(path)}


def regrets(task):
    """Of each variant that ran: how many times the best median of a load it takes, at worst."""
    us = {c["config"]: c["median_us"] for c in task["configs"] if "median_us" in c}
    least = {load: min(u[load] for u in us.values()) for load in ("balanced", "zipf", "hot")}
    return {config: max(u[load] / least[load] for load in least) for config, u in us.items()}


def percent(value):
    return f"{100 * value:.1f} %"


def table(rows):
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    print()


def same(first, second, *details):
    a, b = picks(first), picks(second)
    both = sorted(a.keys() & b.keys())
    runs = {}
    for task in lines(*details):
        runs.setdefault(task["problem"], []).append(task)
    equal = [key for key in both if a[key] == b[key]]
    close, apart = [], []
    for key in set(both) - set(equal):
        # The costlier of the two by its worst regret, in every run that measured both.
        gaps = []
        for task in runs.get(key, []):
            r = regrets(task)
            if a[key] in r and b[key] in r:
                gaps.append(max(r[a[key]], r[b[key]]) / min(r[a[key]], r[b[key]]) - 1)
        gap = statistics.mean(gaps) if gaps else None
        (close if gap is not None and gap <= 0.02 else apart).append((gap, key))
    n = len(both)
    print(f"{n} keys: {len(equal)} the same variant ({percent(len(equal) / n)}), {len(close)} another within "
          f"2 %, {len(apart)} not: {percent((len(equal) + len(close)) / n)} agree\n")
    for gap, key in sorted(apart, key=lambda item: -(item[0] or 9)):
        print(f"  {percent(gap) if gap is not None else '?'}  {key}\n    {a[key]}\n    {b[key]}")


def model(*details):
    gaps, seconds = [], 0
    for task in lines(*details):
        seconds += task.get("seconds", 0)
        if "pick" not in task:
            continue
        r = regrets(task)
        first = task["configs"][0]["config"]  # best first by the cost model
        if first in r:
            gaps.append((r[first] / r[task["pick"]] - 1, task["problem"], first, task["pick"]))
    gaps.sort()
    values = [gap[0] for gap in gaps]
    print(f"{len(gaps)} keys, {seconds:.0f} s: how much slower the cost model's choice is than the pick\n")
    table([("median", "mean", "90th percentile", "worst", "faster by more than 1 %"), ("---",) * 5,
           (percent(statistics.median(values)), percent(statistics.mean(values)),
            percent(values[int(0.9 * (len(values) - 1))]), percent(values[-1]),
            sum(value < -0.01 for value in values))])
    for gap, key, first, pick in gaps[-8:]:
        print(f"  {percent(gap)}  {key}\n    {first} -> {pick}")


def best(chosen, *details):
    table_of = picks(chosen)
    rows = [("layer", "tuned", "cost model", "variants"), ("---",) * 4]
    tuned = []
    for task in lines(*details):
        r = regrets(task)
        least = min(r.values())
        of = table_of.get(task["problem"])
        tuned.append(r[of] / least - 1 if of in r else None)
        first = task["configs"][0]["config"]
        rows.append((task["problem"], percent(tuned[-1]) if tuned[-1] is not None else "-",
                     percent(r[first] / least - 1), len(r)))
    print("Behind the best of all variants, by the worst regret of medians of one run\n")
    table(rows)
    known = [value for value in tuned if value is not None]
    print(f"worst {percent(max(known))}, median {percent(statistics.median(known))} of {len(known)} keys")


def keys(chosen, count="20", seed="7"):
    all_keys = sorted(picks(chosen))
    print("\n".join(random.Random(int(seed)).sample(all_keys, min(int(count), len(all_keys)))))


def main():
    commands = {"same": same, "model": model, "best": best, "keys": keys}
    if len(sys.argv) < 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    main()
