// NaN, infinities, kinks, empty tensors, single elements.
#include <cmath>
#include <limits>

#include "layer.hpp"

using namespace tests;

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

} // namespace

TEST_CASE("NaN and Inf stay in their channel, and the other channels keep their bits") {
    const Shape shapes[] = {{BNORM_NCHW, 4, 19, 300}, {BNORM_NHWC, 4, 19, 300}, {BNORM_NCHW, 6, 40, 49},
                            {BNORM_NHWC, 3, 600, 9},  {BNORM_NCHW, 90, 19, 5},  {BNORM_NHWC, 40, 64, 49},
                            {BNORM_NCHW, 50, 33, 1}};
    constexpr std::int64_t kSick = 7;
    for (const Shape& shape : shapes) {
        for (const float poison : {kNaN, kInf, -kInf}) {
            INFO("shape ", shape, ", poison ", poison);
            const Setup setup = {.shape = shape};
            Layer clean(setup);
            Layer sick(setup);
            sick.x(shape.batch - 1, kSick, shape.spatial / 2) = poison;
            clean.run_forward();
            sick.run_forward();
            clean.run_backward();
            sick.run_backward();
            for (std::int64_t c = 0; c < shape.channels; ++c) {
                if (c == kSick) {
                    CHECK((std::isnan(sick.mean[c]) || sick.mean[c] == static_cast<double>(poison)));
                    CHECK((poison == poison || std::isnan(sick.mean[c])));
                    CHECK((std::isnan(poison) || sick.mean[c] == static_cast<double>(poison)));
                    CHECK(std::isnan(sick.inv_std[c]));
                    CHECK(std::isnan(sick.y(0, c, 0)));
                    CHECK(std::isnan(sick.dx(0, c, 0)));
                    continue;
                }
                REQUIRE(clean.mean[c] == sick.mean[c]);
                REQUIRE(clean.inv_std[c] == sick.inv_std[c]);
                REQUIRE(clean.running_var[c] == sick.running_var[c]);
                REQUIRE(clean.dgamma[c] == sick.dgamma[c]);
                for (std::int64_t n = 0; n < shape.batch; ++n) {
                    for (std::int64_t s = 0; s < shape.spatial; ++s) {
                        REQUIRE(clean.y(n, c, s) == sick.y(n, c, s));
                        REQUIRE(clean.dx(n, c, s) == sick.dx(n, c, s));
                    }
                }
            }
        }
    }
}

TEST_CASE("two infinities in different blocks: their mean is infinite, or NaN if they differ") {
    for (const bnorm_layout layout : kLayouts) {
        Tensor x({layout, 4, 2, 9000});
        x.fill([](std::int64_t) { return 1.0F; });
        x(0, 0, 0) = x(3, 0, 8999) = kInf;
        x(0, 1, 0) = kInf;
        x(3, 1, 8999) = -kInf;
        double count = 0;
        double mean[2] = {};
        double m2[2] = {};
        const bnorm_moments_args args = {x.data(), &count, mean, m2};
        REQUIRE_OK(bnorm_moments(Plan(problem_of(BNORM_MOMENTS, x.shape())), &args));
        CHECK(mean[0] == static_cast<double>(kInf));
        CHECK(std::isnan(mean[1]));
        CHECK(std::isnan(m2[0]));
        CHECK(std::isnan(m2[1]));
    }
}

namespace {

// A value of a channel of some kind: ordinary ones, and what makes a kernel sum a channel again in another way.
float unusual_value(std::int64_t kind, std::int64_t position, std::int64_t spatial) {
    const auto noise = static_cast<float>((position * position * 37 + position * 5 + kind * 11) % 61 - 30) / 32.0F;
    switch (kind) {
    case 1: return 3.0F;
    case 2: return 1e6F + noise;
    case 3: return position == spatial / 2 ? 1e6F : noise; // an outlier
    case 4: return position == spatial / 3 ? kInf : noise;
    case 5: return position == 0 ? kNaN : noise;
    case 6: return 1e30F * noise; // whose squares overflow
    case 7: return 1e-30F * noise;
    case 8: return position == 0 ? 1000.0F : 1.0F + 0.001F * noise; // a first element far from the mean
    default: return noise;
    }
}

struct ChannelMoments {
    std::vector<double> mean;
    std::vector<double> m2;
};

// kinds[c] is what channel c consists of.
ChannelMoments moments_of_kinds(std::int64_t batch, std::int64_t spatial, const std::vector<std::int64_t>& kinds) {
    const auto channels = static_cast<std::int64_t>(kinds.size());
    Tensor x({BNORM_NCHW, batch, channels, spatial});
    for (std::int64_t n = 0; n < batch; ++n) {
        for (std::int64_t c = 0; c < channels; ++c) {
            for (std::int64_t s = 0; s < spatial; ++s) {
                x(n, c, s) = unusual_value(kinds[static_cast<std::size_t>(c)], s + n, spatial);
            }
        }
    }
    ChannelMoments result = {std::vector<double>(kinds.size()), std::vector<double>(kinds.size())};
    double count = 0;
    const bnorm_moments_args args = {x.data(), &count, result.mean.data(), result.m2.data()};
    REQUIRE_OK(bnorm_moments(Plan(problem_of(BNORM_MOMENTS, x.shape())), &args));
    return result;
}

bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

} // namespace

