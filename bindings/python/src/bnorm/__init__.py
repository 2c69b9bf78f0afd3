"""Batch normalization on CPUs: NumPy arrays, anything with DLPack or the buffer protocol, without copies.

Tensors are float32, of shape (N, C, ...) for layout="NCHW" or (N, ..., C) for layout="NHWC", with any number of spatial
axes, none included. They are contiguous, or channel slices of contiguous arrays. Arrays with one value a channel have
shape (C,): gamma, beta, running statistics and parameter gradients float32; saved statistics and sums float64.

An output is True (a new array), None or False (left out), or an array to write to, which may be an input of the same
shape (in place). Functions release the GIL and may be called from any thread. Whatever the library objects to is raised
as BnormError (InvalidArgument is a ValueError, too) with its message; nothing has been written then.

Formulas, conventions and bounds are those of bnorm.h; the torch modules are in bnorm.torch.
"""

import ctypes
import functools
from typing import Any, NamedTuple, Optional, Tuple, Union

import numpy

from . import _c
from ._arrays import Array, address, channels_view, dimensions, output_view, tensor_view, view
from ._c import BnormError, InvalidArgument, OutOfMemory, Unsupported

__all__ = [
    "Array", "BnormError", "Gradients", "GradientSums", "InvalidArgument", "Moments", "OutOfMemory", "TrainingForward",
    "Unsupported", "apply", "backward", "backward_fixed", "build_info", "fold", "fold_weights", "gradient_apply",
    "gradient_sums", "inference", "isa", "moments", "moments_finish", "moments_merge", "set_isa", "thread_count",
    "training_forward", "version",
]

Output = Union[bool, None, Any]
Activation = Union[None, str, Tuple[str, float]]
"""None, "relu", ("leaky_relu", slope) or ("clipped_relu", bound); ReLU6 is ("clipped_relu", 6.0)."""

_ACTIVATIONS = {None: 0, "relu": 1, "leaky_relu": 2, "clipped_relu": 3}
_RUNNING_UPDATES = {"exponential": 0, "onnx": 1, "cumulative": 2}
_LAYOUTS = {"NCHW": 0, "NHWC": 1}
_ISAS = {"auto": 0, "sse2": 1, "avx2": 2, "avx512": 3}


def _named(kind, names, name):
    if name not in names:
        raise ValueError(f"{kind} is {name!r}; it must be one of {', '.join(map(repr, names))}")
    return names[name]


def _activation(activation):
    name, parameter = activation if isinstance(activation, tuple) else (activation, 0.0)
    return {"activation": _named("activation", _ACTIVATIONS, name), "activation_parameter": parameter}


# ---- the library ----------------------------------------------------------------------------------------------------


def version() -> str:
    """MAJOR.MINOR.PATCH of the library."""
    return _c.library.bnorm_version().decode()


def build_info() -> str:
    """One line: version, compiler, xsimd and oneTBB versions, ISAs built in."""
    return _c.library.bnorm_build_info().decode()


def isa() -> str:
    """The ISA in use: "sse2", "avx2" or "avx512"."""
    number = ctypes.c_int32()
    _c.check(_c.library.bnorm_get_isa(ctypes.byref(number)))
    return _c.library.bnorm_isa_name(number).decode()


def set_isa(name: str) -> None:
    """Sets the ISA of the whole process: "sse2", "avx2", "avx512", or "auto" for the default."""
    _c.check(_c.library.bnorm_set_isa(_named("isa", _ISAS, name)))
    _cached_plan.cache_clear()  # plans keep the ISA they were made with


def thread_count() -> int:
    """How many threads threads=0 means."""
    return _c.library.bnorm_thread_count()


@functools.lru_cache(maxsize=512)
def _cached_plan(operation, problem):
    return _c.Plan(operation=operation, **dict(problem))


def _plan(operation, **problem):
    return _cached_plan(operation, tuple(problem.items()))


def _problem(x_name, x, layout, **more):
    batch, channels, spatial = dimensions(x_name, x, layout)
    return {"layout": _LAYOUTS[layout], "batch": batch, "channels": channels, "spatial": spatial, **more}


# ---- whole operations -----------------------------------------------------------------------------------------------


