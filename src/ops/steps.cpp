#include "ops/steps.hpp"

#include <algorithm>

#include "plan/integers.hpp"

namespace bnorm::ops {

using plan::Block;
using plan::BlockGrid;
using plan::MatrixKind;

namespace {

// A call of a kernel takes so long that what is read from memory next waits for it: as many blocks as this in one.
constexpr std::int64_t kBlocksAtOnce = 64;

} // namespace

// Blocks of long planes, together a rectangle.
bool Steps::can_sum_at_once(std::int64_t first_block, std::int64_t blocks) const {
    const std::int64_t of_row = passes_.geometry.grid.column_blocks();
    return blocks <= kBlocksAtOnce && passes_.geometry.columns_per_channel >= plan::kMinLongPlane &&
           (of_row == 1 || first_block / of_row == (first_block + blocks - 1) / of_row ||
            (first_block % of_row == 0 && blocks % of_row == 0));
}

Sums Steps::reduce_channel(int reduction, std::int64_t channel, const Coefficients& coefficients,
                           std::int64_t first_block, std::int64_t blocks) const {
    if (blocks > 1 && !can_sum_at_once(first_block, blocks)) {
        const std::int64_t left = plan::split_tree(blocks);
        const Sums a = reduce_channel(reduction, channel, coefficients, first_block, left);
        return merge(operation_.sum_kind(reduction), a,
                     reduce_channel(reduction, channel, coefficients, first_block + left, blocks - left));
    }
    Block block = passes_.geometry.grid.at(first_block);
    const Block last = passes_.geometry.grid.at(first_block + blocks - 1);
    block.rows = last.row + last.rows - block.row;
    block.columns = last.column + last.columns - block.column;
    block.column += channel * passes_.geometry.columns_per_channel;
    double first[kBlocksAtOnce];
    double second[kBlocksAtOnce];
    operation_.reduce(reduction, Pattern::uniform, block, coefficients, first, second);
    return merge_blocks(operation_.sum_kind(reduction), passes_.geometry.grid, first_block, blocks, first, second);
}

void Steps::reduce_channels(int reduction, std::int64_t channel, std::int64_t channels,
                            const Coefficients& coefficients, const ColumnSums& result) const {
    const plan::Geometry& geometry = passes_.geometry;
    const std::int64_t blocks = geometry.grid.count();
    const std::int64_t at_once = can_sum_at_once(0, blocks) ? kBlocksAtOnce / blocks : 1;
    for (std::int64_t i = 0; i < channels; i += at_once) {
        const std::int64_t count = std::min(at_once, channels - i);
        if (count == 1) {
            const Sums sums = reduce_channel(reduction, channel + i, advance(coefficients, i), 0, blocks);
            result.first[i] = sums.first;
            result.second[i] = sums.second;
            continue;
        }
        double first[kBlocksAtOnce];
        double second[kBlocksAtOnce];
        const std::int64_t width = geometry.columns_per_channel;
        operation_.reduce(reduction, Pattern::planes, {0, geometry.rows, (channel + i) * width, count * width},
                          advance(coefficients, i), first, second);
        merge_channels(operation_.sum_kind(reduction), geometry.grid, count, first, second,
                       {result.first + i, result.second + i});
    }
}

void Steps::reduce_columns(int reduction, Pattern pattern, std::int64_t column, std::int64_t columns,
                           const Coefficients& coefficients, std::int64_t first_block, std::int64_t blocks,
                           const ColumnSums& result, double* levels) const {
    const BlockGrid& grid = passes_.geometry.grid;
    const std::int64_t of_each_sum = pattern == Pattern::planes ? passes_.geometry.columns_per_channel : 1;
    const ColumnsTree tree = {passes_.kernels, operation_.sum_kind(reduction), columns / of_each_sum,
                              passes_.schedule.level_columns, passes_.from_end};
    reduce_columns_tree(tree, first_block, blocks, result, levels, [&](std::int64_t index, const ColumnSums& sums) {
        const Block rows = grid.at(index);
        const Block block = {rows.row, rows.rows, column, columns};
        operation_.reduce(reduction, pattern, block, coefficients, sums.first, sums.second);
        return static_cast<double>(rows.rows * of_each_sum);
    });
}

void Steps::fold_interleaved(SumKind kind, const ChannelRange& range, const ColumnSums& result,
                             const ColumnSums& columns) const {
    std::copy_n(columns.first, range.count, result.first);
    std::copy_n(columns.second, range.count, result.second);
    const double rows = static_cast<double>(passes_.geometry.rows);
    for (std::int64_t i = 1; i < passes_.geometry.columns_per_channel; ++i) {
        const ColumnSums segment = {columns.first + i * range.count, columns.second + i * range.count};
        merge_columns(passes_.kernels, kind, range.count, rows * static_cast<double>(i), result, rows, segment);
    }
}

// The tail is one more row of fewer columns: one element a column.
void Steps::merge_tail(int reduction, const RangeScratch& scratch, const ColumnSums& result) const {
    const plan::Geometry& geometry = passes_.geometry;
    for (std::int64_t c = 0; c < geometry.tail_columns; c += kernels::kMaxMomentColumns) {
        const std::int64_t columns = std::min(kernels::kMaxMomentColumns, geometry.tail_columns - c);
        operation_.reduce(reduction, Pattern::periodic, {geometry.rows, 1, c, columns},
                          advance(scratch.column_coefficients, c), scratch.tail_sums[0] + c, scratch.tail_sums[1] + c);
    }
    double count = static_cast<double>(geometry.rows * geometry.columns_per_channel);
    for (std::int64_t c = 0; c < geometry.tail_columns; c += geometry.channels, count += 1.0) {
        const ColumnSums pixel = {scratch.tail_sums[0] + c, scratch.tail_sums[1] + c};
        merge_columns(passes_.kernels, operation_.sum_kind(reduction), geometry.channels, count, result, 1.0, pixel);
    }
}

void Steps::fold_columns(int reduction, const RangeScratch& scratch, const ColumnSums& columns) const {
    const plan::Geometry& geometry = passes_.geometry;
    const SumKind kind = operation_.sum_kind(reduction);
    const auto& sums = scratch.range.sums[static_cast<std::size_t>(reduction)];
    const ColumnSums result = {sums[0], sums[1]};
    if (geometry.interleaved || geometry.columns_per_channel == 1) { // a single column is both
        fold_interleaved(kind, scratch.range, result, columns);
        merge_tail(reduction, scratch, result);
        return;
    }
    const double rows = static_cast<double>(geometry.rows);
    for (std::int64_t i = 0; i < scratch.range.count; ++i) {
        const std::int64_t first = i * geometry.columns_per_channel;
        Sums channel = {rows, columns.first[first], columns.second[first]};
        for (std::int64_t c = first + 1; c < first + geometry.columns_per_channel; ++c) {
            channel = merge(kind, channel, {rows, columns.first[c], columns.second[c]});
        }
        result.first[i] = channel.first;
        result.second[i] = channel.second;
    }
}

void Steps::begin(const RangeScratch& scratch) const {
    operation_.begin(scratch.range);
    expand(scratch);
}

void Steps::finish(int reduction, const RangeScratch& scratch) const {
    operation_.finish(reduction, scratch.range);
    expand(scratch);
}

// Padding becomes 0, so that what kernels compute in lanes beyond the last column is the same every time.
void Steps::expand(const RangeScratch& scratch) const {
    const plan::Geometry& geometry = passes_.geometry;
    const std::int64_t channels = scratch.range.count;
    const std::int64_t repeats = geometry.columns_per_channel;
    for (int i = 0; i < operation_.coefficients(); ++i) {
        float* values = scratch.range.coefficients[static_cast<std::size_t>(i)];
        float* columns = scratch.column_coefficients[static_cast<std::size_t>(i)];
        std::fill(values + channels, values + plan::padded(channels), 0.0F);
        if (columns == values) {
            continue;
        }
        for (std::int64_t r = 0; geometry.interleaved && r < repeats; ++r) {
            std::copy_n(values, channels, columns + r * channels);
        }
        for (std::int64_t c = 0; !geometry.interleaved && c < channels; ++c) {
            std::fill_n(columns + c * repeats, repeats, values[c]);
        }
        std::fill(columns + channels * repeats, columns + plan::padded(channels * repeats), 0.0F);
    }
}

std::int64_t Steps::ahead(const RangeScratch& scratch) const {
    if (passes_.schedule.apply_channels > 0) {
        return passes_.schedule.ahead_in_order;
    }
    return (scratch.range.next_first - scratch.range.first) * passes_.geometry.columns_per_channel;
}

void Steps::apply_plane_rows(const RangeScratch& scratch, std::int64_t channel, const Block& block) const {
    const std::int64_t plane = (scratch.range.first + channel) * passes_.geometry.columns_per_channel;
    operation_.apply(Pattern::uniform, {block.row, block.rows, plane + block.column, block.columns},
                     advance(scratch.range.coefficients, channel), ahead(scratch));
}

void Steps::apply_image(const RangeScratch& scratch, std::int64_t row, std::int64_t channel,
                        std::int64_t channels) const {
    const std::int64_t width = passes_.geometry.columns_per_channel;
    if (!operation_.takes_planes()) {
        for (std::int64_t c = channel; c < channel + channels; ++c) {
            apply_plane_rows(scratch, c, {row, 1, 0, width});
        }
        return;
    }
    operation_.apply(Pattern::planes, {row, 1, (scratch.range.first + channel) * width, channels * width},
                     advance(scratch.range.coefficients, channel), ahead(scratch));
}

void Steps::apply_rows(const RangeScratch& scratch, std::int64_t row, std::int64_t rows) const {
    const plan::Geometry& geometry = passes_.geometry;
    const std::int64_t width = geometry.columns_per_channel;
    const std::int64_t first_column = scratch.range.first * width;
    if (geometry.kind == MatrixKind::columns) {
        const std::int64_t columns = scratch.range.count * width;
        const std::int64_t panel = passes_.schedule.apply_columns;
        for (std::int64_t column = 0; column < columns; column += panel) {
            operation_.apply(Pattern::periodic, {row, rows, first_column + column, std::min(panel, columns - column)},
                             advance(scratch.column_coefficients, column), 0);
        }
        return;
    }
    if (geometry.joined_planes || (passes_.schedule.planes_together && operation_.takes_planes())) {
        for (std::int64_t image = row + rows - 1; image >= row; --image) {
            apply_image(scratch, image, 0, scratch.range.count);
        }
        return;
    }
    const std::int64_t step = passes_.schedule.apply_columns;
    for (std::int64_t channel = scratch.range.count - 1; channel >= 0; --channel) {
        for (std::int64_t column = (width - 1) / step * step; column >= 0; column -= step) {
            apply_plane_rows(scratch, channel, {row, rows, column, std::min(step, width - column)});
        }
    }
}

void Steps::apply_tail(const RangeScratch& scratch) const {
    if (passes_.geometry.tail_columns > 0) {
        operation_.apply(Pattern::periodic, {passes_.geometry.rows, 1, 0, passes_.geometry.tail_columns},
                         scratch.column_coefficients, 0);
    }
}

void Steps::apply(const RangeScratch& scratch) const {
    apply_tail(scratch);
    const std::int64_t rows = passes_.geometry.rows;
    const std::int64_t step = passes_.schedule.apply_rows;
    // Sums of a slab of planes always go forwards.
    const bool from_end =
        passes_.geometry.kind == MatrixKind::planes || passes_.applies_from_end(operation_.reductions());
    const std::int64_t pieces = plan::divide_up(rows, step);
    for (std::int64_t index = 0; index < pieces; ++index) {
        const std::int64_t piece = from_end ? pieces - 1 - index : index;
        apply_rows(scratch, piece * step, std::min(step, rows - piece * step));
    }
}

} // namespace bnorm::ops
