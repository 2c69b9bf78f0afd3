"""bnorm.torch beside torch.nn: shapes, modes, formats, gradients, conversion, and a network that learns the same."""

import copy
import itertools
import pathlib
import random
import unittest

import torch
from torch import nn
from torch.autograd import forward_ad

import bnorm.torch

DIGITS = pathlib.Path(__file__).resolve().parents[3] / "examples" / "digits.csv"


def pair(dimensions, channels, **options):
    """The same layer twice: torch.nn's in f64 as the oracle, bnorm's."""
    torch_class = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dimensions]
    bnorm_class = {1: bnorm.torch.BatchNorm1d, 2: bnorm.torch.BatchNorm2d, 3: bnorm.torch.BatchNorm3d}[dimensions]
    oracle, layer = torch_class(channels, **options), bnorm_class(channels, **options)
    if layer.affine:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    if layer.track_running_stats:
        nn.init.normal_(layer.running_mean)
        nn.init.uniform_(layer.running_var, 0.5, 2.0)
    oracle.load_state_dict(layer.state_dict())
    return oracle.double(), layer


def close(test, got, expected, bound=2e-5):
    test.assertEqual(got.shape, expected.shape)
    torch.testing.assert_close(got.double(), expected.double(), rtol=bound, atol=bound)


class Modules(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(1)
        self.random = random.Random(1)

    def shape(self, dimensions):
        sizes = [self.random.randint(2, 5), self.random.choice([1, 3, 8, 17, 32])]
        spatial = 0 if dimensions == 1 and self.random.random() < 0.5 else dimensions
        return sizes + [self.random.randint(1, 9) for _ in range(spatial)]

    def test_random_shapes_and_options(self):
        options = itertools.product((1, 2, 3), (True, False), (True, False), (0.1, None), (False, True), (False, True))
        for dimensions, affine, tracks, momentum, training, last in options:
            shape = self.shape(dimensions)
            oracle, layer = pair(dimensions, shape[1], affine=affine, track_running_stats=tracks, momentum=momentum)
            with self.subTest(shape=shape, affine=affine, tracks=tracks, momentum=momentum, training=training, last=last):
                oracle.train(training)
                layer.train(training)
                for _ in range(2):
                    self.check_step(oracle, layer, shape, last)

    def check_step(self, oracle, layer, shape, last):
        x = torch.randn(shape)
        memory_format = {4: torch.channels_last, 5: torch.channels_last_3d}.get(len(shape)) if last else None
        if memory_format is not None:
            x = x.contiguous(memory_format=memory_format)
        exact = x.detach().double().requires_grad_()
        x.requires_grad_()
        expected, y = oracle(exact), layer(x)
        close(self, y, expected)
        if memory_format is not None:
            self.assertTrue(y.is_contiguous(memory_format=memory_format))
        dy = torch.randn(shape)
        expected.backward(dy.double())
        y.backward(dy)
        close(self, x.grad, exact.grad)
        for got, wanted in zip(layer.parameters(), oracle.parameters()):
            close(self, got.grad, wanted.grad, 1e-4)
        for (name, got), wanted in zip(layer.named_buffers(), oracle.buffers()):
            with self.subTest(name):
                close(self, got, wanted)

    def test_residual_and_relu(self):
        for training, shape in itertools.product((True, False), ([3, 5, 7, 7], [2, 16, 4, 4])):
            oracle, layer = pair(2, shape[1])
            oracle.train(training)
            layer.train(training)
            layer.relu = True
            for with_residual in (False, True):
                x, residual, dy = torch.randn(shape), torch.randn(shape), torch.randn(shape)
                leaves = [x.requires_grad_()] + ([residual.requires_grad_()] if with_residual else [])
                exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
                y = layer(*leaves)
                expected = oracle(exact[0])
                expected = torch.relu(expected + exact[1] if with_residual else expected)
                close(self, y, expected)
                y.backward(dy)
                expected.backward(dy.double())
                for got, wanted in zip(leaves, exact):
                    close(self, got.grad, wanted.grad)

    def test_without_gradients_the_same_bits(self):
        for training, relu, fused, frozen in itertools.product((False, True), repeat=4):
            with self.subTest(training=training, relu=relu, residual=fused, frozen=frozen):
                layer = pair(2, 17)[1].train(training)
                layer.relu = relu
                other = copy.deepcopy(layer)
                x = torch.randn(3, 17, 5, 7)
                residual = torch.randn_like(x) if fused else None
                expected = layer(x, residual)
                with torch.set_grad_enabled(frozen):
                    y = other.requires_grad_(not frozen)(x, residual)
                self.assertIsNotNone(expected.grad_fn)
                self.assertFalse(y.requires_grad)
                for got, wanted in zip([y, *other.buffers()], [expected, *layer.buffers()]):
                    self.assertTrue(torch.equal(got, wanted))

    def test_forward_mode_is_refused(self):
        layer = pair(2, 4)[1].requires_grad_(False)
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(torch.randn(2, 4, 3, 3), torch.ones(2, 4, 3, 3))
            self.assertRaises((NotImplementedError, RuntimeError), layer, dual)

    def test_gradients_are_slopes(self):
        """Of a smooth function of y, along random directions, as gradcheck does it; f32 leaves about three digits."""
        layer = bnorm.torch.BatchNorm2d(4)
        nn.init.normal_(layer.weight)
        x = torch.randn(3, 4, 5, 5, requires_grad=True)
        weights = torch.randn(3, 4, 5, 5)

        def loss(inputs, scale):
            statistics = torch.zeros(4), torch.ones(4)
            y = bnorm.torch.batch_norm(inputs, *statistics, scale, layer.bias, True)
            return (y.double() * weights.double()).sum() + (y.double() ** 3).mean()
        loss(x, layer.weight).backward()
        step = 3e-3
        for leaf in (x, layer.weight):
            direction = torch.randn_like(leaf)
            moved = [[leaf.detach() + sign * step * direction if t is leaf else t.detach() for t in (x, layer.weight)]
                     for sign in (1, -1)]
            slope = (loss(*moved[0]) - loss(*moved[1])) / (2 * step)
            self.assertAlmostEqual(float(slope), float((leaf.grad * direction).sum()), delta=2e-2 * (1 + abs(float(slope))))

    def test_what_torch_refuses_is_refused(self):
        layer = bnorm.torch.BatchNorm2d(3)
        with self.assertRaisesRegex(ValueError, "expected 4D input"):
            layer(torch.randn(2, 3, 4))
        with self.assertRaisesRegex(RuntimeError, "should contain 5 elements not 3"):
            layer(torch.randn(2, 5, 4, 4))
        with self.assertRaisesRegex(ValueError, "more than 1 value per channel"):
            layer(torch.randn(1, 3, 1, 1))
        with self.assertRaisesRegex(ValueError, "residual has shape"):
            layer(torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 5))

    def test_f64_goes_to_torch(self):
        layer = bnorm.torch.BatchNorm2d(3).double()
        self.assertTrue(torch.autograd.gradcheck(layer, torch.randn(2, 3, 3, 3, dtype=torch.float64, requires_grad=True)))

    def test_frozen_statistics_may_change_before_backward(self):
        layer = bnorm.torch.BatchNorm1d(3).eval()
        x = torch.randn(4, 3, requires_grad=True)
        y = layer(x)
        layer.running_var.fill_(100.0)
        y.sum().backward()
        close(self, x.grad, torch.full((4, 3), 1 / (1 + 1e-5) ** 0.5))

    def test_arrays_of_torch_are_dlpack(self):
        x = torch.randn(2, 3, 5)
        expected = nn.functional.batch_norm(x, None, None, training=True)
        close(self, torch.from_numpy(bnorm.training_forward(x).y), expected)


