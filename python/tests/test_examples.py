"""The examples run as they are, and `python -m switchyard` is the command line."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import FIXTURES

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "python"


def run(*words):
    done = subprocess.run(
        [sys.executable, *map(str, words)], check=False, capture_output=True, text=True, timeout=170
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_run_checkpoint():
    assert "qwen3_moe" in run(EXAMPLES / "run_checkpoint.py", FIXTURES / "qwen3_moe_ct_nvfp4", 64)


def test_own_weights():
    assert "relative distance of NVFP4: 0.1" in run(EXAMPLES / "own_weights.py")


def test_torch_module():
    pytest.importorskip("torch")
    assert "torch.Size([2, 8, 128])" in run(EXAMPLES / "torch_module.py")


def test_transformers_model():
    pytest.importorskip("transformers")
    assert "torch.Size([1, 11])" in run(EXAMPLES / "transformers_model.py")


def test_command_line():
    program = Path(__import__("switchyard").__file__).parent / "bin" / "switchyard"
    if not program.exists():
        pytest.skip("not an installed package")
    assert "switchyard 0." in run("-m", "switchyard", "--version")
    assert "nvfp4" in run("-m", "switchyard", "inspect", FIXTURES / "qwen3_moe_ct_nvfp4")


def test_the_package_is_small_has_types_and_nothing_of_cuda():
    package = Path(__import__("switchyard").__file__).parent
    if not (package / "bin").exists():
        pytest.skip("not an installed package")
    files = [f for f in package.rglob("*") if f.is_file() and f.suffix != ".pyc"]
    assert sum(f.stat().st_size for f in files) < 10 << 20
    assert {"py.typed", "_core.pyi"} <= {f.name for f in files}
    assert not [f for f in files if "cuda" in f.name or "nvrtc" in f.name]


def test_no_torch_is_needed():
    run(
        "-c",
        "import sys, switchyard; assert 'torch' not in sys.modules and 'jax' not in sys.modules",
    )
