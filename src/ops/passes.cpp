#include "ops/passes.hpp"

#include <algorithm>

#include "ops/residence.hpp"
#include "ops/steps.hpp"
#include "plan/integers.hpp"
#include "runtime/parallel.hpp"

namespace bnorm::ops {
namespace {

using plan::divide_up;
using plan::MatrixKind;
using plan::Strategy;
using runtime::Direction;

// What each thread does after its last item: kernels do not wait for what they store past the caches.
auto end_of_stores(const Passes& passes) {
    return [&passes]() noexcept {
        if (passes.schedule.stream) {
            passes.kernels.fence_streams();
        }
    };
}

// ---- by channels: each thread takes ranges of channels through all steps --------------------------------------------

class ByChannels {
  public:
    ByChannels(const Passes& passes, const Operation& operation)
        : passes_(passes), operation_(operation), steps_(passes, operation) {}

    void run() const noexcept {
        const std::int64_t channels = passes_.geometry.channels;
        const std::int64_t step = passes_.schedule.channels_per_item;
        const std::int64_t items = channels == 0 ? 0 : divide_up(channels, step);
        const auto run_item = [&](std::int64_t item, std::int64_t next, int slot) noexcept {
            std::byte* base = passes_.scratch + passes_.schedule.slots_offset + slot * passes_.schedule.slot_bytes;
            const std::int64_t first = item * step;
            RangeScratch scratch = range_scratch(passes_.schedule.range, base, first, std::min(step, channels - first));
            scratch.range.next_first = next < items ? next * step : first;
            run_range(scratch, at_offset<double>(base, passes_.schedule.levels_offset));
        };
        const auto lookahead = passes_.prefetch() ? runtime::Lookahead::one_item : runtime::Lookahead::none;
        runtime::parallel_for(passes_.threads, items, {lookahead, Direction::forwards}, run_item,
                              end_of_stores(passes_));
    }

  private:
    void run_range(const RangeScratch& scratch, double* levels) const {
        steps_.begin(scratch);
        for (int reduction = 0; reduction < operation_.reductions(); ++reduction) {
            reduce(reduction, scratch, levels);
            steps_.finish(reduction, scratch);
        }
        if (operation_.applies() && passes_.geometry.elements() > 0) {
            steps_.apply(scratch);
        }
    }

    void reduce(int reduction, const RangeScratch& scratch, double* levels) const {
        const plan::Geometry& geometry = passes_.geometry;
        const auto& sums = scratch.range.sums[static_cast<std::size_t>(reduction)];
        if (geometry.elements() == 0) {
            std::fill_n(sums[0], scratch.range.count, 0.0);
            std::fill_n(sums[1], scratch.range.count, 0.0);
        } else if (geometry.kind == MatrixKind::columns) {
            reduce_columns(reduction, scratch, levels);
        } else if (geometry.grid.count() == 1 ||
                   (geometry.sums_together && operation_.sum_kind(reduction) == SumKind::gradient)) {
            const std::int64_t width = geometry.columns_per_channel;
            steps_.reduce_columns(reduction, Pattern::planes, scratch.range.first * width, scratch.range.count * width,
                                  scratch.range.coefficients, 0, geometry.grid.count(), {sums[0], sums[1]}, levels);
        } else {
            for (std::int64_t i = 0; i < scratch.range.count; ++i) {
                const Sums channel =
                    steps_.reduce_channel(reduction, scratch.range.first + i, advance(scratch.range.coefficients, i), 0,
                                          geometry.grid.count());
                sums[0][i] = channel.first;
                sums[1][i] = channel.second;
            }
        }
    }

    void reduce_columns(int reduction, const RangeScratch& scratch, double* levels) const {
        const std::int64_t width = passes_.geometry.columns_per_channel;
        const auto& sums = scratch.range.sums[static_cast<std::size_t>(reduction)];
        const auto& columns = width == 1 ? sums : scratch.column_sums;
        const ColumnSums result = {columns[0], columns[1]};
        steps_.reduce_columns(reduction, Pattern::periodic, scratch.range.first * width, scratch.range.count * width,
                              scratch.column_coefficients, 0, passes_.geometry.grid.count(), result, levels);
        if (width != 1) {
            steps_.fold_columns(reduction, scratch, result);
        }
    }

