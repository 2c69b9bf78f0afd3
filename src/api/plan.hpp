// What a plan holds.
#ifndef BNORM_API_PLAN_HPP
#define BNORM_API_PLAN_HPP

#include "bnorm/bnorm.h"
#include "kernels/kernel_table.hpp"
#include "plan/geometry.hpp"
#include "plan/schedule.hpp"
#include "runtime/parallel.hpp"
#include "runtime/workspace.hpp"

struct bnorm_plan {
    bnorm_plan(const bnorm_problem& checked, bnorm_isa chosen_isa, int most_threads);

    const bnorm_problem problem;
    const bnorm_isa isa;
    const bnorm::kernels::KernelTable& kernels;
    const bnorm::plan::Geometry geometry;
    const bnorm::plan::Schedule schedule;
    // Frozen backward of which no sums are wanted: nothing is reduced.
    const bnorm::plan::Schedule elementwise;
    const bnorm::runtime::Threads threads;             // schedule.threads of them
    const bnorm::runtime::Threads elementwise_threads; // elementwise.threads of them
    bnorm::runtime::WorkspacePool workspaces;
};

#endif
