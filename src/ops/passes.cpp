#include "ops/passes.hpp"

#include <algorithm>
#include <array>

#include "ops/residence.hpp"
#include "ops/steps.hpp"
#include "plan/integers.hpp"
#include "runtime/cache_probe.hpp"
#include "runtime/parallel.hpp"

namespace bnorm::ops {
namespace {

using plan::BlockGrid;
using plan::divide_up;
using plan::MatrixKind;
using plan::Strategy;
using runtime::Direction;

Direction direction(bool from_end) { return from_end ? Direction::backwards : Direction::forwards; }

// What each thread does after its last item: kernels do not wait for what they store past the caches.
void end_stores(const Passes& passes) noexcept {
    if (passes.schedule.stream) {
        passes.kernels.fence_streams();
    }
}

// The last one that the caller's thread has a share of.
std::int64_t last_of_share(const Passes& passes, std::int64_t items) {
    return std::max<std::int64_t>(1, runtime::first_share(passes.threads, items)) - 1;
}

// ---- by channels: each thread takes ranges of channels through all steps --------------------------------------------

class ByChannels {
  public:
    ByChannels(const Passes& passes, const Operation& operation)
        : passes_(passes), operation_(operation), steps_(passes, operation),
          beside_(passes.schedule.channels_beside > 0 && operation.runs_beside()) {}

    // The last rows of the caller's share.
    plan::Block share_end() const {
        const std::int64_t channels = (last_of_share(passes_, items()) + 1) * step();
        return {passes_.geometry.rows - 1, 1, 0,
                std::min(channels, passes_.geometry.channels) * passes_.geometry.columns_per_channel};
    }

    void run() const noexcept {
        const std::int64_t channels = passes_.geometry.channels;
        const std::int64_t step = this->step();
        const std::int64_t items = this->items();
        const auto run_item = [&](std::int64_t item, std::int64_t next, int slot) noexcept {
            std::byte* base = passes_.scratch + passes_.schedule.slots_offset + slot * passes_.schedule.slot_bytes;
            const std::int64_t first = item * step;
            RangeScratch scratch = range_scratch(passes_.schedule.range, base, first, std::min(step, channels - first));
            scratch.range.next_first = next < items ? next * step : first;
            run_range(scratch, at_offset<double>(base, passes_.schedule.levels_offset));
        };
        const auto lookahead = passes_.prefetch() && !beside_ ? runtime::Lookahead::one_item : runtime::Lookahead::none;
        runtime::parallel_for(passes_.threads, items, {lookahead, direction(passes_.from_end)}, run_item,
                              [this]() noexcept { end_stores(passes_); });
    }

  private:
    std::int64_t step() const {
        return beside_ ? passes_.schedule.channels_beside : passes_.schedule.channels_per_item;
    }
    std::int64_t items() const {
        return passes_.geometry.channels == 0 ? 0 : divide_up(passes_.geometry.channels, step());
    }

    void run_range(const RangeScratch& scratch, double* levels) const {
        steps_.begin(scratch);
        if (beside_) {
            operation_.run_beside(scratch.range);
            return;
        }
        if (passes_.channels_in_l1() > 0 && operation_.runs_in_l1()) {
            operation_.run_in_l1(scratch.range, passes_.channels_in_l1());
            return;
        }
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
        } else if (geometry.grid.count() == 1 || ((geometry.sums_together || passes_.sums_by_images()) &&
                                                  operation_.sum_kind(reduction) == SumKind::gradient)) {
            const std::int64_t width = geometry.columns_per_channel;
            steps_.reduce_columns(reduction, Pattern::planes, scratch.range.first * width, scratch.range.count * width,
                                  scratch.range.coefficients, 0, geometry.grid.count(), {sums[0], sums[1]}, levels);
        } else {
            steps_.reduce_channels(reduction, scratch.range.first, scratch.range.count, scratch.range.coefficients,
                                   {sums[0], sums[1]});
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
    const bool beside_;
};

// ---- by parts: all threads take one step together, then the next ----------------------------------------------------

class ByParts {
  public:
    ByParts(const Passes& passes, const Operation& operation)
        : passes_(passes), operation_(operation), steps_(passes, operation),
          scratch_(range_scratch(passes.schedule.range, passes.scratch, 0, passes.geometry.channels)) {}

    // The last block of the caller's share in the first step.
    plan::Block share_end() const {
        if (operation_.reductions() == 0) {
            return applied(last_of_share(passes_, apply_items()));
        }
        const std::int64_t item = last_of_share(passes_, reduction_items());
        return passes_.geometry.kind == MatrixKind::columns ? last_of_columns(item) : last_of_plane(item);
    }

