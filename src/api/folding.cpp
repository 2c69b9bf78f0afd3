// Folding into scale and shift, and into weights.
#include "ops/folding.hpp"

#include <algorithm>

#include "api/argument_checks.hpp"
#include "api/error.hpp"

using namespace bnorm;
using api::ArgumentList;
using Role = api::ArgumentList::Role;

namespace {

constexpr auto kF32 = static_cast<std::int64_t>(sizeof(float));

bool fits(std::int64_t a, std::int64_t b, std::int64_t c) {
    if (a < 0 || b < 0 || c < 0) {
        return false;
    }
    const std::int64_t elements = api::checked_product(a, b, c);
    return elements >= 0 && api::checked_product(elements, kF32) >= 0;
}

bool is_weights_layout(bnorm_weights_layout layout) {
    return layout >= BNORM_WEIGHTS_CONVOLUTION && layout <= BNORM_WEIGHTS_LINEAR;
}

// Members that the layout ignores take no part.
bnorm_status check_weight_sizes(const char* function, const bnorm_fold_weights_args& args) {
    if (!is_weights_layout(args.layout)) {
        return api::fail(BNORM_INVALID_ARGUMENT, "%s: layout is %d, which is none of its named values.", function,
                         static_cast<int>(args.layout));
    }
    const bool grouped = args.layout == BNORM_WEIGHTS_CONVOLUTION || args.layout == BNORM_WEIGHTS_TRANSPOSED;
    const std::int64_t groups = grouped ? std::max<std::int64_t>(1, args.groups) : 1;
    const std::int64_t inputs = args.layout == BNORM_WEIGHTS_DEPTHWISE ? 1 : args.input_channels;
    const std::int64_t kernel = args.layout == BNORM_WEIGHTS_LINEAR ? 1 : std::max<std::int64_t>(1, args.kernel_size);
    if (args.output_channels < 0 || inputs < 0 || (grouped && args.groups < 0) ||
        (args.layout != BNORM_WEIGHTS_LINEAR && args.kernel_size < 0)) {
        return api::fail(BNORM_INVALID_ARGUMENT, "%s: a size is negative.", function);
    }
    if (!fits(args.output_channels, inputs, kernel)) {
        return api::fail(BNORM_INVALID_ARGUMENT, "%s: the bytes of the weights overflow int64.", function);
    }
    if (args.output_channels % groups != 0 || inputs % groups != 0) {
        return api::fail(BNORM_INVALID_ARGUMENT, "%s: groups is %lld, which does not divide both channel counts.",
                         function, static_cast<long long>(groups));
    }
    return BNORM_OK;
}

} // namespace

bnorm_status bnorm_fold(const bnorm_fold_args* args) {
    if (args == nullptr) {
        return api::fail(BNORM_INVALID_ARGUMENT, "bnorm_fold: args is NULL.");
    }
    ArgumentList list("bnorm_fold");
    const bool valid = fits(args->channels, 1, 1);
    const std::int64_t bytes = valid ? args->channels * kF32 : 0;
    list.require(valid, "channels is negative or overflows");
    list.require(api::is_epsilon(args->epsilon), "epsilon is negative or not finite");
    list.add_array("gamma", args->gamma, Role::input, false, bytes, true);
    list.add_array("beta", args->beta, Role::input, false, bytes, true);
    list.add_array("running_mean", args->running_mean, Role::input, false, bytes, true);
    list.add_array("running_var", args->running_var, Role::input, false, bytes, true);
    list.add_array("scale", args->scale, Role::output, true, bytes, true);
    list.add_array("shift", args->shift, Role::output, true, bytes, true);
    if (const bnorm_status status = list.check(); status != BNORM_OK) {
        return status;
    }
    ops::fold(*args);
    return BNORM_OK;
}

bnorm_status bnorm_fold_weights(const bnorm_fold_weights_args* args) {
    static constexpr const char* kName = "bnorm_fold_weights";
    if (args == nullptr) {
        return api::fail(BNORM_INVALID_ARGUMENT, "%s: args is NULL.", kName);
    }
    if (const bnorm_status status = check_weight_sizes(kName, *args); status != BNORM_OK) {
        return status;
    }
    const ops::WeightShape shape = ops::weight_shape(*args);
    const std::int64_t weight_bytes = shape.groups * shape.outer * shape.outputs_per_group * shape.inner * kF32;
    const std::int64_t channel_bytes = args->output_channels * kF32;
    ArgumentList list(kName);
    list.require(api::is_epsilon(args->epsilon), "epsilon is negative or not finite");
    list.add_array("weights", args->weights, Role::input, true, weight_bytes, true);
    list.add_array("bias", args->bias, Role::input, false, channel_bytes, true);
    list.add_array("gamma", args->gamma, Role::input, false, channel_bytes);
    list.add_array("beta", args->beta, Role::input, false, channel_bytes);
    list.add_array("running_mean", args->running_mean, Role::input, false, channel_bytes);
    list.add_array("running_var", args->running_var, Role::input, false, channel_bytes);
    list.add_array("folded_weights", args->folded_weights, Role::output, true, weight_bytes, true);
    list.add_array("folded_bias", args->folded_bias, Role::output, true, channel_bytes, true);
    if (const bnorm_status status = list.check(); status != BNORM_OK) {
        return status;
    }
    ops::fold_weights(*args);
    return BNORM_OK;
}
