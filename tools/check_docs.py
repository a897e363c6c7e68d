#!/usr/bin/env python3
"""Checks that the documentation says what the tree does.

  * a fenced block after `<!-- examples/FILE: REGION -->` equals the lines of that file between
    `// [REGION]` (`# [REGION]` in Python) and the next one, without their common indent;
  * every `./run WORD` and `switchyard COMMAND --option` in a fenced block exists (the options are
    looked up in `--help` of the program given with --switchyard);
  * every relative link leads to a file, and its #anchor to a heading.

Prints one line per mistake; exit status 1 if there is any.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parent.parent

FENCE = re.compile(r"(?:<!-- (?P<mark>\S+: \S+) -->\n)?```(?P<kind>\w*)\n(?P<body>.*?)```", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def region(mark):
    """The text of `examples/x.cpp: name`, or None."""
    path, name = mark.split(": ")
    source = ROOT / path
    if not source.is_file():
        return None
    parts = re.split(rf"^ *(?://|#) \[{re.escape(name)}\]\n", source.read_text(), flags=re.MULTILINE)
    return textwrap.dedent(parts[1]) if len(parts) == 3 else None


def snippet_mistakes(text):
    for fence in FENCE.finditer(text):
        mark = fence["mark"]
        if fence["kind"] in ("cpp", "python") and not mark and "switchyard" in fence["body"]:
            yield f"a {fence['kind']} snippet without a source: {fence['body'].splitlines()[0]}"
        if mark:
            expected = region(mark)
            if expected is None:
                yield f"{mark}: no such region"
            elif expected.strip() != fence["body"].strip():
                yield f"{mark}: the snippet differs from the example"


class Program:
    """What `switchyard` understands, asked from the program itself."""

    def __init__(self, path):
        self.path, self.texts = path, {}

    def help(self, command):
        if command not in self.texts:
            answer = subprocess.run([self.path, command, "--help"], capture_output=True, text=True,
                                    check=False)
            self.texts[command] = answer.stdout if answer.returncode == 0 else None
        return self.texts[command]


def command_mistakes(text, program):
    run_usage = subprocess.run([ROOT / "run", "help"], capture_output=True, text=True,
                               check=True).stdout
    for fence in FENCE.finditer(text):
        if fence["kind"] not in ("sh", "console"):
            continue
        for line in fence["body"].splitlines():
            for word in re.findall(r"\./run ([\w-]+)", line):
                if not re.search(rf"^  {word} ", run_usage, re.MULTILINE):
                    yield f"./run {word}: no such command"
            call = re.search(r"(?:^|\s|/)switchyard (\w+)(.*)", line)
            if call and program:
                help_text = program.help(call[1])
                if help_text is None:
                    yield f"switchyard {call[1]}: no such command"
                    continue
                for option in re.findall(r"(?<!\S)--[a-z]+", call[2]):
                    if option not in help_text:
                        yield f"switchyard {call[1]} {option}: no such option"


def anchors(path):
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def link_mistakes(text, page):
    for link in LINK.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if re.match(r"https?:|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            yield f"{link}: no such file"
        elif anchor and anchor not in anchors(target):
            yield f"{link}: no such heading"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--switchyard", help="the built program, to look up commands and options")
    arguments = parser.parse_args()
    program = Program(arguments.switchyard) if arguments.switchyard else None
    found = 0
    for page in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]):
        text = page.read_text(encoding="utf-8")
        for mistake in [*snippet_mistakes(text), *command_mistakes(text, program),
                        *link_mistakes(text, page)]:
            print(f"{page.relative_to(ROOT)}: {mistake}")
            found += 1
    print(f"check_docs: {found} mistakes")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
