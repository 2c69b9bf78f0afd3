// Mean and M2 = sum((x-mean)^2), per block of at most a few thousand elements.
//
// Numbers. A block is summed around a shift K near its mean: d = x-K, s1 = sum(d), s2 = sum(d*d), then
//     mean = K + s1/n,   M2 = s2 - s1*s1/n.
// f32 holds only chains of eight: tree of eight d, tree of eight d*d, then both are added to f64 sums. Each of them rounds at
// most four times, in practice s2 is right to about 3e-8. The closing subtraction magnifies the relative error of s2 by
// s2/M2 = 1 + ((K-mu)/sigma)^2. K is the mean of eight vectors (rows) spread evenly over the block; with m of n elements
// sampled, (K-mu)^2 <= sigma^2 (n-m)/m for any data, and near 0 for nearly all. Where s2 > 3*M2 all the same, where the sums
// are not finite, and where the squares come near the f32 underflow, the block is summed again in f64 in two passes.
// Blocks so small that roundings do not average out are summed in f64 from the start.
#ifndef BNORM_KERNELS_MOMENTS_INL
#define BNORM_KERNELS_MOMENTS_INL

#include "kernels/simd.hpp"

namespace bnorm::kernels {
namespace {

constexpr double kInfinity = __builtin_inf();
// The largest magnification of the error of s2 that is accepted: 3 * 6e-8 (two roundings that all go one way) < 2e-7.
constexpr double kMaxCancellation = 3.0;
// Below this mean square an f32 square has fewer than 24 bits, even if the caller flushes denormals to zero.
constexpr double kMinMeanSquare = 0x1p-100;
constexpr std::int64_t kGroup = 8;
// Below: f64 sums. The largest error of 10^5 channels of N(0, 1) then stays below 2e-7 even without fused multiply-add.
constexpr std::int64_t kFewElements = 128;
constexpr std::int64_t kFewRows = 32;

struct F32Sums {
    F32 s1;
    F32 s2;
};

// Both sums over eight values of d, each as a tree. `d(i)` gives the i-th.
template <class Values>
BNORM_INLINE F32Sums sum_eight(const Values& d) {
    const F32 d0 = d(0), d1 = d(1), d2 = d(2), d3 = d(3);
    const F32 low1 = (d0 + d1) + (d2 + d3);
    const F32 low2 = fma(d1, d1, d0 * d0) + fma(d3, d3, d2 * d2);
    const F32 d4 = d(4), d5 = d(5), d6 = d(6), d7 = d(7);
    const F32 high1 = (d4 + d5) + (d6 + d7);
    const F32 high2 = fma(d5, d5, d4 * d4) + fma(d7, d7, d6 * d6);
    return {low1 + high1, low2 + high2};
}

BNORM_INLINE void add_widened(double* sums, F32 value) {
    store(sums, load(sums) + widen_low(value));
    store(sums + kWidthF64, load(sums + kWidthF64) + widen_high(value));
}

// d and d*d formed in f64.
BNORM_INLINE void add_exact(F32 x, F32 shift, double* s1, double* s2) {
    const F64 low = widen_low(x) - widen_low(shift);
    const F64 high = widen_high(x) - widen_high(shift);
    store(s1, load(s1) + low);
    store(s1 + kWidthF64, load(s1 + kWidthF64) + high);
    store(s2, load(s2) + low * low);
    store(s2 + kWidthF64, load(s2 + kWidthF64) + high * high);
}

// Sum over the virtual lanes in the fixed order 8-4-2-1.
template <class T>
BNORM_INLINE T sum_lanes(T* lanes) {
    for (std::int64_t half = kLanes / 2; half > 0; half /= 2) {
        for (std::int64_t i = 0; i < half; ++i) {
            lanes[i] += lanes[i + half];
        }
    }
    return lanes[0];
}

// ---- uniform: one channel --------------------------------------------------------------------------------------------

struct Rows {
    const float* x;
    std::int64_t rows;
    std::int64_t row_stride;
    std::int64_t columns;

