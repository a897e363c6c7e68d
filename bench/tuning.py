#!/usr/bin/env python3
"""Tables of tuning runs (docs/tuning.md).

    tuning.py same A.jsonl B.jsonl DETAILS.jsonl...   do two runs pick the same?
    tuning.py model DETAILS.jsonl...                  the cost model's choice against the pick
    tuning.py best PICKS.jsonl DETAILS.jsonl...       a pick against all variants (--exhaustive)
    tuning.py keys PICKS.jsonl [COUNT [SEED]]         problem lines at random, one a line

PICKS are what `switchyard tune --out` wrote, DETAILS what `--details` did; medians of one run are compared (docs/tuning.md).
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


def medians(task):
    return {c["config"]: c["median_us"] for c in task["configs"] if "median_us" in c}


def ratio(us, config, other):
    """How many times what `other` takes, under the load where that is most."""
    return max(us[config][load] / us[other][load] for load in us[config])


def regrets(task):
    """How many times the best median of a load they take, at worst: the variants that are never slower
    than the cost model's choice, the first one, by more than 2 %, and others of less than twice that."""
    us = medians(task)
    first = task["configs"][0]["config"]
    level = {c: u for c, u in us.items() if first not in us or ratio(us, c, first) <= 1.02}
    least = {load: min(u[load] for u in level.values()) for load in ("balanced", "zipf", "hot")}
    level = {c: u for c, u in us.items() if first not in us or ratio(us, c, first) <= 1.04}
    return {c: max(u[load] / least[load] for load in least) for c, u in level.items()}


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
    loads = ("balanced", "zipf", "hot")
    gaps, seconds = [], 0
    for task in lines(*details):
        seconds += task.get("seconds", 0)
        us, first = medians(task), task["configs"][0]["config"]  # best first by the cost model
        if task.get("pick") in us and first in us:
            gap = {load: us[first][load] / us[task["pick"]][load] - 1 for load in loads}
            gaps.append((max(gap.values()), gap, task["problem"], first, task["pick"]))
    gaps.sort(key=lambda item: item[0])
    print(f"{len(gaps)} keys, {seconds:.0f} s: how much longer the cost model's choice takes than the pick\n")
    rows = [("load", "median", "mean", "90th percentile", "most", "least"), ("---",) * 6]
    for name in (*loads, "the most of them"):
        values = sorted(gap[0] if name not in loads else gap[1][name] for gap in gaps)
        rows.append((name, percent(statistics.median(values)), percent(statistics.mean(values)),
                     percent(values[int(0.9 * (len(values) - 1))]), percent(values[-1]), percent(values[0])))
    table(rows)
    for worst, _, key, first, pick in gaps[-8:]:
        print(f"  {percent(worst)}  {key}\n    {first} -> {pick}")


def best(chosen, *details):
    table_of = picks(chosen)
    rows = [("layer", "tuned", "cost model", "variants"), ("---",) * 4]
    tuned = []
    for task in lines(*details):
        r = regrets(task)
        least = min(r.values())
        of, first = table_of.get(task["problem"]), task["configs"][0]["config"]
        tuned.append(r[of] / least - 1 if of in r else None)
        rows.append((task["problem"], percent(tuned[-1]) if tuned[-1] is not None else "-",
                     percent(r[first] / least - 1) if first in r else "-", len(medians(task))))
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
