// How threads share the blocks of a reduction whose channels they do not take whole. Integers only.
#ifndef BNORM_PLAN_PARTS_HPP
#define BNORM_PLAN_PARTS_HPP

#include <cstdint>

#include "plan/geometry.hpp"

namespace bnorm::plan {

// One thread reads whole rows, if it can; several share them, so that they read the same pages of memory. Ranges of
// channels are no wider on one thread either: their scratch memory would not fit.
constexpr std::int64_t kMaxPanelColumns = 1024; // kernels::kMaxMomentColumns
constexpr std::int64_t kMaxSharedColumns = 512;

// In parts of so many blocks, each for so many columns (planes: for one channel).
struct Parts {
    std::int64_t panel_columns;
    std::int64_t blocks; // a power of two
};

// The largest that spread evenly and give each thread several, or else those that spread best.
Parts choose_parts(const Geometry& geometry, int threads);

} // namespace bnorm::plan

#endif
