#!/usr/bin/env python3
"""Checks who includes whom, and that the build lists every source.

The rules are the table of ARCHITECTURE.md. Prints one line per violation; exit status 1 if any.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Folder -> folders of src/ it may include, besides itself. `public` is include/switchyard.
# The longest matching key counts; ops/<op> never includes another op.
ALLOWED = {
    "include/switchyard": {"public"},
    "src/base": {"public"},
    "src/device": set(),
    "src/formats": {"public", "base", "device"},
    "src/ops": {"public", "base", "device", "formats", "jit", "cuda"},
    "src/checkpoint": {"public", "base", "formats"},
    "src/moe": {"public", "base", "device", "formats", "ops", "tune", "jit", "cuda", "comm"},
    "src/c_api": {"public", "base"},
    "src/comm": {"public", "base", "cuda"},
    "src/jit": {"public", "base", "cuda"},
    "src/cuda": {"public", "base"},
    "src/tune": {"public", "base", "device"},
    "cli/bench": {"public", "cli", "cuda", "formats", "jit", "moe"},  # forced variants, graphs
    "cli": {"public", "cli"},
    "python": {"public", "python"},
    "examples": {"public"},
    "bench": {"public", "bench"},
}
# Exceptions: one file that may see one folder more.
ALSO = {
    # a single operation, its checks and the machine's ceilings
    "bench/dense_bench.cpp": {"base", "cli", "cuda", "formats", "jit", "ops"},
    "src/tune/timing.cpp": {"cuda"},
    "cli/report.cpp": {"base"},  # publish_text: a page appears whole or not at all
}

# The public headers and the freestanding ones must not need these.
FORBIDDEN_IN_PUBLIC = re.compile(r"<(fmt/|nlohmann/|simdjson|cuda|nccl|CLI/)")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"][^>"]+[>"])', re.MULTILINE)
SOURCES = (".h", ".cuh", ".cpp", ".cu")


def rule_for(path):
    """The key of ALLOWED that governs `path`, or None for tests and fuzz, which may see all."""
    return next((key for key in ALLOWED if path.startswith(key + "/")), None)


def target_of(include, path):
    """The folder an include leads to: `public`, a folder of src/, `cli`, ..."""
    if include.startswith("switchyard/"):
        return "public"
    if "/" not in include:
        return "(no folder)"
    return include.split("/")[0]


def same_op(include, path):
    return path.split("/")[:3] == ["src", *include.split("/")[:2]]


def include_violations(path, text):
    key = rule_for(path)
    for include in INCLUDE.findall(text):
        name = include[1:-1]
        if include.startswith("<"):
            if key == "include/switchyard" and FORBIDDEN_IN_PUBLIC.match(include):
                yield f"{include}: a public header shows only the standard library"
            if path.endswith(".cuh"):
                yield f"{include}: a .cuh is freestanding and includes only our own .cuh"
            continue
        if path.endswith(".cuh") and not name.endswith(".cuh"):
            yield f'"{name}": a .cuh is freestanding and includes only our own .cuh'
        if key is None:
            continue
        target = target_of(name, path)
        own = key.split("/")[-1] if key.startswith("src/") else key
        if target == "ops" and own == "ops" and len(name.split("/")) > 2:
            if not same_op(name, path):
                yield f'"{name}": an op never includes another op'
        elif target != own and target not in ALLOWED[key] | ALSO.get(path, set()):
            yield f'"{name}": {key} may include {", ".join(sorted(ALLOWED[key])) or "itself only"}'


def violations(path, text, build):
    yield from include_violations(path, text)
    if path.endswith(".cpp") and path not in build:
        yield "no CMakeLists.txt or .cmake file lists it"


def main():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        paths = sorted(set(listed.stdout.split("\n")))
    else:  # an unpacked archive
        paths = sorted(str(p.relative_to(ROOT)) for p in ROOT.rglob("*")
                       if p.is_file() and not str(p.relative_to(ROOT)).startswith("build/"))
    cmake = [p for p in paths if p.endswith((".cmake", "CMakeLists.txt"))]
    build = set()
    for path in cmake:
        for source in re.findall(r"[\w./]+\.cpp", (ROOT / path).read_text()):
            build |= {source, str(pathlib.Path(path).parent / source)}
    found = 0
    for path in paths:
        if path.endswith(SOURCES) and (ROOT / path).is_file():
            text = (ROOT / path).read_text(encoding="utf-8")
            for violation in violations(path, text, build):
                print(f"{path}: {violation}")
                found += 1
    print(f"check_includes: {found} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