class TrainingForward(NamedTuple):
    """What training_forward returns. mean, inv_std (float64) and mask are for backward; None where left out."""

    y: numpy.ndarray
    mean: Optional[numpy.ndarray]
    inv_std: Optional[numpy.ndarray]
    mask: Optional[numpy.ndarray]


class Gradients(NamedTuple):
    """Of x, residual, gamma and beta; None where left out."""

    dx: Optional[numpy.ndarray]
    dresidual: Optional[numpy.ndarray]
    dgamma: Optional[numpy.ndarray]
    dbeta: Optional[numpy.ndarray]


class _Forward:
    """The arguments that training_forward, inference and apply share."""

    def __init__(self, operation, x, gamma, beta, residual, epsilon, activation, layout, out, mask, threads):
        self.x, x_stride = tensor_view("x", x, layout)
        self.channels = dimensions("x", self.x, layout).channels
        self.residual, residual_stride = tensor_view("residual", residual, layout, self.x)
        self.y = output_view("out", True if out is None else out, self.x.shape)
        _, y_stride = tensor_view("out", self.y, layout, self.x)
        self.gamma = channels_view("gamma", gamma, self.channels)
        self.beta = channels_view("beta", beta, self.channels)
        self.plan = _plan(operation, **_problem("x", self.x, layout), x_stride=x_stride, y_stride=y_stride,
                          residual_stride=residual_stride, epsilon=epsilon, residual=0 if residual is None else 1,
                          threads=threads, **_activation(activation))
        self.mask = output_view("mask", mask, (self.plan.mask_bytes,), numpy.uint8)

    def execute(self, **more):
        self.plan.execute(x=address(self.x), residual=address(self.residual), gamma=address(self.gamma),
                          beta=address(self.beta), y=address(self.y), mask=address(self.mask),
                          mask_bytes=0 if self.mask is None else self.mask.size, **more)


def training_forward(x: Array, gamma: Optional[Array] = None, beta: Optional[Array] = None, *,
                     residual: Optional[Array] = None, running_mean: Optional[Array] = None,
                     running_var: Optional[Array] = None, momentum: float = 0.1, running_update: str = "exponential",
                     batches_seen: int = 0, epsilon: float = 1e-5, activation: Activation = None,
                     layout: str = "NCHW", out: Optional[Array] = None, mean: Output = True, inv_std: Output = True,
                     mask: Output = None, threads: int = 0) -> TrainingForward:
    """y = act(gamma*(x-mean)*inv_std + beta [+ residual]) with this batch's statistics.

    x, residual, out: (N, C, ...) or (N, ..., C). gamma, beta, running_mean, running_var: (C,); the running ones are
    updated in place, "exponential" (PyTorch), "onnx" or "cumulative". mean, inv_std: outputs (C,), float64.
    mask: output, uint8, for backward; needed there with residual and activation.
    """
    call = _Forward("training_forward", x, gamma, beta, residual, epsilon, activation, layout, out, mask, threads)
    mean = channels_view("mean", output_view("mean", mean, (call.channels,), numpy.float64), call.channels,
                         numpy.float64)
    inv_std = channels_view("inv_std", output_view("inv_std", inv_std, (call.channels,), numpy.float64),
                            call.channels, numpy.float64)
    call.execute(mean=address(mean), inv_std=address(inv_std),
                 running_mean=address(channels_view("running_mean", running_mean, call.channels)),
                 running_var=address(channels_view("running_var", running_var, call.channels)),
                 running_update=_named("running_update", _RUNNING_UPDATES, running_update), momentum=momentum,
                 batches_seen=batches_seen)
    return TrainingForward(call.y, mean, inv_std, call.mask)


def inference(x: Array, gamma: Optional[Array] = None, beta: Optional[Array] = None,
              running_mean: Optional[Array] = None, running_var: Optional[Array] = None, *,
              residual: Optional[Array] = None, epsilon: float = 1e-5, activation: Activation = None,
              layout: str = "NCHW", out: Optional[Array] = None, mask: Output = None,
              threads: int = 0) -> numpy.ndarray:
    """y as training_forward, with running statistics (C,) in place of the batch's; absent they are 0 and 1."""
    call = _Forward("inference", x, gamma, beta, residual, epsilon, activation, layout, out, mask, threads)
    call.execute(running_mean=address(channels_view("running_mean", running_mean, call.channels)),
                 running_var=address(channels_view("running_var", running_var, call.channels)))
    return call.y


