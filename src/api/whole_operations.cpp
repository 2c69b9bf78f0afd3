// Training forward, inference, backward, backward with fixed statistics.
#include "api/plan_arguments.hpp"
#include "ops/backward.hpp"
#include "ops/forward.hpp"

using namespace bnorm;
using api::PlanArguments;
using Role = api::PlanArguments::Role;

namespace {

bool is_empty_channel(const bnorm_problem& problem) {
    return problem.channels > 0 && (problem.batch == 0 || problem.spatial == 0);
}

bool needs_sign(const bnorm_problem& problem, const void* mask) {
    return problem.activation != BNORM_IDENTITY && mask == nullptr;
}

} // namespace

bnorm_status bnorm_training_forward(const bnorm_plan* plan, const bnorm_training_forward_args* args) {
    static constexpr const char* kName = "bnorm_training_forward";
    return api::execute(
        kName, BNORM_TRAINING_FORWARD, plan, args,
        [&](PlanArguments& arguments) -> bnorm_status {
            arguments.require(!is_empty_channel(plan->problem),
                              "the statistics of an empty channel (batch or spatial is 0) "
                              "are undefined");
            arguments.add_forward_inputs(args->x, args->residual, args->gamma, args->beta);
            arguments.add_channels("running_mean", args->running_mean, Role::input_and_output);
            arguments.add_channels("running_var", args->running_var, Role::input_and_output);
            arguments.add_forward_outputs(args->y, args->mask, args->mask_bytes);
            arguments.add_channels("mean", args->mean, Role::output);
            arguments.add_channels("inv_std", args->inv_std, Role::output);
            const bool updates = args->running_mean != nullptr || args->running_var != nullptr;
            return updates ? api::check_running_update(kName, args->running_update, args->momentum, args->batches_seen)
                           : BNORM_OK;
        },
        [&](const ops::Execution& execution) { ops::training_forward(execution, *args); });
}

bnorm_status bnorm_inference(const bnorm_plan* plan, const bnorm_inference_args* args) {
    return api::execute(
        "bnorm_inference", BNORM_INFERENCE, plan, args,
        [&](PlanArguments& arguments) -> bnorm_status {
            arguments.add_forward_inputs(args->x, args->residual, args->gamma, args->beta);
            arguments.add_channels("running_mean", args->running_mean, Role::input);
            arguments.add_channels("running_var", args->running_var, Role::input);
            arguments.add_forward_outputs(args->y, args->mask, args->mask_bytes);
            return BNORM_OK;
        },
        [&](const ops::Execution& execution) { ops::inference(execution, *args); });
}

bnorm_status bnorm_backward(const bnorm_plan* plan, const bnorm_backward_args* args) {
    return api::execute(
        "bnorm_backward", BNORM_BACKWARD, plan, args,
        [&](PlanArguments& arguments) -> bnorm_status {
            const bool needs_x =
                args->dx != nullptr || args->dgamma != nullptr || needs_sign(plan->problem, args->mask);
            arguments.add_y("dy", args->dy, Role::input, true);
            arguments.add_x("x", args->x, Role::input, needs_x);
            arguments.add_channels("gamma", args->gamma, Role::input);
            arguments.add_channels("beta", args->beta, Role::input);
            arguments.add_channels("mean", args->mean, Role::input);
            arguments.add_channels("inv_std", args->inv_std, Role::input);
            arguments.add_gradient_mask(args->mask, args->mask_bytes);
            arguments.add_gradient_outputs(args->dx, args->dresidual, args->dgamma, args->dbeta);
            return BNORM_OK;
        },
        [&](const ops::Execution& execution) { ops::backward(execution, *args); });
}

bnorm_status bnorm_backward_fixed(const bnorm_plan* plan, const bnorm_backward_fixed_args* args) {
    return api::execute(
        "bnorm_backward_fixed", BNORM_BACKWARD_FIXED, plan, args,
        [&](PlanArguments& arguments) -> bnorm_status {
            arguments.add_y("dy", args->dy, Role::input, true);
            arguments.add_x("x", args->x, Role::input,
                            args->dgamma != nullptr || needs_sign(plan->problem, args->mask));
            arguments.add_channels("gamma", args->gamma, Role::input);
            arguments.add_channels("beta", args->beta, Role::input);
            arguments.add_channels("running_mean", args->running_mean, Role::input);
            arguments.add_channels("running_var", args->running_var, Role::input);
            arguments.add_gradient_mask(args->mask, args->mask_bytes);
            arguments.add_gradient_outputs(args->dx, args->dresidual, args->dgamma, args->dbeta);
            return BNORM_OK;
        },
        [&](const ops::Execution& execution) {
            if (args->dgamma != nullptr || args->dbeta != nullptr) {
                ops::backward_fixed(execution, *args);
                return;
            }
            ops::Passes passes = {plan->geometry, plan->elementwise, plan->kernels, plan->elementwise_threads,
                                  execution.passes.scratch};
            ops::backward_fixed({plan->problem, passes}, *args);
        });
}
