"""PyTorch, by the operators that torch.nn.BatchNorm2d calls. channels_last stands for NHWC.

Forward writes into preallocated tensors by the operators' out variants; where a version has none, a call allocates its
results, and the implementation says so. ReLU and the residual's addition are in place, as a careful user writes them.
"""

import sys

import torch

import peer

EPSILON = peer.EPSILON


def tensor(shape, layout, random):
    n, c, h, w = shape
    array = torch.from_numpy(peer.aligned(n * c * h * w, random))
    return array.view(n, h, w, c).permute(0, 3, 1, 2) if layout == "nhwc" else array.view(n, c, h, w)


class Layer:
    def __init__(self, operation, layout, shape, x):
        self.relu = "_relu" in operation
        self.residual = "_residual" in operation
        self.training = not operation.startswith("inference") and operation != "backward_fixed"
        channels = shape[1]
        self.gamma = torch.full((channels,), peer.GAMMA)
        self.beta = torch.full((channels,), peer.BETA)
        self.running_mean = torch.zeros(channels)
        self.running_var = torch.ones(channels)
        self.mean = torch.zeros(channels)
        self.inv_std = torch.full((channels,), 1.75)
        self.x = tensor(shape, layout, True) if x is None else x
        self.implementation = ""
        if operation.startswith("backward"):
            self.dy = tensor(shape, layout, True)
            self.y = tensor(shape, layout, True) if self.relu else None
            self.run = self.backward
            self.implementation = "allocates"
        elif operation.startswith(("training_forward", "inference")):
            self.y = tensor(shape, layout, False)
            self.other = tensor(shape, layout, True) if self.residual else None
            self.run = self.forward_out
            try:
                self.forward_out()
            except (AttributeError, RuntimeError, TypeError):
                self.run = self.forward
                self.implementation = "allocates"
        else:
            raise ValueError("PyTorch has no such operation")

    def finish(self, y):
        if self.residual:
            y.add_(self.other)
        if self.relu:
            y.relu_()

    def forward_out(self):
        torch.ops.aten.native_batch_norm.out(
            self.x, self.gamma, self.beta, self.running_mean, self.running_var, self.training, 0.1, EPSILON,
            out=self.y, save_mean=self.mean, save_invstd=self.inv_std)
        self.finish(self.y)

    def forward(self):
        y, _, _ = torch.native_batch_norm(
            self.x, self.gamma, self.beta, self.running_mean, self.running_var, self.training, 0.1, EPSILON)
        self.finish(y)
        self.y = y

    def backward(self):
        dy = self.dy
        if self.relu:
            dy = torch.ops.aten.threshold_backward(dy, self.y, 0)
        torch.ops.aten.native_batch_norm_backward(
            dy, self.x, self.gamma, self.running_mean, self.running_var, self.mean, self.inv_std, self.training,
            EPSILON, [True, True, True])


def prepare(operation, layout, shape, threads, x):
    torch.set_num_threads(threads)
    layer = Layer(operation, layout, shape, x)
    prepared = peer.Prepared(layer.implementation, layer.run)
    if layer.run == layer.forward_out:
        prepared.output = layer.y
    if operation == "training_forward":
        prepared.x, prepared.y = layer.x.numpy(), lambda: layer.y.numpy()
    return prepared


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    sys.exit(peer.serve("PyTorch", torch.__version__, prepare))