    void run() noexcept {
        add_phases();
        steps_.begin(scratch_);
        if (operation_.reductions() == 0) {
            begin_apply();
        }
        runtime::parallel_phases(passes_.threads, {phases_.data(), count_}, *this);
    }

    // What the threads do.

    void body(int phase, std::int64_t item, std::int64_t, int slot) const noexcept {
        const PhaseOf& of = phases_of_[static_cast<std::size_t>(phase)];
        switch (of.step) {
        case Step::reduce:
            passes_.geometry.kind == MatrixKind::columns ? reduce_columns(of.reduction, item, slot)
                                                         : reduce_plane(of.reduction, item);
            break;
        case Step::merge: merge_panel(operation_.sum_kind(of.reduction), item); break;
        case Step::apply: apply(item); break;
        }
    }

    // Reductions may write, too (reduce_and_apply).
    void end() const noexcept { end_stores(passes_); }

    void finish(int phase) const noexcept {
        const PhaseOf& of = phases_of_[static_cast<std::size_t>(phase)];
        if (of.step == Step::apply || (of.step == Step::reduce && merges_together())) {
            return;
        }
        fold(of);
        steps_.finish(of.reduction, scratch_);
        if (of.reduction + 1 == operation_.reductions()) {
            begin_apply();
        }
    }

  private:
    enum class Step { reduce, merge, apply };
    struct PhaseOf {
        Step step = Step::apply;
        int reduction = 0;
    };
    // Few merges are done sooner than other threads are told of them.
    static constexpr std::int64_t kFewMerges = 32768;
    static constexpr std::int64_t kMergedColumns = 128;

    static_assert(runtime::kMostPhases >= 2 * plan::kMaxReductions + 1);

    void add_phases() {
        for (int reduction = 0; reduction < operation_.reductions(); ++reduction) {
            add({Step::reduce, reduction},
                {reduction_items(), {runtime::Lookahead::none, direction(passes_.from_end)}});
            if (merges_together()) {
                add({Step::merge, reduction}, {divide_up(passes_.geometry.row_length, kMergedColumns), {}});
            }
        }
        if (operation_.applies()) {
            const bool from_end = passes_.applies_from_end(operation_.reductions());
            add({Step::apply, 0}, {apply_items(), {runtime::Lookahead::none, direction(from_end)}});
        }
    }

    void add(const PhaseOf& of, const runtime::Phase& phase) {
        phases_of_[count_] = of;
        phases_[count_++] = phase;
    }

    std::int64_t blocks_of_part(std::int64_t part) const {
        const std::int64_t step = passes_.schedule.blocks_per_part;
        return std::min(step, passes_.geometry.grid.count() - part * step);
    }

    plan::Block last_block(std::int64_t part) const {
        return passes_.geometry.grid.at(part * passes_.schedule.blocks_per_part + blocks_of_part(part) - 1);
    }

    std::int64_t panels() const { return divide_up(passes_.geometry.row_length, passes_.schedule.panel_columns); }

    std::int64_t reduction_items() const {
        const bool columns = passes_.geometry.kind == MatrixKind::columns;
        return (columns ? panels() : passes_.geometry.channels) * passes_.schedule.parts;
    }

    bool merges_together() const {
        return passes_.geometry.kind == MatrixKind::columns &&
               passes_.schedule.parts * passes_.geometry.row_length > kFewMerges;
    }

    // When all parts have their sums: those of the channels.
    void fold(const PhaseOf& of) const noexcept {
        if (passes_.geometry.kind == MatrixKind::planes) {
            fold_planes(of.reduction);
            return;
        }
        if (of.step == Step::reduce) {
            merge_parts(operation_.sum_kind(of.reduction), 0, passes_.geometry.row_length, 0, passes_.schedule.parts);
        }
        steps_.fold_columns(of.reduction, scratch_, partial(0, 0));
    }

    // ---- planes ----

    Sums* partials() const { return at_offset<Sums>(passes_.scratch, passes_.schedule.partials_offset); }

    plan::Block last_of_plane(std::int64_t item) const {
        const std::int64_t part = item % passes_.schedule.parts;
        plan::Block block = last_block(part);
        block.column += item / passes_.schedule.parts * passes_.geometry.columns_per_channel;
        return block;
    }

    void reduce_plane(int reduction, std::int64_t item) const noexcept {
        const std::int64_t channel = item / passes_.schedule.parts;
        const std::int64_t part = item % passes_.schedule.parts;
        partials()[item] = steps_.reduce_channel(reduction, channel, advance(scratch_.range.coefficients, channel),
                                                 part * passes_.schedule.blocks_per_part, blocks_of_part(part));
    }