class Block(nn.Module):
    """As in torchvision's ResNet."""

    def __init__(self, channels):
        super().__init__()
        self.convolution1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.convolution2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.relu(self.norm1(self.convolution1(x)))
        y = self.norm2(self.convolution2(y))
        y += x
        return self.relu(y)


def network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), Block(16), Block(16),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 10))


def digits(count):
    rows = [[float(v) for v in line.split(",")] for line in DIGITS.read_text().splitlines()[:count] if line[0].isdigit()]
    values = torch.tensor(rows)
    return values[:, :-1].reshape(-1, 1, 8, 8) / 16, values[:, -1].long()


class Conversion(unittest.TestCase):
    def test_the_same_layers_with_the_same_state(self):
        model = network()
        converted = bnorm.torch.convert(copy.deepcopy(model))
        self.assertEqual(converted.state_dict().keys(), model.state_dict().keys())
        self.assertFalse(any(type(m) in (nn.BatchNorm1d, nn.BatchNorm2d) for m in converted.modules()))
        converted.load_state_dict(model.state_dict())
        parameters = [id(p) for p in model.parameters()]
        self.assertEqual([id(p) for p in bnorm.torch.convert(model).parameters()], parameters)

    def test_fusing(self):
        fused = bnorm.torch.convert(network(), fuse=True)
        layers = [m for m in fused.modules() if isinstance(m, nn.BatchNorm2d)]
        self.assertEqual([m.relu for m in layers], [True] * 5)
        operations = [(node.op, str(node.target)) for node in fused.graph.nodes]
        self.assertFalse([o for o in operations if "relu" in o[1].lower() or "add" in o[1]], operations)
        self.assertEqual([len(node.args) for node in fused.graph.nodes if "norm" in str(node.target)].count(2), 2)

    def test_a_network_learns_the_same(self):
        images, labels = digits(320)
        self.assertEqual(images.shape[1:], (1, 8, 8))
        losses = []
        for build in (lambda: network().double(), network, lambda: bnorm.torch.convert(network()),
                      lambda: bnorm.torch.convert(network(), fuse=True),
                      lambda: bnorm.torch.convert(network()).to(memory_format=torch.channels_last)):
            model = build()
            kind = next(model.parameters()).dtype
            optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
            history = []
            for step in range(10):
                batch = slice(step * 32, step * 32 + 32)
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(images[batch].to(kind)), labels[batch])
                loss.backward()
                optimizer.step()
                history.append(loss.item())
            model.eval()
            history.append(float(nn.functional.cross_entropy(model(images.to(kind)), labels)))
            losses.append(history)
        self.assertLess(losses[0][9], losses[0][0] * 0.8)
        for history in losses[1:]:
            for got, expected in zip(history, losses[0]):
                self.assertAlmostEqual(got, expected, delta=5e-5)


if __name__ == "__main__":
    unittest.main()
