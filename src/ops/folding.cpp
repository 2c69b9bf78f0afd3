#include "ops/folding.hpp"

#include <algorithm>

#include "ops/statistics.hpp"

namespace bnorm::ops {
namespace {

float value_or(const float* values, std::int64_t index, float otherwise) {
    return values != nullptr ? values[index] : otherwise;
}

// Of bnorm_fold_args and bnorm_fold_weights_args alike.
template <class Args>
double scale_of(const Args& args, std::int64_t channel) {
    const double variance = static_cast<double>(value_or(args.running_var, channel, 1.0F));
    return static_cast<double>(value_or(args.gamma, channel, 1.0F)) * inverse_std(variance, args.epsilon);
}

} // namespace

void fold(const bnorm_fold_args& args) {
    for (std::int64_t c = 0; c < args.channels; ++c) {
        const double scale = scale_of(args, c);
        const double beta = static_cast<double>(value_or(args.beta, c, 0.0F));
        const double mean = static_cast<double>(value_or(args.running_mean, c, 0.0F));
        args.scale[c] = static_cast<float>(scale);
        args.shift[c] = static_cast<float>(beta - scale * mean);
    }
}

WeightShape weight_shape(const bnorm_fold_weights_args& args) {
    const std::int64_t groups = std::max<std::int64_t>(1, args.groups);
    const std::int64_t kernel = std::max<std::int64_t>(1, args.kernel_size);
    switch (args.layout) {
    case BNORM_WEIGHTS_TRANSPOSED: return {groups, args.input_channels / groups, args.output_channels / groups, kernel};
    case BNORM_WEIGHTS_DEPTHWISE: return {1, 1, args.output_channels, kernel};
    case BNORM_WEIGHTS_LINEAR: return {1, 1, args.output_channels, args.input_channels};
    default: return {1, 1, args.output_channels, args.input_channels / groups * kernel};
    }
}

void fold_weights(const bnorm_fold_weights_args& args) {
    const WeightShape shape = weight_shape(args);
    std::int64_t index = 0;
    for (std::int64_t group = 0; group < shape.groups; ++group) {
        for (std::int64_t outer = 0; outer < shape.outer; ++outer) {
            for (std::int64_t output = 0; output < shape.outputs_per_group; ++output) {
                const double scale = scale_of(args, group * shape.outputs_per_group + output);
                for (const std::int64_t end = index + shape.inner; index < end; ++index) {
                    args.folded_weights[index] = static_cast<float>(static_cast<double>(args.weights[index]) * scale);
                }
            }
        }
    }
    for (std::int64_t c = 0; c < args.output_channels; ++c) {
        const double bias = static_cast<double>(value_or(args.bias, c, 0.0F));
        const double mean = static_cast<double>(value_or(args.running_mean, c, 0.0F));
        const double beta = static_cast<double>(value_or(args.beta, c, 0.0F));
        args.folded_bias[c] = static_cast<float>((bias - mean) * scale_of(args, c) + beta);
    }
}

} // namespace bnorm::ops