    void fold_planes(int reduction) const noexcept {
        const std::int64_t parts = passes_.schedule.parts;
        const Sums* partials = this->partials();
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

    plan::Block last_of_columns(std::int64_t item) const {
        const std::int64_t part = item / panels();
        plan::Block block = last_block(part);
        block.column = item % panels() * passes_.schedule.panel_columns;
        block.columns = std::min(passes_.schedule.panel_columns, passes_.geometry.row_length - block.column);
        return block;
    }

    void reduce_columns(int reduction, std::int64_t item, int slot) const noexcept {
        const plan::Schedule& schedule = passes_.schedule;
        const std::int64_t part = item / panels();
        const std::int64_t column = item % panels() * schedule.panel_columns;
        auto* levels = at_offset<double>(passes_.scratch,
                                         schedule.slots_offset + slot * schedule.slot_bytes + schedule.levels_offset);
        steps_.reduce_columns(reduction, Pattern::periodic, column,
                              std::min(schedule.panel_columns, passes_.geometry.row_length - column),
                              advance(scratch_.column_coefficients, column), part * schedule.blocks_per_part,
                              blocks_of_part(part), partial(part, column), levels);
    }

    void merge_panel(SumKind kind, std::int64_t item) const noexcept {
        const std::int64_t column = item * kMergedColumns;
        merge_parts(kind, column, std::min(kMergedColumns, passes_.geometry.row_length - column), 0,
                    passes_.schedule.parts);
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

    void begin_apply() const noexcept {
        if (operation_.applies()) {
            steps_.apply_tail(scratch_);
        }
    }

    // Of an item: images in the order of memory, pieces of one channel's planes, or rows.
    BlockGrid images() const {
        const plan::Geometry& geometry = passes_.geometry;
        return {geometry.rows, geometry.row_length, passes_.schedule.apply_rows,
                passes_.schedule.apply_channels * geometry.columns_per_channel};
    }
    BlockGrid pieces() const {
        const plan::Geometry& geometry = passes_.geometry;
        return {geometry.rows, geometry.columns_per_channel, passes_.schedule.apply_rows,
                passes_.schedule.apply_columns};
    }

    std::int64_t apply_items() const {
        const plan::Geometry& geometry = passes_.geometry;
        if (passes_.schedule.apply_channels > 0) {
            return images().count();
        }
        return geometry.kind == MatrixKind::planes ? geometry.channels * pieces().count()
                                                   : divide_up(geometry.rows, passes_.schedule.apply_rows);
    }

    // What an item applies.
    plan::Block applied(std::int64_t item) const {
        const plan::Geometry& geometry = passes_.geometry;
        if (passes_.schedule.apply_channels > 0) {
            return images().at(item);
        }
        if (geometry.kind == MatrixKind::planes) {
            plan::Block block = pieces().at(item % pieces().count());
            block.column += item / pieces().count() * geometry.columns_per_channel;
            return block;
        }
        const std::int64_t row = item * passes_.schedule.apply_rows;
        return {row, std::min(passes_.schedule.apply_rows, geometry.rows - row), 0, geometry.row_length};
    }

    void apply(std::int64_t item) const noexcept {
        const std::int64_t width = passes_.geometry.columns_per_channel;
        plan::Block block = applied(item);
        if (passes_.schedule.apply_channels > 0) {
            for (std::int64_t row = block.row; row < block.row + block.rows; ++row) {
                steps_.apply_image(scratch_, row, block.column / width, block.columns / width);
            }
        } else if (passes_.geometry.kind == MatrixKind::planes) {
            const std::int64_t channel = block.column / width;
            block.column -= channel * width;
            steps_.apply_plane_rows(scratch_, channel, block);
        } else {
            steps_.apply_rows(scratch_, block.row, block.rows);
        }
    }

    const Passes& passes_;
    const Operation& operation_;
    Steps steps_;
    RangeScratch scratch_;
    std::array<PhaseOf, runtime::kMostPhases> phases_of_{};
    std::array<runtime::Phase, runtime::kMostPhases> phases_{};
    std::size_t count_ = 0;
};

} // namespace

void Passes::run(const Operation& operation) noexcept {
    cold = schedule.probes && operation.reductions() > 0 &&
           found_in_memory(geometry, operation.inputs(), runtime::most_ticks_of_caches());
    const auto take = [&](auto&& order) {
        // What is in memory is as far at either end, and finding that out takes a microsecond.
        from_end = schedule.finds_nearer_end && !cold && nearer_at_end(geometry, order.share_end(), operation.inputs());
        order.run();
    };
    if (schedule.strategy == Strategy::by_channels) {
        take(ByChannels(*this, operation));
    } else {
        take(ByParts(*this, operation));
    }
}

} // namespace bnorm::ops