    const Passes& passes_;
    const Operation& operation_;
    Steps steps_;
};

// ---- by parts: all threads take one step together, then the next ----------------------------------------------------

class ByParts {
  public:
    ByParts(const Passes& passes, const Operation& operation)
        : passes_(passes), operation_(operation), steps_(passes, operation),
          scratch_(range_scratch(passes.schedule.range, passes.scratch, 0, passes.geometry.channels)) {}

    void run() const noexcept {
        steps_.begin(scratch_);
        for (int reduction = 0; reduction < operation_.reductions(); ++reduction) {
            if (passes_.geometry.kind == MatrixKind::columns) {
                reduce_columns(reduction);
            } else {
                reduce_planes(reduction);
            }
            steps_.finish(reduction, scratch_);
        }
        if (operation_.applies()) {
            apply();
        }
    }

  private:
    // Reductions may write, too (reduce_and_apply).
    template <class Body>
    void for_items(std::int64_t items, Direction direction, const Body& body) const noexcept {
        const auto run_item = [&](std::int64_t item, std::int64_t, int slot) noexcept { body(item, slot); };
        runtime::parallel_for(passes_.threads, items, {runtime::Lookahead::none, direction}, run_item,
                              end_of_stores(passes_));
    }

    std::int64_t blocks_of_part(std::int64_t part) const {
        const std::int64_t step = passes_.schedule.blocks_per_part;
        return std::min(step, passes_.geometry.grid.count() - part * step);
    }

    // ---- planes ----

    void reduce_planes(int reduction) const noexcept {
        const std::int64_t parts = passes_.schedule.parts;
        auto* partials = at_offset<Sums>(passes_.scratch, passes_.schedule.partials_offset);
        for_items(passes_.geometry.channels * parts, Direction::forwards, [&](std::int64_t item, int) noexcept {
            const std::int64_t channel = item / parts;
            const std::int64_t part = item % parts;
            partials[item] = steps_.reduce_channel(reduction, channel, advance(scratch_.range.coefficients, channel),
                                                   part * passes_.schedule.blocks_per_part, blocks_of_part(part));
        });
        const auto& sums = scratch_.range.sums[static_cast<std::size_t>(reduction)];
        for (std::int64_t channel = 0; channel < passes_.geometry.channels; ++channel) {
            const Sums all = reduce_tree(operation_.sum_kind(reduction), channel * parts, parts,
                                         [&](std::int64_t index) { return partials[index]; });
            sums[0][channel] = all.first;
            sums[1][channel] = all.second;
        }
    }

    // ---- columns ----

    ColumnSums partial(std::int64_t part, std::int64_t column) const {
        auto* base = at_offset<double>(passes_.scratch, passes_.schedule.partials_offset) +
                     part * 2 * passes_.schedule.partial_columns + column;
        return {base, base + passes_.schedule.partial_columns};
    }

    void reduce_columns(int reduction) const noexcept {
        const plan::Schedule& schedule = passes_.schedule;
        const std::int64_t columns = passes_.geometry.row_length;
        const std::int64_t panels = divide_up(columns, schedule.panel_columns);
        for_items(panels * schedule.parts, Direction::forwards, [&](std::int64_t item, int slot) noexcept {
            const std::int64_t part = item / panels;
            const std::int64_t column = item % panels * schedule.panel_columns;
            auto* levels = at_offset<double>(passes_.scratch, schedule.slots_offset + slot * schedule.slot_bytes +
                                                                  schedule.levels_offset);
            steps_.reduce_columns(reduction, Pattern::periodic, column,
                                  std::min(schedule.panel_columns, columns - column),
                                  advance(scratch_.column_coefficients, column), part * schedule.blocks_per_part,
                                  blocks_of_part(part), partial(part, column), levels);
        });
        merge_columns_of_parts(operation_.sum_kind(reduction));
        const ColumnSums all = partial(0, 0);
        steps_.fold_columns(reduction, scratch_, all);
    }