TEST_CASE("channels of few elements, which NCHW kernels sum several of at once, have the moments of each alone") {
    const std::vector<std::int64_t> together = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 4, 2, 10, 8, 3, 7, 1};
    for (const std::int64_t batch : {1, 2, 4}) {
        for (const std::int64_t spatial : {1, 15, 49, 64, 100, 127, 128, 196, 250, 400, 784, 1024, 1100}) {
            const ChannelMoments all = moments_of_kinds(batch, spatial, together);
            for (std::size_t c = 0; c < together.size(); ++c) {
                INFO("batch ", batch, ", spatial ", spatial, ", kind ", together[c]);
                // The last of three is fewer than any ISA takes at once.
                const ChannelMoments alone = moments_of_kinds(batch, spatial, {11, 12, together[c]});
                CHECK(same(all.mean[c], alone.mean[2]));
                CHECK(same(all.m2[c], alone.m2[2]));
                CHECK_FALSE(all.m2[c] < 0.0);
            }
        }
    }
}

TEST_CASE("activations at kinks, NaN, infinities, zeros of both signs") {
    const float inputs[] = {0.0F, -0.0F, 1.5F, -1.5F, 1e-45F, -1e-45F, kInf, -kInf, kNaN, 1.4999999F, 100.0F};
    constexpr std::int64_t kCount = 11;
    for (const Activation& activation : kActivations) {
        for (const bnorm_layout layout : kLayouts) {
            // mean 0, variance 1, epsilon 0: the value before the activation is x itself. 37 channels or positions, so
            // that whole vectors and tails occur.
            const Shape shape = {layout, kCount, 5, 37};
            Tensor x(shape);
            Tensor y(shape);
            Tensor dy(shape);
            Tensor dx(shape);
            for (std::int64_t n = 0; n < kCount; ++n) {
                for (std::int64_t c = 0; c < 5; ++c) {
                    for (std::int64_t s = 0; s < 37; ++s) {
                        x(n, c, s) = inputs[n];
                        dy(n, c, s) = 3.0F;
                    }
                }
            }
            bnorm_problem problem = problem_of(BNORM_INFERENCE, shape, activation);
            problem.epsilon = 0;
            const Plan inference(problem);
            bnorm_inference_args forward = {};
            forward.x = x.data();
            forward.y = y.data();
            REQUIRE_OK(bnorm_inference(inference, &forward));
            problem.operation = BNORM_BACKWARD_FIXED;
            bnorm_backward_fixed_args backward = {};
            backward.x = x.data();
            backward.dy = dy.data();
            backward.dx = dx.data();
            REQUIRE_OK(bnorm_backward_fixed(Plan(problem), &backward));
            for (std::int64_t n = 0; n < kCount; ++n) {
                INFO("activation ", activation.kind, ", x ", inputs[n]);
                for (const std::int64_t s : {0, 15, 36}) {
                    const float value = y(n, 4, s);
                    if (std::isnan(inputs[n])) {
                        CHECK(std::isnan(value));
                        continue;
                    }
                    CHECK(value == static_cast<float>(activation(static_cast<Real>(inputs[n]))));
                    CHECK(dx(n, 4, s) ==
                          3.0F * static_cast<float>(activation.derivative(static_cast<Real>(inputs[n]))));
                }
            }
        }
    }
}

TEST_CASE("a single element a channel: variance 0, Bessel's factor 1") {
    for (const bnorm_layout layout : kLayouts) {
        Layer layer({.shape = {layout, 1, 9, 1}});
        const Layer before(layer.setup);
        layer.run_forward();
        for (std::int64_t c = 0; c < 9; ++c) {
            CHECK(layer.mean[c] == static_cast<double>(layer.x(0, c, 0)));
            CHECK(layer.y(0, c, 0) == layer.beta[c]);
            CHECK(layer.running_var[c] ==
                  doctest::Approx(0.9 * static_cast<double>(before.running_var[c])).epsilon(1e-6));
        }
    }
}

TEST_CASE("epsilon 0 on a constant channel is 0 * inf") {
    Tensor x({BNORM_NCHW, 2, 1, 30});
    x.fill([](std::int64_t) { return 2.0F; });
    Tensor y(x.shape());
    bnorm_problem problem = problem_of(BNORM_TRAINING_FORWARD, x.shape());
    problem.epsilon = 0;
    double inv_std = 0;
    bnorm_training_forward_args args = {};
    args.x = x.data();
    args.y = y.data();
    args.inv_std = &inv_std;
    REQUIRE_OK(bnorm_training_forward(Plan(problem), &args));
    CHECK(std::isinf(inv_std));
    CHECK(std::isnan(y(0, 0, 0)));
}

