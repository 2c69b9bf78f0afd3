#include "api/plan.hpp"

#include <algorithm>
#include <memory>

#include "api/argument_checks.hpp"
#include "api/error.hpp"
#include "runtime/cpu.hpp"
#include "runtime/isa.hpp"
#include "runtime/parallel.hpp"

namespace bnorm::api {
namespace {

plan::Workload workload_of(const bnorm_problem& problem) {
    const int residual = problem.residual != 0 ? 1 : 0;
    switch (problem.operation) {
    case BNORM_TRAINING_FORWARD: return {1, true, 3, 1, 2 + residual};
    case BNORM_INFERENCE:
    case BNORM_APPLY: return {0, true, 3, 1, 2 + residual, true};
    case BNORM_BACKWARD: return {2, true, 5, 2, 3 + residual}; // the first only where statistics were not saved
    case BNORM_BACKWARD_FIXED: return {1, true, 5, 2, 3 + residual, false, true};
    case BNORM_MOMENTS: return {1, false, 0, 1, 1};
    case BNORM_GRADIENT_SUMS: return {1, false, 5, 2, 2};
    default: return {0, true, 5, 2, 3 + residual, true};
    }
}

// Where that was measured.
plan::Schedule elementwise_schedule(const bnorm_problem& problem, const plan::Geometry& geometry,
                                    const plan::Schedule& schedule, const plan::Machine& machine) {
    plan::Workload workload = workload_of(problem);
    if (problem.operation != BNORM_BACKWARD_FIXED || !machine.fast_caches) {
        return schedule;
    }
    workload.reductions = 0;
    workload.in_order = true;
    return plan::make_schedule(geometry, workload, machine);
}

plan::Machine machine_of(int threads) {
    const runtime::CacheSizes& caches = runtime::cache_sizes();
    return {threads, caches.l2, caches.last_level, caches.for_stores, caches.past_l2, caches.fast_caches};
}

bnorm_problem without_pointers(const bnorm_problem& problem) {
    bnorm_problem result = problem;
    result.parallel_for = nullptr;
    return result;
}

bnorm_parallel_for host_of(const bnorm_problem& problem) {
    return problem.parallel_for != nullptr ? *problem.parallel_for : bnorm_parallel_for{};
}

int most_threads(const bnorm_problem& problem) {
    if (problem.parallel_for == nullptr) {
        return problem.threads > 0 ? problem.threads : runtime::available_threads();
    }
    const int lent = problem.parallel_for->threads;
    return problem.threads > 0 ? std::min(problem.threads, lent) : lent;
}

} // namespace
} // namespace bnorm::api

using namespace bnorm;

bnorm_plan::bnorm_plan(const bnorm_problem& checked, bnorm_isa chosen_isa, int most_threads)
    : problem(api::without_pointers(checked)), isa(chosen_isa), kernels(runtime::kernel_table(chosen_isa)),
      geometry(plan::make_geometry(checked)),
      schedule(plan::make_schedule(geometry, api::workload_of(checked), api::machine_of(most_threads))),
      elementwise(api::elementwise_schedule(checked, geometry, schedule, api::machine_of(most_threads))),
      threads{schedule.threads, api::host_of(checked)}, elementwise_threads{elementwise.threads, api::host_of(checked)},
      workspaces(static_cast<std::size_t>(std::max(schedule.scratch_bytes, elementwise.scratch_bytes))) {}

bnorm_status bnorm_plan_create(const bnorm_problem* problem, bnorm_plan** plan) {
    return api::guard("bnorm_plan_create", [&]() -> bnorm_status {
        if (plan == nullptr) {
            return api::fail(BNORM_INVALID_ARGUMENT, "bnorm_plan_create: plan is NULL.");
        }
        if (const bnorm_status status = api::check_problem(problem); status != BNORM_OK) {
            return status;
        }
        bnorm_isa isa = BNORM_ISA_AUTO;
        if (const bnorm_status status = bnorm_get_isa(&isa); status != BNORM_OK) {
            return status;
        }
        *plan = std::make_unique<bnorm_plan>(*problem, isa, api::most_threads(*problem)).release();
        return BNORM_OK;
    });
}

void bnorm_plan_destroy(bnorm_plan* plan) { delete plan; }

bnorm_status bnorm_plan_get_info(const bnorm_plan* plan, bnorm_plan_info* info) {
    if (plan == nullptr || info == nullptr) {
        return api::fail(BNORM_INVALID_ARGUMENT, "bnorm_plan_get_info: %s is NULL.", plan == nullptr ? "plan" : "info");
    }
    info->scratch_bytes = plan->workspaces.bytes();
    info->mask_bytes =
        plan->problem.activation == BNORM_IDENTITY ? 0 : static_cast<std::size_t>(plan->geometry.mask_bytes());
    info->threads = plan->schedule.threads;
    info->isa = plan->isa;
    return BNORM_OK;
}
