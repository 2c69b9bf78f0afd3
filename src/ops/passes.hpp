// Runs an operation: the one place that joins geometry, schedule, threads and kernels.
#ifndef BNORM_OPS_PASSES_HPP
#define BNORM_OPS_PASSES_HPP

#include <cstddef>

#include "kernels/kernel_table.hpp"
#include "ops/operation.hpp"
#include "runtime/parallel.hpp"

namespace bnorm::ops {

struct Passes {
    const plan::Geometry& geometry;
    const plan::Schedule& schedule;
    const kernels::KernelTable& kernels;
    const runtime::Threads& threads; // schedule.threads of them
    std::byte* scratch;              // schedule.scratch_bytes, aligned to a cache line

    void run(const Operation& operation) const noexcept;
};

} // namespace bnorm::ops

#endif
