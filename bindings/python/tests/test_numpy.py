"""The NumPy interface against the golden vectors, and what it must refuse."""

import importlib.metadata
import pathlib
import threading
import unittest

import numpy

import bnorm

GOLDEN = pathlib.Path(__file__).resolve().parents[3] / "tests" / "golden"
ACTIVATIONS = {"identity": None, "relu": "relu", "leaky_relu": ("leaky_relu", 0.125), "relu6": ("clipped_relu", 6.0)}
ARRAYS = ["x", "gamma", "beta", "residual", "running_mean", "running_var", "dy", "y", "running_mean_after",
          "running_var_after", "dx", "dresidual", "dgamma", "dbeta", "y_inference", "dx_inference"]
PER_CHANNEL = {name for name in ARRAYS if name in ("gamma", "beta", "dgamma", "dbeta") or name.startswith("running")}


def golden_cases():
    for line in (GOLDEN / "cases.txt").read_text().splitlines():
        name, layout, batch, channels, spatial, activation, residual = line.split()
        shape = (int(batch), int(channels), int(spatial))
        values = numpy.fromfile(GOLDEN / f"{name}.f32", "<f4")
        arrays = {}
        for array in ARRAYS:
            count = shape[1] if array in PER_CHANNEL else shape[0] * shape[1] * shape[2]
            arrays[array], values = values[:count].copy(), values[count:]
            if array not in PER_CHANNEL:
                tensor = arrays[array].reshape(shape)
                arrays[array] = numpy.ascontiguousarray(tensor.transpose(0, 2, 1)) if layout == "nhwc" else tensor
        yield name, layout.upper(), ACTIVATIONS[activation], residual == "1", arrays


def normal(*shape, seed=1):
    return numpy.random.default_rng(seed).standard_normal(shape).astype(numpy.float32)


class Golden(unittest.TestCase):
    def close(self, got, expected, bound=3e-6):
        numpy.testing.assert_allclose(got, expected, rtol=bound, atol=bound)

    def test_a_training_step_and_inference_are_pytorchs(self):
        for name, layout, activation, residual, a in golden_cases():
            with self.subTest(name):
                how = {"activation": activation, "layout": layout}
                added = a["residual"] if residual else None
                y = bnorm.inference(a["x"], a["gamma"], a["beta"], a["running_mean"], a["running_var"],
                                    residual=added, **how)
                self.close(y, a["y_inference"])
                frozen = bnorm.training_forward(a["x"], a["gamma"], a["beta"], residual=added,
                                                mask=activation is not None, **how)
                forward = bnorm.training_forward(a["x"], a["gamma"], a["beta"], residual=added,
                                                 running_mean=a["running_mean"], running_var=a["running_var"],
                                                 mask=activation is not None, **how)
                self.close(forward.y, a["y"])
                numpy.testing.assert_array_equal(forward.y, frozen.y)
                self.close(a["running_mean"], a["running_mean_after"])
                self.close(a["running_var"], a["running_var_after"])
                gradients = bnorm.backward(a["dy"], a["x"], a["gamma"], a["beta"], mean=forward.mean,
                                           inv_std=forward.inv_std, mask=forward.mask, dresidual=residual, **how)
                self.close(gradients.dx, a["dx"])
                self.close(gradients.dgamma, a["dgamma"], 5e-6)
                self.close(gradients.dbeta, a["dbeta"], 5e-6)
                if residual:
                    self.close(gradients.dresidual, a["dresidual"])

    def test_the_parts_are_the_whole_to_the_bit(self):
        for name, layout, activation, residual, a in golden_cases():
            if residual:
                continue
            with self.subTest(name):
                how = {"activation": activation, "layout": layout}
                whole = bnorm.training_forward(a["x"], a["gamma"], a["beta"], **how)
                moments = bnorm.moments(a["x"], layout=layout)
                _, inv_std = bnorm.moments_finish(moments)
                y = bnorm.apply(a["x"], moments.mean, inv_std, a["gamma"], a["beta"], **how)
                numpy.testing.assert_array_equal(y, whole.y)
                gradients = bnorm.backward(a["dy"], a["x"], a["gamma"], a["beta"], mean=whole.mean,
                                           inv_std=whole.inv_std, **how)
                sums = bnorm.gradient_sums(a["dy"], a["x"], moments.mean, inv_std, a["gamma"], a["beta"], **how)
                parts = bnorm.gradient_apply(a["dy"], a["x"], moments.mean, inv_std, sums, moments.count, a["gamma"],
                                             a["beta"], **how)
                numpy.testing.assert_array_equal(parts.dx, gradients.dx)
                numpy.testing.assert_array_equal(parts.dgamma, gradients.dgamma)