def apply(x: Array, mean: Array, inv_std: Array, gamma: Optional[Array] = None, beta: Optional[Array] = None, *,
          residual: Optional[Array] = None, activation: Activation = None, layout: str = "NCHW",
          out: Optional[Array] = None, mask: Output = None, threads: int = 0) -> numpy.ndarray:
    """y as training_forward, for any mean and inv_std: (C,), float64."""
    call = _Forward("apply", x, gamma, beta, residual, 0.0, activation, layout, out, mask, threads)
    call.execute(mean=address(channels_view("mean", mean, call.channels, numpy.float64)),
                 inv_std=address(channels_view("inv_std", inv_std, call.channels, numpy.float64)))
    return call.y


class _Backward:
    """The arguments that the gradient operations share."""

    def __init__(self, operation, dy, x, gamma, beta, mask, epsilon, activation, layout, residual, threads, dx=None,
                 dresidual=None, dgamma=None, dbeta=None):
        self.dy, dy_stride = tensor_view("dy", dy, layout)
        self.channels = dimensions("dy", self.dy, layout).channels
        self.x, x_stride = tensor_view("x", x, layout, self.dy)
        self.dx = output_view("dx", dx, self.dy.shape)
        _, dx_stride = tensor_view("dx", self.dx, layout, self.dy)
        if self.x is not None and self.dx is not None and dx_stride != x_stride:
            if dx is not True:
                raise ValueError("dx has other strides than x; they must be the same")
            self.dx = numpy.empty(self.dy.shape, numpy.float32) if x_stride == 0 else numpy.empty_like(self.x)
            _, dx_stride = tensor_view("dx", self.dx, layout)
            if dx_stride != x_stride:
                raise ValueError("x is a slice of a wider array: give dx, a slice with the same strides")
        residual = bool(residual) or dresidual not in (None, False)
        self.dresidual = output_view("dresidual", dresidual, self.dy.shape)
        _, dresidual_stride = tensor_view("dresidual", self.dresidual, layout, self.dy)
        self.dgamma = channels_view("dgamma", output_view("dgamma", dgamma, (self.channels,)), self.channels)
        self.dbeta = channels_view("dbeta", output_view("dbeta", dbeta, (self.channels,)), self.channels)
        self.gamma = channels_view("gamma", gamma, self.channels)
        self.beta = channels_view("beta", beta, self.channels)
        self.mask = None if mask is None else view("mask", mask, numpy.uint8)
        self.plan = _plan(operation, **_problem("dy", self.dy, layout),
                          x_stride=x_stride if self.x is not None else dx_stride, y_stride=dy_stride,
                          residual_stride=dresidual_stride, epsilon=epsilon, residual=int(residual), threads=threads,
                          **_activation(activation))

    def execute(self, outputs=True, **more):
        if outputs:
            more.update(dx=address(self.dx), dresidual=address(self.dresidual), dgamma=address(self.dgamma),
                        dbeta=address(self.dbeta))
        self.plan.execute(dy=address(self.dy), x=address(self.x), gamma=address(self.gamma), beta=address(self.beta),
                          mask=address(self.mask), mask_bytes=0 if self.mask is None else self.mask.size, **more)
        return Gradients(self.dx, self.dresidual, self.dgamma, self.dbeta)

    def statistics(self, name, array):
        return address(channels_view(name, array, self.channels, numpy.float64))


def backward(dy: Array, x: Optional[Array], gamma: Optional[Array] = None, beta: Optional[Array] = None, *,
             mean: Optional[Array] = None, inv_std: Optional[Array] = None, mask: Optional[Array] = None,
             residual: bool = False, epsilon: float = 1e-5, activation: Activation = None, layout: str = "NCHW",
             dx: Output = True, dresidual: Output = None, dgamma: Output = True, dbeta: Output = True,
             threads: int = 0) -> Gradients:
    """Gradients of training_forward, through the batch's statistics.

    dy, x, dx, dresidual: (N, C, ...) or (N, ..., C); x, gamma, beta are what forward was given. mean, inv_std: (C,),
    float64, what forward returned; without them they are computed again. residual: whether forward had one
    (asking for dresidual implies it); with an activation the mask is then needed, otherwise it is optional.
    """
    call = _Backward("backward", dy, x, gamma, beta, mask, epsilon, activation, layout, residual, threads, dx,
                     dresidual, dgamma, dbeta)
    return call.execute(mean=call.statistics("mean", mean), inv_std=call.statistics("inv_std", inv_std))