    // Few merges are done sooner than other threads are woken.
    void merge_columns_of_parts(SumKind kind) const noexcept {
        constexpr std::int64_t kFewMerges = 32768;
        constexpr std::int64_t kPanel = 128;
        const plan::Schedule& schedule = passes_.schedule;
        const std::int64_t columns = passes_.geometry.row_length;
        const std::int64_t step = schedule.parts * columns <= kFewMerges ? columns : kPanel;
        for_items(divide_up(columns, step), Direction::forwards, [&](std::int64_t item, int) noexcept {
            const std::int64_t column = item * step;
            merge_parts(kind, column, std::min(step, columns - column), 0, schedule.parts);
        });
    }

    // In place: the sums of the subtree end up in its first part. Returns its rows.
    double merge_parts(SumKind kind, std::int64_t column, std::int64_t columns, std::int64_t first,
                       std::int64_t count) const {
        if (count == 1) {
            const plan::BlockGrid& grid = passes_.geometry.grid;
            const std::int64_t row = first * passes_.schedule.blocks_per_part * grid.rows_per_block;
            return static_cast<double>(std::min(blocks_of_part(first) * grid.rows_per_block, grid.rows - row));
        }
        const std::int64_t left = plan::split_tree(count);
        const double rows_a = merge_parts(kind, column, columns, first, left);
        const double rows_b = merge_parts(kind, column, columns, first + left, count - left);
        merge_columns(passes_.kernels, kind, columns, rows_a, partial(first, column), rows_b,
                      partial(first + left, column));
        return rows_a + rows_b;
    }

    // ---- apply ----

    void apply() const noexcept {
        steps_.apply_tail(scratch_);
        const plan::Geometry& geometry = passes_.geometry;
        if (passes_.schedule.apply_channels > 0) {
            apply_in_order();
            return;
        }
        if (geometry.kind == MatrixKind::planes) {
            apply_planes();
            return;
        }
        const std::int64_t step = passes_.schedule.apply_rows;
        const std::int64_t items = divide_up(geometry.rows, step);
        const Direction direction = operation_.reductions() > 0 ? Direction::backwards : Direction::forwards;
        for_items(items, direction, [&](std::int64_t item, int) noexcept {
            const std::int64_t row = item * step;
            steps_.apply_rows(scratch_, row, std::min(step, geometry.rows - row));
        });
    }

    void apply_in_order() const noexcept {
        const plan::Geometry& geometry = passes_.geometry;
        const plan::BlockGrid items = {geometry.rows, geometry.channels, passes_.schedule.apply_rows,
                                       passes_.schedule.apply_channels};
        for_items(items.count(), Direction::forwards, [&](std::int64_t item, int) noexcept {
            const plan::Block images = items.at(item);
            for (std::int64_t row = images.row; row < images.row + images.rows; ++row) {
                steps_.apply_image(scratch_, row, images.column, images.columns);
            }
        });
    }

    void apply_planes() const noexcept {
        const plan::Geometry& geometry = passes_.geometry;
        const plan::BlockGrid pieces = {geometry.rows, geometry.columns_per_channel, passes_.schedule.apply_rows,
                                        passes_.schedule.apply_columns};
        const std::int64_t per_channel = pieces.count();
        const std::int64_t items = geometry.channels * per_channel;
        for_items(items, Direction::backwards, [&](std::int64_t item, int) noexcept {
            steps_.apply_plane_rows(scratch_, item / per_channel, pieces.at(item % per_channel));
        });
    }

    const Passes& passes_;
    const Operation& operation_;
    Steps steps_;
    RangeScratch scratch_;
};

} // namespace

void Passes::run(const Operation& operation) noexcept {
    cold = schedule.probes && operation.reductions() > 0 && found_in_memory(geometry, operation.reduced());
    if (schedule.strategy == Strategy::by_channels) {
        ByChannels(*this, operation).run();
    } else {
        ByParts(*this, operation).run();
    }
}

} // namespace bnorm::ops
