"""Streams, graphs, threads, processes and garbage while a GPU works."""

import gc
import subprocess
import sys
import threading

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)
import switchyard.torch
import torch_definition
from gpu import GpuCase, K, close

CYCLES = 200_000_000  # a tenth of a second


@pytest.fixture(scope="module")
def case():
    return GpuCase()


def layers_call(case):
    return lambda x, logits: case.layer(x, router_logits=logits)


def operators_call(case):
    number = switchyard.torch.register(case.layer)
    return lambda x, logits: torch.ops.switchyard.moe(number, x, logits, None, None, None)


@pytest.fixture(params=[layers_call, operators_call])
def call(case, request):
    """y = call(x, logits): both take outputs and workspaces from PyTorch, in ways of their own."""
    return request.param(case)


def on_new_stream(work):
    """The result of `work` on a stream of its own."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        return work()


@pytest.mark.parametrize("tokens", [5, 300])
def test_two_streams(case, call, tokens):
    x, logits = case.batch(tokens)
    case.layer.plan(tokens)
    want = call(x, logits)
    outs = []
    for _ in range(2):
        outs += on_new_stream(lambda: [call(x, logits) for _ in range(10)])
    torch.cuda.synchronize()
    assert all(torch.equal(out, want) for out in outs)


def test_a_call_waits_for_its_stream_and_for_no_other(case):
    x, logits = case.batch(16)
    torch.cuda.synchronize()
    other = torch.cuda.Stream()
    with torch.cuda.stream(other):  # PyTorch takes memory for it, which may wait
        want = case.layer(x, router_logits=logits)
    other.synchronize()
    # The default stream copies: a kernel there would keep an SM, and ours needs all of them.
    pinned = torch.empty(2**28, dtype=torch.uint8, pin_memory=True)
    target = torch.empty_like(pinned, device="cuda")
    for _ in range(30):
        target.copy_(pinned, non_blocking=True)
    late = x.clone()
    with torch.cuda.stream(other):
        early = case.layer(x, router_logits=logits)
    other.synchronize()
    assert not torch.cuda.current_stream().query(), "the default stream was waited for"
    assert torch.equal(early, want)
    assert torch.equal(case.layer(late, router_logits=logits), want)


@pytest.mark.parametrize("tokens", [1, 16, 300])
def test_cuda_graph(case, tokens):
    x, logits = case.batch(tokens)
    plan = case.layer.plan(tokens)
    number = switchyard.torch.register(case.layer)
    plan(x, router_logits=logits)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = plan(x, router_logits=logits)
        twice = torch.ops.switchyard.moe(number, out, logits, None, None, None)
    for _ in range(3):
        fresh, fresh_logits = case.batch(tokens)
        x.copy_(fresh)
        logits.copy_(fresh_logits)
        out.zero_()
        graph.replay()
        want = plan(fresh, router_logits=fresh_logits)
        assert torch.equal(out, want)
        assert torch.equal(twice, plan(want, router_logits=fresh_logits))


def test_a_graph_serves_fewer_tokens(case):
    x, logits = case.batch(32)
    count = torch.tensor([32], dtype=torch.int32, device="cuda")
    plan = case.layer.plan(32)
    plan(x, router_logits=logits, token_count=count)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = plan(x, router_logits=logits, token_count=count)
    want = case.expected(x, *torch_definition.choose(logits, K))
    for tokens in (32, 7, 1):
        count.fill_(tokens)
        out.fill_(0)
        graph.replay()
        close(out[:tokens], want[:tokens])


@torch.no_grad()
def test_arrays_in_flight_may_be_dropped(case, call):
    x, logits = case.batch(5)
    want = call(x, logits)
    torch.cuda._sleep(CYCLES)
    for _ in range(50):
        out = call(x.clone(), logits.clone())
        gc.collect()
        torch.empty(1 << 20, device="cuda").fill_(torch.nan)  # takes what was freed
    assert torch.equal(out, want)


@pytest.mark.parametrize("tokens", [5, 300])
def test_a_layer_in_flight_may_be_dropped(tokens):
    case = GpuCase()
    x, logits = case.batch(tokens)
    want = case.expected(x, *torch_definition.choose(logits, K))
    layer = case.layer
    layer.plan(tokens)(x, router_logits=logits)
    torch.cuda.synchronize()
    torch.cuda._sleep(CYCLES)
    out = layer.plan(tokens)(x, router_logits=logits)
    del layer, case.layer
    gc.collect()
    torch.cuda.synchronize()
    close(out, want)


def test_threads(case):
    batches = [case.batch(tokens) for tokens in (1, 9, 120, 300)]
    plans = [case.layer.plan(len(x)) for x, _ in batches]
    wants = [plan(x, router_logits=z) for plan, (x, z) in zip(plans, batches)]
    torch.cuda.synchronize()
    wrong = []

    def work(index):
        def calls():
            x, logits = batches[index]
            return [plans[index](x, router_logits=logits) for _ in range(50)]

        outs = on_new_stream(calls)
        torch.cuda.synchronize()
        wrong.extend(index for out in outs if not torch.equal(out, wants[index]))

    threads = [threading.Thread(target=work, args=(i % 4,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_threads_plan_at_once():
    case = GpuCase("nvfp4")
    x, logits = case.batch(64)
    outs = [None] * 8

    def work(index):
        outs[index] = case.layer.plan(64 << index % 3)(x, router_logits=logits)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    want = case.expected(x, *torch_definition.choose(logits, K))
    for out in outs:
        close(out, want)


FORK = """
import os, signal
import numpy as np
from switchyard import Error, Experts, MoELayer

random = np.random.default_rng(0)
gate_up, down = random.normal(size=(4, 128, 64)), random.normal(size=(4, 64, 64))
experts = Experts.quantize(gate_up.astype("f4"), down.astype("f4"), "nvfp4")
layer = MoELayer(experts, top_k=2, act="bf16", device="cuda")
x = np.zeros((3, 64), "u2").view(__import__("ml_dtypes").bfloat16)
logits = random.normal(size=(3, 4)).astype("f4")
layer(x, router_logits=logits)
child = os.fork()
if child == 0:
    signal.alarm(20)  # a child that hangs ends
    try:
        layer(x, router_logits=logits)
    except Error as error:
        print(error)
        os._exit(0)
    os._exit(1)
status = os.waitpid(child, 0)[1]
layer(x, router_logits=logits)  # the parent's is as it was
raise SystemExit(status != 0)
"""


def test_a_forked_child_is_told():
    done = subprocess.run(
        [sys.executable, "-c", FORK], check=False, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_many_layers_come_and_go():
    case = GpuCase("mxfp4")
    free = []
    for _ in range(4):
        GpuCase("mxfp4").layer.plan(64)
        gc.collect()
        free.append(torch.cuda.mem_get_info()[0])
    assert free[-1] >= free[0] - (8 << 20)
    x, logits = case.batch(4)
    close(
        case.layer(x, router_logits=logits),
        case.expected(x, *torch_definition.choose(logits, K)),
    )
