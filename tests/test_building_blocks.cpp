// Moments, merge, finish, apply, gradient sums and gradient apply: composed they are the whole operations, bit for bit.
#include <cmath>

#include "layer.hpp"

using namespace tests;

namespace {

const Shape kShapes[] = {{BNORM_NCHW, 4, 20, 300},  {BNORM_NCHW, 8, 40, 49},  {BNORM_NCHW, 50, 33, 3},
                         {BNORM_NCHW, 1, 2, 70000}, {BNORM_NCHW, 300, 24, 1}, {BNORM_NHWC, 4, 20, 300},
                         {BNORM_NHWC, 3, 600, 49},  {BNORM_NHWC, 1, 3, 9001}};

struct Statistics {
    explicit Statistics(std::int64_t channels) : mean(channels), m2(channels), inv_std(channels) {}
    double count = 0;
    Buffer<double> mean, m2, inv_std;
};

Statistics moments_of(const Layer& layer) {
    Statistics result(layer.setup.shape.channels);
    const bnorm_moments_args args = {layer.x.data(), &result.count, result.mean.data(), result.m2.data()};
    REQUIRE_OK(bnorm_moments(Plan(layer.problem(BNORM_MOMENTS)), &args));
    return result;
}

// Training forward from its parts, into a layer's own outputs.
Statistics compose_forward(Layer& layer) {
    Statistics statistics = moments_of(layer);
    const bnorm_training_forward_args whole = layer.forward_args();
    bnorm_moments_finish_args finish = {};
    finish.channels = layer.setup.shape.channels;
    finish.count = statistics.count;
    finish.mean = statistics.mean.data();
    finish.m2 = statistics.m2.data();
    finish.epsilon = kEpsilon;
    finish.inv_std = statistics.inv_std.data();
    finish.running_mean = whole.running_mean;
    finish.running_var = whole.running_var;
    finish.momentum = whole.momentum;
    REQUIRE_OK(bnorm_moments_finish(&finish));
    bnorm_apply_args apply = {};
    apply.x = whole.x;
    apply.residual = whole.residual;
    apply.gamma = whole.gamma;
    apply.beta = whole.beta;
    apply.mean = statistics.mean.data();
    apply.inv_std = statistics.inv_std.data();
    apply.y = whole.y;
    apply.mask = whole.mask;
    apply.mask_bytes = whole.mask_bytes;
    REQUIRE_OK(bnorm_apply(Plan(layer.problem(BNORM_APPLY)), &apply));
    return statistics;
}

void compose_backward(Layer& layer, const Statistics& statistics) {
    const bnorm_backward_args whole = layer.backward_args();
    Buffer<double> sum_dy(layer.setup.shape.channels);
    Buffer<double> sum_dy_centered_x(layer.setup.shape.channels);
    bnorm_gradient_sums_args sums = {};
    sums.dy = whole.dy;
    sums.x = whole.x;
    sums.gamma = whole.gamma;
    sums.beta = whole.beta;
    sums.mean = statistics.mean.data();
    sums.inv_std = statistics.inv_std.data();
    sums.mask = whole.mask;
    sums.mask_bytes = whole.mask_bytes;
    sums.sum_dy = sum_dy.data();
    sums.sum_dy_centered_x = sum_dy_centered_x.data();
    REQUIRE_OK(bnorm_gradient_sums(Plan(layer.problem(BNORM_GRADIENT_SUMS)), &sums));
    bnorm_gradient_apply_args apply = {};
    apply.dy = whole.dy;
    apply.x = whole.x;
    apply.gamma = whole.gamma;
    apply.beta = whole.beta;
    apply.mean = statistics.mean.data();
    apply.inv_std = statistics.inv_std.data();
    apply.sum_dy = sum_dy.data();
    apply.sum_dy_centered_x = sum_dy_centered_x.data();
    apply.count = statistics.count;
    apply.mask = whole.mask;
    apply.mask_bytes = whole.mask_bytes;
    apply.dx = whole.dx;
    apply.dresidual = whole.dresidual;
    apply.dgamma = whole.dgamma;
    apply.dbeta = whole.dbeta;
    REQUIRE_OK(bnorm_gradient_apply(Plan(layer.problem(BNORM_GRADIENT_APPLY)), &apply));
}

template <class T>
bool same_bytes(const Buffer<T>& a, const Buffer<T>& b) {
    return a.snapshot() == b.snapshot();
}

} // namespace

