// Mean and M2 of each column, as moments.inl, whose constants and reasons hold here too. Groups of eight rows are added
// to each other in f32, one after the other, for a run of rows before they enter the f64 sums; the plan chooses how
// long runs are (plan/geometry.cpp).
#ifndef BNORM_KERNELS_COLUMN_MOMENTS_INL
#define BNORM_KERNELS_COLUMN_MOMENTS_INL

#include "kernels/moments.inl"
#include "kernels/rows_ahead.inl"
#include "kernels/simd.hpp"

namespace bnorm::kernels {
namespace {

// Below: f64 sums (moments.inl).
constexpr std::int64_t kFewRows = 64;
constexpr std::int64_t kSampledRows = 16;

// The sums of one vector of columns.
struct ColumnTotals : WideSums {
    F32 largest;
};

BNORM_INLINE ColumnTotals no_totals() { return {no_wide_sums(), F32(0.0F)}; }

BNORM_INLINE void add_group(ColumnTotals& totals, const F32Sums& group) {
    add_widened(totals, group);
    totals.largest = xsimd::max(totals.largest, group.s2);
}

constexpr float kSampleShare = 1.0F / static_cast<float>(kSampledRows);

BNORM_INLINE const float* sampled_row(const Rows& block, std::int64_t i) {
    return block.x + i * block.rows / kSampledRows * block.row_stride;
}

// Columns beyond the last read as 0, so that their sums stay 0.
template <bool kWhole, std::int64_t kVectors>
BNORM_INLINE void sample_shifts(const Rows& block, std::int64_t column, F32 (&shifts)[kVectors]) {
    BNORM_UNROLL
    for (F32& shift : shifts) {
        shift = F32(0.0F);
    }
    for (std::int64_t i = 0; i < kSampledRows; ++i) {
        const float* row = sampled_row(block, i) + column;
        BNORM_UNROLL
        for (std::int64_t v = 0; v < kVectors; ++v) {
            shifts[v] = shifts[v] + load_lanes<kWhole>(row + v * kWidth, block.columns - column);
        }
    }
    BNORM_UNROLL
    for (F32& shift : shifts) {
        shift = shift * F32(kSampleShare);
    }
}

// The sums of at most kGroup rows of one vector of columns.
template <bool kWhole, class Ahead>
BNORM_INLINE F32Sums sum_group(const Rows& group, std::int64_t lanes, F32 shift, Ahead& ahead) {
    const DifferenceFrom<F32> difference(shift);
    const float* first = in_register(group.x);
    const auto d = [&](std::int64_t k) {
        ahead.fetch();
        return difference(load_lanes<kWhole>(first + k * group.row_stride, lanes));
    };
    if (group.rows == kGroup) {
        return sum_eight(d);
    }
    F32Sums chain = {F32(0.0F), F32(0.0F)};
    for (std::int64_t k = 0; k < group.rows; ++k) {
        const F32 value = d(k);
        chain = {chain.s1 + value, fma(value, value, chain.s2)};
    }
    return chain;
}

template <bool kWhole, class Shift>
BNORM_INLINE void add_exact(ColumnTotals& totals, const float* x, std::int64_t lanes, const Shift& shift) {
    if (kWhole) {
        add_exact(totals.s1[0], totals.s2[0], load_widened(x), shift.low);
        add_exact(totals.s1[1], totals.s2[1], load_widened(x + kWidthF64), shift.high);
    } else {
        const F32 values = load_first(x, lanes);
        add_exact(totals.s1[0], totals.s2[0], widen_low(values), shift.low);
        add_exact(totals.s1[1], totals.s2[1], widen_high(values), shift.high);
    }
}

// ---- closing ----

// Mean and M2 of each column.
struct ColumnMoments {
    double* mean;
    double* m2;
};

BNORM_INLINE ColumnMoments at_column(const ColumnMoments& result, std::int64_t c) {
    return {result.mean + c, result.m2 + c};
}

// How sums were formed: of groups in f32, of every d in f64, of every x in f64.
enum class Formed { by_groups, of_differences, of_values };

// Returns the lanes that must be summed again. Those of every d in f64 need no more than to be finite.
template <Formed kFormed>
BNORM_INLINE std::uint32_t close_columns(double n, F32 shift, const ColumnTotals& totals, const ColumnMoments& result) {
    std::uint32_t refused = 0;
    const F64 shifts[2] = {widen_low(shift), widen_high(shift)};
    const F64 groups[2] = {widen_low(totals.largest), widen_high(totals.largest)};
    BNORM_UNROLL
    for (std::int64_t half = 0; half < 2; ++half) {
        const F64 sum = totals.s1[half];
        const F64 square = totals.s2[half];
        const F64 closed = square - sum * sum * F64(1.0 / n);
        std::uint32_t accepted = bits(square < F64(kInfinity));
        if (kFormed == Formed::of_values) {
            accepted &= bits(square <= F64(kMaxCancellationInF64) * closed);
        }
        if (kFormed == Formed::by_groups) {
            accepted &= bits(square <= F64(kMaxCancellation) * closed) & bits(square >= F64(n * kMinMeanSquare)) &
                        bits(groups[half] <= F64(kMaxGroupShare) * square);
        }
        const std::uint32_t all = (1U << kWidthF64) - 1U;
        refused |= (accepted ^ all) << (half * kWidthF64);
        store(result.mean + half * kWidthF64, shifts[half] + sum * F64(1.0 / n));
        store(result.m2 + half * kWidthF64, xsimd::max(closed, F64(0.0)));
    }
    return refused;
}

// One vector of columns in f64 around the means found before; the refused lanes take the result.
BNORM_RARE void sum_columns_again(const Rows& block, std::int64_t c, std::uint32_t refused,
                                  const ColumnMoments& found) {
    alignas(64) float shifts[kLanes] = {};
    alignas(64) double mean[kLanes] = {};
    alignas(64) double m2[kLanes] = {};
    const std::int64_t columns = block.columns - c < kWidth ? block.columns - c : kWidth;
    for (std::int64_t lane = 0; lane < columns; ++lane) {
        shifts[lane] = static_cast<float>(found.mean[lane]);
    }
    const F32 shift = load(shifts);
    ColumnTotals totals = no_totals();
    for (std::int64_t row = 0; row < block.rows; ++row) {
        const float* x = block.x + row * block.row_stride + c;
        columns == kWidth ? add_exact<true>(totals, x, kWidth, ExactShift(shift))
                          : add_exact<false>(totals, x, columns, ExactShift(shift));
    }
    const std::uint32_t infinite =
        close_columns<Formed::of_differences>(static_cast<double>(block.rows), shift, totals, {mean, m2});
    for (std::int64_t lane = 0; lane < columns; ++lane) {
        if ((refused & infinite) >> lane & 1U) {
            const Moments moments = moments_in_f64({block.x + c + lane, block.rows, block.row_stride, 1});
            mean[lane] = moments.mean;
            m2[lane] = moments.m2;
        }
        if (refused >> lane & 1U) {
            found.mean[lane] = mean[lane];
            found.m2[lane] = m2[lane];
        }
    }
}

template <Formed kFormed>
BNORM_INLINE void finish_columns(const Rows& block, std::int64_t c, F32 shift, const ColumnTotals& totals,
                                 const ColumnMoments& result) {
    const ColumnMoments columns = at_column(result, c);
    const std::uint32_t refused = close_columns<kFormed>(static_cast<double>(block.rows), shift, totals, columns);
    // Lanes beyond the last column sum to 0, which is always refused.
    const std::int64_t lanes = block.columns - c;
    const std::uint32_t used = lanes < kWidth ? (1U << lanes) - 1U : ~0U;
    if ((refused & used) != 0) {
        sum_columns_again(block, c, refused, columns);
    }
}

// ---- panels: a few vectors of columns from the first row to the last ----

// Calls panel(vectors, whole, column) with constants for all columns.
template <std::int64_t kVectors, class Panel>
BNORM_INLINE void in_panels(std::int64_t columns, const Panel& panel) {
    std::int64_t c = 0;
    for (; c + kVectors * kWidth <= columns; c += kVectors * kWidth) {
        panel.template run<true, kVectors>(c);
    }
    for (; c + kWidth <= columns; c += kWidth) {
        panel.template run<true, 1>(c);
    }
    if (c < columns) {
        panel.template run<false, 1>(c);
    }
}

// All sums in f64, without a shift.
struct FewRowsPanel {
    Rows block;
    ColumnMoments result;

