#include "plan/parts.hpp"

#include <algorithm>
#include <bit>

#include "plan/items.hpp"
#include "plan/scratch.hpp"

namespace bnorm::plan {
namespace {

constexpr std::int64_t kMinPanelColumns = 128;
// Narrower ones only so that no thread is left without work: a cache line of each row.
constexpr std::int64_t kLeastPanelColumns = 16;
// A part's tree is at most this deep: it needs one level of sums for each.
constexpr std::int64_t kMaxPartBlocks = 32;

std::int64_t max_panel_columns(int threads) { return threads == 1 ? kMaxPanelColumns : kMaxSharedColumns; }

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

} // namespace

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

} // namespace bnorm::plan
