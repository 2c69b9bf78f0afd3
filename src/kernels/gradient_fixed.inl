// Gradient sums and dx = scale * dy' in one pass: with fixed statistics dx does not wait for the sums.
#ifndef BNORM_KERNELS_GRADIENT_FIXED_INL
#define BNORM_KERNELS_GRADIENT_FIXED_INL

#include "kernels/gradient_sums.inl"

namespace bnorm::kernels {
namespace {

template <Gate kGate>
BNORM_INLINE GateParameters gradient_fixed_parameters(const GradientSums& task, std::int64_t column) {
    GateParameters parameters = gate_parameters<kGate, Pattern::periodic>(task, column);
    parameters.scale = parameter<Pattern::periodic>(task.scale, column);
    return parameters;
}

// Of kVectors vectors of a row, which `row` and `dx` point to. All is loaded before any is stored: dx may be dy or x,
// and see kTogether.
template <Gate kGate, bool kStream, bool kWhole, std::int64_t kVectors, class Ahead>
BNORM_INLINE void gradient_fixed_vectors(const GradientRow& row, float* dx, std::int64_t lanes,
                                         const GateParameters (&parameters)[kVectors], F32Sums (&sums)[kVectors],
                                         Ahead& ahead) {
    F32 outputs[kVectors];
    BNORM_UNROLL
    for (std::int64_t v = 0; v < kVectors; ++v) {
        ahead.fetch();
        const GradientTerms t = gradient_terms<kGate, kWhole>(at_column<kGate>(row, v * kWidth), lanes, parameters[v]);
        sums[v] = add_terms(sums[v], t);
        outputs[v] = parameters[v].scale * t.dy;
    }
    BNORM_UNROLL
    for (std::int64_t v = 0; v < kVectors; ++v) {
        store_lanes<kWhole, kStream>(dx + v * kWidth, outputs[v], lanes);
    }
}

// ---- down the rows: parameters and f64 sums stay in registers -------------------------------------------------------

template <Gate kGate, bool kWhole, std::int64_t kVectors>
BNORM_INLINE void gradient_fixed_panel(const GradientSums& task, std::int64_t column) {
    GateParameters parameters[kVectors];
    WideSums totals[kVectors];
    BNORM_UNROLL
    for (std::int64_t v = 0; v < kVectors; ++v) {
        parameters[v] = gradient_fixed_parameters<kGate>(task, column + v * kWidth);
        totals[v] = no_wide_sums();
    }
    GradientRow row = at_column<kGate>(gradient_row<kGate>(task, 0), column);
    float* dx = task.dx + column;
    NothingAhead nothing;
    for (std::int64_t first = 0; first < task.rows; first += kGroup) {
        const std::int64_t end = task.rows - first < kGroup ? task.rows : first + kGroup;
        F32Sums sums[kVectors];
        BNORM_UNROLL
        for (F32Sums& vector : sums) {
            vector = {F32(0.0F), F32(0.0F)};
        }
        BNORM_NO_UNROLL
        for (std::int64_t r = first; r < end; ++r) {
            BNORM_UNROLL
            for (std::int64_t v = 0; v < kVectors; ++v) {
                prefetch_piece(task, row, v * kWidth);
            }
            gradient_fixed_vectors<kGate, false, kWhole>(row, dx, task.columns - column, parameters, sums, nothing);
            row = rows_on(task, row, 1);
            dx += task.dx_stride;
        }
        BNORM_UNROLL
        for (std::int64_t v = 0; v < kVectors; ++v) {
            add_widened(totals[v], sums[v]);
        }
    }
    BNORM_UNROLL
    for (std::int64_t v = 0; v < kVectors; ++v) {
        store_columns(task, column + v * kWidth, totals[v]);
    }
}

template <Gate kGate>
BNORM_RARE void gradient_fixed_panels(const GradientSums& arguments) {
    const GradientSums task = arguments;
    std::int64_t c = 0;
    for (; c + kColumnVectors * kWidth <= task.columns; c += kColumnVectors * kWidth) {
        gradient_fixed_panel<kGate, true, kColumnVectors>(task, c);
    }
    BNORM_NO_UNROLL
    for (; c + kWidth <= task.columns; c += kWidth) {
        gradient_fixed_panel<kGate, true, 1>(task, c);
    }
    if (c < task.columns) {
        gradient_fixed_panel<kGate, false, 1>(task, c);
    }
}

// ---- in the order of memory: f32 sums of a group of rows are kept in L1 ---------------------------------------------

// Of so many columns, those, the f64 sums and the parameters leave room in L1.
constexpr std::int64_t kFixedColumns = 512;

// kLast: of a group, whose sums enter the f64 sums and start again at 0.
template <Gate kGate, bool kStream, bool kLast, bool kWhole, std::int64_t kVectors, class Ahead>
BNORM_INLINE void gradient_fixed_stored(const GradientSums& task, const GradientRow& row, float* dx,
                                        std::int64_t column, StoredSums* stored, Ahead& ahead) {
    StoredSums* of_vector = stored + column / kWidth;
    GateParameters parameters[kVectors];
    F32Sums sums[kVectors];
    BNORM_UNROLL
    for (std::int64_t v = 0; v < kVectors; ++v) {
        parameters[v] = gradient_fixed_parameters<kGate>(task, column + v * kWidth);
        sums[v] = {load(of_vector[v].s1), load(of_vector[v].s2)};
    }
    gradient_fixed_vectors<kGate, kStream, kWhole>(at_column<kGate>(row, column), dx + column, task.columns - column,
                                                   parameters, sums, ahead);
    BNORM_UNROLL
    for (std::int64_t v = 0; v < kVectors; ++v) {
        if (kLast) {
            add_to_columns(task, column + v * kWidth, sums[v]);
        }
        store(of_vector[v].s1, kLast ? F32(0.0F) : sums[v].s1);
        store(of_vector[v].s2, kLast ? F32(0.0F) : sums[v].s2);
    }
}

template <Gate kGate, bool kStream, bool kLast, class Ahead>
BNORM_INLINE void gradient_fixed_row(const GradientSums& task, std::int64_t r, StoredSums* stored, Ahead& ahead) {
    const GradientRow row = gradient_row<kGate>(task, r);
    float* dx = task.dx + r * task.dx_stride;
    std::int64_t c = 0;
    for (; c + kColumnVectors * kWidth <= task.columns; c += kColumnVectors * kWidth) {
        gradient_fixed_stored<kGate, kStream, kLast, true, kColumnVectors>(task, row, dx, c, stored, ahead);
    }
    BNORM_NO_UNROLL
    for (; c + kWidth <= task.columns; c += kWidth) {
        gradient_fixed_stored<kGate, kStream, kLast, true, 1>(task, row, dx, c, stored, ahead);
    }
    if (c < task.columns) {
        gradient_fixed_stored<kGate, false, kLast, false, 1>(task, row, dx, c, stored, ahead);
    }
}

template <Gate kGate, bool kStream>
BNORM_RARE void gradient_fixed_rows(const GradientSums& arguments) {
    const GradientSums task = arguments;
    GradientRowsAhead<IntoL2> ahead = columns_ahead<IntoL2>(task);
    StoredSums stored[kFixedColumns / kWidth] = {};
    for (std::int64_t r = 0; r < task.rows; ++r) {
        if ((r + 1) % kGroup == 0 || r + 1 == task.rows) {
            gradient_fixed_row<kGate, kStream, true>(task, r, stored, ahead);
        } else {
            gradient_fixed_row<kGate, kStream, false>(task, r, stored, ahead);
        }
    }
}

BNORM_INLINE GradientSums some_columns(const GradientSums& task, std::int64_t first, std::int64_t columns) {
    GradientSums some = task;
    some.dy += first;
    some.x += first;
    some.dx += first;
    some.mask_bit += first;
    some.center += first;
    some.scale += first;
    some.shift += first;
    some.sum_dy += first;
    some.sum_dy_centered_x += first;
    some.columns = columns;
    return some;
}

template <Gate kGate, bool kStream>
BNORM_INLINE void gradient_fixed_in_order(const GradientSums& task) {
    clear_columns(task);
    for (std::int64_t c = 0; c < task.columns; c += kFixedColumns) {
        const std::int64_t columns = task.columns - c < kFixedColumns ? task.columns - c : kFixedColumns;
        gradient_fixed_rows<kGate, kStream>(some_columns(task, c, columns));
    }
}

// From memory, panels would come in pieces that hardware does not follow; and tensors so large that dx bypasses the
// cache are nearly there.
template <int kVariant>
BNORM_KERNEL void gradient_fixed_periodic(const GradientSums& task) {
    constexpr Gate kGate = kFixedGates[kVariant % kFixedGateCount];
    constexpr bool kStream = kVariant >= kFixedGateCount;
    if (kStream || task.prefetch) {
        gradient_fixed_in_order<kGate, kStream>(task);
    } else {
        gradient_fixed_panels<kGate>(task);
    }
}

} // namespace
} // namespace bnorm::kernels

#endif