    template <bool kWhole, std::int64_t kVectors>
    BNORM_MEMBER void run(std::int64_t column) const {
        const float* x = block.x + column;
        const std::int64_t lanes = block.columns - column;
        ColumnTotals totals[kVectors];
        BNORM_UNROLL
        for (ColumnTotals& vector : totals) {
            vector = no_totals();
        }
        for (std::int64_t row = 0; row < block.rows; ++row) {
            BNORM_UNROLL
            for (std::int64_t v = 0; v < kVectors; ++v) {
                add_exact<kWhole>(totals[v], x + row * block.row_stride + v * kWidth, lanes, NoShift());
            }
        }
        BNORM_UNROLL
        for (std::int64_t v = 0; v < kVectors; ++v) {
            finish_columns<Formed::of_values>(block, column + v * kWidth, F32(0.0F), totals[v], result);
        }
    }
};

struct ManyRowsPanel {
    Rows block;
    std::int64_t rows_per_run;
    ColumnMoments result;

    template <bool kWhole>
    BNORM_MEMBER F32Sums group(std::int64_t c, std::int64_t row, std::int64_t rows, F32 shift) const {
        NothingAhead nothing;
        const Rows rows_of_group = {block.x + row * block.row_stride + c, rows, block.row_stride, block.columns};
        return sum_group<kWhole>(rows_of_group, block.columns - c, shift, nothing);
    }

