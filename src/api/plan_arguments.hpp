// The arguments of a call that executes a plan.
#ifndef BNORM_API_PLAN_ARGUMENTS_HPP
#define BNORM_API_PLAN_ARGUMENTS_HPP

#include "api/argument_checks.hpp"
#include "api/error.hpp"
#include "api/plan.hpp"
#include "ops/tensors.hpp"

namespace bnorm::api {

// Adds arguments by what they are rather than by their size.
class PlanArguments {
  public:
    using Role = ArgumentList::Role;

    PlanArguments(const char* function, const bnorm_plan& plan);

    // Data tensors: each may be in place of, or replaced by, another.
    void add_x(const char* name, const void* data, Role role, bool required);        // x, dx
    void add_y(const char* name, const void* data, Role role, bool required);        // y, dy
    void add_residual(const char* name, const void* data, Role role, bool required); // residual, dresidual
    template <class T>
    void add_channels(const char* name, const T* data, Role role, bool required = false) {
        list_.add_array(name, data, role, required, channels_ * static_cast<std::int64_t>(sizeof(T)));
    }
    void add_count(const char* name, const double* count) {
        list_.add_array(name, count, Role::output, true, static_cast<std::int64_t>(sizeof(double)));
    }
    // What forward operations read, and the mask they write.
    void add_forward_inputs(const void* x, const void* residual, const float* gamma, const float* beta);
    void add_forward_outputs(const void* y, const void* mask, std::size_t mask_bytes);
    // The mask that gradients read.
    void add_gradient_mask(const void* mask, std::size_t mask_bytes);
    void add_gradient_outputs(const void* dx, const void* dresidual, const float* dgamma, const float* dbeta);

    void require(bool condition, const char* message) { list_.require(condition, message); }
    bnorm_status check() const { return list_.check(); }

  private:
    void add_mask(const void* mask, std::size_t mask_bytes, Role role);
    void add_tensor(const char* name, const void* data, Role role, bool required, std::int64_t stride);

    ArgumentList list_;
    const bnorm_plan& plan_;
    std::int64_t channels_;
    std::int64_t rows_;
    std::int64_t row_elements_;
};

// What every executing function does: check plan and args, check the arguments, run with scratch memory of the plan.
// `check(arguments)` adds and requires; `run(execution)` computes.
template <class Args, class Check, class Run>
bnorm_status execute(const char* function, bnorm_operation operation, const bnorm_plan* plan, const Args* args,
                     const Check& check, const Run& run) noexcept {
    return guard(function, [&]() -> bnorm_status {
        if (plan == nullptr || args == nullptr) {
            return fail(BNORM_INVALID_ARGUMENT, "%s: %s is NULL.", function, plan == nullptr ? "plan" : "args");
        }
        if (plan->problem.operation != operation) {
            return fail(BNORM_INVALID_ARGUMENT, "%s: plan was created for another operation (%d; this one is %d).",
                        function, static_cast<int>(plan->problem.operation), static_cast<int>(operation));
        }
        PlanArguments arguments(function, *plan);
        if (const bnorm_status status = check(arguments); status != BNORM_OK) {
            return status;
        }
        if (const bnorm_status status = arguments.check(); status != BNORM_OK) {
            return status;
        }
        // A plan may be executed by many threads at once: the pool of workspaces is the only thing that changes in it.
        const runtime::Workspace workspace(const_cast<bnorm_plan*>(plan)->workspaces);
        ops::Passes passes = {plan->geometry, plan->schedule, plan->kernels, plan->threads, workspace.data()};
        run(ops::Execution{plan->problem, passes});
        return BNORM_OK;
    });
}

} // namespace bnorm::api

#endif