    double count() const { return static_cast<double>(rows * columns); }
};

// The mean of up to eight whole vectors of kLanes. Their number is a power of two, so that equal values give K exactly.
BNORM_INLINE float sample_mean(const Rows& block) {
    const std::int64_t per_row = block.columns / kLanes;
    const std::int64_t vectors = block.rows * per_row;
    if (vectors == 0) {
        return block.x[0];
    }
    std::int64_t samples = kGroup;
    while (samples > vectors) {
        samples /= 2;
    }
    alignas(64) float lanes[kLanes] = {};
    for (std::int64_t i = 0; i < samples; ++i) {
        const std::int64_t vector = i * vectors / samples;
        const float* address = block.x + (vector / per_row) * block.row_stride + (vector % per_row) * kLanes;
        for (std::int64_t lane = 0; lane < kLanes; lane += kWidth) {
            store(lanes + lane, load(lanes + lane) + load(address + lane));
        }
    }
    return sum_lanes(lanes) / static_cast<float>(samples * kLanes);
}

// Fewer than kGroup * kLanes elements at the end of a row.
BNORM_INLINE void sum_row_end(const float* x, std::int64_t columns, F32 shift, double* s1, double* s2) {
    for (std::int64_t lane = 0; lane < kLanes; lane += kWidth) {
        F32 chain1(0.0F);
        F32 chain2(0.0F);
        std::int64_t i = lane;
        for (; i + kWidth <= columns; i += kLanes) {
            const F32 d = load(x + i) - shift;
            chain1 = chain1 + d;
            chain2 = fma(d, d, chain2);
        }
        if (i < columns) {
            const F32 d = keep_first(load_first(x + i, columns - i) - shift, columns - i);
            chain1 = chain1 + d;
            chain2 = fma(d, d, chain2);
        }
        add_widened(s1 + lane, chain1);
        add_widened(s2 + lane, chain2);
    }
}

BNORM_INLINE void sum_row(const float* x, std::int64_t columns, F32 shift, double* s1, double* s2) {
    constexpr std::int64_t kStep = kGroup * kLanes;
    std::int64_t i = 0;
    for (; i + kStep <= columns; i += kStep) {
        for (std::int64_t lane = 0; lane < kLanes; lane += kWidth) {
            const float* address = x + i + lane;
            const F32Sums sums = sum_eight([&](std::int64_t k) { return load(address + k * kLanes) - shift; });
            add_widened(s1 + lane, sums.s1);
            add_widened(s2 + lane, sums.s2);
        }
    }
    if (i < columns) {
        sum_row_end(x + i, columns - i, shift, s1, s2);
    }
}

BNORM_INLINE bool is_constant(const Rows& block) {
    const F32 first(block.x[0]);
    for (std::int64_t row = 0; row < block.rows; ++row) {
        const float* x = block.x + row * block.row_stride;
        std::int64_t i = 0;
        for (; i + kWidth <= block.columns; i += kWidth) {
            if (bits(load(x + i) == first) != bits(first == first)) {
                return false;
            }
        }
        for (; i < block.columns; ++i) {
            if (!(x[i] == block.x[0])) {
                return false;
            }
        }
    }
    return block.x[0] == block.x[0];
}

struct Moments {
    double mean;
    double m2;
};

// Two passes in f64, the second with the correction of its own first sum (Chan, Golub and LeVeque 1983, eq. 1.7).
// Rare, therefore plain; kept out of line so that it does not weigh on the loop that nearly always suffices.
__attribute__((noinline)) Moments moments_in_f64(const Rows& block) {
    double s1[kLanes] = {};
    for (std::int64_t row = 0; row < block.rows; ++row) {
        for (std::int64_t i = 0; i < block.columns; ++i) {
            s1[i % kLanes] += static_cast<double>(block.x[row * block.row_stride + i]);
        }
    }
    const double mean = sum_lanes(s1) / block.count();
    if (!(mean - mean == 0.0)) {
        return {mean, mean - mean};
    }
    double d1[kLanes] = {};
    double d2[kLanes] = {};
    for (std::int64_t row = 0; row < block.rows; ++row) {
        for (std::int64_t i = 0; i < block.columns; ++i) {
            const double d = static_cast<double>(block.x[row * block.row_stride + i]) - mean;
            d1[i % kLanes] += d;
            d2[i % kLanes] += d * d;
        }
    }
    const double rest = sum_lanes(d1);
    const double m2 = sum_lanes(d2) - rest * rest / block.count();
    return {mean + rest / block.count(), m2 > 0.0 ? m2 : 0.0};
}

BNORM_INLINE Moments close_block(const Rows& block, float shift, double s1, double s2) {
    const double n = block.count();
    const double m2 = s2 - s1 * s1 / n;
    if (s2 <= kMaxCancellation * m2 && s2 < kInfinity && s2 >= n * kMinMeanSquare) {
        return {static_cast<double>(shift) + s1 / n, m2};
    }
    if (is_constant(block)) {
        return {static_cast<double>(block.x[0]), 0.0};
    }
    return moments_in_f64(block);
}

// The shift is an element: equal values give M2 = 0, and cancellation costs no more than kFewElements * 2^-53.
BNORM_INLINE Moments moments_of_few(const Rows& block) {
    const F32 shift(block.x[0]);
    alignas(64) double s1[kLanes] = {};
    alignas(64) double s2[kLanes] = {};
    for (std::int64_t row = 0; row < block.rows; ++row) {
        const float* x = block.x + row * block.row_stride;
        for (std::int64_t i = 0; i < block.columns; i += kWidth) {
            const std::int64_t lanes = block.columns - i;
            const F32 values = lanes >= kWidth
                                   ? load(x + i)
                                   : xsimd::select(mask_from_bits((1U << lanes) - 1U), load_first(x + i, lanes), shift);
            add_exact(values, shift, s1 + i % kLanes, s2 + i % kLanes);
        }
    }
    const double sum = sum_lanes(s1);
    const double m2 = sum_lanes(s2) - sum * sum / block.count();
    const bool finite = m2 - m2 == 0.0;
    return finite ? Moments{static_cast<double>(block.x[0]) + sum / block.count(), m2} : moments_in_f64(block);
}

BNORM_KERNEL void moments_uniform(const float* x, std::int64_t rows, std::int64_t row_stride, std::int64_t columns,
                                  double* mean, double* m2) {
    const Rows block = {x, rows, row_stride, columns};
    if (rows * columns < kFewElements) {
        const Moments moments = moments_of_few(block);
        *mean = moments.mean;
        *m2 = moments.m2;
        return;
    }
    const float shift = sample_mean(block);
    alignas(64) double s1[kLanes] = {};
    alignas(64) double s2[kLanes] = {};
    for (std::int64_t row = 0; row < rows; ++row) {
        sum_row(x + row * row_stride, columns, F32(shift), s1, s2);
    }
    const Moments moments = close_block(block, shift, sum_lanes(s1), sum_lanes(s2));
    *mean = moments.mean;
    *m2 = moments.m2;
}

// ---- periodic: one channel a column ----------------------------------------------------------------------------------

BNORM_INLINE F32 load_columns(const float* address, std::int64_t columns) {
    return columns >= kWidth ? load(address) : load_first(address, columns);
}

// Columns beyond the last read as 0, so that their sums stay 0.
BNORM_INLINE void sample_shifts(const Rows& block, std::int64_t samples, float* shifts) {
    const F32 reciprocal(1.0F / static_cast<float>(samples));
    for (std::int64_t c = 0; c < block.columns; c += kWidth) {
        F32 sum(0.0F);
        for (std::int64_t i = 0; i < samples; ++i) {
            const std::int64_t row = i * block.rows / samples;
            sum = sum + load_columns(block.x + row * block.row_stride + c, block.columns - c);
        }
        store(shifts + c, sum * reciprocal);
    }
}

template <bool kWhole>
BNORM_INLINE void sum_eight_rows(const float* x, std::int64_t row_stride, std::int64_t columns, F32 shift, double* s1,
                                 double* s2) {
    const F32Sums sums = sum_eight([&](std::int64_t k) {
        const float* address = x + k * row_stride;
        return (kWhole ? load(address) : load_first(address, columns)) - shift;
    });
    add_widened(s1, sums.s1);
    add_widened(s2, sums.s2);
}

BNORM_INLINE void sum_last_rows(const Rows& rest, const float* shifts, double* s1, double* s2) {
    for (std::int64_t c = 0; c < rest.columns; c += kWidth) {
        const F32 shift = load(shifts + c);
        F32 chain1(0.0F);
        F32 chain2(0.0F);
        for (std::int64_t row = 0; row < rest.rows; ++row) {
            const F32 d = load_columns(rest.x + row * rest.row_stride + c, rest.columns - c) - shift;
            chain1 = chain1 + d;
            chain2 = fma(d, d, chain2);
        }
        add_widened(s1 + c, chain1);
        add_widened(s2 + c, chain2);
    }
}

BNORM_INLINE void sum_few_rows(const Rows& block, const float* shifts, double* s1, double* s2) {
    for (std::int64_t row = 0; row < block.rows; ++row) {
        const float* x = block.x + row * block.row_stride;
        for (std::int64_t c = 0; c < block.columns; c += kWidth) {
            add_exact(load_columns(x + c, block.columns - c), load(shifts + c), s1 + c, s2 + c);
        }
    }
}

BNORM_INLINE void sum_columns(const Rows& block, const float* shifts, double* s1, double* s2) {
    std::int64_t row = 0;
    for (; row + kGroup <= block.rows; row += kGroup) {
        const float* x = block.x + row * block.row_stride;
        std::int64_t c = 0;
        for (; c + kWidth <= block.columns; c += kWidth) {
            sum_eight_rows<true>(x + c, block.row_stride, kWidth, load(shifts + c), s1 + c, s2 + c);
        }
        if (c < block.columns) {
            sum_eight_rows<false>(x + c, block.row_stride, block.columns - c, load(shifts + c), s1 + c, s2 + c);
        }
    }
    if (row < block.rows) {
        const Rows rest = {block.x + row * block.row_stride, block.rows - row, block.row_stride, block.columns};
        sum_last_rows(rest, shifts, s1, s2);
    }
}

// Turns the sums of one vector of columns into mean and M2; returns the lanes that must be summed again. Few rows were
// summed in f64 and need no more than to be finite.
BNORM_INLINE std::uint32_t close_columns(double n, bool few, const float* shifts, double* s1, double* s2) {
    std::uint32_t refused = 0;
    const F32 shift = load(shifts);
    const F64 halves[2] = {widen_low(shift), widen_high(shift)};
    for (std::int64_t half = 0; half < 2; ++half) {
        double* mean = s1 + half * kWidthF64;
        double* m2 = s2 + half * kWidthF64;
        const F64 sum = load(mean);
        const F64 square = load(m2);
        const F64 closed = square - sum * sum * F64(1.0 / n);
        std::uint32_t accepted = bits(square < F64(kInfinity));
        if (!few) {
            accepted &= bits(square <= F64(kMaxCancellation) * closed) & bits(square >= F64(n * kMinMeanSquare));
        }
        const std::uint32_t all = (1U << kWidthF64) - 1U;
        refused |= (accepted ^ all) << (half * kWidthF64);
        store(mean, halves[half] + sum * F64(1.0 / n));
        store(m2, closed);
    }
    return refused;
}

__attribute__((noinline)) void sum_columns_again(const Rows& block, std::int64_t c, std::uint32_t refused, double* mean,
                                                 double* m2) {
    std::uint32_t constant = ~0U;
    const F32 first = load_columns(block.x + c, block.columns - c);
    for (std::int64_t row = 0; row < block.rows && (constant & refused) != 0; ++row) {
        constant &= bits(load_columns(block.x + row * block.row_stride + c, block.columns - c) == first);
    }
    for (std::int64_t lane = 0; lane < kWidth && c + lane < block.columns; ++lane) {
        const Rows column = {block.x + c + lane, block.rows, block.row_stride, 1};
        if ((refused >> lane & constant & 1U) != 0) {
            mean[c + lane] = static_cast<double>(column.x[0]);
            m2[c + lane] = 0.0;
        } else if ((refused >> lane & 1U) != 0) {
            const Moments moments = moments_in_f64(column);
            mean[c + lane] = moments.mean;
            m2[c + lane] = moments.m2;
        }
    }
}

BNORM_KERNEL void moments_periodic(const float* x, std::int64_t rows, std::int64_t row_stride, std::int64_t columns,
                                   double* mean, double* m2) {
    const Rows block = {x, rows, row_stride, columns};
    alignas(64) float shifts[kMaxMomentColumns + kLanes];
    const bool few = rows < kFewRows;
    sample_shifts(block, few ? 1 : kGroup, shifts);
    for (std::int64_t c = 0; c < columns; c += kWidthF64) {
        store(mean + c, F64(0.0));
        store(m2 + c, F64(0.0));
    }
    // A vector of f32 columns is two of f64: the second may lie beyond `columns`.
    for (std::int64_t c = columns; c % kLanes != 0; ++c) {
        mean[c] = 0.0;
        m2[c] = 0.0;
    }
    if (few) {
        sum_few_rows(block, shifts, mean, m2);
    } else {
        sum_columns(block, shifts, mean, m2);
    }
    for (std::int64_t c = 0; c < columns; c += kWidth) {
        const std::uint32_t refused = close_columns(static_cast<double>(rows), few, shifts + c, mean + c, m2 + c);
        if (refused != 0) {
            sum_columns_again(block, c, refused, mean, m2);
        }
    }
}

// Chan, Golub and LeVeque 1983. Where delta is NaN because both means are infinite, their sum is what a plain mean gives.
BNORM_KERNEL void merge_moments(std::int64_t columns, double count_a, double* mean_a, double* m2_a, double count_b,
                                const double* mean_b, const double* m2_b) {
    const F64 weight(count_b / (count_a + count_b));
    const F64 product(count_a * (count_b / (count_a + count_b)));
    for (std::int64_t c = 0; c < columns; c += kWidthF64) {
        const F64 a = load(mean_a + c);
        const F64 b = load(mean_b + c);
        const F64 delta = b - a;
        store(m2_a + c, load(m2_a + c) + load(m2_b + c) + delta * delta * product);
        store(mean_a + c, xsimd::select(delta == delta, a + delta * weight, a + b));
    }
}

} // namespace
} // namespace bnorm::kernels

#endif