TEST_CASE("composed they are the whole operations, bit for bit") {
    for (const Shape& shape : kShapes) {
        for (const Activation& activation : kActivations) {
            for (const bool residual : {false, true}) {
                for (const int threads : {1, 3}) {
                    const bool mask = residual && activation.kind != BNORM_IDENTITY;
                    Layer whole({.shape = shape, .activation = activation, .residual = residual, .mask = mask});
                    Layer parts({.shape = shape,
                                 .activation = activation,
                                 .residual = residual,
                                 .mask = mask,
                                 .threads = threads});
                    INFO("setup: ", parts.setup);
                    whole.run_forward();
                    const Statistics statistics = compose_forward(parts);
                    CHECK(same_bits(parts.y.values(), whole.y.values()));
                    CHECK(same_bytes(parts.mask, whole.mask));
                    CHECK(same_bytes(statistics.mean, whole.mean));
                    CHECK(same_bytes(statistics.inv_std, whole.inv_std));
                    CHECK(same_bytes(parts.running_mean, whole.running_mean));
                    CHECK(same_bytes(parts.running_var, whole.running_var));
                    whole.run_backward();
                    compose_backward(parts, statistics);
                    CHECK(same_bits(parts.dx.values(), whole.dx.values()));
                    CHECK(same_bits(parts.dresidual.values(), whole.dresidual.values()));
                    CHECK(same_bytes(parts.dgamma, whole.dgamma));
                    CHECK(same_bytes(parts.dbeta, whole.dbeta));
                }
            }
        }
    }
}

TEST_CASE("moments of unequal parts merge into those of the whole") {
    constexpr std::int64_t kChannels = 6;
    for (const double offset : {0.0, 1e4}) {
        Tensor all({BNORM_NCHW, 7, kChannels, 50});
        Random random(3);
        all.fill(
            [&](std::int64_t c) { return static_cast<float>(offset + random.normal() * static_cast<double>(c + 1)); });
        double count = 0;
        Buffer<double> mean(kChannels);
        Buffer<double> m2(kChannels);
        std::fill(mean.begin(), mean.end(), 1e30); // an empty side: its mean must not matter
        std::fill(m2.begin(), m2.end(), 1e30);
        std::int64_t image = 0;
        for (const std::int64_t batch : {1, 4, 0, 2}) {
            Layer part({.shape = {BNORM_NCHW, batch, kChannels, 50}});
            for (std::int64_t n = 0; n < batch; ++n, ++image) {
                for (std::int64_t c = 0; c < kChannels; ++c) {
                    for (std::int64_t s = 0; s < 50; ++s) {
                        part.x(n, c, s) = all(image, c, s);
                    }
                }
            }
            const Statistics statistics = moments_of(part);
            CHECK(statistics.count == static_cast<double>(batch * 50));
            const bnorm_moments_merge_args merge = {kChannels,
                                                    count,
                                                    mean.data(),
                                                    m2.data(),
                                                    statistics.count,
                                                    statistics.mean.data(),
                                                    statistics.m2.data(),
                                                    &count,
                                                    mean.data(),
                                                    m2.data()};
            REQUIRE_OK(bnorm_moments_merge(&merge)); // in place
        }
        CHECK(count == 350.0);
        for (std::int64_t c = 0; c < kChannels; ++c) {
            const Moments expected = reference_moments(all, c);
            CHECK(std::fabs(static_cast<Real>(mean[c]) - expected.mean) <= 1e-7L * std::sqrt(expected.m2 / 350));
            CHECK(std::fabs(static_cast<Real>(m2[c]) - expected.m2) <= 2e-7L * expected.m2);
        }
    }
}

