#include "plan/traffic.hpp"

#include <algorithm>

#include "plan/footprint.hpp"

namespace bnorm::plan {
namespace {

// Longer planes that come from memory are applied faster one by one.
constexpr std::int64_t kLongestPlaneTogether = 256;

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

// Hardware follows such columns by itself for a while longer.
bool reads_in_order(const Geometry& geometry) {
    return geometry.kind == MatrixKind::columns && geometry.row_length == kPanelColumns;
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

// Shorter rows were as fast in panels. On Intel's servers longer ones are, too, as long as L2 holds most of what is
// summed, and rows whose sums take much of L1 a while longer.
bool sums_in_order(const Geometry& geometry, const Machine& machine, int threads, std::int64_t cached_bytes) {
    constexpr std::int64_t kShortestRow = 128;
    constexpr std::int64_t kLongRow = 512;
    if (geometry.kind != MatrixKind::columns || geometry.row_length < kShortestRow) {
        return false;
    }
    if (machine.past_l2) {
        return cached_bytes >
               (geometry.row_length < kLongRow ? 3 * machine.l2_bytes * threads : machine.last_level_bytes / 6);
    }
    return machine.fast_caches;
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

// A call that begins where L2 still has what the one before read and wrote last need not fetch that. All of it is there
// anyway if L2 has room for it, and of much more L2 has too little to matter. On other machines it was not measured.
bool finds_nearer_end(const Geometry& geometry, const Workload& workload, const Machine& machine, int threads) {
    const std::int64_t l2_bytes = machine.l2_bytes * threads;
    return machine.past_l2 && bytes_moved(geometry, workload) > l2_bytes * 3 / 4 &&
           bytes_read_again(geometry, workload) <= l2_bytes * 8;
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

// Planes of whole vectors.
bool joins_passes_of_planes(const Geometry& geometry, const Machine& machine) {
    return is_measured(machine) && !has_short_planes(geometry) && geometry.columns_per_channel % kLanes == 0;
}

// Of smaller tensors too much of what is fetched lies past their end. On other machines it was not measured.
std::int64_t output_ahead(const Geometry& geometry, const Machine& machine) {
    constexpr std::int64_t kSmallest = 32 * kKibi;
    constexpr std::int64_t kAhead = 512; // 256 and 1024 as good
    return machine.past_l2 && geometry.elements() * kElementBytes >= kSmallest ? kAhead : 0;
}

constexpr std::int64_t kNearOfPanels = 16;
constexpr std::int64_t kNearOfEightRows = 32;

// The parameters of a row that leave room in L1 for what they are applied to. Where there are more, kernels take eight
// rows together, and one by one those that bypass the cache. Panels are faster where eight rows would share sets of
// L1, and on Intel's servers from beyond L2 on, where eight rows took up to 1.8 times as long. There they are of what
// bypasses the cache, too, but only where L1 has no room for the parameters alone.
std::int64_t most_parameters(const Geometry& geometry, const Machine& machine, bool stream) {
    constexpr std::int64_t kMostStreamed = 36 * kKibi / kElementBytes;
    if (stream && rows_are_whole_lines(geometry)) {
        return machine.past_l2 ? kMostStreamed : kAnyParameters;
    }
    const bool panels = machine.past_l2 || (!stream && rows_share_sets(geometry, kNearOfEightRows));
    return panels ? kMaxParameters : kAnyParameters;
}

} // namespace

void set_traffic(const Geometry& geometry, const Workload& workload, const Machine& machine, Schedule& schedule) {
    const std::int64_t bytes = bytes_moved(geometry, workload);
    const std::int64_t cached_bytes = bytes_read_again(geometry, workload);
    schedule.from_memory = comes_from_memory(geometry, workload, machine, schedule.threads, bytes, cached_bytes);
    schedule.past_cache = cached_bytes > machine.last_level_bytes;
    schedule.fits_l2 = cached_bytes <= machine.l2_bytes * schedule.threads;
    schedule.reads_whole_rows = reads_whole_rows(geometry, machine);
    schedule.sums_in_order = sums_in_order(geometry, machine, schedule.threads, cached_bytes);
    schedule.in_order_into_l1 = machine.past_l2; // into L2, as from memory elsewhere, 0.85 to 0.97 there
    schedule.sums_by_images = sums_by_images(geometry, workload, machine, schedule.threads);
    schedule.into_l1 = fetches_into_l1(geometry, workload, machine);
    schedule.output_ahead = output_ahead(geometry, machine);
    schedule.fetches_cold_rows = workload.streams == 2 || !machine.fast_caches; // with a residual, 0.90 to 0.97 there
    schedule.sums_in_order_past_cache = geometry.row_length <= kLongestRowPastCache;
    schedule.probes = probes_caches(geometry, workload, machine, schedule);
    schedule.finds_nearer_end = finds_nearer_end(geometry, workload, machine, schedule.threads);
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
    } else {
        schedule.most_parameters = most_parameters(geometry, machine, schedule.stream);
        schedule.joins_passes = !rows_share_sets(geometry, kNearOfPanels);
    }
}

// Forward, where outputs are stored past L2 already, comes sooner from memory if it is asked for while they are stored
// past all caches; gradients come no sooner.
std::int64_t elements_ahead_in_order(const Workload& workload, const Machine& machine, const Schedule& schedule) {
    constexpr std::int64_t kAhead = 2048; // 512 and 8192 as good
    return machine.past_l2 && schedule.stream && workload.cached_tensors == 1 ? kAhead : 0;
}

} // namespace bnorm::plan
