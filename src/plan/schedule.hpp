// How an operation's work is shared among threads and caches: speed and memory depend on it, results do not.
//
//   by_channels  an item is a range of channels, which one thread reduces, finishes and applies while it is in cache;
//   by_parts     an item is a part of a channel's (a panel of columns') blocks: reduce all, merge and finish, apply
//                all, in the reverse order, so that what the caches still hold is not read again.
#ifndef BNORM_PLAN_SCHEDULE_HPP
#define BNORM_PLAN_SCHEDULE_HPP

#include <array>
#include <cstdint>
#include <limits>

#include "plan/geometry.hpp"

namespace bnorm::plan {

// What the schedule must know of an operation.
struct Workload {
    int reductions = 0;         // passes that sum: 0, 1 or 2
    bool applies = false;       // whether there is an elementwise pass
    int coefficients = 0;       // f32 parameters a channel
    int cached_tensors = 1;     // tensors that both passes read
    int streams = 2;            // tensors read or written, in all passes together
    bool in_order = false;      // whether there is one pass only, which takes planes of several channels at once
    bool keeps_inv_std = false; // whether what begin computes is needed again when the reduction is finished
};

struct Machine {
    int threads;
    std::int64_t l2_bytes;
    std::int64_t last_level_bytes;
    std::int64_t store_bytes; // of it: up to which outputs that are soon written again stay there
    bool past_l2 = false;     // whether outputs that are not soon written again are best stored past all caches
    bool fast_caches = false; // whether caches are as fast as AMD's are from Zen 5 on, where such plans were measured
};

enum class Strategy { by_channels, by_parts };

constexpr int kMaxReductions = 2;
constexpr int kCoefficients = 5;
constexpr std::int64_t kMaxParameters = 4096; // kernels::kMaxParameters
constexpr std::int64_t kAnyParameters = std::numeric_limits<std::int64_t>::max();

constexpr std::int64_t kMostChannelsAtOnce = 64; // ops::kChannelsAtOnce
constexpr std::int64_t kMostBlocksBeside = 1024;
constexpr std::int64_t kMostPlanesBeside = 4; // kernels::kMostPlanesBeside

// Byte offsets of what one range of channels needs; see ops/range_scratch.hpp.
struct RangeScratch {
    std::array<std::array<std::int64_t, 2>, kMaxReductions> sums{};
    std::array<std::int64_t, kCoefficients> coefficients{};
    std::array<std::int64_t, kCoefficients> column_coefficients{};
    std::array<std::int64_t, 2> column_sums{};
    std::array<std::int64_t, 2> tail_sums{};
    std::int64_t inv_std = 0;
    std::int64_t bytes = 0;
};

struct Schedule {
    Strategy strategy = Strategy::by_channels;
    int threads = 1;
    bool stream = false;                   // whether outputs bypass the cache
    bool from_memory = false;              // whether what is reduced comes from memory, not from the last-level cache
    bool past_cache = false;               // whether it is larger than the last-level cache
    bool reads_whole_rows = false;         // whether columns of x that are in caches are summed along whole rows
    bool fits_l2 = false;                  // whether what is reduced is no larger than L2 of all threads
    bool sums_in_order = false;            // whether columns of gradients are summed in the order of memory
    bool sums_in_order_past_cache = false; // ... or if they are larger than the last-level cache, or in memory
    bool in_order_into_l1 = false;         // then: whether they are fetched into L1 from there, too
    bool fetches_cold_rows = false;        // whether forward fetches rows of y into L2, if x was in memory
    bool sums_by_images = false;           // whether gradients of planes in memory are summed image by image
    bool into_l1 = false;                  // whether columns of x, and planes, are fetched into L1, not L2
    bool probes = false;           // whether an execution finds out if what is reduced comes from memory all the same
    bool finds_nearer_end = false; // whether an execution finds out at which end its inputs are nearer
    bool prefetch = false;         // whether the next slab is fetched while one is applied
    bool fetches_residual = false; // planes: whether an elementwise pass fetches its residual, if it fetches no slab
    bool ask_again = false;        // whether an elementwise pass asks several times for what it fetches from memory
    bool inputs_into_l1 = false;  // whether one that reads two tensors and stores past the caches fetches them into L1:
                                  // of columns, and of planes that nothing was summed of
    bool asks_often = false;      // columns: whether sums of gradients ask very often for what they fetch from memory
    bool joins_passes = false;    // whether what sums read is best applied at once, if it need not wait for them
    bool planes_together = false; // planes: whether those of an image are applied as one run, if the operation can

    std::int64_t output_ahead = 0; // so many elements ahead is fetched what caches keep of an output; 0: nothing is
    std::int64_t most_parameters = kAnyParameters; // columns: of rows that have more, panels are applied

    std::int64_t channels_per_item = 0; // by_channels
    std::int64_t channels_in_l1 = 0;    // of them, so many at a time that stay in L1 from step to step; 0: all of them
    std::int64_t channels_beside = 0; // by_channels: of an item, if some are summed beside the outputs of those before
    std::int64_t unit_beside = 0;     // so many; 0: not so
    bool last_image_first = false;    // then: whether outputs are written from the last image to the first
    std::int64_t blocks_per_part = 1; // by_parts: a power of two
    std::int64_t parts = 1;           // by_parts
    std::int64_t panel_columns = 0;   // by_parts, columns: of one reduction item; planes: one channel
    std::int64_t apply_rows = 1;      // rows and columns (planes: columns of one) that one elementwise call takes
    std::int64_t apply_columns = 0;
    std::int64_t apply_channels = 0; // planes in the order of memory: of an image, in one call; 0: not so
    std::int64_t ahead_in_order = 0; // then: so many elements ahead is fetched what is read; 0: nothing is

    RangeScratch range;               // by_channels: in each slot; by_parts: once
    std::int64_t partials_offset = 0; // by_parts: [part][2][partial_columns]; planes [channel][part][2]
    std::int64_t partial_columns = 0;
    std::int64_t level_columns = 0; // padded columns of one level of the merge tree
    std::int64_t levels_offset = 0; // within a slot
    std::int64_t slots_offset = 0;
    std::int64_t slot_bytes = 0;
    std::int64_t scratch_bytes = 0;
};

Schedule make_schedule(const Geometry& geometry, const Workload& workload, const Machine& machine);

// Arrays with one value a channel or column reach to the next multiple of kLanes; those whose interleaved segments are
// merged as arrays of their own (the last one starts anywhere) reach a further kLanes.
constexpr std::int64_t padded(std::int64_t count) { return (count + kLanes - 1) / kLanes * kLanes; }

inline std::int64_t padded_columns(const Geometry& geometry, std::int64_t columns) {
    return padded(columns) + (geometry.interleaved ? kLanes : 0);
}

} // namespace bnorm::plan

#endif
