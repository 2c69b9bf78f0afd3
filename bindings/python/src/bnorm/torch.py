"""torch.nn's batch norms on bnorm, for CPU: drop-in modules, and convert(model) to put them into a model.

BatchNorm1d, 2d and 3d are torch.nn's classes with another forward: the same constructor, state_dict, momentum=None,
track_running_stats, affine, eval mode, contiguous and channels_last tensors. What is not float32 on the CPU goes to
torch.nn. In addition they can apply a ReLU, and add a residual before it: module(x, residual).
"""

import operator
from typing import NamedTuple, Optional

import torch
import torch.fx
from torch import nn
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable

from . import _plan

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "batch_norm", "convert"]

_EXPONENTIAL = 0


def _channels_last_format(dimensions):
    return {4: torch.channels_last, 5: torch.channels_last_3d}.get(dimensions)


def _dense(tensor):
    """(tensor or a dense copy of it, its memory format): channels first unless it is channels_last only."""
    if tensor.is_contiguous():
        return tensor, torch.contiguous_format
    last = _channels_last_format(tensor.dim())
    if last is not None and tensor.is_contiguous(memory_format=last):
        return tensor, last
    return tensor.contiguous(), torch.contiguous_format


def _pointer(tensor):
    return None if tensor is None else tensor.data_ptr()


def _statistics_args(statistics):
    mean = statistics.data_ptr()
    return {"mean": mean, "inv_std": mean + statistics.stride(0) * statistics.element_size()}


def _mask_args(mask):
    return {} if mask is None else {"mask": mask.data_ptr(), "mask_bytes": mask.numel()}


def _plan_of(operation, x, memory_format, epsilon, relu, residual):
    batch, channels = x.shape[:2]
    spatial = x.numel() // (batch * channels)
    return _plan(operation, layout=0 if memory_format is torch.contiguous_format else 1, batch=batch,
                 channels=channels, spatial=spatial, epsilon=epsilon, activation=int(relu), residual=int(residual),
                 threads=torch.get_num_threads())


class _Saved(NamedTuple):
    """Of a forward step for its backward step."""

    x: torch.Tensor
    memory_format: torch.memory_format
    mask: Optional[torch.Tensor]
    statistics: Optional[torch.Tensor]  # of a batch: mean and inv_std, f64


def _forward(x, gamma, beta, residual, running_mean, running_var, training, momentum, epsilon, relu, save):
    """Training (statistics of the batch) or inference: (y, what was saved or None)."""
    x, memory_format = _dense(x)
    if residual is not None:
        residual = residual.contiguous(memory_format=memory_format)
    y = torch.empty_like(x, memory_format=memory_format)
    plan = _plan_of("training_forward" if training else "inference", x, memory_format, epsilon, relu,
                    residual is not None)
    args = {"x": x.data_ptr(), "residual": _pointer(residual), "gamma": _pointer(gamma), "beta": _pointer(beta),
            "y": y.data_ptr(), "running_mean": _pointer(running_mean), "running_var": _pointer(running_var)}
    if training:
        args.update(running_update=_EXPONENTIAL, momentum=momentum)
    saved = None
    if save:
        # Without a residual backward finds the sign of the activation's argument again, at no cost.
        mask = torch.empty(plan.mask_bytes, dtype=torch.uint8) if relu and residual is not None else None
        statistics = torch.empty(2, x.shape[1], dtype=torch.float64) if training else None
        saved = _Saved(x, memory_format, mask, statistics)
        args.update(_mask_args(mask))
        if training:
            args.update(_statistics_args(statistics))
    plan.execute(**args)
    return y, saved


