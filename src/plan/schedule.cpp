#include "plan/schedule.hpp"

#include <algorithm>
#include <bit>

#include "plan/integers.hpp"
#include "plan/items.hpp"

namespace bnorm::plan {
namespace {

constexpr std::int64_t kCacheLine = 64;
constexpr std::int64_t kElementBytes = 4;
constexpr std::int64_t kKibi = 1024;
// A second thread is worth waking for this much memory traffic: waking takes tens of microseconds.
constexpr std::int64_t kBytesPerThread = 128 * kKibi;
constexpr std::int64_t kApplyBytes = 512 * kKibi;
constexpr std::int64_t kMinApplyBytes = 32 * kKibi;
// Where parameters of columns are more than leave room in L1 for what they are applied to, kernels take eight rows
// together; where those would share sets of L1, columns are applied in panels, but in rows of a page.
constexpr std::int64_t kApplyPanelColumns = 1024;
constexpr std::int64_t kScratchPerThread = 64 * kKibi;
// One thread reads whole rows, if it can; several share them, so that they read the same pages of memory. Ranges of
// channels are no wider on one thread either: their scratch memory would not fit.
constexpr std::int64_t kMaxPanelColumns = 1024; // kernels::kMaxMomentColumns
constexpr std::int64_t kMaxSharedColumns = 512;
constexpr std::int64_t kMinPanelColumns = 128;
// Narrower ones only so that no thread is left without work: a cache line of each row.
constexpr std::int64_t kLeastPanelColumns = 16;
// A thread's panel, where channels are taken whole: 256 bytes of each row, so that a page holds more than one line of
// it.
constexpr std::int64_t kMinPanelChannels = 64;
constexpr std::int64_t kMaxSlabChannels = 256;
// What columns may need for each channel beyond kScratchPerThread. Without it tensors of many channels would be taken
// by ranges of channels, whose outputs lie side by side: with two threads half as fast. One thread, too, is faster with
// whole rows, unless they are few, or so long that their parameters fill L1; gradients of those, too, where outputs are
// stored past L2.
constexpr std::int64_t kMoreScratchPerChannel = 48;
constexpr std::int64_t kManyRows = 256;
constexpr std::int64_t kMaxWholeRow = 2048;
constexpr std::int64_t kMaxWholeRowOfGradients = 1792;
// Several threads take ranges of channels all the same where those need no more than so many elements of each row a
// thread: what ends within a page costs a row about as much as four elements (hardware fetches beyond it what another
// core writes), what is done once a channel much more if all threads wait for it and fetch it from one core.
constexpr std::int64_t kElementsForRow = 4;
constexpr std::int64_t kRangesPerThread = 2;
// A part's tree is at most this deep: it needs one level of sums for each.
constexpr std::int64_t kMaxPartBlocks = 32;

// Hands out offsets, each at a cache line.
class Bump {
  public:
    std::int64_t take(std::int64_t count, std::int64_t size) {
        const std::int64_t offset = bytes_;
        bytes_ = round_up(bytes_ + count * size, kCacheLine);
        return offset;
    }
    std::int64_t bytes() const { return bytes_; }

