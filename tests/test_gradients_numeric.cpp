// Backward against central differences of the oracle's forward, in long double: that the formulas themselves are right.
#include <cmath>

#include "layer.hpp"

using namespace tests;

namespace {

// The loss sum(dy * forward) as a function of all that forward reads; `x` and `residual` are of one channel.
struct Loss {
    const Layer& layer;
    std::int64_t channel;
    bool fixed;
    std::vector<Real> x, residual, dy;
    Real gamma, beta;

    Loss(const Layer& of, std::int64_t c, bool with_fixed_statistics)
        : layer(of), channel(c), fixed(with_fixed_statistics) {
        const Shape& shape = of.setup.shape;
        for (std::int64_t n = 0; n < shape.batch; ++n) {
            for (std::int64_t s = 0; s < shape.spatial; ++s) {
                x.push_back(static_cast<Real>(of.x(n, c, s)));
                residual.push_back(of.setup.residual ? static_cast<Real>(of.residual(n, c, s)) : 0);
                dy.push_back(static_cast<Real>(of.dy(n, c, s)));
            }
        }
        gamma = static_cast<Real>(of.gamma[c]);
        beta = static_cast<Real>(of.beta[c]);
    }

    Real operator()() const {
        Real mean = static_cast<Real>(layer.running_mean[channel]);
        Real variance = static_cast<Real>(layer.running_var[channel]);
        if (!fixed) {
            const Real count = static_cast<Real>(x.size());
            mean = variance = 0;
            for (const Real value : x) {
                mean += value / count;
            }
            for (const Real value : x) {
                variance += (value - mean) * (value - mean) / count;
            }
        }
        const Real inv_std = 1 / std::sqrt(variance + static_cast<Real>(kEpsilon));
        Real loss = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
            loss += dy[i] * layer.setup.activation(gamma * (x[i] - mean) * inv_std + beta + residual[i]);
        }
        return loss;
    }

    // With a step of 1e-5 the truncation is about 1e-10 and the rounding 1e-14; kinks that close do not occur in this
    // data.
    Real derivative(Real& argument) {
        constexpr Real kStep = 1e-5L;
        const Real at = argument;
        argument = at + kStep;
        const Real above = (*this)();
        argument = at - kStep;
        const Real below = (*this)();
        argument = at;
        return (above - below) / (2 * kStep);
    }
};

void check_channel(Layer& layer, std::int64_t channel, bool fixed) {
    Loss loss(layer, channel, fixed);
    const Shape& shape = layer.setup.shape;
    const auto agrees = [](float got, Real expected) {
        return std::fabs(static_cast<Real>(got) - expected) <= 5e-6L * (1 + std::fabs(expected));
    };
    CHECK(agrees(layer.dgamma[channel], loss.derivative(loss.gamma)));
    CHECK(agrees(layer.dbeta[channel], loss.derivative(loss.beta)));
    std::size_t i = 0;
    for (std::int64_t n = 0; n < shape.batch; ++n) {
        for (std::int64_t s = 0; s < shape.spatial; ++s, ++i) {
            REQUIRE(agrees(layer.dx(n, channel, s), loss.derivative(loss.x[i])));
            if (layer.setup.residual) {
                REQUIRE(agrees(layer.dresidual(n, channel, s), loss.derivative(loss.residual[i])));
            }
        }
    }
}

} // namespace

TEST_CASE("gradients are the derivatives of forward") {
    for (const Shape& shape : {Shape{BNORM_NCHW, 2, 3, 25}, Shape{BNORM_NHWC, 3, 5, 7}, Shape{BNORM_NCHW, 9, 4, 2},
                               Shape{BNORM_NHWC, 40, 3, 1}, Shape{BNORM_NCHW, 2, 2, 110}}) {
        for (const Activation& activation : kActivations) {
            for (const bool residual : {false, true}) {
                const bool mask = residual && activation.kind != BNORM_IDENTITY;
                Layer layer({.shape = shape, .activation = activation, .residual = residual, .mask = mask});
                INFO("setup: ", layer.setup);
                layer.run_forward();
                layer.run_backward();
                for (std::int64_t c = 0; c < shape.channels; ++c) {
                    check_channel(layer, c, false);
                }
                layer.run_inference();
                layer.run_backward_fixed();
                for (std::int64_t c = 0; c < shape.channels; ++c) {
                    check_channel(layer, c, true);
                }
            }
        }
    }
}
