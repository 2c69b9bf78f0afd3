"""The process in which a Python library is timed; the protocol is described in peer.hpp."""

import ctypes
import gc
import json
import mmap
import sys
import time

import numpy

_flush = None


def aligned(elements, random):
    """`elements` f32 in pages of their own, which are touched: from -1 to 1, or zeros."""
    array = numpy.frombuffer(mmap.mmap(-1, elements * 4), numpy.float32)  # not from the heap: see compare.py
    array[:] = numpy.random.default_rng(1).uniform(-1, 1, elements) if random else 0
    return array


def _flush_caches():
    global _flush
    if _flush is None:
        _flush = numpy.ones(1 << 28, numpy.uint8)
    _flush[::64] += 1


def _time(run, budget, cold):
    seconds = []
    run()
    start = time.perf_counter()
    while len(seconds) < 3 or time.perf_counter() - start < budget:
        if cold:
            _flush_caches()
        before = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - before)
    return {"seconds": seconds}


def _give_memory_back():
    """Of the last task, whose objects may refer to one another; compare.py has glibc keep it while a task runs."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


GAMMA, BETA, EPSILON = 1.25, 0.125, 1e-5


def _accuracy(run, x, y, mean):
    """x and y: views of shape (N, C, H, W) of what run reads and returns."""
    if x is None or y is None:
        raise ValueError("accuracy is measured of training_forward")
    x[...] = numpy.random.default_rng(1).normal(mean, 1, x.shape)
    run()
    exact = x.astype(numpy.longdouble)
    exact -= exact.mean((0, 2, 3), keepdims=True)
    exact *= GAMMA / numpy.sqrt((exact * exact).mean((0, 2, 3), keepdims=True) + EPSILON)
    return {"largest_error": float(numpy.nan_to_num(abs(exact + BETA - y()), nan=numpy.inf).max())}


def serve(name, version, prepare):
    """prepare(operation, layout, shape, threads) returns (implementation, run) or, where accuracy can be measured,
    (implementation, run, x, y): x an array, y a function that returns the result; or raises an exception."""
    run = x = y = None
    for line in sys.stdin:
        words = line.split()
        try:
            if words[0] == "info":
                answer = {"name": name, "version": version}
            elif words[0] == "prepare":
                run = x = y = None
                _give_memory_back()
                sizes = [int(word) for word in words[3:]]
                implementation, run, x, y = (*prepare(words[1], words[2], sizes[:4], sizes[4]), None, None)[:4]
                run()
                answer = {"implementation": implementation}
            elif words[0] == "accuracy" and run is not None:
                answer = _accuracy(run, x, y, float(words[1]))
            elif words[0] == "run" and run is not None:
                answer = _time(run, float(words[1]), words[2] == "cold")
            else:
                raise ValueError("cannot " + line.strip())
        except Exception as error:  # the other side decides what an error means
            answer = {"error": f"{type(error).__name__}: {error}".split("\n")[0]}
        print(json.dumps(answer), flush=True)
