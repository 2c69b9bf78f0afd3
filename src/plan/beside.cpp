#include "plan/beside.hpp"

#include <algorithm>

#include "plan/footprint.hpp"
#include "plan/items.hpp"

namespace bnorm::plan {
namespace {

// Whether L2 holds what is summed and as much beside which it is, and what passes through.
bool l2_holds_both(std::int64_t bytes, const Machine& machine) { return bytes <= machine.l2_bytes * 2 / 5; }

// Gradients of a channel of several images can be summed while dx of the one before is stored past all caches. That
// gains if L2 holds both channels beside what passes through, or, of two outputs, if one alone fills it, as it would
// any slab: of a single output from memory only where outputs are stored past L2. There it gains, too, if L2 holds
// none, as long as no cache holds them all, of a single output by far.
bool gradients_gain_beside(const Geometry& geometry, const Workload& workload, const Machine& machine,
                           const Schedule& schedule) {
    constexpr std::int64_t kMostBlocks = 64; // of more, with a residual in the last-level cache, 0.80
    const std::int64_t unit = geometry.unit_channels;
    const std::int64_t bytes = channel_bytes(geometry, workload) * unit;
    const bool two_outputs = workload.streams > 3;
    const bool both_fit = l2_holds_both(bytes, machine);
    const bool one_fills = two_outputs && unit == 1 && bytes > machine.l2_bytes * 3 / 4 && bytes <= machine.l2_bytes;
    const bool in_l2 = (both_fit || one_fills) && geometry.grid.count() * unit <= kMostBlocks &&
                       (!schedule.from_memory || two_outputs || machine.past_l2);
    const std::int64_t cached_bytes = bytes_read_again(geometry, workload);
    const bool past_caches =
        machine.past_l2 && unit == 1 && cached_bytes > machine.last_level_bytes * (two_outputs ? 2 : 3) / 2;
    const bool can = unit <= kMostPlanesBeside && (unit == 1 || geometry.grid.column_blocks() == 1) &&
                     !has_short_planes(geometry) && geometry.rows > 1;
    return is_measured(machine) && can && (in_l2 || past_caches);
}

// So can moments of channels, of one image, too, beside outputs of others, where outputs are stored past L2; short
// planes gain only beside a residual. Channels that L2 does not hold gain if they come from memory: without a residual,
// and more so of several threads, from more of it.
bool moments_gain_beside(const Geometry& geometry, const Workload& workload, const Machine& machine,
                         const Schedule& schedule) {
    const bool residual = workload.streams > 2;
    const bool both_fit = l2_holds_both(channel_bytes(geometry, workload) * geometry.unit_channels, machine);
    const std::int64_t cached_bytes = bytes_read_again(geometry, workload);
    const bool past_caches =
        residual ? schedule.from_memory : cached_bytes > machine.last_level_bytes / (schedule.threads > 1 ? 1 : 2);
    return machine.past_l2 && (!has_short_planes(geometry) || residual) &&
           (both_fit || (past_caches && geometry.rows > 1));
}

// How many channels whose outputs are whole cache lines are summed beside as many: of moments several small ones, so
// that little is done between them. 0: not so.
std::int64_t unit_beside(const Geometry& geometry, const Workload& workload, const Machine& machine,
                         const Schedule& schedule) {
    constexpr std::int64_t kBytesAtOnce = 128 * kKibi; // 64 and 256 as good
    const bool moments = workload.cached_tensors == 1;
    std::int64_t unit = geometry.unit_channels;
    const std::int64_t most = std::min(kMostBlocksBeside / geometry.grid.count(), kMostChannelsAtOnce);
    const bool whole_lines = geometry.columns_per_channel * unit % kLanes == 0 && geometry.channels % unit == 0;
    if (!schedule.stream || workload.reductions == 0 || !whole_lines || unit > most ||
        !(moments ? moments_gain_beside(geometry, workload, machine, schedule)
                  : gradients_gain_beside(geometry, workload, machine, schedule))) {
        return 0;
    }
    while (moments && geometry.channels % (2 * unit) == 0 && 2 * unit <= most &&
           2 * unit * channel_bytes(geometry, workload) <= kBytesAtOnce) {
        unit *= 2;
    }
    return unit;
}

// An item's first channels have none before them: items are large, but several a thread.
std::int64_t item_beside(const Geometry& geometry, std::int64_t unit, int threads) {
    const std::int64_t items = threads > 1 ? threads * kItemsPerThread : 1;
    const std::int64_t most = std::min(round_up(divide_up(geometry.channels, items), unit), kMaxSlabChannels);
    return even_step(geometry.channels, most, unit, 1, threads);
}

// Outputs beside sums are best written from the image that was summed last if L2 does not hold two channels: it still
// has that one. Of planes of 16 KiB at least: as long as images take the same order, a channel's plane follows the
// other one's in memory, and of shorter ones they share pages.
bool writes_last_image_first(const Geometry& geometry, const Workload& workload, const Machine& machine) {
    constexpr std::int64_t kLongPlane = 4096;
    return geometry.columns_per_channel >= kLongPlane && !l2_holds_both(channel_bytes(geometry, workload), machine);
}

} // namespace

// Planes of one image follow each other, and a few of them are a run of memory, short enough that L1 still has it when
// it is applied, beside what that writes. Forward takes no longer from L2, but reads less in all: it gains only past
// L2, and nothing where it stores past all caches. A few planes of several images would be as many short runs.
std::int64_t channels_in_l1(const Geometry& geometry, const Workload& workload, const Machine& machine,
                            const Schedule& schedule) {
    constexpr std::int64_t kGroupBytes = 26 * kKibi; // of 48
    constexpr std::int64_t kLargestChannel = 32 * kKibi;
    const std::int64_t bytes = channel_bytes(geometry, workload);
    const bool gains = workload.cached_tensors > 1 ||
                       (!schedule.stream && bytes_moved(geometry, workload) > machine.l2_bytes * schedule.threads);
    if (!is_measured(machine) || geometry.rows > 1 || geometry.grid.count() > 1 || workload.reductions == 0 ||
        !workload.applies || !gains || bytes * geometry.unit_channels > kLargestChannel) {
        return 0;
    }
    const std::int64_t most = std::max<std::int64_t>(1, kGroupBytes / bytes / geometry.unit_channels);
    return std::min(most * geometry.unit_channels, kMostChannelsAtOnce);
}

// Of two units at least, smaller ones if only those spread evenly.
void set_beside(const Geometry& geometry, const Workload& workload, const Machine& machine, Schedule& schedule) {
    std::int64_t unit = unit_beside(geometry, workload, machine, schedule);
    for (; unit >= geometry.unit_channels; unit /= 2) {
        const std::int64_t channels = item_beside(geometry, unit, schedule.threads);
        if (channels >= 2 * unit && Items::cut(geometry.channels, channels, 1).even(schedule.threads)) {
            schedule.unit_beside = unit;
            schedule.channels_beside = channels;
            schedule.last_image_first = writes_last_image_first(geometry, workload, machine);
            return;
        }
    }
}

} // namespace bnorm::plan
