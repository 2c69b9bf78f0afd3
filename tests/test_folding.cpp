// Folding against the layer it replaces, computed plainly in long double.
#include <cmath>
#include <vector>

#include "support.hpp"

using namespace tests;

namespace {

std::vector<float> random_values(std::int64_t count, std::uint64_t seed, double offset = 0.0) {
    Random random(seed);
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) {
        value = static_cast<float>(offset + random.normal());
    }
    return values;
}

struct Norm {
    explicit Norm(std::int64_t channels)
        : gamma(random_values(channels, 1)), beta(random_values(channels, 2)), mean(random_values(channels, 3)),
          var(random_values(channels, 4)) {
        for (float& value : var) {
            value = value * value + 0.1F;
        }
    }
    Real scale(std::size_t c) const {
        return static_cast<Real>(gamma[c]) / std::sqrt(static_cast<Real>(var[c]) + static_cast<Real>(kEpsilon));
    }
    std::vector<float> gamma, beta, mean, var;
};

bool close(float got, Real expected) {
    return std::fabs(static_cast<Real>(got) - expected) <= 6.1e-8L * std::fabs(expected) + 1e-40L;
}

// The output channel of the i-th weight.
std::int64_t output_of(const bnorm_fold_weights_args& a, std::int64_t i) {
    const std::int64_t groups = a.groups == 0 ? 1 : a.groups;
    switch (a.layout) {
    case BNORM_WEIGHTS_CONVOLUTION: return i / (a.input_channels / groups * a.kernel_size);
    case BNORM_WEIGHTS_TRANSPOSED: {
        const std::int64_t outputs = a.output_channels / groups;
        const std::int64_t input = i / (outputs * a.kernel_size);
        return input / (a.input_channels / groups) * outputs + i / a.kernel_size % outputs;
    }
    case BNORM_WEIGHTS_DEPTHWISE: return i / a.kernel_size;
    default: return i / a.input_channels;
    }
}

} // namespace

TEST_CASE("fold: scale and shift, rounded once, each argument optional, in place") {
    constexpr std::int64_t kChannels = 37;
    const Norm norm(kChannels);
    std::vector<float> scale(kChannels);
    std::vector<float> shift(kChannels);
    for (int absent = 0; absent < 16; ++absent) {
        const auto given = [&](int bit, const std::vector<float>& values) {
            return (absent >> bit & 1) != 0 ? nullptr : values.data();
        };
        bnorm_fold_args args = {};
        args.channels = kChannels;
        args.gamma = given(0, norm.gamma);
        args.beta = given(1, norm.beta);
        args.running_mean = given(2, norm.mean);
        args.running_var = given(3, norm.var);
        args.epsilon = kEpsilon;
        args.scale = scale.data();
        args.shift = shift.data();
        REQUIRE_OK(bnorm_fold(&args));
        for (std::size_t c = 0; c < kChannels; ++c) {
            const auto value = [&](const float* values, float otherwise) {
                return static_cast<Real>(values == nullptr ? otherwise : values[c]);
            };
            const Real s = value(args.gamma, 1) / std::sqrt(value(args.running_var, 1) + static_cast<Real>(kEpsilon));
            CHECK(close(scale[c], s));
            CHECK(static_cast<double>(std::fabs(static_cast<Real>(shift[c]) -
                                                (value(args.beta, 0) - s * value(args.running_mean, 0)))) <= 1e-6);
        }
    }
    Norm in_place(kChannels);
    bnorm_fold_args args = {};
    args.channels = kChannels;
    args.gamma = in_place.gamma.data();
    args.beta = in_place.beta.data();
    args.running_mean = norm.mean.data();
    args.running_var = norm.var.data();
    args.epsilon = kEpsilon;
    args.scale = in_place.gamma.data();
    args.shift = in_place.beta.data();
    REQUIRE_OK(bnorm_fold(&args));
    CHECK(close(in_place.gamma[5], norm.scale(5)));
    CHECK(static_cast<double>(in_place.beta[5]) ==
          doctest::Approx(
              static_cast<double>(static_cast<Real>(norm.beta[5]) - norm.scale(5) * static_cast<Real>(norm.mean[5]))));
}

