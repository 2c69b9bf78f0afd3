// Moments, apply, gradient sums and gradient apply, and the statistics that need no plan.
#include <cmath>

#include "api/plan_arguments.hpp"
#include "ops/backward.hpp"
#include "ops/forward.hpp"
#include "ops/moments.hpp"

using namespace bnorm;
using api::ArgumentList;
using api::PlanArguments;
using Role = api::ArgumentList::Role;

namespace {

constexpr auto kF64 = static_cast<std::int64_t>(sizeof(double));
constexpr auto kF32 = static_cast<std::int64_t>(sizeof(float));

bool is_count(double count) { return std::isfinite(count) && count >= 0.0; }

// The sizes of per-channel arrays must fit int64.
bool are_channels(std::int64_t channels) { return channels >= 0 && api::checked_product(channels, kF64) >= 0; }

} // namespace

bnorm_status bnorm_moments(const bnorm_plan* plan, const bnorm_moments_args* args) {
    return api::execute(
        "bnorm_moments", BNORM_MOMENTS, plan, args,
        [&](PlanArguments& arguments) -> bnorm_status {
            arguments.add_x("x", args->x, Role::input, true);
            arguments.add_count("count", args->count);
            arguments.add_channels("mean", args->mean, Role::output, true);
            arguments.add_channels("m2", args->m2, Role::output, true);
            return BNORM_OK;
        },
        [&](const ops::Execution& execution) { ops::moments(execution, *args); });
}

bnorm_status bnorm_moments_merge(const bnorm_moments_merge_args* args) {
    static constexpr const char* kName = "bnorm_moments_merge";
    if (args == nullptr) {
        return api::fail(BNORM_INVALID_ARGUMENT, "%s: args is NULL.", kName);
    }
    ArgumentList list(kName);
    list.require(are_channels(args->channels), "channels is negative or overflows");
    list.require(is_count(args->count_a) && is_count(args->count_b) && is_count(args->count_a + args->count_b),
                 "count_a or count_b is negative or not finite");
    const std::int64_t bytes = are_channels(args->channels) ? args->channels * kF64 : 0;
    list.add_array("mean_a", args->mean_a, Role::input, true, bytes, true);
    list.add_array("m2_a", args->m2_a, Role::input, true, bytes, true);
    list.add_array("mean_b", args->mean_b, Role::input, true, bytes, true);
    list.add_array("m2_b", args->m2_b, Role::input, true, bytes, true);
    list.add_array("count", args->count, Role::output, true, kF64);
    list.add_array("mean", args->mean, Role::output, true, bytes, true);
    list.add_array("m2", args->m2, Role::output, true, bytes, true);
    if (const bnorm_status status = list.check(); status != BNORM_OK) {
        return status;
    }
    ops::moments_merge(*args);
    return BNORM_OK;
}

bnorm_status bnorm_moments_finish(const bnorm_moments_finish_args* args) {
    static constexpr const char* kName = "bnorm_moments_finish";
    if (args == nullptr) {
        return api::fail(BNORM_INVALID_ARGUMENT, "%s: args is NULL.", kName);
    }
    ArgumentList list(kName);
    const bool updates = args->running_mean != nullptr || args->running_var != nullptr;
    list.require(are_channels(args->channels), "channels is negative or overflows");
    list.require(is_count(args->count) && args->count > 0.0, "count is not finite or not above 0");
    list.require(api::is_epsilon(args->epsilon), "epsilon is negative or not finite");
    list.require(updates || args->variance != nullptr || args->inv_std != nullptr || args->channels == 0,
                 "no output is given (variance, inv_std, running_mean, running_var)");
    const std::int64_t channels = are_channels(args->channels) ? args->channels : 0;
    list.add_array("mean", args->mean, Role::input, args->running_mean != nullptr, channels * kF64);
    list.add_array("m2", args->m2, Role::input, true, channels * kF64, true);
    list.add_array("variance", args->variance, Role::output, false, channels * kF64, true);
    list.add_array("inv_std", args->inv_std, Role::output, false, channels * kF64, true);
    list.add_array("running_mean", args->running_mean, Role::input_and_output, false, channels * kF32);
    list.add_array("running_var", args->running_var, Role::input_and_output, false, channels * kF32);
    if (const bnorm_status status = list.check(); status != BNORM_OK) {
        return status;
    }
    if (updates) {
        const bnorm_status status =
            api::check_running_update(kName, args->running_update, args->momentum, args->batches_seen);
        if (status != BNORM_OK) {
            return status;
        }
    }
    ops::moments_finish(*args);
    return BNORM_OK;
}