  private:
    std::int64_t bytes_ = 0;
};

std::int64_t tree_depth(std::int64_t blocks) {
    return blocks <= 1 ? 0 : static_cast<std::int64_t>(std::bit_width(static_cast<std::uint64_t>(blocks - 1)));
}

// Longer planes that come from memory are applied faster one by one.
constexpr std::int64_t kLongestPlaneTogether = 256;

// What scratch memory should stay below.
std::int64_t scratch_limit(const Geometry& geometry, int threads) {
    return geometry.elements() * kElementBytes / 100 + kScratchPerThread * threads;
}

std::int64_t scratch_limit_of_columns(const Geometry& geometry, const Workload& workload, const Machine& machine,
                                      int threads) {
    const std::int64_t longest = workload.cached_tensors > 1 ? kMaxWholeRowOfGradients : kMaxWholeRow;
    const bool any_length = workload.cached_tensors > 1 && machine.past_l2;
    const bool more = threads > 1 || (geometry.rows >= kManyRows && (any_length || geometry.row_length <= longest));
    return scratch_limit(geometry, threads) + (more ? kMoreScratchPerChannel * geometry.channels : 0);
}

std::int64_t max_panel_columns(int threads) { return threads == 1 ? kMaxPanelColumns : kMaxSharedColumns; }

// Columns count as short; nothing that is asked here matters to them.
bool has_short_planes(const Geometry& geometry) { return geometry.columns_per_channel < kMinLongPlane; }

// Hardware follows such columns by itself for a while longer.
bool reads_in_order(const Geometry& geometry) {
    return geometry.kind == MatrixKind::columns && geometry.row_length == kPanelColumns;
}

// Whether parameters are spelled out for each column.
bool expands(const Geometry& geometry) {
    return geometry.kind == MatrixKind::columns && geometry.columns_per_channel > 1;
}

RangeScratch make_range(const Geometry& geometry, const Workload& workload, Strategy strategy, std::int64_t channels) {
    RangeScratch range;
    Bump bump;
    const bool columns = geometry.kind == MatrixKind::columns;
    const std::int64_t all_columns = channels * geometry.columns_per_channel;
    for (int i = 0; i < workload.reductions; ++i) {
        for (std::int64_t& offset : range.sums[static_cast<std::size_t>(i)]) {
            offset = bump.take(padded(channels), sizeof(double));
        }
    }
    for (int i = 0; i < workload.coefficients; ++i) {
        const auto index = static_cast<std::size_t>(i);
        range.coefficients[index] = range.column_coefficients[index] = bump.take(padded(channels), sizeof(float));
        if (expands(geometry)) {
            range.column_coefficients[index] = bump.take(padded(all_columns), sizeof(float));
        }
    }
    range.inv_std = bump.take(workload.keeps_inv_std ? padded(channels) : 0, sizeof(double));
    if (columns && workload.reductions > 0) {
        for (std::int64_t& offset : range.column_sums) {
            offset = bump.take(strategy == Strategy::by_channels ? padded(all_columns) : 0, sizeof(double));
        }
        for (std::int64_t& offset : range.tail_sums) {
            offset = bump.take(padded_columns(geometry, geometry.tail_columns), sizeof(double));
        }
    }
    range.bytes = bump.bytes();
    return range;
}

// ---- sizes of items -------------------------------------------------------------------------------------------------

// Two rows within so many elements of a multiple of half a page apart: one's stores also hold up the other's loads,
// whose addresses seem to agree with them in the lower 12 bits.
bool rows_share_sets(const Geometry& geometry, std::int64_t near) {
    constexpr std::int64_t kHalfPage = 512;
    const auto is_near = [&](std::int64_t stride) { return (stride + near) % kHalfPage < 2 * near; };
    return is_near(geometry.x_stride) || is_near(geometry.y_stride);
}

constexpr std::int64_t kNearOfEightRows = 32;
constexpr std::int64_t kNearOfPanels = 16;

// Outputs that bypass the cache were faster in whole rows.
std::int64_t apply_panel(const Geometry& geometry, const Workload& workload, std::int64_t columns, bool stream) {
    if (geometry.kind == MatrixKind::planes || stream || columns * workload.coefficients <= kMaxParameters ||
        !rows_share_sets(geometry, kNearOfEightRows)) {
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
    schedule.apply_columns = apply_panel(geometry, workload, columns, schedule.stream);
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

// How the blocks of a reduction are shared: in parts of so many, each for so many columns (planes: for one channel).
struct Parts {
    std::int64_t panel_columns;
    std::int64_t blocks;
};

Items items_of(const Geometry& geometry, const Parts& parts) {
    const bool columns = geometry.kind == MatrixKind::columns;
    const std::int64_t panels = columns ? divide_up(geometry.row_length, parts.panel_columns) : geometry.channels;
    const std::int64_t width = columns ? parts.panel_columns : 1;
    const std::int64_t all = geometry.grid.count() * (columns ? geometry.row_length : geometry.channels);
    return {panels * divide_up(geometry.grid.count(), parts.blocks), parts.blocks * width, all};
}

// At least four blocks of 256 rows a part keep 16 bytes of sums a column below 0.4 % of its elements.
bool sums_fit(const Geometry& geometry, const Parts& parts, int threads) {
    const std::int64_t part_bytes =
        padded_columns(geometry, geometry.row_length) * 2 * static_cast<std::int64_t>(sizeof(double));
    return geometry.kind == MatrixKind::planes || parts.blocks >= 4 ||
           divide_up(geometry.grid.count(), parts.blocks) * part_bytes <= kScratchPerThread / 2 * threads;
}

// The largest parts, of panels so wide, that spread evenly and give each thread several items; none: blocks = 0.
Parts several_parts(const Geometry& geometry, std::int64_t panel_columns, std::int64_t most, int threads) {
    Parts parts = {std::min(geometry.row_length, panel_columns), most};
    for (; parts.blocks > 0 && sums_fit(geometry, parts, threads); parts.blocks /= 2) {
        const Items items = items_of(geometry, parts);
        if (items.even(threads) && (threads == 1 || items.count >= threads * kItemsPerThread)) {
            return parts;
        }
    }
    return {0, 0};
}

// The most even spread, of equal ones the widest panels and the largest parts.
Parts most_even_parts(const Geometry& geometry, std::int64_t most, int threads) {
    Parts best = {std::min(geometry.row_length, max_panel_columns(threads)), most};
    for (std::int64_t panel = max_panel_columns(threads); panel >= kLeastPanelColumns; panel /= 2) {
        Parts parts = {std::min(geometry.row_length, panel), most};
        for (; parts.blocks > 0 && sums_fit(geometry, parts, threads); parts.blocks /= 2) {
            if (items_of(geometry, best).even(threads)) {
                return best;
            }
            if (items_of(geometry, parts).busiest(threads) < items_of(geometry, best).busiest(threads)) {
                best = parts;
            }
        }
    }
    return best;
}

Parts choose_parts(const Geometry& geometry, int threads) {
    const std::int64_t most = static_cast<std::int64_t>(
        std::bit_floor(static_cast<std::uint64_t>(std::min(geometry.grid.count(), kMaxPartBlocks))));
    for (const std::int64_t panel : {max_panel_columns(threads), kMinPanelColumns}) {
        const Parts parts = several_parts(geometry, panel, most, threads);
        if (parts.blocks > 0) {
            return parts;
        }
    }
    return most_even_parts(geometry, most, threads);
}

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

// What both passes read.
std::int64_t bytes_read_again(const Geometry& geometry, const Workload& workload) {
    return geometry.elements() * kElementBytes * workload.cached_tensors;
}

// Whether what is reduced is read from beyond L2, not by a little.
bool reads_beyond_l2(const Geometry& geometry, const Workload& workload, const Machine& machine, int threads) {
    return bytes_read_again(geometry, workload) > machine.l2_bytes * threads * 5 / 4;
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

// What both passes read of a channel.
std::int64_t channel_bytes(const Geometry& geometry, const Workload& workload) {
    return geometry.elements_per_channel * kElementBytes * workload.cached_tensors;
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

// Outputs go past the cache from this many bytes on. Several cores move more through the cache than memory takes until
// the tensors fit badly; where they are read again that is sooner, the more so if others share the cache. One core
// writes faster past it, from half of what it holds on where tensors are read again, which then need not give way to
// outputs. Past L2 already on some machines: what training writes is kept for its backward pass, so that the same
// memory is not written again while a cache remembers it. What inference writes is, and is read before that: sooner
// than elsewhere, too, but not much.
std::int64_t stream_limit(const Geometry& geometry, const Workload& workload, int threads, const Machine& machine) {
    const bool trains = workload.reductions > 0;
    if (!trains && machine.past_l2) {
        const int later =
            (threads > 1 ? 1 : 0) + (geometry.kind == MatrixKind::planes ? 1 : 0) + (workload.streams == 2 ? 1 : 0);
        return machine.store_bytes * std::max(1 + later, 2) / 6;
    }
    std::int64_t limit = 0;
    if (threads > 1) {
        limit = trains ? machine.store_bytes * 3 / 4 : machine.store_bytes * 7 / 8;
    } else {
        limit = trains ? machine.store_bytes / 2 : machine.store_bytes * 2 / 3;
    }
    if (trains && machine.past_l2) {
        limit = std::min(limit, threads > 1 ? machine.l2_bytes * threads * 7 / 8 : machine.l2_bytes);
    }
    return limit;
}

// Of one channel at least.
bool l2_holds_two_slabs(const Geometry& geometry, const Workload& workload, const Machine& machine) {
    return channel_bytes(geometry, workload) <= machine.l2_bytes / 2;
}

// A panel of rows that share sets of L1, as those do that are multiples of 1 KiB apart, loses what hardware fetches
// ahead of it. Other rows are as fast, and in L2 faster, in panels.
bool reads_whole_rows(const Geometry& geometry, const Machine& machine) {
    constexpr std::int64_t kElementsApart = 256;
    return machine.fast_caches && geometry.kind == MatrixKind::columns && geometry.x_stride % kElementsApart == 0;
}

// Intel's servers, and AMD's CPUs from Zen 5 on: where plans were measured that were not elsewhere.
bool is_measured(const Machine& machine) { return machine.past_l2 || machine.fast_caches; }

bool is_forward_with_residual(const Workload& workload) {
    return workload.reductions > 0 && workload.cached_tensors == 1 && workload.streams > 2;
}

// The columns whose sums leave enough of L1 to what is read in the order of memory, if that comes from memory.
constexpr std::int64_t kLongestRowPastCache = 256;

// Whether columns that are reduced and applied come from memory. They stay in the last-level cache as long as it holds
// all that is moved; of what one thread takes through that of Intel's servers, part is in memory before, if anything
// else was read meanwhile, and if not, fetching it ahead costs nothing, but for long rows of x alone.
bool columns_come_from_memory(const Geometry& geometry, const Workload& workload, const Machine& machine, int threads,
                              std::int64_t bytes, std::int64_t cached_bytes) {
    const bool partly = machine.past_l2 && threads == 1;
    const std::int64_t most = machine.last_level_bytes * 2 / 3;
    if (workload.cached_tensors > 1) {
        return bytes > (partly ? machine.last_level_bytes / 2 : most);
    }
    if (partly && geometry.row_length <= kLongestRowPastCache) {
        return cached_bytes > machine.last_level_bytes / 6; // whatever is moved beside it
    }
    // Whole rows come from that much of it faster by themselves.
    return bytes > (reads_whole_rows(geometry, machine) ? machine.last_level_bytes * 4 / 5 : most);
}

// Whether what is reduced comes from memory. Gradients of planes whose slabs are fetched one ahead while outputs are
// stored past L2 are found in cache by the sums longer than others: asking again took a tenth of all time. So are
// planes where caches are fast, but for what one core reads beside a residual, which drives them out.
bool comes_from_memory(const Geometry& geometry, const Workload& workload, const Machine& machine, int threads,
                       std::int64_t bytes, std::int64_t cached_bytes) {
    if (workload.applies && geometry.kind == MatrixKind::columns) {
        return columns_come_from_memory(geometry, workload, machine, threads, bytes, cached_bytes);
    }
    if (workload.applies && workload.cached_tensors > 1 && machine.past_l2 &&
        l2_holds_two_slabs(geometry, workload, machine)) {
        return cached_bytes > machine.last_level_bytes * 2 / 3;
    }
    if (geometry.kind == MatrixKind::planes && machine.fast_caches) {
        return cached_bytes > machine.last_level_bytes / (threads == 1 && is_forward_with_residual(workload) ? 3 : 2);
    }
    return cached_bytes > machine.last_level_bytes / (reads_in_order(geometry) ? 2 : 3);
}

// Shorter rows were as fast in panels.
bool sums_in_order(const Geometry& geometry, const Machine& machine) {
    constexpr std::int64_t kShortestRow = 128;
    return machine.fast_caches && geometry.kind == MatrixKind::columns && geometry.row_length >= kShortestRow;
}

// Not longer rows, nor short planes without a mask, which a thread is done with sooner than they come.
bool fetches_into_l1(const Geometry& geometry, const Workload& workload, const Machine& machine) {
    constexpr std::int64_t kLongestRow = 256;
    const bool gains = geometry.kind == MatrixKind::columns
                           ? geometry.row_length <= kLongestRow
                           : geometry.columns_per_channel > kLongestPlaneTogether || workload.streams > 3;
    return machine.fast_caches && gains;
}

// Where slabs are of several channels, each image has a run of them in memory, which comes faster than as many planes;
// from longer ones several threads gain nothing.
bool sums_by_images(const Geometry& geometry, const Workload& workload, const Machine& machine, int threads) {
    constexpr std::int64_t kFewestChannels = 4;
    const bool whole_planes = geometry.grid.column_blocks() == 1 && !has_short_planes(geometry);
    const bool gains = threads == 1 || geometry.columns_per_channel <= kLongestPlaneTogether;
    return machine.fast_caches && geometry.kind == MatrixKind::planes && geometry.rows > 1 && whole_planes && gains &&
           workload.cached_tensors > 1 && kFewestChannels * channel_bytes(geometry, workload) <= machine.l2_bytes / 2;
}

// Whether it matters if a tensor that fits the cache is in it. Hardware follows planes that one image has of each
// channel by itself, and short ones come no faster by being asked for, but where caches are fast: there that is true of
// planes that are both, of a single tensor. Finding out takes a tenth of a microsecond.
bool probes_caches(const Geometry& geometry, const Workload& workload, const Machine& machine,
                   const Schedule& schedule) {
    const bool of_one_image = geometry.kind == MatrixKind::planes && geometry.rows == 1;
    const bool short_planes = geometry.kind == MatrixKind::planes && has_short_planes(geometry);
    const bool follows = machine.fast_caches ? of_one_image && short_planes && workload.cached_tensors == 1
                                             : of_one_image || short_planes;
    const std::int64_t least = of_one_image ? 64 * kKibi : 256 * kKibi;
    return workload.reductions > 0 && !schedule.from_memory && !follows && geometry.elements() * kElementBytes >= least;
}

// Residuals of long planes, as long as L2 holds x. Where caches are fast, they come sooner if nothing but they is
// fetched while outputs are stored past the caches.
bool reads_residual_alone(const Geometry& geometry, const Workload& workload, const Machine& machine) {
    return machine.fast_caches && geometry.kind == MatrixKind::planes && is_forward_with_residual(workload) &&
           geometry.columns_per_channel > kLongestPlaneTogether &&
           channel_bytes(geometry, workload) <= machine.l2_bytes;
}

// Whether the next slab is fetched while one is applied. Hardware follows long planes through the last-level cache by
// itself, but not many short ones. Where outputs are stored past L2, it is long planes that are faster so: forward
// without a residual, which is not fetched then, and backward. Nowhere there if L2 does not hold two slabs: the next
// one would drive out what is left of this one. Where caches are fast, sums of long planes ask early enough for what is
// in memory themselves.
bool fetches_next_slab(const Geometry& geometry, const Workload& workload, const Schedule& schedule,
                       const Machine& machine, std::int64_t cached_bytes) {
    if (machine.past_l2 && !l2_holds_two_slabs(geometry, workload, machine)) {
        return false;
    }
    if (geometry.kind == MatrixKind::planes && machine.fast_caches) {
        return !reads_residual_alone(geometry, workload, machine) &&
               cached_bytes > machine.last_level_bytes / (has_short_planes(geometry) ? 4 : 3);
    }
    if (schedule.from_memory) {
        return true;
    }
    if (!machine.past_l2) {
        return has_short_planes(geometry) && cached_bytes > 4 * machine.l2_bytes;
    }
    constexpr std::int64_t kLongPlane = 512;
    const bool gains = workload.cached_tensors > 1 || workload.streams == 2;
    return gains && workload.reductions > 0 && geometry.columns_per_channel >= kLongPlane &&
           geometry.kind == MatrixKind::planes && reads_beyond_l2(geometry, workload, machine, schedule.threads);
}

// Planes that end within a cache line are best written together with their neighbours, and so are short ones; in cache
// all are. One by one those of a single image, which a slab has in one piece, made as many calls as channels.
bool applies_planes_together(const Geometry& geometry, const Schedule& schedule, const Machine& machine) {
    const std::int64_t plane = geometry.columns_per_channel;
    const bool one_piece = geometry.rows == 1 && machine.past_l2;
    return one_piece || plane % kLanes != 0 || plane <= kLongestPlaneTogether || !schedule.prefetch;
}

// What is read in the order of memory while outputs are stored past all caches: forward, where that is done past L2
// already, comes sooner from memory if it is asked for; gradients come no sooner.
bool fetches_in_order(const Workload& workload, const Machine& machine, const Schedule& schedule) {
    return machine.past_l2 && schedule.stream && workload.cached_tensors == 1;
}
constexpr std::int64_t kAheadInOrder = 2048; // 512 and 8192 as good

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
    schedule.ahead_in_order = fetches_in_order(workload, machine, schedule) ? kAheadInOrder : 0;
    return true;
}

// Planes of one image follow each other, and a few of them are a run of memory, short enough that L1 still has it when
// it is applied, beside what that writes. Forward takes no longer from L2, but reads less in all: it gains only past
// L2, and nothing where it stores past all caches. A few planes of several images would be as many short runs.
std::int64_t channels_in_l1(const Geometry& geometry, const Workload& workload, const Machine& machine,
                            const Schedule& schedule) {
    constexpr std::int64_t kGroupBytes = 26 * kKibi; // of 48
    constexpr std::int64_t kLargestChannel = 32 * kKibi;
    const std::int64_t bytes = channel_bytes(geometry, workload);
    const std::int64_t moved = geometry.elements() * kElementBytes * workload.streams;
    const bool gains = workload.cached_tensors > 1 || (!schedule.stream && moved > machine.l2_bytes * schedule.threads);
    if (!is_measured(machine) || geometry.rows > 1 || geometry.grid.count() > 1 || workload.reductions == 0 ||
        !workload.applies || !gains || bytes * geometry.unit_channels > kLargestChannel) {
        return 0;
    }
    const std::int64_t most = std::max<std::int64_t>(1, kGroupBytes / bytes / geometry.unit_channels);
    return std::min(most * geometry.unit_channels, kMostChannelsAtOnce);
}

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

// Planes of whole vectors.
bool joins_passes_of_planes(const Geometry& geometry, const Machine& machine) {
    return is_measured(machine) && !has_short_planes(geometry) && geometry.columns_per_channel % kLanes == 0;
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
    const bool shares_lines = geometry.x_stride % kLanes != 0 || geometry.y_stride % kLanes != 0;
    if (!is_measured(machine) || geometry.kind != MatrixKind::columns || geometry.interleaved || shares_lines) {
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
    const std::int64_t elements = geometry.elements();
    if (elements == 0) {
        schedule.channels_per_item = std::min(geometry.channels, kMaxSlabChannels);
        schedule.range = make_range(geometry, workload, Strategy::by_channels, schedule.channels_per_item);
        schedule.slot_bytes = schedule.scratch_bytes = schedule.range.bytes;
        return schedule;
    }
    const std::int64_t bytes = elements * kElementBytes * workload.streams;
    const std::int64_t useful_threads = bytes / bytes_per_thread(geometry, workload, machine);
    schedule.threads = static_cast<int>(std::clamp<std::int64_t>(useful_threads, 1, machine.threads));
    const int range_threads = threads_of_ranges(geometry, workload, machine, bytes);
    const bool by_ranges = range_threads > 1 && range_threads >= schedule.threads;
    schedule.threads = by_ranges ? range_threads : schedule.threads;
    const std::int64_t cached_bytes = bytes_read_again(geometry, workload);
    schedule.from_memory = comes_from_memory(geometry, workload, machine, schedule.threads, bytes, cached_bytes);
    schedule.past_cache = cached_bytes > machine.last_level_bytes;
    schedule.fits_l2 = cached_bytes <= machine.l2_bytes * schedule.threads;
    schedule.reads_whole_rows = reads_whole_rows(geometry, machine);
    schedule.sums_in_order = sums_in_order(geometry, machine);
    schedule.sums_by_images = sums_by_images(geometry, workload, machine, schedule.threads);
    schedule.into_l1 = fetches_into_l1(geometry, workload, machine);
    schedule.fetches_outputs = workload.streams == 2 || !machine.fast_caches; // with a residual, 0.90 to 0.97 there
    schedule.sums_in_order_past_cache = geometry.row_length <= kLongestRowPastCache;
    schedule.probes = probes_caches(geometry, workload, machine, schedule);
    schedule.ask_again = !machine.past_l2; // there, once is enough, and more often takes a tenth more time
    schedule.inputs_into_l1 = machine.fast_caches;
    schedule.asks_often = machine.fast_caches;
    schedule.prefetch = fetches_next_slab(geometry, workload, schedule, machine, cached_bytes);
    schedule.stream = workload.applies && bytes > stream_limit(geometry, workload, schedule.threads, machine);
    schedule.fetches_residual =
        schedule.stream && geometry.rows > 1 && reads_residual_alone(geometry, workload, machine);
    if (geometry.kind == MatrixKind::planes) {
        schedule.planes_together = applies_planes_together(geometry, schedule, machine);
        schedule.joins_passes = joins_passes_of_planes(geometry, machine);
        schedule_planes(geometry, workload, machine, schedule);
    } else {
        schedule.joins_passes = !rows_share_sets(geometry, kNearOfPanels);
        by_ranges ? schedule_ranges(geometry, workload, schedule)
                  : schedule_columns(geometry, workload, machine, schedule);
    }
    return schedule;
}

} // namespace bnorm::plan
