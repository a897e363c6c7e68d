#!/usr/bin/env python3
"""The numbers of `switchyard report`: report_test.py PROGRAM [unittest arguments]."""

import html.parser
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv.pop(1)
RESULTS = pathlib.Path(__file__).resolve().parent.parent.parent / "bench" / "results"


def row(tokens=8, experts=128, top_k=8, **changes):
    """A row of qwen3-30b-a3b that takes 100 us, 80 of them floor."""
    fields = {
        "problem": f"moe t{tokens} h2048 i768 e{experts} k{top_k} bf16 swiglu softmax_renormalize",
        "preset": "qwen3-30b-a3b", "m": tokens, "format": "bf16", "variant": "fused", "peer": None,
        "median_us": 100.0, "p10_us": 99.0, "p90_us": 101.0, "samples": 30, "floor_us": 80.0,
        "bytes": 3.2e8, "flops": 6.4e8, "ceiling_read_tbs": 4.0, "ceiling_mma_tflops": 800.0,
        "gpu": "NVIDIA H200", "error_ratio": 1.0, "commit": "abc1234", "date": "2026-11-21",
    }  # fmt: skip
    return {**fields, **changes}


def timed(median, **changes):
    return row(median_us=median, p10_us=median - 1, p90_us=median + 1, **changes)


