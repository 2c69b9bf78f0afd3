"""TensorFlow, by the operations under Keras' BatchNormalization, in a compiled function, which TensorFlow fuses and
optimises as it likes. Each call allocates its results: there is no other way.

TensorFlow fixes its number of threads when it starts, so there is a process for each number, and this one passes on
what it is told.
"""

import json
import os
import subprocess
import sys

import peer

EPSILON = peer.EPSILON


def layer(operation, layout, shape):
    """run, x, y: what serve() wants, in the order N, C, H, W."""
    import tensorflow

    raw = tensorflow.raw_ops
    n, c, h, w = shape
    stored = (n, h, w, c) if layout == "nhwc" else (n, c, h, w)
    to_nchw = (0, 3, 1, 2) if layout == "nhwc" else (0, 1, 2, 3)
    relu, residual = "_relu" in operation, "_residual" in operation
    training = not operation.startswith("inference") and operation != "backward_fixed"
    constants = {"epsilon": EPSILON, "data_format": layout.upper(), "is_training": training}
    gamma, beta = tensorflow.fill([c], peer.GAMMA), tensorflow.fill([c], peer.BETA)
    mean, var = tensorflow.zeros([c]), tensorflow.ones([c])

    def tensor(random=True):
        array = peer.aligned(n * c * h * w, random).reshape(stored)
        return array, tensorflow.experimental.dlpack.from_dlpack(array.__dlpack__())

    @tensorflow.function
    def forward(x, other, gamma, beta, mean, var):
        y, *statistics = raw.FusedBatchNormV3(x=x, scale=gamma, offset=beta, mean=mean, variance=var,
                                              exponential_avg_factor=0.9, **constants)
        y = tensorflow.add(y, other) if residual else y
        y = tensorflow.nn.relu(y) if relu else y
        return (y, *statistics) if training else (y,)

    @tensorflow.function
    def backward(x, other, gamma, beta, mean, var):
        dy = raw.ReluGrad(gradients=other, features=y_of_forward) if relu else other
        dx, dgamma, dbeta, *_ = raw.FusedBatchNormGradV3(
            y_backprop=dy, x=x, scale=gamma, reserve_space_1=mean, reserve_space_2=var,
            reserve_space_3=tensorflow.zeros([0]), **constants)
        return (dx, dgamma, dbeta, dy) if residual else (dx, dgamma, dbeta)

    if operation.startswith(("training_forward", "inference")):
        function = forward
    elif operation.startswith("backward"):
        function = backward
        y_of_forward = tensor()[1] if relu else None
    else:
        raise ValueError("TensorFlow has no such operation")
    x, shared = tensor()
    arguments = (shared, tensor()[1], gamma, beta, mean, var)
    compiled = function.get_concrete_function(*arguments)
    latest = []

    def run():
        latest.clear()  # before the call, so that it finds that memory again
        latest.extend(compiled(*arguments))

    return run, x.transpose(to_nchw), lambda: latest[0].numpy().transpose(to_nchw)


def prepare(operation, layout, shape, threads, x):
    run, x, y = layer(operation, layout, shape)
    return peer.Prepared("allocates", run, *((x, y) if operation == "training_forward" else ()))


def serve(threads):
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow

    tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    peer.serve("TensorFlow", tensorflow.__version__, prepare)


def pass_on():
    """Each line goes to the process with the number of threads that was prepared last."""
    processes = {}
    current = "1"
    for line in sys.stdin:
        words = line.split()
        if words[0] == "prepare":
            current = words[-1]
        if current not in processes:
            processes[current] = subprocess.Popen(
                [sys.executable, __file__, current], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes[current].stdin.write(line)
        processes[current].stdin.flush()
        answer = processes[current].stdout.readline()
        print(answer.strip() or json.dumps({"error": "the process ended"}), flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(int(sys.argv[1]))
    else:
        pass_on()