TEST_CASE("merging two empty sets gives an empty one") {
    const double number = 5.0;
    double count = -1;
    double mean = -1;
    double m2 = -1;
    const bnorm_moments_merge_args merge = {1, 0.0, &number, &number, 0.0, &number, &number, &count, &mean, &m2};
    REQUIRE_OK(bnorm_moments_merge(&merge));
    CHECK(count == 0.0);
    CHECK(mean == 0.0);
    CHECK(m2 == 0.0);
}

TEST_CASE("moments_finish: variance, inv_std, in place of m2") {
    const double mean[2] = {3.0, -1.0};
    double m2[2] = {8.0, 0.0};
    double inv_std[2] = {};
    bnorm_moments_finish_args args = {};
    args.channels = 2;
    args.count = 4.0;
    args.mean = mean;
    args.m2 = m2;
    args.epsilon = 0.25;
    args.variance = m2;
    args.inv_std = inv_std;
    REQUIRE_OK(bnorm_moments_finish(&args));
    CHECK(m2[0] == 2.0);
    CHECK(m2[1] == 0.0);
    CHECK(inv_std[0] == 1.0 / 1.5);
    CHECK(inv_std[1] == 2.0);
}

TEST_CASE("two machines: gradients from added sums are those of the joint batch") {
    for (const bnorm_layout layout : kLayouts) {
        Layer joint({.shape = {layout, 4, 10, 60}});
        joint.run_forward();
        joint.run_backward();
        Buffer<double> total_dy(10);
        Buffer<double> total_dy_x(10);
        std::fill(total_dy.begin(), total_dy.end(), 0.0);
        std::fill(total_dy_x.begin(), total_dy_x.end(), 0.0);
        std::vector<Layer> machines;
        for (std::int64_t m = 0; m < 2; ++m) {
            Layer& half = machines.emplace_back(Setup{.shape = {layout, 2, 10, 60}});
            for (std::int64_t n = 0; n < 2; ++n) {
                for (std::int64_t c = 0; c < 10; ++c) {
                    for (std::int64_t s = 0; s < 60; ++s) {
                        half.x(n, c, s) = joint.x(2 * m + n, c, s);
                        half.dy(n, c, s) = joint.dy(2 * m + n, c, s);
                    }
                }
            }
            Buffer<double> dy(10);
            Buffer<double> dy_x(10);
            bnorm_gradient_sums_args sums = {};
            sums.dy = half.dy.data();
            sums.x = half.x.data();
            sums.mean = joint.mean.data();
            sums.sum_dy = dy.data();
            sums.sum_dy_centered_x = dy_x.data();
            REQUIRE_OK(bnorm_gradient_sums(Plan(half.problem(BNORM_GRADIENT_SUMS)), &sums));
            for (std::int64_t c = 0; c < 10; ++c) {
                total_dy[c] += dy[c];
                total_dy_x[c] += dy_x[c];
            }
        }
        for (std::int64_t m = 0; m < 2; ++m) {
            Layer& half = machines[static_cast<std::size_t>(m)];
            bnorm_gradient_apply_args apply = {};
            apply.dy = half.dy.data();
            apply.x = half.x.data();
            apply.gamma = joint.gamma.data();
            apply.mean = joint.mean.data();
            apply.inv_std = joint.inv_std.data();
            apply.sum_dy = total_dy.data();
            apply.sum_dy_centered_x = total_dy_x.data();
            apply.count = 240.0;
            apply.dx = half.dx.data();
            REQUIRE_OK(bnorm_gradient_apply(Plan(half.problem(BNORM_GRADIENT_APPLY)), &apply));
            for (std::int64_t c = 0; c < 10; ++c) {
                CHECK(std::fabs(half.dx(1, c, 7) - joint.dx(2 * m + 1, c, 7)) <= 1e-5F);
            }
        }
    }
}