def backward_fixed(dy: Array, x: Optional[Array] = None, gamma: Optional[Array] = None,
                   beta: Optional[Array] = None, *, running_mean: Optional[Array] = None,
                   running_var: Optional[Array] = None, mask: Optional[Array] = None, residual: bool = False,
                   epsilon: float = 1e-5, activation: Activation = None, layout: str = "NCHW", dx: Output = True,
                   dresidual: Output = None, dgamma: Output = None, dbeta: Output = None,
                   threads: int = 0) -> Gradients:
    """Gradients of inference: the statistics are constants. Arguments as for backward; dgamma needs x."""
    call = _Backward("backward_fixed", dy, x, gamma, beta, mask, epsilon, activation, layout, residual, threads, dx,
                     dresidual, dgamma, dbeta)
    return call.execute(running_mean=address(channels_view("running_mean", running_mean, call.channels)),
                        running_var=address(channels_view("running_var", running_var, call.channels)))


# ---- building blocks ------------------------------------------------------------------------------------------------


class Moments(NamedTuple):
    """count, and mean and m2 = sum((x-mean)^2) of each channel: (C,), float64."""

    count: float
    mean: numpy.ndarray
    m2: numpy.ndarray


class GradientSums(NamedTuple):
    """sum(dy') and sum(dy'*(x-mean)) of each channel: (C,), float64. Those of parts of a batch are added."""

    dy: numpy.ndarray
    dy_centered_x: numpy.ndarray


def _f64(count):
    return numpy.empty(count, numpy.float64)


def moments(x: Array, *, layout: str = "NCHW", threads: int = 0) -> Moments:
    """Of x: (N, C, ...) or (N, ..., C)."""
    x, stride = tensor_view("x", x, layout)
    problem = _problem("x", x, layout, x_stride=stride, threads=threads)
    count, mean, m2 = _f64(1), _f64(problem["channels"]), _f64(problem["channels"])
    _plan("moments", **problem).execute(x=address(x), count=address(count), mean=address(mean), m2=address(m2))
    return Moments(float(count[0]), mean, m2)


def moments_merge(a: Moments, b: Moments) -> Moments:
    """Of the union of two disjoint sets."""
    channels = len(a.mean)
    f64 = numpy.float64
    count, mean, m2 = _f64(1), _f64(channels), _f64(channels)
    _c.call("moments_merge", channels=channels, count_a=a.count,
            mean_a=address(channels_view("a.mean", a.mean, channels, f64)),
            m2_a=address(channels_view("a.m2", a.m2, channels, f64)), count_b=b.count,
            mean_b=address(channels_view("b.mean", b.mean, channels, f64)),
            m2_b=address(channels_view("b.m2", b.m2, channels, f64)), count=address(count), mean=address(mean),
            m2=address(m2))
    return Moments(float(count[0]), mean, m2)


def moments_finish(of: Moments, *, epsilon: float = 1e-5, running_mean: Optional[Array] = None,
                   running_var: Optional[Array] = None, momentum: float = 0.1, running_update: str = "exponential",
                   batches_seen: int = 0) -> Tuple[numpy.ndarray, numpy.ndarray]:
    """(variance, inv_std) of each channel: (C,), float64. Updates running statistics as training_forward does."""
    channels = len(of.mean)
    variance, inv_std = _f64(channels), _f64(channels)
    _c.call("moments_finish", channels=channels, count=of.count,
            mean=address(channels_view("mean", of.mean, channels, numpy.float64)),
            m2=address(channels_view("m2", of.m2, channels, numpy.float64)), epsilon=epsilon,
            variance=address(variance), inv_std=address(inv_std),
            running_mean=address(channels_view("running_mean", running_mean, channels)),
            running_var=address(channels_view("running_var", running_var, channels)),
            running_update=_named("running_update", _RUNNING_UPDATES, running_update), momentum=momentum,
            batches_seen=batches_seen)
    return variance, inv_std


