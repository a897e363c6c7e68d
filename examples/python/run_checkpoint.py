"""Runs the first MoE layer of a checkpoint: run_checkpoint.py DIRECTORY."""

import sys

import numpy as np


def run_first_layer(directory, x):
    # [run_checkpoint]
    import switchyard

    checkpoint = switchyard.Checkpoint(directory)
    layer = switchyard.MoELayer(checkpoint.experts(checkpoint.layers[0].layer))  # device="cuda"
    y = layer(x)  # x [T, H] of numpy, PyTorch, CuPy or JAX; the checkpoint's router chooses
    # [run_checkpoint]
    print(checkpoint.family, layer)
    return y


if __name__ == "__main__":
    hidden = int(sys.argv[2]) if len(sys.argv) > 2 else 64
    print(run_first_layer(sys.argv[1], np.ones((4, hidden), np.float32))[0, :4])
