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


# As peer.cpp's.
SECONDS_TO_SETTLE = 0.02


def _time(runs, threads, budget, cold):
    def run():
        for layer in runs:
            layer()

    seconds = []
    start = time.perf_counter()
    run()
    while threads > 1 and time.perf_counter() - start < SECONDS_TO_SETTLE:
        run()
    start = time.perf_counter()
    while len(seconds) < 3 or time.perf_counter() - start < budget:
        if cold:
            _flush_caches()
        before = time.perf_counter()
        run()
        seconds.append((time.perf_counter() - before) / len(runs))
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


class Prepared:
    """A task that is ready: everything is allocated. Where accuracy can be measured, x is an array, and y a function
    that returns the result. `output`: what prepare takes as x of a layer that reads what this one writes."""

    def __init__(self, implementation, run, x=None, y=None, output=None):
        self.implementation, self.run, self.x, self.y, self.output = implementation, run, x, y, output


def _chain(prepare, task, layers):
    chain = [prepare(*task, None)]
    while len(chain) < layers:
        if chain[-1].output is None:
            raise ValueError("this makes no chain")
        chain.append(prepare(*task, chain[-1].output))
    for layer in chain:
        layer.run()
    return chain


def serve(name, version, prepare):
    """prepare(operation, layout, shape, threads, x) returns Prepared or raises an exception. x, if it is not None, is
    read instead of a tensor of its own."""
    task, chain = None, []
    for line in sys.stdin:
        words = line.split()
        try:
            if words[0] == "info":
                answer = {"name": name, "version": version}
            elif words[0] == "prepare":
                chain = []
                _give_memory_back()
                sizes = [int(word) for word in words[3:]]
                task = (words[1], words[2], sizes[:4], sizes[4])
                chain = _chain(prepare, task, 1)
                answer = {"implementation": chain[0].implementation}
            elif not chain:
                raise ValueError("cannot " + line.strip())
            elif words[0] == "chain":
                chain = []
                _give_memory_back()
                chain = _chain(prepare, task, int(words[1]))
                answer = {}
            elif words[0] == "accuracy":
                answer = _accuracy(chain[0].run, chain[0].x, chain[0].y, float(words[1]))
            elif words[0] == "run":
                answer = _time([layer.run for layer in chain], task[3], float(words[1]), words[2] == "cold")
            else:
                raise ValueError("cannot " + line.strip())
        except Exception as error:  # the other side decides what an error means
            answer = {"error": f"{type(error).__name__}: {error}".split("\n")[0]}
        print(json.dumps(answer), flush=True)
