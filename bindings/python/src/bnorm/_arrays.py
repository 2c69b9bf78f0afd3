"""Arrays of any library as NumPy views of the same memory, and batch norm's dimensions in them."""

from typing import Any, NamedTuple, Optional, Tuple

import numpy

Array = Any
"""A NumPy array, anything with DLPack (torch, jax, cupy's CPU arrays ...) or with the buffer protocol."""


def view(name: str, array: Array, dtype: type) -> numpy.ndarray:
    """The array as NumPy sees it, without a copy: another type than dtype is a TypeError."""
    if not isinstance(array, numpy.ndarray):
        if hasattr(array, "__dlpack__"):
            array = numpy.from_dlpack(array.detach() if hasattr(array, "detach") else array)
        else:
            array = numpy.asarray(memoryview(array))
    if array.dtype != dtype:
        raise TypeError(f"{name} is {array.dtype}; it must be {numpy.dtype(dtype)}")
    return array


def channels_view(name: str, array: Optional[Array], channels: int, dtype: type = numpy.float32):
    """A contiguous array with one value a channel, or None."""
    if array is None:
        return None
    array = view(name, array, dtype)
    if array.shape != (channels,) or not array.flags.c_contiguous:
        raise ValueError(f"{name} has shape {array.shape}; it must be contiguous, of shape ({channels},)")
    return array


def address(array: Optional[numpy.ndarray]) -> Optional[int]:
    return None if array is None else array.ctypes.data


class Dimensions(NamedTuple):
    batch: int
    channels: int
    spatial: int


def _product(values):
    result = 1
    for value in values:
        result *= value
    return result


def dimensions(name: str, array: numpy.ndarray, layout: str) -> Dimensions:
    if array.ndim < 2:
        raise ValueError(f"{name} has {array.ndim} axes; it needs a batch and a channel axis")
    shape = array.shape
    if layout == "NCHW":
        return Dimensions(shape[0], shape[1], _product(shape[2:]))
    if layout == "NHWC":
        return Dimensions(shape[0], shape[-1], _product(shape[1:-1]))
    raise ValueError(f"layout is {layout!r}; it must be 'NCHW' (channels first) or 'NHWC' (channels last)")


def row_stride(name: str, array: numpy.ndarray, layout: str) -> int:
    """Elements from one image (NCHW) or pixel (NHWC) to the next; 0 for dense arrays. Others cannot be described."""
    if array.flags.c_contiguous:
        return 0
    size = array.itemsize
    split = 1 if layout == "NCHW" else array.ndim - 1
    expected = size
    for length, stride in zip(reversed(array.shape[split:]), reversed(array.strides[split:])):
        if length > 1 and stride != expected:
            raise ValueError(f"{name}: rows are not contiguous; numpy.ascontiguousarray makes a copy that is")
        expected *= length
    row = stride = array.strides[split - 1]
    for length, stride in zip(reversed(array.shape[:split]), reversed(array.strides[:split])):
        if length > 1 and stride != row:
            raise ValueError(f"{name}: rows are not evenly spaced; numpy.ascontiguousarray makes a copy that is")
        row = stride * length
    return array.strides[split - 1] // size


def tensor_view(name: str, array: Optional[Array], layout: str, like: Optional[numpy.ndarray] = None):
    """A view and its row stride; (None, 0) for None."""
    if array is None:
        return None, 0
    array = view(name, array, numpy.float32)
    if like is not None and array.shape != like.shape:
        raise ValueError(f"{name} has shape {array.shape}; it must be {like.shape}")
    return array, row_stride(name, array, layout)


def output_view(name: str, array: Any, shape: Tuple[int, ...], dtype: type = numpy.float32):
    """What to write to: a new array for True, none for None or False, the given one otherwise."""
    if array is None or array is False:
        return None
    if array is True:
        return numpy.empty(shape, dtype)
    return view(name, array, dtype)