class _BatchNorm(torch.autograd.Function):
    """_forward with gradients."""

    @staticmethod
    def forward(ctx, x, gamma, beta, residual, running_mean, running_var, training, momentum, epsilon, relu):
        y, saved = _forward(x, gamma, beta, residual, running_mean, running_var, training, momentum, epsilon, relu,
                            save=True)
        # An eval layer's statistics may change before backward: its gradients belong to those of now.
        frozen = (None, None) if training or running_mean is None else (running_mean.clone(), running_var.clone())
        ctx.save_for_backward(saved.x, gamma, beta, saved.mask, saved.statistics, *frozen)
        ctx.memory_format, ctx.training, ctx.epsilon, ctx.relu = saved.memory_format, training, epsilon, relu
        ctx.residual = residual is not None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, gamma, beta, mask, statistics, running_mean, running_var = ctx.saved_tensors
        needs_x, needs_gamma, needs_beta, needs_residual = ctx.needs_input_grad[:4]
        dy = dy.contiguous(memory_format=ctx.memory_format)
        dx = torch.empty_like(x, memory_format=ctx.memory_format) if needs_x else None
        dresidual = torch.empty_like(x, memory_format=ctx.memory_format) if needs_residual else None
        dgamma = torch.empty_like(gamma) if needs_gamma else None
        dbeta = torch.empty_like(beta) if needs_beta else None
        if needs_x or needs_gamma or needs_beta or needs_residual:
            plan = _plan_of("backward" if ctx.training else "backward_fixed", x, ctx.memory_format, ctx.epsilon,
                            ctx.relu, ctx.residual)
            args = {"dy": _pointer(dy), "x": _pointer(x), "gamma": _pointer(gamma), "beta": _pointer(beta),
                    "dx": _pointer(dx), "dresidual": _pointer(dresidual), "dgamma": _pointer(dgamma),
                    "dbeta": _pointer(dbeta), **_mask_args(mask)}
            if ctx.training:
                args.update(_statistics_args(statistics))
            else:
                args.update(running_mean=_pointer(running_mean), running_var=_pointer(running_var))
            plan.execute(**args)
        return dx, dgamma, dbeta, dresidual, None, None, None, None, None, None


def _supported(*tensors):
    for tensor in tensors:
        if tensor is not None and not (tensor.is_cpu and tensor.dtype is torch.float32):
            return False
    return True


def _wants_gradients(*tensors):
    if getattr(forward_ad, "_current_level", 0) >= 0:  # autograd says that there is no forward mode
        return True
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def batch_norm(input: torch.Tensor, running_mean: Optional[torch.Tensor], running_var: Optional[torch.Tensor],
               weight: Optional[torch.Tensor] = None, bias: Optional[torch.Tensor] = None, training: bool = False,
               momentum: float = 0.1, eps: float = 1e-5, *, residual: Optional[torch.Tensor] = None,
               relu: bool = False) -> torch.Tensor:
    """torch.nn.functional.batch_norm on bnorm, then [+ residual] and [ReLU] in the same pass."""
    if residual is not None and residual.shape != input.shape:
        raise ValueError(f"residual has shape {tuple(residual.shape)}; it must be {tuple(input.shape)}")
    if input.dim() >= 2:
        of_channels = input.shape[1:2]
        named = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
        for name, tensor in named.items():
            if tensor is not None and tensor.shape != of_channels:
                raise RuntimeError(f"{name} should contain {input.shape[1]} elements not {tensor.numel()}")
    writable = all(t is None or t.is_contiguous() for t in (running_mean, running_var))
    if input.dim() < 2 or input.numel() == 0 or not writable or \
            not _supported(input, weight, bias, running_mean, running_var, residual):
        y = nn.functional.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
        y = y if residual is None else y + residual
        return y.relu() if relu else y
    if training and input.numel() == input.shape[1]:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.size()}")
    weight, bias = (None if t is None else t.contiguous() for t in (weight, bias))
    args = (input, weight, bias, residual, running_mean, running_var, training, momentum, eps, relu)
    return _BatchNorm.apply(*args) if _wants_gradients(*args[:4]) else _forward(*args, save=False)[0]


class _Module:
    """forward of torch.nn's _BatchNorm, with a fused residual and ReLU. `relu` is no part of the state."""

    relu = False

    def forward(self, input, residual=None):
        self._check_input_dim(input)
        factor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:  # the mean over all batches
                factor = 1.0 / float(self.num_batches_tracked)
        of_batch = self.training or (self.running_mean is None and self.running_var is None)
        kept = not self.training or self.track_running_stats
        return batch_norm(input, self.running_mean if kept else None, self.running_var if kept else None, self.weight,
                          self.bias, of_batch, factor, self.eps, residual=residual, relu=self.relu)

    def extra_repr(self):
        return super().extra_repr() + (", relu=True" if self.relu else "")