TEST_CASE("empty tensors: nothing but the defined sums is written, NULL data is allowed") {
    for (const bnorm_layout layout : kLayouts) {
        for (const Shape& shape : {Shape{layout, 0, 3, 4}, Shape{layout, 2, 3, 0}, Shape{layout, 2, 0, 4}}) {
            INFO("shape ", shape);
            float gamma[3] = {1, 2, 3};
            float dgamma[3] = {9, 9, 9};
            float dbeta[3] = {9, 9, 9};
            double mean[3] = {1, 2, 3};
            double m2[3] = {4, 5, 6};
            double count = -1;
            const bool channels = shape.channels > 0;
            bnorm_training_forward_args forward = {};
            CHECK(bnorm_training_forward(Plan(problem_of(BNORM_TRAINING_FORWARD, shape)), &forward) ==
                  (channels ? BNORM_INVALID_ARGUMENT : BNORM_OK));
            bnorm_inference_args inference = {};
            inference.gamma = gamma;
            CHECK(bnorm_inference(Plan(problem_of(BNORM_INFERENCE, shape)), &inference) == BNORM_OK);
            bnorm_backward_args backward = {};
            backward.mean = mean;
            backward.inv_std = m2;
            backward.dgamma = dgamma;
            backward.dbeta = dbeta;
            CHECK(bnorm_backward(Plan(problem_of(BNORM_BACKWARD, shape)), &backward) == BNORM_OK);
            CHECK(dgamma[2] == (channels ? 0.0F : 9.0F));
            CHECK(dbeta[2] == (channels ? 0.0F : 9.0F));
            double sum_mean[3] = {7, 7, 7};
            double sum_m2[3] = {7, 7, 7};
            const bnorm_moments_args moments = {nullptr, &count, sum_mean, sum_m2};
            CHECK(bnorm_moments(Plan(problem_of(BNORM_MOMENTS, shape)), &moments) == BNORM_OK);
            CHECK(count == static_cast<double>(shape.per_channel()));
            CHECK(sum_mean[1] == (channels ? 0.0 : 7.0));
            CHECK(sum_m2[1] == (channels ? 0.0 : 7.0));
        }
    }
}

TEST_CASE("running statistics: conventions and momentum") {
    struct Convention {
        bnorm_running_update update;
        double momentum;
        std::int64_t batches_seen;
        double old_weight;
        double new_weight;
        bool unbiased;
    };
    const Convention conventions[] = {
        {BNORM_RUNNING_EXPONENTIAL, 0.1, 0, 0.9, 0.1, true}, {BNORM_RUNNING_EXPONENTIAL, 0.0, 0, 1.0, 0.0, true},
        {BNORM_RUNNING_EXPONENTIAL, 1.0, 0, 0.0, 1.0, true}, {BNORM_RUNNING_EXPONENTIAL, -0.5, 0, 1.5, -0.5, true},
        {BNORM_RUNNING_ONNX, 0.9, 0, 0.9, 0.1, false},       {BNORM_RUNNING_ONNX, 0.25, 0, 0.25, 0.75, false},
        {BNORM_RUNNING_CUMULATIVE, 0.7, 0, 0.0, 1.0, true},  {BNORM_RUNNING_CUMULATIVE, NAN, 3, 0.75, 0.25, true}};
    const Shape shape = {BNORM_NHWC, 2, 5, 11};
    for (const Convention& convention : conventions) {
        for (const bool only_mean : {false, true}) {
            Layer layer({.shape = shape});
            const Layer before({.shape = shape});
            bnorm_training_forward_args args = layer.forward_args();
            args.running_update = convention.update;
            args.momentum = convention.momentum;
            args.batches_seen = convention.batches_seen;
            (only_mean ? args.running_var : args.running_mean) = nullptr;
            REQUIRE_OK(bnorm_training_forward(Plan(layer.problem(BNORM_TRAINING_FORWARD)), &args));
            for (std::int64_t c = 0; c < shape.channels; ++c) {
                const Moments moments = reference_moments(layer.x, c);
                const double variance = static_cast<double>(moments.m2 / (convention.unbiased ? 21 : 22));
                const double mean = convention.old_weight * static_cast<double>(before.running_mean[c]) +
                                    convention.new_weight * static_cast<double>(moments.mean);
                const double var = convention.old_weight * static_cast<double>(before.running_var[c]) +
                                   convention.new_weight * variance;
                const double got_mean = static_cast<double>(layer.running_mean[c]);
                const double got_var = static_cast<double>(layer.running_var[c]);
                CHECK(std::fabs(got_mean - (only_mean ? mean : static_cast<double>(before.running_mean[c]))) <= 1e-6);
                CHECK(std::fabs(got_var - (only_mean ? static_cast<double>(before.running_var[c]) : var)) <= 1e-6);
            }
        }
    }
}