class Page(html.parser.HTMLParser):
    """Tables of each section as lists of texts, and everything that a page could load or run."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.tags, self.links, self.section, self.cell = {}, [], [], "", None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.links += [attributes[name] for name in ("src", "href") if name in attributes]
        if tag == "section":
            self.section = attributes["id"]
        elif tag == "table":
            self.tables.setdefault(self.section, []).append([])
        elif tag == "tr":
            self.tables[self.section][-1].append([])
        elif tag in ("td", "th"):
            self.cell = ""

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[self.section][-1][-1].append(self.cell)
            self.cell = None


class ReportTest(unittest.TestCase):
    def setUp(self):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="switchyard-report-"))
        self.addCleanup(shutil.rmtree, self.work)
        self.output = self.work / "report.html"

    def file(self, rows, name="rows.jsonl"):
        path = self.work / name
        path.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in rows))
        return path

    def report(self, *words):
        return subprocess.run([PROGRAM, "report", *map(str, words), "-o", self.output],
                              capture_output=True, text=True, check=False, timeout=60)

    def page(self, rows, *words):
        done = self.report(self.file(rows), *words)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.text = self.output.read_text()
        return Page(self.text)

    def refused(self, *words, says):
        """One sentence on stderr, and neither a page nor a part of one."""
        before = sorted(self.work.iterdir())
        done = self.report(*words)
        self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1)
        self.assertEqual(done.stderr.count("[report]"), 1)
        for part in says:
            self.assertIn(part, done.stderr)
        self.assertEqual(sorted(self.work.iterdir()), before)


class Numbers(ReportTest):
    def test_latency_with_peer(self):
        peer = {"peer": "torch 2.11", "variant": "torch._grouped_mm", "error_ratio": None}
        page = self.page([row(1), timed(50.0, floor_us=20.0), timed(125.0, **peer)])
        head, one, eight = page.tables["latency"][0]
        self.assertEqual(head[-2:], ["torch._grouped_mm, µs", "ours is faster by"])
        self.assertEqual(one, ["1", "100", "99.0–101", "80.0", "0.80", "–", "–"])
        self.assertEqual(eight, ["8", "50.0", "49.0–51.0", "20.0", "0.40", "125", "2.50×"])
        self.assertIn("NVIDIA H200: 0.60 of the floor in the middle of 2 cells; faster than "
                      "torch._grouped_mm in 1 of 1 cells, 2.50× in the middle", self.text)

    def test_the_last_row_of_a_cell_counts(self):
        page = self.page([timed(70.0), row(1), timed(90.0)])
        self.assertEqual([line[1] for line in page.tables["latency"][0]], ["ours, µs", "100", "90.0"])

    def test_efficiency_and_tactics(self):
        page = self.page([row(1, variant="first"), row(8, variant="second"), row(64, variant="first")])
        self.assertEqual(page.tables["efficiency"],
                         [[["M", "1", "8", "64"], ["qwen3-30b-a3b, bf16", "0.80", "0.80", "0.80"]]])
        tactics, legend = page.tables["tactics"]
        self.assertEqual(tactics[1], ["qwen3-30b-a3b, bf16", "A", "B", "A"])
        self.assertEqual(legend[1:], [["A", "first"], ["B", "second"]])

    def test_roofline(self):
        page = self.page([row(1), row(8)])
        # 6.4e8 FLOP and 3.2e8 bytes in 100 us
        self.assertEqual(page.tables["roofline"][0][1], ["qwen3-30b-a3b, bf16", "1", "2.00", "6.40", "3.20"])

    def test_a_cpu(self):
        cpu = {"cpu": "EPYC", "threads": 2, "ceiling_read_gbs": 25.0, "ceiling_gflops": 190.0}
        rows = [{**row(m), **cpu} for m in (1, 8)]
        for fields in rows:
            del fields["gpu"]
        self.page(rows)
        self.assertIn("EPYC, 2 threads: 0.80 of the floor in the middle of 2 cells.", self.text)
        self.assertIn("reads 0.025 TB/s, multiplies 0.19 TFLOP/s", self.text)

    def test_scaling(self):
        rows = [timed(10.0 * e, experts=e) for e in (32, 64, 128)]
        rows += [timed(20.0 * k, top_k=k, tokens=32) for k in (1, 2, 4)]
        page = self.page(rows)
        experts, top_k = page.tables["experts"][0], page.tables["top-k"][0]
        self.assertEqual([line[:3] for line in experts[1:]],
                         [["8", "32", "320"], ["8", "64", "640"], ["8", "128", "1280"]])
        self.assertEqual([line[:3] for line in top_k[1:]],
                         [["32", "1", "20.0"], ["32", "2", "40.0"], ["32", "4", "80.0"]])

    def test_other_shapes_are_not_the_preset(self):
        page = self.page([row(1), row(8), row(1, experts=16), row(8, experts=16)])
        self.assertEqual(len(page.tables["latency"]), 1)

    def test_against(self):
        before = self.file([timed(100.0, tokens=m) for m in (1, 8, 32, 64)], "before.jsonl")
        wide = row(32, median_us=110.0, p10_us=95.0, p90_us=130.0)
        page = self.page([timed(101.5, tokens=1), timed(120.0), wide,
                          timed(50.0, tokens=64, variant="other"), row(512)], "--against", before)
        lines = [line[1:7] for line in page.tables["changes"][0][1:]]
        self.assertEqual(lines, [["8", "+20.0 %", "slower", "100", "120", ""],
                                 ["32", "+10.0 %", "same", "100", "110", ""],
                                 ["1", "+1.5 %", "same", "100", "102", ""],
                                 ["64", "-50.0 %", "faster", "100", "50.0", "fused → other"]])
        self.assertIn("Of 4 cells that both have, 1 got slower and 1 faster", self.text)


class Form(ReportTest):
    def test_committed_rows_make_one_page_that_loads_nothing(self):
        done = self.report(*sorted(RESULTS.glob("*.jsonl")))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        text = self.output.read_text()
        page = Page(text)
        self.assertEqual([link for link in page.links if not link.startswith("#")], [])
        self.assertFalse({"script", "link", "img", "iframe"} & set(page.tags))
        self.assertNotIn("url(", text)
        self.assertNotRegex(text, r"[ \"](nan|inf|-nan|-inf)\b")
        self.assertIn("checkpoint_load", text)
        self.assertEqual(set(page.tables),
                         {"latency", "efficiency", "roofline", "tactics", "experts", "top-k"})

    def test_a_chart_is_an_svg_file(self):
        done = self.report(self.file([row(1), row(8)]), "--chart", "latency")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(self.output.read_text(), re.compile(r"^<svg xmlns.*Switchyard.*</svg>\n$", re.DOTALL))

    def test_texts_are_escaped(self):
        self.page([row(1, variant="<b>&"), row(8)])
        self.assertIn("&lt;b&gt;&amp;", self.text)
        self.assertNotIn("<b>", self.text)

    def test_json(self):
        rows = self.file([row(), {"bench": "other"}])
        done = self.report(rows, "--json")
        self.assertEqual(json.loads(done.stdout),
                         {"output": str(self.output), "rows": 1, "left_out": {"other": 1}})


class BadInput(ReportTest):
    def test_files(self):
        self.refused(self.work / "none.jsonl", says=["none.jsonl: expected a file", "Check the path"])
        self.refused(self.work, says=["expected a file"])
        self.refused(self.file([]), says=["rows.jsonl: expected rows of layers, got none"])

    def test_lines(self):
        self.refused(self.file([row(), '{"problem":\n']),
                     says=["rows.jsonl:2: expected one JSON object a line, got '{\"problem\":'", "Take"])
        self.refused(self.file(["[1]\n"]), says=["rows.jsonl:1: expected one JSON object"])

    def test_every_needed_field(self):
        for field in set(row()) - {"samples", "error_ratio"}:
            fields = row()
            del fields[field]
            self.refused(self.file([row(1), fields]),
                         says=[f"rows.jsonl:2: {field}: expected", "got nothing", "docs/results.md"])

    def test_values(self):
        for changes, says in (
            ({"median_us": "fast"}, 'median_us: expected a number above 0, got "fast"'),
            ({"floor_us": 0}, "floor_us: expected a number above 0, got 0"),
            ({"median_us": 200.0}, "median_us: expected p10_us <= median_us <= p90_us, got 200.0"),
            ({"m": 9}, "m: expected the tokens of `problem`, got 9"),
            ({"problem": "moe t8 hx"}, "rows.jsonl:1: problem: "),
            ({"preset": 3}, "preset: expected a text or null, got 3"),
            ({"error_ratio": 2.5}, "error_ratio: expected at most 2"),
            ({"row_version": 2}, "row_version: expected 1, got 2. Another version"),
        ):
            self.refused(self.file([row(**changes)]), says=[says])

    def test_against_is_checked_too(self):
        rows = self.file([row()])
        self.refused(rows, "--against", self.file(["x\n"], "old.jsonl"), says=["old.jsonl:1"])

    def test_charts(self):
        self.refused(self.file([row(1), row(8)]), "--chart", "pie",
                     says=["--chart: expected one of latency roofline, got 'pie'"])

    def test_a_page_that_was_there_stays(self):
        self.output.write_text("before")
        self.refused(self.file(["x\n"]), says=["expected one JSON"])
        self.assertEqual(self.output.read_text(), "before")


if __name__ == "__main__":
    unittest.main()