class Memory(unittest.TestCase):
    def test_outputs_are_written_where_they_are_wanted(self):
        x, expected = normal(4, 6, 5, 5), bnorm.training_forward(normal(4, 6, 5, 5)).y
        out = numpy.empty_like(x)
        self.assertIs(bnorm.training_forward(x, out=out).y, out)
        numpy.testing.assert_array_equal(out, expected)
        bnorm.training_forward(x, out=x)
        numpy.testing.assert_array_equal(x, expected)

    def test_channel_slices(self):
        wide = normal(3, 10, 4, 4)
        for layout, x, wide_y in (
                ("NCHW", wide[:, 2:7], numpy.zeros_like(wide)[:, 2:7]),
                ("NHWC", wide.transpose(0, 2, 3, 1).copy()[..., 2:7], numpy.zeros((3, 4, 4, 10), numpy.float32)[..., 2:7])):
            self.assertFalse(x.flags.c_contiguous)
            dense = numpy.ascontiguousarray(x)
            expected = bnorm.training_forward(dense, layout=layout)
            numpy.testing.assert_allclose(bnorm.training_forward(x, layout=layout, out=wide_y).y, expected.y, atol=1e-6)
            gradients = bnorm.backward(x, dense, mean=expected.mean, inv_std=expected.inv_std, layout=layout)
            dense_gradients = bnorm.backward(dense, dense, mean=expected.mean, inv_std=expected.inv_std, layout=layout)
            numpy.testing.assert_allclose(gradients.dx, dense_gradients.dx, atol=1e-5)

    def test_the_buffer_protocol_and_dlpack(self):
        class WithDlpack:
            def __init__(self, array):
                self.array = array

            def __dlpack__(self, **options):
                return self.array.__dlpack__(**options)

            def __dlpack_device__(self):
                return self.array.__dlpack_device__()

        x = normal(2, 3, 8)
        expected = bnorm.training_forward(x).y
        numpy.testing.assert_array_equal(bnorm.training_forward(memoryview(x)).y, expected)
        numpy.testing.assert_array_equal(bnorm.training_forward(WithDlpack(x)).y, expected)
        y = numpy.empty_like(x)
        bnorm.training_forward(x, out=memoryview(y))
        numpy.testing.assert_array_equal(y, expected)

    def test_many_threads_at_once(self):
        x = normal(8, 32, 28, 28)
        expected = bnorm.training_forward(x).y
        results = [None] * 8

        def work(index):
            for _ in range(5):
                results[index] = bnorm.training_forward(x).y
        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(results))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for result in results:
            numpy.testing.assert_array_equal(result, expected)


