// sum(dy') and sum(dy' * (x - center)), f32 only within groups of eight, f64 beyond, as in moments.inl.
#ifndef BNORM_KERNELS_GRADIENT_SUMS_INL
#define BNORM_KERNELS_GRADIENT_SUMS_INL

#include "kernels/elementwise.inl"
#include "kernels/moments.inl"

namespace bnorm::kernels {
namespace {

struct GradientRow {
    const float* dy;
    const float* x;
    const std::uint8_t* mask;
};

BNORM_INLINE GradientRow gradient_row(const GradientSums& task, std::int64_t row) {
    return {task.dy + row * task.dy_stride, task.x + row * task.x_stride, task.mask + row * task.mask_stride};
}

struct GradientTerms {
    F32 dy;
    F32 e; // x - center
};

struct GateParameters {
    F32 center;
    F32 scale;
    F32 shift;
    F32 activation;
};

template <Gate kGate, Pattern kPattern>
BNORM_INLINE GateParameters gate_parameters(const GradientSums& task, std::int64_t column) {
    const F32 none(0.0F);
    return {parameter<kPattern>(task.center, column),
            is_sign_gate(kGate) ? parameter<kPattern>(task.scale, column) : none,
            is_sign_gate(kGate) ? parameter<kPattern>(task.shift, column) : none, F32(task.activation_parameter)};
}

// Lanes from `lanes` on are 0 in dy, and therefore in both sums.
template <Gate kGate, bool kWhole>
BNORM_INLINE GradientTerms gradient_terms(const GradientRow& row, std::int64_t mask_bit, std::int64_t column,
                                          std::int64_t lanes, const GateParameters& parameters) {
    const F32 dy = in_register(load_lanes<kWhole>(row.dy + column, lanes));
    F32 e = load_lanes<kWhole>(row.x + column, lanes) - parameters.center;
    if (!kWhole) {
        e = keep_first(e, lanes);
    }
    if (is_mask_gate(kGate)) {
        return {gate_by_mask<kGate>(dy, load_mask(row.mask, mask_bit + column), parameters.activation), e};
    }
    if (is_sign_gate(kGate)) {
        return {gate_by_sign<kGate>(dy, fma(e, parameters.scale, parameters.shift), parameters.activation), e};
    }
    return {F32(dy.data), e};
}

// Eight terms as two trees; `terms(k)` gives the k-th.
template <class Terms>
BNORM_INLINE F32Sums sum_eight_products(const Terms& terms) {
    const GradientTerms t0 = terms(0), t1 = terms(1), t2 = terms(2), t3 = terms(3);
    const F32 low1 = (t0.dy + t1.dy) + (t2.dy + t3.dy);
    const F32 low2 = fma(t1.dy, t1.e, t0.dy * t0.e) + fma(t3.dy, t3.e, t2.dy * t2.e);
    const GradientTerms t4 = terms(4), t5 = terms(5), t6 = terms(6), t7 = terms(7);
    const F32 high1 = (t4.dy + t5.dy) + (t6.dy + t7.dy);
    const F32 high2 = fma(t5.dy, t5.e, t4.dy * t4.e) + fma(t7.dy, t7.e, t6.dy * t6.e);
    return {low1 + high1, low2 + high2};
}

struct LaneGradients {
    LaneTotals dy;
    LaneTotals products;
};

BNORM_INLINE void add_group(LaneGradients& sums, std::int64_t lane, const F32Sums& group) {
    add_widened(sums.dy, lane, group.s1);
    add_widened(sums.products, lane, group.s2);
}

struct GradientRowsAhead {
    RowsAhead dy;
    RowsAhead x;

