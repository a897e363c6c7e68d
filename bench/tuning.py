#!/usr/bin/env python3
"""Tables of tuning runs (docs/tuning.md), from what `switchyard tune --details` wrote.

    tuning.py same FIRST SECOND          do two runs pick the same?
    tuning.py model RUN                  the cost model's choice against the pick
    tuning.py best RUN OTHER             a run's picks against all variants that another one measured
                                         (with --exhaustive: all that there are)
    tuning.py keys RUN [COUNT [SEED]]    problem lines at random, one a line
    tuning.py trim RUN                   without variants that are far behind: small enough to keep

Medians of one run are compared.
"""

import json
import random
import statistics
import sys


def tasks(path):
    with open(path) as file:
        return {task["problem"]: task for task in map(json.loads, file) if "pick" in task}


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


def same(first, second):
    a, b = tasks(first), tasks(second)
    both = sorted(a.keys() & b.keys())
    equal, close, apart = 0, 0, []
    for key in both:
        picks = [a[key]["pick"], b[key]["pick"]]
        if picks[0] == picks[1]:
            equal += 1
            continue
        gaps = []  # between the two picks, by each run that measured both to the end
        for r in (regrets(a[key]), regrets(b[key])):
            if all(pick in r for pick in picks):
                gaps.append(max(r[pick] for pick in picks) / min(r[pick] for pick in picks) - 1)
        if gaps and statistics.mean(gaps) <= 0.02:
            close += 1
        else:
            apart.append((statistics.mean(gaps) if gaps else None, key, *picks))
    n = len(both)
    print(f"{n} keys: {equal} the same variant ({percent(equal / n)}), {close} another within 2 %, "
          f"{len(apart)} not: {percent((equal + close) / n)} agree\n")
    for gap, key, *picks in sorted(apart, key=lambda item: -(item[0] or 9)):
        print(f"  {percent(gap) if gap is not None else '?'}  {key}\n    {picks[0]}\n    {picks[1]}")


def model(run):
    loads = ("balanced", "zipf", "hot")
    gaps, seconds = [], 0
    for task in tasks(run).values():
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


def best(run, other):
    picks = {key: task["pick"] for key, task in tasks(run).items()}
    rows = [("layer", "tuned", "cost model", "variants"), ("---",) * 4]
    tuned = []
    for task in tasks(other).values():
        r = regrets(task)
        least = min(r.values())
        of, first = picks.get(task["problem"]), task["configs"][0]["config"]
        tuned.append(r[of] / least - 1 if of in r else None)
        rows.append((task["problem"], percent(tuned[-1]) if tuned[-1] is not None else "-",
                     percent(r[first] / least - 1) if first in r else "-", len(medians(task))))
    print("Behind the best of all variants, by the worst regret of medians of one run\n")
    table(rows)
    known = [value for value in tuned if value is not None]
    print(f"worst {percent(max(known))}, median {percent(statistics.median(known))} of {len(known)} keys")


def trim(run):
    for task in tasks(run).values():
        r = regrets(task)
        near = min(r.values()) * 1.1
        first = task["configs"][0]
        task["configs"] = [c for c in task["configs"] if c is first or r.get(c["config"], 9) <= near]
        for config in task["configs"]:
            config["median_us"] = {load: round(us, 1) for load, us in config["median_us"].items()}
        task["seconds"] = round(task["seconds"], 2)
        print(json.dumps(task, sort_keys=True))


def keys(run, count="20", seed="7"):
    all_keys = sorted(tasks(run))
    print("\n".join(random.Random(int(seed)).sample(all_keys, min(int(count), len(all_keys)))))


def main():
    commands = {"same": same, "model": model, "best": best, "keys": keys, "trim": trim}
    if len(sys.argv) < 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    main()
