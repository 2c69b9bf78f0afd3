"""ONNX Runtime: inference, as a model of one node (two with ReLU, three with a residual). It knows NCHW only."""

import sys

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import peer


def model_of(operation, shape):
    channels = shape[1]
    nodes = [helper.make_node("BatchNormalization", ["x", "gamma", "beta", "mean", "var"], ["n"], epsilon=1e-5)]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    if "_residual" in operation:
        nodes.append(helper.make_node("Add", ["n", "residual"], ["sum"]))
        inputs.append(helper.make_tensor_value_info("residual", TensorProto.FLOAT, shape))
    if "_relu" in operation:
        nodes.append(helper.make_node("Relu", [nodes[-1].output[0]], ["activated"]))
    nodes[-1].output[0] = "y"
    values = {"gamma": 1.25, "beta": 0.125, "mean": 0.0, "var": 1.0}
    constants = [numpy_helper.from_array(numpy.full(channels, v, numpy.float32), k) for k, v in values.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "batch_norm", inputs, [output], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def prepare(operation, layout, shape, threads, x):
    if not operation.startswith("inference") or layout != "nchw":
        raise ValueError("ONNX Runtime has inference in NCHW only")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        model_of(operation, shape).SerializeToString(), options, providers=["CPUExecutionProvider"])
    elements = int(numpy.prod(shape))
    binding = session.io_binding()
    own = [name.name for name in session.get_inputs() if x is None or name.name != "x"]
    arrays = {name: peer.aligned(elements, True).reshape(shape) for name in own} | ({} if x is None else {"x": x})
    y = peer.aligned(elements, False).reshape(shape)
    for name, array in arrays.items():
        binding.bind_input(name, "cpu", 0, numpy.float32, shape, array.ctypes.data)
    binding.bind_output("y", "cpu", 0, numpy.float32, shape, y.ctypes.data)

    def run(keep=(arrays, y)):
        session.run_with_iobinding(binding)

    return peer.Prepared("CPU provider", run, output=y)


if __name__ == "__main__":
    sys.exit(peer.serve("ONNX Runtime", onnxruntime.__version__, prepare))
