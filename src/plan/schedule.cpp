#include "plan/schedule.hpp"

#include <algorithm>
#include <bit>

#include "plan/beside.hpp"
#include "plan/footprint.hpp"
#include "plan/integers.hpp"
#include "plan/items.hpp"
#include "plan/parts.hpp"
#include "plan/scratch.hpp"
#include "plan/traffic.hpp"

namespace bnorm::plan {
namespace {

// A second thread is worth waking for this much memory traffic: waking takes tens of microseconds.
constexpr std::int64_t kBytesPerThread = 128 * kKibi;
constexpr std::int64_t kApplyBytes = 512 * kKibi;
constexpr std::int64_t kMinApplyBytes = 32 * kKibi;
constexpr std::int64_t kApplyPanelColumns = 1024; // a page of each row
// A thread's panel, where channels are taken whole: 256 bytes of each row, so that a page holds more than one line of
// it.
constexpr std::int64_t kMinPanelChannels = 64;
// Several threads take ranges of channels all the same where those need no more than so many elements of each row a
// thread: what ends within a page costs a row about as much as four elements (hardware fetches beyond it what another
// core writes), what is done once a channel much more if all threads wait for it and fetch it from one core.
constexpr std::int64_t kElementsForRow = 4;
constexpr std::int64_t kRangesPerThread = 2;

std::int64_t tree_depth(std::int64_t blocks) {
    return blocks <= 1 ? 0 : static_cast<std::int64_t>(std::bit_width(static_cast<std::uint64_t>(blocks - 1)));
}

// ---- sizes of items -------------------------------------------------------------------------------------------------

// Columns that are applied together.
std::int64_t apply_panel(const Geometry& geometry, const Workload& workload, std::int64_t columns,
                         const Schedule& schedule) {
    if (geometry.kind == MatrixKind::planes || columns * workload.coefficients <= schedule.most_parameters) {
        return columns;
    }
    return round_up(divide_up(columns, divide_up(columns, kApplyPanelColumns)), kLanes);
}

// `threads`: how many share the items; each gets several.
void set_apply_size(const Geometry& geometry, const Workload& workload, std::int64_t columns, int threads,
                    Schedule& schedule) {
    std::int64_t elements = kApplyBytes / kElementBytes;
    if (threads > 1) {
        const std::int64_t share = geometry.elements() / (threads * kItemsPerThread);
        elements = std::clamp(round_up(share, kLanes), kMinApplyBytes / kElementBytes, elements);
    }
    schedule.apply_columns = apply_panel(geometry, workload, columns, schedule);
    if (geometry.kind == MatrixKind::planes && columns > elements) {
        schedule.apply_columns = even_step(columns, elements, kLanes, geometry.rows * geometry.channels, threads);
        schedule.apply_rows = 1;
        return;
    }
    schedule.apply_rows = even_step(geometry.rows, std::max<std::int64_t>(1, elements / columns), 1,
                                    geometry.row_length / columns, threads);
}

void schedule_by_channels(const Geometry& geometry, const Workload& workload, std::int64_t channels,
                          Schedule& schedule) {
    schedule.strategy = Strategy::by_channels;
    schedule.channels_per_item = channels;
    schedule.range =
        make_range(geometry, workload, Strategy::by_channels, std::max(channels, schedule.channels_beside));
    schedule.slot_bytes = schedule.range.bytes;
    schedule.levels_offset = schedule.slot_bytes;
    const bool columns = geometry.kind == MatrixKind::columns;
    if (workload.reductions > 0 && (columns || geometry.sums_together || schedule.sums_by_images)) {
        schedule.level_columns = padded(columns ? channels * geometry.columns_per_channel : channels);
        const std::int64_t levels = tree_depth(geometry.grid.count());
        schedule.slot_bytes += levels * 2 * schedule.level_columns * static_cast<std::int64_t>(sizeof(double));
    }
    schedule.slots_offset = 0;
    const std::int64_t items = divide_up(geometry.channels, channels);
    schedule.threads = static_cast<int>(std::min<std::int64_t>(schedule.threads, items));
    schedule.scratch_bytes = schedule.slot_bytes * schedule.threads;
    set_apply_size(geometry, workload, channels * geometry.columns_per_channel, 1, schedule);
}

// ---- by parts -------------------------------------------------------------------------------------------------------

void set_parts(const Geometry& geometry, Schedule& schedule) {
    const Parts parts = choose_parts(geometry, schedule.threads);
    schedule.panel_columns = parts.panel_columns;
    schedule.blocks_per_part = parts.blocks;
    schedule.parts = divide_up(geometry.grid.count(), parts.blocks);
    schedule.partial_columns = geometry.kind == MatrixKind::columns ? padded_columns(geometry, geometry.row_length) : 0;
}

// How many planes of an image an elementwise item takes, in the order of memory: whole units; 0: a unit is too large.
std::int64_t planes_in_order(const Geometry& geometry, int threads) {
    const std::int64_t items = threads > 1 ? threads * kItemsPerThread : 1;
    const std::int64_t elements = std::min(kApplyBytes / kElementBytes, geometry.elements() / items);
    const std::int64_t channels = elements / geometry.columns_per_channel;
    if (channels >= geometry.channels) {
        return geometry.channels;
    }
    const std::int64_t most = channels / geometry.unit_channels * geometry.unit_channels;
    return most == 0 ? 0 : even_step(geometry.channels, most, geometry.unit_channels, geometry.rows, threads);
}

void set_planes_in_order(const Geometry& geometry, const Workload& workload, std::int64_t channels,
                         Schedule& schedule) {
    schedule.apply_channels = channels;
    set_apply_size(geometry, workload, geometry.row_length, schedule.threads, schedule);
    if (channels < geometry.channels) {
        schedule.apply_rows = 1;
    }
}

void schedule_by_parts(const Geometry& geometry, const Workload& workload, Schedule& schedule) {
    schedule.strategy = Strategy::by_parts;
    set_parts(geometry, schedule);
    schedule.range = make_range(geometry, workload, Strategy::by_parts, geometry.channels);
    schedule.partials_offset = schedule.range.bytes;
    schedule.slots_offset = schedule.partials_offset;
    if (workload.reductions > 0) {
        const bool columns = geometry.kind == MatrixKind::columns;
        const std::int64_t sums = columns ? schedule.partial_columns : geometry.channels;
        schedule.slots_offset +=
            round_up(schedule.parts * (columns ? 2 : 3) * sums * static_cast<std::int64_t>(sizeof(double)), kCacheLine);
        schedule.level_columns = columns ? padded(schedule.panel_columns) : 0;
        schedule.slot_bytes = tree_depth(schedule.blocks_per_part) * 2 * schedule.level_columns *
                              static_cast<std::int64_t>(sizeof(double));
    }
    schedule.scratch_bytes = schedule.slots_offset + schedule.slot_bytes * schedule.threads;
    const bool whole_rows = geometry.kind == MatrixKind::columns;
    set_apply_size(geometry, workload, whole_rows ? geometry.row_length : geometry.columns_per_channel,
                   schedule.threads, schedule);
    if (geometry.joined_planes) {
        const std::int64_t unit = std::min(geometry.unit_channels, geometry.channels);
        set_planes_in_order(geometry, workload, std::max(planes_in_order(geometry, schedule.threads), unit), schedule);
    }
}

// What a slab may take of L2: half of it. Short planes that are in cache anyway were fastest with an eighth where
// caches are not fast, and so is what a core fetches from a distant last level before, or while, it stores past all
// caches.
std::int64_t slab_limit(const Geometry& geometry, const Workload& workload, const Schedule& schedule,
                        const Machine& machine) {
    const bool distant =
        schedule.prefetch || (schedule.stream && reads_beyond_l2(geometry, workload, machine, schedule.threads));
    const bool small = machine.past_l2 && distant;
    const bool short_in_cache = !schedule.prefetch && has_short_planes(geometry) && !machine.fast_caches;
    return machine.l2_bytes / (small || short_in_cache ? 8 : 2);
}

// As many channels as stay in L2 between the passes, but at least four items a thread.
std::int64_t slab_channels(const Geometry& geometry, const Workload& workload, const Schedule& schedule,
                           const Machine& machine) {
    const std::int64_t most = slab_limit(geometry, workload, schedule, machine) / channel_bytes(geometry, workload);
    std::int64_t channels = std::clamp<std::int64_t>(most, 1, kMaxSlabChannels);
    if (schedule.threads > 1) {
        channels = std::min(channels, divide_up(geometry.channels, schedule.threads * kItemsPerThread));
    }
    return std::min(even_step(geometry.channels, round_up(channels, geometry.unit_channels), geometry.unit_channels, 1,
                              schedule.threads),
                    geometry.channels);
}

// Whole channels may spread unevenly, but what a slab keeps in L2 is not read again: they are taken as long as the
// busiest thread moves no more than it would by parts.
bool slabs_are_better(const Geometry& geometry, const Workload& workload, const Machine& machine,
                      const Schedule& schedule, std::int64_t channels) {
    const Items items = Items::cut(geometry.channels, channels, 1);
    if (items.even(schedule.threads)) {
        return true;
    }
    const bool kept = workload.applies && channels * channel_bytes(geometry, workload) <= machine.l2_bytes;
    const int read_again = kept ? workload.reductions * workload.cached_tensors : 0;
    const std::int64_t share = items.total / schedule.threads;
    return items.busiest(schedule.threads) - share <= share * read_again / workload.streams;
}

// Without a reduction nothing is gained by taking one channel after the other: images are taken as they lie in memory.
// Not where the parameters of all channels together are too many, nor planes that are larger than a thread should take;
// gradients only where that was measured.
bool schedule_in_order(const Geometry& geometry, const Workload& workload, const Machine& machine, Schedule& schedule) {
    if (!workload.in_order || (workload.cached_tensors > 1 && !is_measured(machine))) {
        return false;
    }
    const std::int64_t channels = planes_in_order(geometry, schedule.threads);
    Schedule in_order = schedule;
    schedule_by_parts(geometry, workload, in_order);
    if (channels == 0 || in_order.scratch_bytes > scratch_limit(geometry, schedule.threads)) {
        return false;
    }
    schedule = in_order;
    set_planes_in_order(geometry, workload, channels, schedule);
    schedule.ahead_in_order = elements_ahead_in_order(workload, machine, schedule);
    return true;
}

void schedule_planes(const Geometry& geometry, const Workload& workload, const Machine& machine, Schedule& schedule) {
    if (schedule_in_order(geometry, workload, machine, schedule)) {
        return;
    }
    const std::int64_t channels = slab_channels(geometry, workload, schedule, machine);
    if (slabs_are_better(geometry, workload, machine, schedule, channels)) {
        schedule.channels_in_l1 = channels_in_l1(geometry, workload, machine, schedule);
        set_beside(geometry, workload, machine, schedule);
        schedule_by_channels(geometry, workload, channels, schedule);
    } else {
        schedule_by_parts(geometry, workload, schedule);
    }
}

// How many threads take few rows of many channels, each its own channels through all steps: none waits for another, or
// reads what another has written. In cache, of rows that begin at a cache line, and where it has been measured. Forward
// with a residual must gain more: threads share cache lines of the mask that they write; and so must all where one
// thread is done sooner.
int threads_of_ranges(const Geometry& geometry, const Workload& workload, const Machine& machine, std::int64_t bytes) {
    if (!is_measured(machine) || geometry.kind != MatrixKind::columns || geometry.interleaved ||
        !rows_are_whole_lines(geometry)) {
        return 1;
    }
    const bool more = is_forward_with_residual(workload) || machine.fast_caches;
    const std::int64_t useful = bytes / ((more ? 4 : 2) * kBytesPerThread);
    const std::int64_t most =
        std::min<std::int64_t>(geometry.row_length / kElementsForRow / geometry.rows, machine.threads);
    const int threads = static_cast<int>(std::clamp<std::int64_t>(useful, 1, std::max<std::int64_t>(most, 1)));
    return geometry.elements() * kElementBytes <= machine.l2_bytes * threads ? threads : 1;
}

void schedule_ranges(const Geometry& geometry, const Workload& workload, Schedule& schedule) {
    const std::int64_t most = std::max<std::int64_t>(1, kMaxPanelColumns / geometry.columns_per_channel);
    const std::int64_t share = divide_up(geometry.channels, schedule.threads * kRangesPerThread);
    schedule_by_channels(geometry, workload,
                         even_step(geometry.channels, std::min(most, share), kLanes, 1, schedule.threads), schedule);
}

void schedule_columns(const Geometry& geometry, const Workload& workload, const Machine& machine, Schedule& schedule) {
    const int threads = schedule.threads;
    const std::int64_t limit = scratch_limit_of_columns(geometry, workload, machine, threads);
    if (threads == 1 && !geometry.interleaved && geometry.row_length <= kMaxPanelColumns) {
        Schedule whole = schedule;
        schedule_by_channels(geometry, workload, geometry.channels, whole);
        if (whole.scratch_bytes <= limit) {
            schedule = whole;
            return;
        }
    }
    schedule_by_parts(geometry, workload, schedule);
    if (geometry.interleaved || schedule.scratch_bytes <= limit) {
        return;
    }
    const std::int64_t most = std::max<std::int64_t>(1, kMaxSharedColumns / geometry.columns_per_channel);
    const std::int64_t shared = divide_up(geometry.channels, threads * kItemsPerThread);
    const std::int64_t least = std::min(most / kLanes * kLanes, kMinPanelChannels);
    const std::int64_t channels = std::clamp(round_up(shared, kLanes), least, most / kLanes * kLanes);
    schedule.slot_bytes = 0;
    schedule_by_channels(geometry, workload, std::min(channels, geometry.channels), schedule);
}

// On Intel's servers, whose cores are farther from each other, one core has done three or four times as much of
// columns, and twice of what only is elementwise, before another one helps; sums of planes take longer. On AMD's from
// Zen 5 on, which are twice as fast from L2, three or four times as much of all.
std::int64_t bytes_per_thread(const Geometry& geometry, const Workload& workload, const Machine& machine) {
    if (machine.fast_caches) {
        return (geometry.kind == MatrixKind::planes && workload.reductions > 0 ? 3 : 4) * kBytesPerThread;
    }
    if (!machine.past_l2) {
        return kBytesPerThread;
    }
    if (geometry.kind == MatrixKind::columns) {
        return (workload.streams == 2 ? 3 : 4) * kBytesPerThread;
    }
    return workload.reductions == 0 ? 2 * kBytesPerThread : kBytesPerThread;
}

} // namespace

Schedule make_schedule(const Geometry& geometry, const Workload& workload, const Machine& machine) {
    Schedule schedule;
    if (geometry.elements() == 0) {
        schedule.channels_per_item = std::min(geometry.channels, kMaxSlabChannels);
        schedule.range = make_range(geometry, workload, Strategy::by_channels, schedule.channels_per_item);
        schedule.slot_bytes = schedule.scratch_bytes = schedule.range.bytes;
        return schedule;
    }
    const std::int64_t bytes = bytes_moved(geometry, workload);
    const std::int64_t useful_threads = bytes / bytes_per_thread(geometry, workload, machine);
    schedule.threads = static_cast<int>(std::clamp<std::int64_t>(useful_threads, 1, machine.threads));
    const int range_threads = threads_of_ranges(geometry, workload, machine, bytes);
    const bool by_ranges = range_threads > 1 && range_threads >= schedule.threads;
    schedule.threads = by_ranges ? range_threads : schedule.threads;
    set_traffic(geometry, workload, machine, schedule);
    if (geometry.kind == MatrixKind::planes) {
        schedule_planes(geometry, workload, machine, schedule);
    } else if (by_ranges) {
        schedule_ranges(geometry, workload, schedule);
    } else {
        schedule_columns(geometry, workload, machine, schedule);
    }
    return schedule;
}

} // namespace bnorm::plan