bnorm_status bnorm_apply(const bnorm_plan* plan, const bnorm_apply_args* args) {
    return api::execute(
        "bnorm_apply", BNORM_APPLY, plan, args,
        [&](PlanArguments& arguments) -> bnorm_status {
            arguments.add_forward_inputs(args->x, args->residual, args->gamma, args->beta);
            arguments.add_channels("mean", args->mean, Role::input, true);
            arguments.add_channels("inv_std", args->inv_std, Role::input, true);
            arguments.add_forward_outputs(args->y, args->mask, args->mask_bytes);
            return BNORM_OK;
        },
        [&](const ops::Execution& execution) { ops::apply(execution, *args); });
}

bnorm_status bnorm_gradient_sums(const bnorm_plan* plan, const bnorm_gradient_sums_args* args) {
    return api::execute(
        "bnorm_gradient_sums", BNORM_GRADIENT_SUMS, plan, args,
        [&](PlanArguments& arguments) -> bnorm_status {
            const bool needs_sign = plan->problem.activation != BNORM_IDENTITY && args->mask == nullptr;
            arguments.add_y("dy", args->dy, Role::input, true);
            arguments.add_x("x", args->x, Role::input, true);
            arguments.add_channels("gamma", args->gamma, Role::input);
            arguments.add_channels("beta", args->beta, Role::input);
            arguments.add_channels("mean", args->mean, Role::input, true);
            arguments.add_channels("inv_std", args->inv_std, Role::input, needs_sign);
            arguments.add_gradient_mask(args->mask, args->mask_bytes);
            arguments.add_channels("sum_dy", args->sum_dy, Role::output, true);
            arguments.add_channels("sum_dy_centered_x", args->sum_dy_centered_x, Role::output, true);
            return BNORM_OK;
        },
        [&](const ops::Execution& execution) { ops::gradient_sums(execution, *args); });
}

bnorm_status bnorm_gradient_apply(const bnorm_plan* plan, const bnorm_gradient_apply_args* args) {
    return api::execute(
        "bnorm_gradient_apply", BNORM_GRADIENT_APPLY, plan, args,
        [&](PlanArguments& arguments) -> bnorm_status {
            arguments.require(is_count(args->count) && args->count > 0.0, "count is not finite or not above 0");
            arguments.add_y("dy", args->dy, Role::input, true);
            arguments.add_x("x", args->x, Role::input, true);
            arguments.add_channels("gamma", args->gamma, Role::input);
            arguments.add_channels("beta", args->beta, Role::input);
            arguments.add_channels("mean", args->mean, Role::input, true);
            arguments.add_channels("inv_std", args->inv_std, Role::input, true);
            arguments.add_channels("sum_dy", args->sum_dy, Role::input, true);
            arguments.add_channels("sum_dy_centered_x", args->sum_dy_centered_x, Role::input, true);
            arguments.add_gradient_mask(args->mask, args->mask_bytes);
            arguments.add_gradient_outputs(args->dx, args->dresidual, args->dgamma, args->dbeta);
            return BNORM_OK;
        },
        [&](const ops::Execution& execution) { ops::gradient_apply(execution, *args); });
}