    // The f64 sums stay in registers.
    template <bool kWhole, std::int64_t kVectors>
    BNORM_MEMBER void sum_groups(std::int64_t column, const F32 (&shifts)[kVectors],
                                 ColumnTotals (&totals)[kVectors]) const {
        for (std::int64_t row = 0; row + kGroup <= block.rows; row += kGroup) {
            BNORM_UNROLL
            for (std::int64_t v = 0; v < kVectors; ++v) {
                add_group(totals[v], group<kWhole>(column + v * kWidth, row, kGroup, shifts[v]));
            }
        }
    }

    // The f32 sums stay in registers.
    template <bool kWhole, std::int64_t kVectors>
    BNORM_MEMBER void sum_runs(std::int64_t column, const F32 (&shifts)[kVectors],
                               ColumnTotals (&totals)[kVectors]) const {
        const std::int64_t whole = block.rows / kGroup * kGroup;
        for (std::int64_t first = 0; first < whole; first += rows_per_run) {
            F32Sums sums[kVectors];
            BNORM_UNROLL
            for (F32Sums& vector : sums) {
                vector = {F32(0.0F), F32(0.0F)};
            }
            const std::int64_t end = first + rows_per_run < whole ? first + rows_per_run : whole;
            for (std::int64_t row = first; row < end; row += kGroup) {
                BNORM_UNROLL
                for (std::int64_t v = 0; v < kVectors; ++v) {
                    sums[v] = add(sums[v], group<kWhole>(column + v * kWidth, row, kGroup, shifts[v]));
                }
            }
            BNORM_UNROLL
            for (std::int64_t v = 0; v < kVectors; ++v) {
                add_group(totals[v], sums[v]);
            }
        }
    }

