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
    // Whether what is reduced is in memory, where the schedule expects it in a cache: run() finds out.
    bool cold = false;
    // Whether a thread begins with the last of its items, since their end is nearer to it: run() finds out.
    bool from_end = false;

    bool from_memory() const { return cold || schedule.from_memory; }
    kernels::ReadRows read_rows() const {
        if (!from_memory()) {
            return schedule.reads_whole_rows ? kernels::ReadRows::whole : kernels::ReadRows::by_panels;
        }
        return schedule.into_l1 ? kernels::ReadRows::whole_into_l1 : kernels::ReadRows::whole_into_l2;
    }
    kernels::RowsInOrder sums_in_order() const {
        const bool past_cache = cold || schedule.past_cache;
        if (!schedule.sums_in_order && !(past_cache && schedule.sums_in_order_past_cache)) {
            return kernels::RowsInOrder::no;
        }
        if (past_cache && !schedule.in_order_into_l1) {
            return kernels::RowsInOrder::from_memory;
        }
        return schedule.fits_l2 && !cold ? kernels::RowsInOrder::from_l2 : kernels::RowsInOrder::from_caches;
    }
    // As schedule.output_ahead, of a block of so many columns: where the output goes on without gaps.
    std::int64_t output_ahead(Pattern pattern, std::int64_t columns, std::int64_t stride) const {
        const bool goes_on = pattern != Pattern::periodic || columns == stride;
        return goes_on ? schedule.output_ahead : 0;
    }
    bool sums_by_images() const { return schedule.sums_by_images && from_memory(); }
    // The next slab of a single image goes on where one ends: the reduction asks for it early enough itself.
    bool prefetch() const { return (cold && geometry.rows > 1) || schedule.prefetch; }
    // What comes from memory unexpectedly is faster in slabs.
    std::int64_t channels_in_l1() const { return cold ? 0 : schedule.channels_in_l1; }

    // Outputs begin where sums have ended: caches still have that.
    bool applies_from_end(int reductions) const { return (reductions > 0) != from_end; }

    void run(const Operation& operation) noexcept;
};

} // namespace bnorm::ops

#endif