    BNORM_MEMBER void fetch() {
        dy.fetch();
        x.fetch();
    }
};

template <bool kPrefetch>
BNORM_INLINE auto gradients_ahead(const GradientSums& task) {
    if constexpr (kPrefetch) {
        return GradientRowsAhead{{task.dy, task.dy_stride, task.course}, {task.x, task.x_stride, task.course}};
    } else {
        return NothingAhead{};
    }
}

template <Gate kGate, class Ahead>
BNORM_INLINE void sum_gradient_row(const GradientRow& row, std::int64_t mask_bit, std::int64_t columns,
                                   const GateParameters& parameters, LaneGradients& sums, Ahead& ahead) {
    constexpr std::int64_t kStep = kGroup * kLanes;
    std::int64_t c = 0;
    for (; c + kStep <= columns; c += kStep) {
        BNORM_UNROLL
        for (std::int64_t lane = 0; lane < kLanes; lane += kWidth) {
            add_group(sums, lane, sum_eight_products([&](std::int64_t k) {
                          ahead.fetch();
                          return gradient_terms<kGate, true>(row, mask_bit, c + lane + k * kLanes, kWidth, parameters);
                      }));
        }
    }
    if (c == columns) {
        return;
    }
    for (std::int64_t i = c; i < columns; i += kWidth) {
        ahead.fetch();
    }
    BNORM_UNROLL
    for (std::int64_t lane = 0; lane < kLanes; lane += kWidth) {
        F32Sums chain = {F32(0.0F), F32(0.0F)};
        std::int64_t i = c + lane;
        for (; i + kWidth <= columns; i += kLanes) {
            const GradientTerms t = gradient_terms<kGate, true>(row, mask_bit, i, kWidth, parameters);
            chain = {chain.s1 + t.dy, fma(t.dy, t.e, chain.s2)};
        }
        if (i < columns) {
            const GradientTerms t = gradient_terms<kGate, false>(row, mask_bit, i, columns - i, parameters);
            chain = {chain.s1 + t.dy, fma(t.dy, t.e, chain.s2)};
        }
        add_group(sums, lane, chain);
    }
}

template <Gate kGate, bool kPrefetch>
BNORM_INLINE LaneGradients sum_gradient_rows(const GradientSums& task) {
    const GateParameters parameters = gate_parameters<kGate, Pattern::uniform>(task, 0);
    LaneGradients sums;
    clear(sums.dy);
    clear(sums.products);
    auto ahead = gradients_ahead<kPrefetch>(task);
    for (std::int64_t r = 0; r < task.rows; ++r) {
        sum_gradient_row<kGate>(gradient_row(task, r), task.mask_bit, task.columns, parameters, sums, ahead);
    }
    return sums;
}

// With one copy of the arguments for all channels: vector loads of what was stored word by word a moment ago wait for
// those stores.
template <Gate kGate, bool kPrefetch>
BNORM_RARE void sum_gradients_of_channels(const GradientSums& arguments) {
    GradientSums task = arguments;
    for (std::int64_t channel = 0; channel < arguments.channels; ++channel) {
        const LaneGradients sums = sum_gradient_rows<kGate, kPrefetch>(task);
        *task.sum_dy++ = sum_lanes(sums.dy);
        *task.sum_dy_centered_x++ = sum_lanes(sums.products);
        task.dy += task.columns;
        task.x += task.columns;
        task.mask_bit += task.channel_bits;
        ++task.center;
        ++task.scale;
        ++task.shift;
    }
}

template <Gate kGate>
BNORM_KERNEL void gradient_sums_uniform(const GradientSums& arguments) {
    if (arguments.course.planes != 0) {
        sum_gradients_of_channels<kGate, true>(arguments);
    } else {
        sum_gradients_of_channels<kGate, false>(arguments);
    }
}

template <Gate kGate, bool kWhole>
BNORM_INLINE void sum_eight_gradient_rows(const GradientSums& task, std::int64_t row, std::int64_t column,
                                          std::int64_t lanes, GradientRowsAhead& ahead) {
    const GateParameters parameters = gate_parameters<kGate, Pattern::periodic>(task, column);
    const F32Sums sums = sum_eight_products([&](std::int64_t k) {
        const GradientRow terms = gradient_row(task, row + k);
        if (task.prefetch) {
            ahead.fetch();
        }
        return gradient_terms<kGate, kWhole>(terms, task.mask_bit, column, lanes, parameters);
    });
    add_widened(task.sum_dy + column, sums.s1);
    add_widened(task.sum_dy_centered_x + column, sums.s2);
}

template <Gate kGate, bool kWhole>
BNORM_INLINE void sum_last_gradient_rows(const GradientSums& task, std::int64_t row, std::int64_t column,
                                         std::int64_t lanes) {
    const GateParameters parameters = gate_parameters<kGate, Pattern::periodic>(task, column);
    F32Sums chain = {F32(0.0F), F32(0.0F)};
    for (; row < task.rows; ++row) {
        const GradientTerms t =
            gradient_terms<kGate, kWhole>(gradient_row(task, row), task.mask_bit, column, lanes, parameters);
        chain = {chain.s1 + t.dy, fma(t.dy, t.e, chain.s2)};
    }
    add_widened(task.sum_dy + column, chain.s1);
    add_widened(task.sum_dy_centered_x + column, chain.s2);
}

template <Gate kGate>
BNORM_KERNEL void gradient_sums_periodic(const GradientSums& arguments) {
    const GradientSums task = arguments;
    const std::int64_t whole = task.columns / kWidth * kWidth;
    const std::int64_t rest = task.columns - whole;
    const std::int64_t padded = (task.columns + kLanes - 1) / kLanes * kLanes;
    for (std::int64_t c = 0; c < padded; c += kWidthF64) {
        store(task.sum_dy + c, F64(0.0));
        store(task.sum_dy_centered_x + c, F64(0.0));
    }
    GradientRowsAhead ahead = {{task.dy, task.dy_stride, task.columns}, {task.x, task.x_stride, task.columns}};
    std::int64_t r = 0;
    for (; r + kGroup <= task.rows; r += kGroup) {
        for (std::int64_t c = 0; c < whole; c += kWidth) {
            sum_eight_gradient_rows<kGate, true>(task, r, c, kWidth, ahead);
        }
        if (rest != 0) {
            sum_eight_gradient_rows<kGate, false>(task, r, whole, rest, ahead);
        }
    }
    if (r < task.rows) {
        for (std::int64_t c = 0; c < whole; c += kWidth) {
            sum_last_gradient_rows<kGate, true>(task, r, c, kWidth);
        }
        if (rest != 0) {
            sum_last_gradient_rows<kGate, false>(task, r, whole, rest);
        }
    }
}

} // namespace
} // namespace bnorm::kernels

#endif
