#!/usr/bin/env python3
"""Computes the golden vectors beside this script with PyTorch, in double precision on f32 inputs.

    python3 generate.py        (needs torch and numpy)

cases.txt has one case a line: name layout batch channels spatial activation residual. Each NAME.f32 holds little-endian
f32 arrays one after the other, in the order of ARRAYS below. Data tensors are stored as [N][C][S] whatever the layout; the
tests arrange them. epsilon is 1e-5, momentum 0.1, running statistics follow PyTorch's convention.
"""
import pathlib

import numpy as np
import torch

EPSILON = 1e-5
MOMENTUM = 0.1
# name, layout, N, C, S, activation, residual
CASES = [
    ("nchw_plain", "nchw", 3, 5, 40, "identity", 0),
    ("nchw_relu", "nchw", 2, 19, 49, "relu", 0),
    ("nchw_residual_relu", "nchw", 4, 3, 130, "relu", 1),
    ("nchw_leaky_relu", "nchw", 5, 4, 6, "leaky_relu", 0),
    ("nhwc_plain", "nhwc", 3, 5, 40, "identity", 0),
    ("nhwc_relu6", "nhwc", 2, 37, 25, "relu6", 0),
    ("nhwc_residual_relu", "nhwc", 4, 16, 33, "relu", 1),
    ("dense", "nchw", 60, 24, 1, "identity", 0),
    ("large_mean", "nchw", 4, 6, 100, "identity", 0),
]
ARRAYS = ["x", "gamma", "beta", "residual", "running_mean", "running_var", "dy",  # inputs
          "y", "running_mean_after", "running_var_after", "dx", "dresidual", "dgamma", "dbeta",  # one training step
          "y_inference", "dx_inference"]  # eval mode, with the running statistics from before the step


def activation_of(name):
    return {
        "identity": lambda v: v,
        "relu": torch.relu,
        "leaky_relu": lambda v: torch.nn.functional.leaky_relu(v, 0.125),
        "relu6": torch.nn.functional.relu6,
    }[name]


def compute(generator, name, batch, channels, spatial, activation, residual):
    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float32)

    offset = 1000.0 if name == "large_mean" else 0.5
    arrays = {
        "x": normal(batch, channels, spatial) + offset,
        "gamma": 1 + 0.3 * normal(channels),
        "beta": 0.5 * normal(channels),
        "residual": normal(batch, channels, spatial) if residual else torch.zeros(batch, channels, spatial),
        "running_mean": offset + 0.1 * normal(channels),
        "running_var": 0.5 + torch.rand(channels, generator=generator),
        "dy": normal(batch, channels, spatial),
    }
    exact = {key: value.double() for key, value in arrays.items()}
    leaves = {key: exact[key].clone().requires_grad_() for key in ("x", "gamma", "beta", "residual")}
    act = activation_of(activation)

    running_mean = exact["running_mean"].clone()
    running_var = exact["running_var"].clone()
    v = torch.nn.functional.batch_norm(leaves["x"], running_mean, running_var, leaves["gamma"], leaves["beta"],
                                       True, MOMENTUM, EPSILON) + leaves["residual"]
    y = act(v)
    y.backward(exact["dy"])
    arrays.update(y=y, running_mean_after=running_mean, running_var_after=running_var, dx=leaves["x"].grad,
                  dresidual=leaves["residual"].grad, dgamma=leaves["gamma"].grad, dbeta=leaves["beta"].grad)

    x = exact["x"].clone().requires_grad_()
    y = act(torch.nn.functional.batch_norm(x, exact["running_mean"], exact["running_var"], exact["gamma"],
                                           exact["beta"], False, MOMENTUM, EPSILON) + exact["residual"])
    y.backward(exact["dy"])
    arrays.update(y_inference=y, dx_inference=x.grad)
    return np.concatenate([arrays[key].detach().float().numpy().ravel() for key in ARRAYS])


def main():
    folder = pathlib.Path(__file__).resolve().parent
    lines = []
    for seed, (name, layout, batch, channels, spatial, activation, residual) in enumerate(CASES):
        generator = torch.Generator().manual_seed(seed)
        values = compute(generator, name, batch, channels, spatial, activation, residual)
        values.astype("<f4").tofile(folder / f"{name}.f32")
        lines.append(f"{name} {layout} {batch} {channels} {spatial} {activation} {residual}\n")
    (folder / "cases.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()
