// What of a tensor is read again, how much that is beside the caches, and what CPU they are of: questions that several
// decisions ask. Integers only.
#ifndef BNORM_PLAN_FOOTPRINT_HPP
#define BNORM_PLAN_FOOTPRINT_HPP

#include <cstdint>

#include "plan/schedule.hpp"

namespace bnorm::plan {

constexpr std::int64_t kElementBytes = 4;
constexpr std::int64_t kKibi = 1024;
constexpr std::int64_t kMaxSlabChannels = 256;

// What all passes read and write.
inline std::int64_t bytes_moved(const Geometry& geometry, const Workload& workload) {
    return geometry.elements() * kElementBytes * workload.streams;
}

// What both passes read.
inline std::int64_t bytes_read_again(const Geometry& geometry, const Workload& workload) {
    return geometry.elements() * kElementBytes * workload.cached_tensors;
}

// What both passes read of a channel.
inline std::int64_t channel_bytes(const Geometry& geometry, const Workload& workload) {
    return geometry.elements_per_channel * kElementBytes * workload.cached_tensors;
}

// Whether what is reduced is read from beyond L2, not by a little.
inline bool reads_beyond_l2(const Geometry& geometry, const Workload& workload, const Machine& machine, int threads) {
    return bytes_read_again(geometry, workload) > machine.l2_bytes * threads * 5 / 4;
}

// Columns count as short; nothing that is asked here matters to them.
inline bool has_short_planes(const Geometry& geometry) { return geometry.columns_per_channel < kMinLongPlane; }

inline bool is_forward_with_residual(const Workload& workload) {
    return workload.reductions > 0 && workload.cached_tensors == 1 && workload.streams > 2;
}

// Intel's servers, and AMD's CPUs from Zen 5 on: where plans were measured that were not elsewhere.
inline bool is_measured(const Machine& machine) { return machine.past_l2 || machine.fast_caches; }

// Rows of x and of y begin at cache lines, if the tensors do.
inline bool rows_are_whole_lines(const Geometry& geometry) {
    return geometry.x_stride % kLanes == 0 && geometry.y_stride % kLanes == 0;
}

// Two rows within so many elements of a multiple of half a page apart: one's stores also hold up the other's loads,
// whose addresses seem to agree with them in the lower 12 bits.
inline bool rows_share_sets(const Geometry& geometry, std::int64_t near) {
    constexpr std::int64_t kHalfPage = 512;
    const auto is_near = [&](std::int64_t stride) { return (stride + near) % kHalfPage < 2 * near; };
    return is_near(geometry.x_stride) || is_near(geometry.y_stride);
}

} // namespace bnorm::plan

#endif