TEST_CASE("fold_weights: every layout, groups, with and without bias, in place") {
    const bnorm_weights_layout layouts[] = {BNORM_WEIGHTS_CONVOLUTION, BNORM_WEIGHTS_TRANSPOSED,
                                            BNORM_WEIGHTS_DEPTHWISE, BNORM_WEIGHTS_LINEAR};
    for (const bnorm_weights_layout layout : layouts) {
        for (const std::int64_t groups : {0, 1, 2, 3}) {
            for (const bool has_bias : {false, true}) {
                for (const bool in_place : {false, true}) {
                    bnorm_fold_weights_args args = {};
                    args.layout = layout;
                    args.output_channels = 12;
                    args.input_channels = 6;
                    args.kernel_size = 5;
                    args.groups = groups;
                    const std::int64_t inputs = layout == BNORM_WEIGHTS_DEPTHWISE ? 1
                                                : layout == BNORM_WEIGHTS_LINEAR  ? 6
                                                                                  : 6 / (groups == 0 ? 1 : groups);
                    const std::int64_t count = 12 * inputs * (layout == BNORM_WEIGHTS_LINEAR ? 1 : 5);
                    const Norm norm(12);
                    const std::vector<float> weights = random_values(count, 9);
                    const std::vector<float> bias = random_values(12, 10);
                    std::vector<float> folded = in_place ? weights : std::vector<float>(weights.size());
                    std::vector<float> folded_bias = in_place ? bias : std::vector<float>(12);
                    args.weights = in_place ? folded.data() : weights.data();
                    args.bias = !has_bias ? nullptr : in_place ? folded_bias.data() : bias.data();
                    args.gamma = norm.gamma.data();
                    args.beta = norm.beta.data();
                    args.running_mean = norm.mean.data();
                    args.running_var = norm.var.data();
                    args.epsilon = kEpsilon;
                    args.folded_weights = folded.data();
                    args.folded_bias = folded_bias.data();
                    INFO("layout ", layout, ", groups ", groups, ", bias ", has_bias, ", in place ", in_place);
                    REQUIRE_OK(bnorm_fold_weights(&args));
                    for (std::int64_t i = 0; i < count; ++i) {
                        const auto index = static_cast<std::size_t>(i);
                        const auto c = static_cast<std::size_t>(output_of(args, i));
                        REQUIRE(close(folded[index], static_cast<Real>(weights[index]) * norm.scale(c)));
                    }
                    for (std::size_t c = 0; c < 12; ++c) {
                        const Real before = has_bias ? static_cast<Real>(bias[c]) : 0;
                        const Real expected = (before - static_cast<Real>(norm.mean[c])) * norm.scale(c) +
                                              static_cast<Real>(norm.beta[c]);
                        CHECK(static_cast<double>(std::fabs(static_cast<Real>(folded_bias[c]) - expected)) <= 1e-6);
                    }
                }
            }
        }
    }
}

TEST_CASE("a folded scale and shift do what inference does") {
    for (const bnorm_layout layout : kLayouts) {
        const Shape shape = {layout, 3, 21, 50};
        const Norm norm(21);
        Tensor x(shape);
        Tensor y(shape);
        Random random(8);
        x.fill([&](std::int64_t) { return static_cast<float>(random.normal()); });
        bnorm_inference_args inference = {};
        inference.x = x.data();
        inference.y = y.data();
        inference.gamma = norm.gamma.data();
        inference.beta = norm.beta.data();
        inference.running_mean = norm.mean.data();
        inference.running_var = norm.var.data();
        REQUIRE_OK(bnorm_inference(Plan(problem_of(BNORM_INFERENCE, shape)), &inference));
        std::vector<float> scale(21);
        std::vector<float> shift(21);
        const bnorm_fold_args fold = {21,       norm.gamma.data(), norm.beta.data(), norm.mean.data(), norm.var.data(),
                                      kEpsilon, scale.data(),      shift.data()};
        REQUIRE_OK(bnorm_fold(&fold));
        for (std::int64_t c = 0; c < 21; ++c) {
            const auto index = static_cast<std::size_t>(c);
            CHECK(std::fabs(x(2, c, 49) * scale[index] + shift[index] - y(2, c, 49)) <= 1e-5F);
        }
    }
}
