#!/usr/bin/env python3
"""Times a ResNet block's batch norms, residual addition and ReLUs with torch.nn and with bnorm.torch, in turns.

    python benchmark.py            prints a Markdown table: medians, forward and backward together
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: threads that spin would time themselves

import torch  # noqa: E402
from torch import nn  # noqa: E402

import bnorm.torch  # noqa: E402


class Block(nn.Module):
    """A residual block, with or without its convolutions."""

    def __init__(self, channels, convolutions):
        super().__init__()

        def convolution():
            return nn.Conv2d(channels, channels, 3, padding=1, bias=False) if convolutions else nn.Identity()
        self.convolution1, self.norm1 = convolution(), nn.BatchNorm2d(channels)
        self.convolution2, self.norm2 = convolution(), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x):
        y = self.relu(self.norm1(self.convolution1(x)))
        return self.relu(self.norm2(self.convolution2(y)) + x)


def step(model, x, dy):
    x.grad = None
    model(x).backward(dy)


def time_of(model, x, dy, seconds):
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        step(model, x, dy)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def compare(shape, memory_format, convolutions, seconds):
    x = torch.randn(shape).contiguous(memory_format=memory_format)
    dy = torch.randn(shape).contiguous(memory_format=memory_format)
    models = [Block(shape[1], convolutions)]
    models += [bnorm.torch.convert(Block(shape[1], convolutions)),
               bnorm.torch.convert(Block(shape[1], convolutions), fuse=True)]
    turns = [[], [], []]
    inputs = [x.clone(memory_format=memory_format).requires_grad_() for _ in models]
    for _ in range(3):
        for model, leaf, times in zip(models, inputs, turns):
            model.to(memory_format=memory_format)
            times.append(time_of(model, leaf, dy, seconds))
    return [statistics.median(times) for times in turns]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small shape: whether it runs")
    options = parser.parse_args()
    shapes = [(2, 16, 14, 14)] if options.quick else [(32, 64, 56, 56), (32, 128, 28, 28), (32, 256, 14, 14)]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {bnorm.build_info()}\n")
    print("| block | tensors | format | torch.nn ms | bnorm.torch ms | fused ms | torch.nn / fused |")
    print("|---|---|---|---|---|---|---|")
    for convolutions in (False, True):
        for shape in shapes:
            for name, memory_format in (("NCHW", torch.contiguous_format), ("channels_last", torch.channels_last)):
                plain, converted, fused = compare(shape, memory_format, convolutions, 0.02 if options.quick else 1.0)
                print(f"| {'with' if convolutions else 'without'} convolutions | {'x'.join(map(str, shape))} | {name} | "
                      f"{plain * 1e3:.2f} | {converted * 1e3:.2f} | {fused * 1e3:.2f} | {plain / fused:.2f} |", flush=True)


if __name__ == "__main__":
    main()