def gradient_sums(dy: Array, x: Array, mean: Array, inv_std: Optional[Array] = None, gamma: Optional[Array] = None,
                  beta: Optional[Array] = None, *, mask: Optional[Array] = None, residual: bool = False,
                  activation: Activation = None, layout: str = "NCHW", threads: int = 0) -> GradientSums:
    """The first pass of backward. mean, inv_std: (C,), float64."""
    call = _Backward("gradient_sums", dy, x, gamma, beta, mask, 0.0, activation, layout, residual, threads)
    sums = GradientSums(_f64(call.channels), _f64(call.channels))
    call.execute(outputs=False, mean=call.statistics("mean", mean), inv_std=call.statistics("inv_std", inv_std),
                 sum_dy=address(sums.dy), sum_dy_centered_x=address(sums.dy_centered_x))
    return sums


def gradient_apply(dy: Array, x: Array, mean: Array, inv_std: Array, sums: GradientSums, count: float,
                   gamma: Optional[Array] = None, beta: Optional[Array] = None, *, mask: Optional[Array] = None,
                   residual: bool = False, activation: Activation = None, layout: str = "NCHW", dx: Output = True,
                   dresidual: Output = None, dgamma: Output = True, dbeta: Output = True,
                   threads: int = 0) -> Gradients:
    """The second pass of backward, from sums over `count` elements a channel."""
    call = _Backward("gradient_apply", dy, x, gamma, beta, mask, 0.0, activation, layout, residual, threads, dx,
                     dresidual, dgamma, dbeta)
    return call.execute(mean=call.statistics("mean", mean), inv_std=call.statistics("inv_std", inv_std), count=count,
                        sum_dy=call.statistics("sums.dy", sums.dy),
                        sum_dy_centered_x=call.statistics("sums.dy_centered_x", sums.dy_centered_x))


# ---- folding --------------------------------------------------------------------------------------------------------


def fold(channels: int, gamma: Optional[Array] = None, beta: Optional[Array] = None,
         running_mean: Optional[Array] = None, running_var: Optional[Array] = None, *,
         epsilon: float = 1e-5) -> Tuple[numpy.ndarray, numpy.ndarray]:
    """(scale, shift), (C,) each, with which y = scale*x + shift is inference."""
    arrays = {"gamma": gamma, "beta": beta, "running_mean": running_mean, "running_var": running_var}
    views = {name: channels_view(name, array, channels) for name, array in arrays.items()}
    scale, shift = numpy.empty(channels, numpy.float32), numpy.empty(channels, numpy.float32)
    _c.call("fold", channels=channels, epsilon=epsilon, scale=address(scale), shift=address(shift),
            **{name: address(array) for name, array in views.items()})
    return scale, shift


def fold_weights(weights: Array, bias: Optional[Array] = None, gamma: Optional[Array] = None,
                 beta: Optional[Array] = None, running_mean: Optional[Array] = None,
                 running_var: Optional[Array] = None, *, epsilon: float = 1e-5, kind: str = "convolution",
                 groups: int = 1) -> Tuple[numpy.ndarray, numpy.ndarray]:
    """(weights, bias) of a layer that includes the batch norm after it.

    weights: kind="convolution" (O, I/groups, *K), "transposed" (I, O/groups, *K), "depthwise" (O, 1, *K), "linear" (O, I).
    """
    kinds = {"convolution": 0, "transposed": 1, "depthwise": 2, "linear": 3}
    number = _named("kind", kinds, kind)
    weights = view("weights", weights, numpy.float32)
    if weights.ndim < 2 or not weights.flags.c_contiguous:
        raise ValueError("weights must be contiguous and have at least two axes")
    outputs, inputs = weights.shape[0], weights.shape[1] * groups
    if kind == "transposed":
        outputs, inputs = weights.shape[1] * groups, weights.shape[0]
    arrays = {"bias": bias, "gamma": gamma, "beta": beta, "running_mean": running_mean, "running_var": running_var}
    views = {name: channels_view(name, array, outputs) for name, array in arrays.items()}
    folded_weights, folded_bias = numpy.empty_like(weights), numpy.empty(outputs, numpy.float32)
    kernel_size = 1
    for length in weights.shape[2:]:
        kernel_size *= length
    _c.call("fold_weights", layout=number, output_channels=outputs, input_channels=inputs, kernel_size=kernel_size,
            groups=groups, weights=address(weights), epsilon=epsilon, folded_weights=address(folded_weights),
            folded_bias=address(folded_bias), **{name: address(array) for name, array in views.items()})
    return folded_weights, folded_bias