class Functions(unittest.TestCase):
    def test_moments_of_parts_merge(self):
        x = normal(10, 4, 6)
        whole = bnorm.moments(x)
        merged = bnorm.moments_merge(bnorm.moments(x[:3]), bnorm.moments(x[3:]))
        self.assertEqual(merged.count, whole.count)
        numpy.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-6, atol=1e-8)
        numpy.testing.assert_allclose(merged.m2, whole.m2, rtol=1e-6)

    def test_backward_fixed(self):
        x, dy, gamma = normal(5, 3, 7), normal(5, 3, 7, seed=2), normal(3, seed=3)
        var = numpy.array([1.0, 2.0, 0.5], numpy.float32)
        gradients = bnorm.backward_fixed(dy, x, gamma, running_var=var, dgamma=True, dbeta=True)
        numpy.testing.assert_allclose(gradients.dx, dy * (gamma / numpy.sqrt(var + 1e-5))[:, None], rtol=1e-6)
        numpy.testing.assert_allclose(gradients.dbeta, dy.sum((0, 2)), rtol=1e-5, atol=1e-5)

    def test_folding(self):
        gamma, beta, mean = normal(4), normal(4, seed=2), normal(4, seed=3)
        var = numpy.array([1.0, 2.0, 0.5, 3.0], numpy.float32)
        x = normal(2, 4, 5)
        scale, shift = bnorm.fold(4, gamma, beta, mean, var)
        expected = bnorm.inference(x, gamma, beta, mean, var)
        numpy.testing.assert_allclose(x * scale[:, None] + shift[:, None], expected, rtol=1e-4, atol=1e-5)
        weights, inputs = normal(4, 6), normal(3, 6, seed=5)
        folded, bias = bnorm.fold_weights(weights, None, gamma, beta, mean, var, kind="linear")
        numpy.testing.assert_allclose(inputs @ folded.T + bias, bnorm.inference(inputs @ weights.T, gamma, beta, mean, var),
                                      rtol=1e-4, atol=1e-4)

    def test_the_library(self):
        self.assertRegex(bnorm.version(), r"^\d+\.\d+\.\d+$")
        self.assertEqual(bnorm.version(), importlib.metadata.version("bnorm"))
        self.assertIn(bnorm.version(), bnorm.build_info())
        self.assertGreaterEqual(bnorm.thread_count(), 1)
        before = bnorm.isa()
        bnorm.set_isa("sse2")
        self.assertEqual(bnorm.isa(), "sse2")
        bnorm.set_isa("auto")
        self.assertEqual(bnorm.isa(), before)


class Refusals(unittest.TestCase):
    def test_bad_arguments(self):
        x = normal(2, 3, 4)
        for error, pattern, call in (
                (TypeError, "x is float64", lambda: bnorm.moments(x.astype(numpy.float64))),
                (ValueError, "gamma has shape", lambda: bnorm.training_forward(x, normal(4))),
                (ValueError, "residual has shape", lambda: bnorm.training_forward(x, residual=normal(2, 3, 5))),
                (ValueError, "layout is 'NWC'", lambda: bnorm.training_forward(x, layout="NWC")),
                (ValueError, "activation is 'gelu'", lambda: bnorm.training_forward(x, activation="gelu")),
                (ValueError, "rows are not contiguous", lambda: bnorm.moments(normal(2, 3, 4, 4)[:, :, ::2])),
                (ValueError, "rows are not evenly spaced", lambda: bnorm.moments(normal(2, 4, 4, 6)[:, :3], layout="NHWC")),
                (ValueError, "x has 1 axes", lambda: bnorm.moments(normal(3))),
                (bnorm.InvalidArgument, "epsilon", lambda: bnorm.training_forward(x, epsilon=-1.0)),
                (bnorm.InvalidArgument, "mask", lambda: bnorm.training_forward(x, mask=True)),
                (bnorm.InvalidArgument, "overlap", lambda: bnorm.training_forward(x[:1], out=x.reshape(-1)[2:14].reshape(1, 3, 4)))):
            with self.subTest(pattern), self.assertRaisesRegex(error, pattern):
                call()
        self.assertTrue(issubclass(bnorm.InvalidArgument, ValueError))
        self.assertEqual(bnorm.InvalidArgument(1, "").status, 1)


if __name__ == "__main__":
    unittest.main()
