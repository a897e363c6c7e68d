#!/usr/bin/env python3
"""Makes tests/fixtures: tiny checkpoints and the outputs of MoE code that is not ours.

    make_fixtures.py [--out tests/fixtures] [--only PATTERN] [--list | --verify]

Needs the packages of tests/fixtures/README.md, no GPU and no network. Same packages, same CPU
features: same bytes.
"""

import argparse
import fnmatch
import os
import shutil
import sys
from pathlib import Path

# One thread and the plain code paths: sums are then added in the same order everywhere.
os.environ.update(
    CUDA_VISIBLE_DEVICES="",
    OMP_NUM_THREADS="1",
    ATEN_CPU_CAPABILITY="default",
    MKL_CBWR="COMPATIBLE",
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_VERBOSITY="error",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
)
import torch  # noqa: E402

from fixtures import build, cases, codecs, verify  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--out", type=Path, default=root / "tests" / "fixtures")
    parser.add_argument("--only", default="*", help="names to make, as a shell pattern")
    parser.add_argument("--list", action="store_true", help="print the table of README.md")
    parser.add_argument(
        "--verify", action="store_true", help="let transformers read the quantised ones back"
    )
    return parser.parse_args()


def main():
    options = arguments()
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False
    chosen = [c for c in cases.all_cases() if fnmatch.fnmatch(c.name, options.only)]
    if options.list:
        print(build.table(chosen, options.out))
        return
    if options.verify:
        for case in chosen:
            if case.name in verify.READABLE:
                print(verify.verify(case.name, options.out / case.name))
        return
    for case in chosen:
        folder = options.out / case.name
        shutil.rmtree(folder, ignore_errors=True)
        print(build.make(case, folder), file=sys.stderr)
    if fnmatch.fnmatch("codecs", options.only):
        codecs.make(options.out / "codecs")


if __name__ == "__main__":
    main()