class BatchNorm1d(_Module, nn.BatchNorm1d):
    """torch.nn.BatchNorm1d on bnorm: (N, C) or (N, C, L)."""


class BatchNorm2d(_Module, nn.BatchNorm2d):
    """torch.nn.BatchNorm2d on bnorm: (N, C, H, W), contiguous or channels_last."""


class BatchNorm3d(_Module, nn.BatchNorm3d):
    """torch.nn.BatchNorm3d on bnorm: (N, C, D, H, W), contiguous or channels_last_3d."""


_CLASSES = {nn.BatchNorm1d: BatchNorm1d, nn.BatchNorm2d: BatchNorm2d, nn.BatchNorm3d: BatchNorm3d}


def _converted(module):
    """The same layer (parameters, buffers, hooks, mode) as a module of this file."""
    result = _CLASSES[type(module)].__new__(_CLASSES[type(module)])
    result.__dict__ = module.__dict__.copy()
    return result


def convert(model: nn.Module, fuse: bool = False) -> nn.Module:
    """Replaces torch.nn's batch norms in a model, in place; parameters and buffers stay the same objects.

    fuse=True also merges a ReLU, or an addition and a ReLU, that follow a batch norm. It traces the model with torch.fx
    and returns the traced one: for models that fx can trace.
    """
    if type(model) in _CLASSES:
        return _converted(model)
    for name, child in list(model.named_children()):
        model._modules[name] = convert(child)
    return _fused(model) if fuse else model


# ---- fusing ---------------------------------------------------------------------------------------------------------


class _Tracer(torch.fx.Tracer):
    def is_leaf_module(self, module, qualified_name):
        return isinstance(module, _Module) or super().is_leaf_module(module, qualified_name)


def _is_relu(node, modules):
    functions = (torch.relu, torch.relu_, nn.functional.relu, nn.functional.relu_)
    return (node.op == "call_module" and type(modules[node.target]) is nn.ReLU) or \
        (node.op == "call_function" and node.target in functions) or \
        (node.op == "call_method" and node.target in ("relu", "relu_"))


def _is_addition(node):
    functions = (torch.add, operator.add, operator.iadd)
    named = (node.op == "call_function" and node.target in functions) or \
        (node.op == "call_method" and node.target in ("add", "add_"))
    return named and len(node.args) == 2 and not node.kwargs and \
        all(isinstance(argument, torch.fx.Node) for argument in node.args)


def _only_user(node):
    return next(iter(node.users)) if len(node.users) == 1 else None


def _fuse_node(graph, node, modules):
    """Merges what follows a batch norm's node."""
    user = _only_user(node)
    residual = None
    last = user
    if user is not None and _is_addition(user) and user.args[0] is not user.args[1]:
        residual = user.args[1] if user.args[0] is node else user.args[0]
        last = _only_user(user)
    if last is None or not _is_relu(last, modules):
        return
    modules[node.target].relu = True
    with graph.inserting_before(last):
        fused = graph.call_module(node.target, node.args if residual is None else (*node.args, residual))
    last.replace_all_uses_with(fused)
    for unused in ([last] if residual is None else [last, user]) + [node]:
        graph.erase_node(unused)


def _fused(model):
    graph = _Tracer().trace(model)
    traced = torch.fx.GraphModule(model, graph)
    modules = dict(traced.named_modules())
    nodes = [node for node in graph.nodes if node.op == "call_module" and isinstance(modules[node.target], _Module)]
    targets = [node.target for node in nodes]
    for node in nodes:
        if targets.count(node.target) == 1 and not node.kwargs and len(node.args) == 1:
            _fuse_node(graph, node, modules)
    graph.lint()
    traced.recompile()
    traced.train(model.training)
    return traced
