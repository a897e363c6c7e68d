#!/usr/bin/env python3
"""The command line as a user meets it: cli_test.py PROGRAM [unittest arguments]."""

import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import safetensors

PROGRAM = sys.argv.pop(1)
FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures"
MODEL = FIXTURES / "qwen3_next_bf16"  # H 64, I 32: every format fits it
HIDDEN = 64
CHECKPOINTS = sorted(path.parent for path in FIXTURES.glob("*/config.json"))


def switchyard(*words):
    return subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, check=False,
                          timeout=300)

LOADS = ("random", "zipf", "hot")


class CliTest(unittest.TestCase):
    def setUp(self):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="switchyard-cli-"))
        self.addCleanup(shutil.rmtree, self.work)

    def ok(self, *words):
        done = switchyard(*words)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        return done.stdout

    def json(self, *words):
        return json.loads(self.ok(*words, "--json"))

    def refused(self, *words, code=2, says=""):
        """The program ends with `code`, one sentence on stderr that contains `says`, no result."""
        done = switchyard(*words)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertIn(says, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertNotIn("terminate", done.stderr)
        return done.stderr

    def input_file(self, **tensors):
        path = self.work / f"input{len(list(self.work.iterdir()))}.safetensors"
        safetensors.write(path, tensors)
        return path

    def expected(self, model):
        return safetensors.read(model / "expected.safetensors")


class Help(CliTest):
    def test_teaches(self):
        text = self.ok("--help")
        for word in ("inspect", "run", "check", "quantize", "explain", "cache", "tune", "bench", "report", "Examples", "Exit codes"):
            self.assertIn(word, text)
        self.assertRegex(self.ok("--version"), r"^switchyard \d+\.\d+\.\d+\n$")

    def test_every_command_has_its_own(self):
        for command in ("inspect", "run", "check", "quantize", "explain", "cache", "tune", "bench", "report"):
            self.assertIn("--json", self.ok(command, "--help"))

    def test_wrong_usage(self):
        self.refused(says="one of inspect run check quantize explain")
        self.refused("frobnicate", says="got 'frobnicate'")
        self.refused("--verison", says="got '--verison'")
        self.refused("inspect", says="DIR is required")
        self.refused("run", MODEL, says="[run] --layer is required. `switchyard run --help`")
        self.refused("inspect", MODEL, "--jsno", says="'--jsno' is not expected here")


class Inspect(CliTest):
    def test_every_fixture(self):
        self.assertGreater(len(CHECKPOINTS), 10)
        for model in CHECKPOINTS:
            with self.subTest(model.name):
                layers = self.json("inspect", model)["layers"]
                self.assertGreater(len(layers), 0)
                for layer in layers:
                    self.assertGreater(layer["expert_bytes"], 0)
                    self.assertGreaterEqual(layer["config"]["experts"], layer["config"]["top_k"])
                self.assertIn(f"{layers[0]['config']['experts']} experts", self.ok("inspect", model))

    def test_mistakes(self):
        self.refused("inspect", self.work / "nowhere", says="nowhere")
        (self.work / "config.json").write_text("{}")
        self.refused("inspect", self.work, says=str(self.work))

    def test_damaged_file(self):
        model = self.work / "model"
        shutil.copytree(MODEL, model)
        weights = model / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        self.refused("inspect", model, says="model.safetensors")
        weights.write_bytes(b"\xff" * 64)
        self.refused("inspect", model, says="model.safetensors")


class Run(CliTest):
    def test_every_fixture_passes_its_check(self):
        for model in CHECKPOINTS:
            with self.subTest(model.name):
                layer = self.json("inspect", model)["layers"][0]["layer"]
                report = self.json("run", model, "--layer", layer, "--tokens", 5, "--check")
                self.assertTrue(report["check"]["passed"], report["check"])
                self.assertEqual(report["tokens"], 5)

    def test_agrees_with_transformers(self):
        """From file to file: within twice the error of the bf16 run the fixture recorded."""
        for name in ("mixtral_bf16", "qwen3_moe_bf16", "gpt_oss_bf16"):
            with self.subTest(name):
                expected = self.expected(FIXTURES / name)
                out = self.work / f"{name}.safetensors"
                self.ok("run", FIXTURES / name, "--layer", 0, "--output", out, "--input",
                        self.input_file(tokens=expected["0.tokens"],
                                        router_logits=expected["0.router_logits"]))
                result = safetensors.read(out)
                self.assertEqual(set(result), {"output", "expert_ids", "expert_weights"})
                exact = safetensors.numbers(expected["0.output_exact"])
                honest = max(abs(a - b) for a, b in
                             zip(safetensors.numbers(expected["0.output_bf16"]), exact))
                error = max(abs(a - b) for a, b in
                            zip(safetensors.numbers(result["output"]), exact))
                self.assertLessEqual(error, 2 * honest)

    def test_given_experts(self):
        expected = self.expected(MODEL)
        out = self.work / "out.safetensors"
        self.ok("run", MODEL, "--layer", 0, "--output", out, "--input", self.input_file(
            tokens=expected["0.tokens"], expert_ids=expected["0.expert_ids"],
            expert_weights=expected["0.expert_weights"]))
        self.assertEqual(safetensors.read(out)["expert_ids"], expected["0.expert_ids"])

    def test_parts_sum_to_the_whole(self):
        tokens = safetensors.floats([(i * 37 % 101 - 50) / 50 for i in range(12 * HIDDEN)],
                                    [12, HIDDEN])
        source = self.input_file(tokens=tokens)

        def output(*part):
            out = self.work / f"out{'_'.join(part).replace('/', '-')}.safetensors"
            self.ok("run", MODEL, "--layer", 0, "--act", "f32", "--input", source, "--output", out,
                    *part)
            return safetensors.numbers(safetensors.read(out)["output"])

        whole = output()
        for option in ("--tp", "--ep"):
            parts = [output(option, f"{rank}/2") for rank in range(2)]
            worst = max(abs(w - a - b) for w, a, b in zip(whole, *parts))
            self.assertLess(worst, 1e-5 * max(map(abs, whole)), option)

    def test_summary(self):
        text = self.ok("run", MODEL, "--layer", 0, "--tokens", 3, "--check")
        for word in ("layer ", "weights ", "3 tokens on cpu", "experts ", "output ", "passed"):
            self.assertIn(word, text)
        self.assertRegex(text, r"3 tokens on cpu.* in [\d.]{1,5} (ns|us|ms|s) \(median of \d+\)")
        self.ok("run", MODEL, "--layer", 0, "--tokens", 0)

    def test_same_seed_same_values(self):
        first, second, other = (
            self.json("run", MODEL, "--layer", 0, "--seed", seed, "--threads", threads)["first_values"]
            for seed, threads in ((1, 1), (1, 2), (2, 1)))
        self.assertEqual(first, second)
        self.assertNotEqual(first, other)

    def test_mistakes(self):
        self.refused("run", self.work / "nowhere", "--layer", 0, says="nowhere")
        self.refused("run", MODEL, "--layer", 99, says="99")
        for part in ("8/8", "-1/2", "1/0", "x"):
            self.refused("run", MODEL, "--layer", 0, f"--tp={part}", says=part)
        self.refused("run", MODEL, "--layer", 0, "--act", "int3", says="fp8_token")
        self.refused("run", MODEL, "--layer", 0, "--device", "abacus", says="abacus")
        for number in ("-1", "1.5", "many", "99999999999"):
            self.refused("run", MODEL, "--layer", 0, f"--tokens={number}", says=f"got '{number}'")
        self.refused("run", MODEL, "--layer", "x", says="--layer: expected a whole number")
        self.refused("run", MODEL, "--layer", 0, "--seed", -1, says="--seed")
        self.refused("run", MODEL, "--layer", 0, "--token", 1, says="'--token' is not expected here")
        self.refused("run", MODEL, "--layer", 0, "--input", self.work / "none", says="none")

    def test_wrong_inputs(self):
        def refused(says, **tensors):
            self.refused("run", MODEL, "--layer", 0, "--input", self.input_file(**tensors), says=says)

        refused("tokens", output=safetensors.floats([0.0] * HIDDEN, [1, HIDDEN]))
        refused("[1, 32]", tokens=safetensors.floats([0.0] * 32, [1, 32]))
        tokens = safetensors.floats([0.0] * HIDDEN, [1, HIDDEN])
        refused("router_logits", tokens=tokens, router_logits=safetensors.floats([0.0] * 3, [1, 3]))
        refused("expert_weights", tokens=tokens, expert_ids=("I32", [1, 3], bytes(12)))

    def test_tokens_that_prove_nothing(self):
        nan = self.input_file(tokens=safetensors.floats([math.nan] * 96, [1, 96]))
        done = switchyard("run", FIXTURES / "gpt_oss_mxfp4", "--layer", 0, "--input", nan, "--check")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("logits not finite", done.stdout)
        self.assertIn("100 % of the output must be 0, which proves nothing", done.stdout)

    def test_output_is_never_overwritten_nor_left_half_written(self):
        out = self.work / "out.safetensors"
        out.write_text("precious")
        self.refused("run", MODEL, "--layer", 0, "--output", out, says="exists")
        self.assertEqual(out.read_text(), "precious")
        self.refused("run", MODEL, "--layer", 0, "--output", self.work / "no" / "out", says="no")
        self.assertEqual(list(self.work.iterdir()), [out])

    @unittest.skipUnless(os.path.isdir("/proc/self"), "needs a directory that refuses files")
    def test_unwritable_output(self):
        done = switchyard("run", MODEL, "--layer", 0, "--output", "/proc/out.safetensors")
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertIn("/proc/out.safetensors", done.stderr)


class Check(CliTest):
    LINE = "moe t8 h64 i32 e8 k2 nvfp4 swiglu deepseek_v3 groups=4 topk_groups=2"

    def test_passes(self):
        self.assertIn("passed", self.ok("check", self.LINE))
        report = self.json("check", self.LINE, "moe t3 h64 i64 e4 k2 bf16 swiglu", "--seed", 3)
        self.assertTrue(report["passed"])
        self.assertEqual([case["seed"] for case in report["cases"]], [3, 3])

    def test_mistakes(self):
        self.refused("check", self.LINE, "moe t8 h64 i32 e8 k2 nvfp5", says="nvfp4")
        self.refused("check", "moe t8 h64 i32 e8 k9 bf16")
        self.refused("check", "", says="moe")
        self.refused("check", *self.LINE.split(), says=f"Quote it: '{self.LINE}'")


class Quantize(CliTest):
    def test_every_format_can_be_run(self):
        before = self.json("inspect", MODEL)["layers"][0]["expert_bytes"]
        for words in (["nvfp4"], ["nvfp4", "--modelopt"], ["mxfp4"], ["mxfp8"], ["fp8_block"], ["fp8_channel"],
                      ["fp8_tensor"], ["int4_g32"], ["bf16"]):
            with self.subTest(words):
                out = self.work / "-".join(words)
                report = self.json("quantize", MODEL, out, "--to", *words)
                if words != ["bf16"]:
                    self.assertLess(report["expert_bytes_after"], before)
                # Gate and up are tensors of their own and keep their own scales, so the format of
                # the two together may be finer than what was asked for; that of down is not.
                self.assertEqual(self.json("inspect", out)["layers"][0]["down_format"], words[0])
                self.ok("run", out, "--layer", 0, "--tokens", 4, "--check")

    def test_mistakes_leave_nothing(self):
        out = self.work / "out"
        self.refused("quantize", MODEL, out, "--to", "nvfp5", says="nvfp4")
        self.refused("quantize", self.work / "nowhere", out, "--to", "nvfp4", says="nowhere")
        self.assertEqual(list(self.work.iterdir()), [])
        out.mkdir()
        (out / "precious").write_text("x")
        self.refused("quantize", MODEL, out, "--to", "nvfp4", says=str(out))
        self.assertEqual([p.name for p in self.work.rglob("*")], ["out", "precious"])


class Explain(CliTest):
    def test_both_targets(self):
        self.assertGreater(len(self.ok("explain", Check.LINE).splitlines()), 1)
        self.ok("explain", MODEL, "--layer", 0, "--tokens", 8)
        self.assertEqual(self.json("explain", MODEL, "--layer", 0, "--tokens", 8)["max_tokens"], 8)

    def test_gpu_without_one_and_without_weights(self):
        line = "moe t{} h7168 i2048 e256 k8 bf16 swiglu deepseek_v3 groups=8 topk_groups=4"  # 21 GiB
        for tokens in (8, 4096):
            text = self.ok("explain", line.format(tokens), "--device", "cuda")
            for piece in (f"plan for at most {tokens} tokens on", "NVIDIA", "sm_90", " us ", "expected "):
                self.assertIn(piece, text)
        self.assertIn("fused_moe serves at most", text)
        checkpoint = self.json("explain", FIXTURES / "mixtral_bf16", "--layer", 0, "--device", "cuda")
        self.assertIn("fused_moe", checkpoint["plan"])
        self.assertIn("more variants", checkpoint["plan"])
        self.ok("explain", FIXTURES / "gpt_oss_mxfp4", "--device", "cuda")
        self.refused("explain", FIXTURES / "qwen3_moe_fp8_block", "--device", "cuda",
                     says="GPU kernels take bf16, fp16, nvfp4 and mxfp4")

    def test_mistakes(self):
        several = FIXTURES / "mixtral_bf16"
        self.refused("explain", several, says=f"--layer: expected one of the 2 MoE layers, got none. "
                     f"`switchyard inspect {several}` lists them")
        self.ok("explain", MODEL)  # it has one layer
        self.refused("explain", "moe t8", says="moe")
        self.refused("explain", "moee t8", says="begins with 'moe '")
        self.refused("explain", Check.LINE, "--layer", 3, says="--layer")


class Measuring(CliTest):
    """`tune` and `bench`, as far as no GPU is needed."""

    ROW = {"switchyard_tuning": 1, "device": "NVIDIA H200, sm_90, 132 SMs", "kernels": "older",
           "versions": {}, "config": "fused block 8", "median_us": dict.fromkeys(LOADS, 9.5),
           "spread_us": dict.fromkeys(LOADS, 0.5),
           "problem": "moe t8 h64 i64 e4 k1 swiglu softmax_renormalize bf16"}  # fmt: skip

    def test_mistakes(self):
        self.refused("tune", says="expected a problem line or --preset")
        self.refused("tune", "--from", self.work / "none", "--out", self.work / "o", says="none")
        self.refused("tune", "moe t8", says="moe")
        self.refused("tune", "--preset", "qwen3-30b", says="nearest is 'qwen3-30b-a3b'")
        self.refused("tune", "--preset", "mixtral-8x7b", "--m", "0", says="--m")
        self.refused("bench", says="expected a problem line, --preset or --cases")
        self.refused("bench", "--cases", self.work / "none", says="cannot be read")
        self.refused("bench", Check.LINE, "--routing", "hot", says="routing_load=hot")
        self.refused("bench", Check.LINE, "--ops", "--layer", says="--layer")
        self.refused("bench", "--preset", "mixtral-8x7b", "--m", "8", "--routing", "cold", says="--routing")

    def test_merge_leaves_out_what_it_may_not_trust(self):
        picks, out = self.work / "picks.jsonl", self.work / "out.jsonl"
        picks.write_text(json.dumps(self.ROW) + "\nhalf a {\n")
        done = switchyard("tune", "--from", picks, "--out", out)
        self.assertEqual((done.returncode, out.read_text()), (0, ""))
        self.assertIn("picks.jsonl:2 is skipped", done.stderr)
        self.assertIn("1 rows of other kernels", done.stderr)
        self.assertIn("0 picks of 1 files", done.stdout)


class Cache(CliTest):
    LINE = "moe t1 h64 i64 e4 k1 bf16 swiglu softmax_renormalize"

    def setUp(self):
        super().setUp()
        self.set_environment("SWITCHYARD_CACHE_DIR", str(self.work))

    def set_environment(self, name, value):
        before = os.environ.get(name)
        os.environ[name] = value
        self.addCleanup(lambda: os.environ.pop(name) if before is None
                        else os.environ.__setitem__(name, before))

    def test_warm_list_clear(self):
        self.assertEqual(self.json("cache", "list")["kernels"], [])
        done = switchyard("cache", "warm", "--problem", self.LINE, "--json")
        if "no NVRTC" in done.stderr:
            self.skipTest(done.stderr)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        count = json.loads(done.stdout)["compiled"]
        self.assertGreater(count, 2)

        kernels = self.json("cache", "list")["kernels"]
        self.assertEqual(len(kernels), count)
        for kernel in kernels:
            self.assertEqual(kernel["arch"], "sm_90a")
            self.assertIn("switchyard::", kernel["instance"])
            self.assertGreater(kernel["bytes"], 0)
            self.assertLess(kernel["age_s"], 600)
        self.assertIn(f"{count} kernels", self.ok("cache", "list"))

        self.set_environment("SWITCHYARD_JIT", "off")
        again = self.json("cache", "warm", "--problem", self.LINE)
        self.assertEqual((again["compiled"], again["found"]), (0, count))
        self.assertEqual(self.json("cache", "clear")["removed"], count)
        self.refused("cache", "warm", "--problem", self.LINE, says="SWITCHYARD_JIT is off")
        self.assertIn("0 kernels removed", self.ok("cache", "clear"))

    def test_all_presets_name_what_they_skip(self):
        """No kernel is for sm_80, so nothing is compiled."""
        report = self.json("cache", "warm", "--arch", "sm_80", "--preset", "all")
        self.assertEqual((report["compiled"], report["found"]), (0, 0))
        reasons = {skip["preset"]: skip["reason"] for skip in report["skipped"]}
        self.assertIn("sm_90", reasons["qwen3-30b-a3b"])
        self.assertIn("skipped qwen3-30b-a3b: ",
                      self.ok("cache", "warm", "--arch", "sm_80", "--preset", "all"))

    def test_mistakes(self):
        self.refused("cache")
        self.refused("cache", "warm", says="--preset")
        self.refused("cache", "warm", "--preset", "qwen3-30b", says="qwen3-30b-a3b")
        self.refused("cache", "warm", "--preset", "qwen3-30b-a3b", "--arch", "sm_90", says="sm_90a")
        self.refused("cache", "warm", "--preset", "qwen3-30b-a3b", "--tokens", "1,x")
        self.refused("cache", "warm", "--problem", "moe t8 h64 i64 e4 k1 int4_g32 swiglu",
                     says="GPU kernels take")

    def test_a_cache_that_cannot_be_written_is_an_error(self):
        self.set_environment("SWITCHYARD_CACHE_DIR", "/proc/nowhere")
        done = switchyard("cache", "warm", "--problem", self.LINE)
        if "no NVRTC" in done.stderr:
            self.skipTest(done.stderr)
        self.assertEqual((done.returncode, done.stdout), (3, ""), done.stderr)
        self.assertIn("/proc/nowhere", done.stderr)


if __name__ == "__main__":
    unittest.main()