    template <bool kWhole, std::int64_t kVectors>
    BNORM_MEMBER void run(std::int64_t column) const {
        F32 shifts[kVectors];
        ColumnTotals totals[kVectors];
        sample_shifts<kWhole>(block, column, shifts);
        BNORM_UNROLL
        for (ColumnTotals& vector : totals) {
            vector = no_totals();
        }
        if (rows_per_run == kGroup) {
            sum_groups<kWhole>(column, shifts, totals);
        } else {
            sum_runs<kWhole>(column, shifts, totals);
        }
        const std::int64_t whole = block.rows / kGroup * kGroup;
        BNORM_UNROLL
        for (std::int64_t v = 0; v < kVectors; ++v) {
            const std::int64_t c = column + v * kWidth;
            if (whole < block.rows) {
                add_group(totals[v], group<kWhole>(c, whole, block.rows - whole, shifts[v]));
            }
            finish_columns<Formed::by_groups>(block, c, shifts[v], totals[v], result);
        }
    }
};

// ---- along the rows, eight at a time ----

// Of all columns, one array after the other: a kilobyte past multiples of 4 KiB, or the loads of one would wait for the
// stores of another.
constexpr std::int64_t kColumnArray = kMaxMomentColumns + 256 + kLanes;

struct ColumnArrays {
    alignas(64) float shifts[kColumnArray];
    alignas(64) float run_s1[kColumnArray];
    alignas(64) float run_s2[kColumnArray];
    alignas(64) float largest[kColumnArray];
};

BNORM_INLINE ColumnTotals load_totals(const ColumnArrays& arrays, const ColumnMoments& result, std::int64_t c) {
    return {{{load(result.mean + c), load(result.mean + c + kWidthF64)},
             {load(result.m2 + c), load(result.m2 + c + kWidthF64)}},
            load(arrays.largest + c)};
}

// `result` holds the f64 sums in the meantime.
BNORM_INLINE void store_totals(const ColumnTotals& totals, ColumnArrays& arrays, const ColumnMoments& result,
                               std::int64_t c) {
    store(totals, result.mean + c, result.m2 + c);
    store(arrays.largest + c, totals.largest);
}

BNORM_INLINE void add_to_totals(const F32Sums& sums, ColumnArrays& arrays, const ColumnMoments& result,
                                std::int64_t c) {
    ColumnTotals totals = load_totals(arrays, result, c);
    add_group(totals, sums);
    store_totals(totals, arrays, result, c);
}

template <bool kWhole>
BNORM_INLINE void add_samples(const float* const (&rows)[kGroup], float share, std::int64_t c, std::int64_t lanes,
                              ColumnArrays& arrays) {
    F32 sum = load(arrays.shifts + c);
    BNORM_UNROLL
    for (const float* row : rows) {
        sum = sum + load_lanes<kWhole>(row + c, lanes);
    }
    store(arrays.shifts + c, sum * F32(share));
}

// The same along eight rows at a time: a column after the other, rows of a page would drive each other out of L1.
BNORM_INLINE void sample_shifts_along_rows(const Rows& block, ColumnArrays& arrays) {
    for (std::int64_t first = 0; first < kSampledRows; first += kGroup) {
        const float* rows[kGroup];
        for (std::int64_t k = 0; k < kGroup; ++k) {
            rows[k] = sampled_row(block, first + k);
        }
        const float share = first + kGroup == kSampledRows ? kSampleShare : 1.0F;
        std::int64_t c = 0;
        for (; c + kWidth <= block.columns; c += kWidth) {
            add_samples<true>(rows, share, c, kWidth, arrays);
        }
        if (c < block.columns) {
            add_samples<false>(rows, share, c, block.columns - c, arrays);
        }
    }
}

BNORM_INLINE void start_columns(const Rows& block, ColumnArrays& arrays, const ColumnMoments& result) {
    for (std::int64_t c = 0; c < block.columns; c += kWidth) {
        store(arrays.shifts + c, F32(0.0F));
        store(arrays.run_s1 + c, F32(0.0F));
        store(arrays.run_s2 + c, F32(0.0F));
        store_totals(no_totals(), arrays, result, c);
    }
    sample_shifts_along_rows(block, arrays);
}

// Calls add(c, sums) for each vector of columns.
template <class Ahead, class Add>
BNORM_INLINE void sum_group_of_columns(const Rows& group, const ColumnArrays& arrays, Ahead& ahead, const Add& add) {
    std::int64_t c = 0;
    const auto columns_on = [&] { return Rows{group.x + c, group.rows, group.row_stride, group.columns}; };
    for (; c + kWidth <= group.columns; c += kWidth) {
        add(c, sum_group<true>(columns_on(), kWidth, load(arrays.shifts + c), ahead));
    }
    if (c < group.columns) {
        add(c, sum_group<false>(columns_on(), group.columns - c, load(arrays.shifts + c), ahead));
    }
}

BNORM_INLINE void end_runs(std::int64_t columns, ColumnArrays& arrays, const ColumnMoments& result) {
    for (std::int64_t c = 0; c < columns; c += kWidth) {
        add_to_totals({load(arrays.run_s1 + c), load(arrays.run_s2 + c)}, arrays, result, c);
        store(arrays.run_s1 + c, F32(0.0F));
        store(arrays.run_s2 + c, F32(0.0F));
    }
}

template <class Ahead>
BNORM_INLINE void sum_along_rows(const Rows& block, std::int64_t rows_per_run, ColumnArrays& arrays,
                                 const ColumnMoments& result, Ahead ahead) {
    const std::int64_t whole = block.rows / kGroup * kGroup;
    const auto add_to_runs = [&](std::int64_t c, const F32Sums& sums) {
        store(arrays.run_s1 + c, load(arrays.run_s1 + c) + sums.s1);
        store(arrays.run_s2 + c, load(arrays.run_s2 + c) + sums.s2);
    };
    const auto add_directly = [&](std::int64_t c, const F32Sums& sums) { add_to_totals(sums, arrays, result, c); };
    const auto rows_at = [&](std::int64_t row, std::int64_t rows) {
        return Rows{block.x + row * block.row_stride, rows, block.row_stride, block.columns};
    };
    if (rows_per_run == kGroup) {
        for (std::int64_t row = 0; row < whole; row += kGroup) {
            sum_group_of_columns(rows_at(row, kGroup), arrays, ahead, add_directly);
        }
    } else {
        for (std::int64_t row = 0; row < whole; row += kGroup) {
            sum_group_of_columns(rows_at(row, kGroup), arrays, ahead, add_to_runs);
            if ((row + kGroup) % rows_per_run == 0 || row + kGroup == whole) {
                end_runs(block.columns, arrays, result);
            }
        }
    }
    if (whole < block.rows) {
        sum_group_of_columns(rows_at(whole, block.rows - whole), arrays, ahead, add_directly);
    }
}

// Vectors of columns in a panel: with more, and their sums, registers do not suffice.
constexpr std::int64_t kPanelVectors = 4;
// A panel of narrow vectors also is too little of long rows.
constexpr bool sums_along_rows(std::int64_t stride) {
    return kWidth == 16 ? shares_sets(stride) : stride >= 16 * kPanelVectors * kWidth;
}
constexpr std::int64_t kFewRowsVectors = kWidth == 16 ? kPanelVectors : 2;

// By value: vector stores may alias what is referred to.
BNORM_RARE void moments_along_rows(Rows block, std::int64_t rows_per_run, ReadRows read, ColumnMoments result) {
    ColumnArrays arrays;
    start_columns(block, arrays, result);
    const auto sum = [&](const auto& ahead) { sum_along_rows(block, rows_per_run, arrays, result, ahead); };
    if (read == ReadRows::whole_into_l2) {
        sum(RowsAhead<IntoL2>(block.x, block.row_stride, block.columns));
    } else if (read == ReadRows::whole_into_l1) {
        sum(RowsAhead<IntoL1<2048>>(block.x, block.row_stride, block.columns));
    } else {
        sum(NothingAhead());
    }
    for (std::int64_t c = 0; c < block.columns; c += kWidth) {
        finish_columns<Formed::by_groups>(block, c, load(arrays.shifts + c), load_totals(arrays, result, c), result);
    }
}

BNORM_KERNEL void moments_periodic(const float* x, std::int64_t rows, std::int64_t row_stride, std::int64_t columns,
                                   std::int64_t rows_per_run, ReadRows read, double* mean, double* m2) {
    const Rows block = {x, rows, row_stride, columns};
    const ColumnMoments result = {mean, m2};
    const std::int64_t padded = (columns + kLanes - 1) / kLanes * kLanes;
    for (std::int64_t c = (columns + kWidth - 1) / kWidth * kWidth; c < padded; c += kWidthF64) {
        store(mean + c, F64(0.0));
        store(m2 + c, F64(0.0));
    }
    if (rows < kFewRows) {
        in_panels<kFewRowsVectors>(columns, FewRowsPanel{block, result});
    } else if (read != ReadRows::by_panels || sums_along_rows(row_stride)) {
        moments_along_rows(block, rows_per_run, read, result);
    } else {
        in_panels<kPanelVectors>(columns, ManyRowsPanel{block, rows_per_run, result});
    }
}

// Chan, Golub and LeVeque 1983. Where an infinite mean makes that NaN, the sum of the means is what a plain mean gives.
BNORM_KERNEL void merge_moments(std::int64_t columns, double count_a, double* mean_a, double* m2_a, double count_b,
                                const double* mean_b, const double* m2_b) {
    const F64 weight(count_b / (count_a + count_b));
    const F64 product(count_a * (count_b / (count_a + count_b)));
    for (std::int64_t c = 0; c < columns; c += kWidthF64) {
        const F64 a = load(mean_a + c);
        const F64 b = load(mean_b + c);
        const F64 delta = b - a;
        store(m2_a + c, load(m2_a + c) + load(m2_b + c) + delta * delta * product);
        const F64 merged = a + delta * weight;
        store(mean_a + c, xsimd::select(xsimd::isnan(merged), a + b, merged));
    }
}

} // namespace
} // namespace bnorm::kernels

#endif
