// What an operation keeps in scratch memory for a range of channels, and how much of it there should be. Integers only.
#ifndef BNORM_PLAN_SCRATCH_HPP
#define BNORM_PLAN_SCRATCH_HPP

#include "plan/footprint.hpp"
#include "plan/schedule.hpp"

namespace bnorm::plan {

constexpr std::int64_t kCacheLine = 64;
constexpr std::int64_t kScratchPerThread = 64 * kKibi;

// What scratch memory should stay below.
std::int64_t scratch_limit(const Geometry& geometry, int threads);

// As much, of columns, and what whole rows may need beyond it.
std::int64_t scratch_limit_of_columns(const Geometry& geometry, const Workload& workload, const Machine& machine,
                                      int threads);

// Offsets from the beginning of the range, each at a cache line.
RangeScratch make_range(const Geometry& geometry, const Workload& workload, Strategy strategy, std::int64_t channels);

} // namespace bnorm::plan

#endif
