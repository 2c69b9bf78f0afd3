// Mean and M2 = sum((x-mean)^2), per block of at most a few thousand elements.
//
// Numbers. A block is summed around a shift K near its mean: d = x-K, s1 = sum(d), s2 = sum(d*d), then
//     mean = K + s1/n,   M2 = s2 - s1*s1/n.
// f32 holds only groups of eight (what two rows end with: up to ten; of columns more, column_moments.inl): a tree of
// eight d, a tree of eight d*d, then both are added to f64 sums. Each term of s2 rounds at most six times by 2^-25 on
// average of either sign; over a block, s2 is right to about 3e-8. The closing subtraction magnifies that by
// s2/M2 = 1 + ((K-mu)/sigma)^2. K is the mean of m elements spread evenly over the block's n, and
// (K-mu)^2 <= sigma^2 (n-m)/m for any data, near 0 for nearly all. A block is summed once more, in f64 around the mean
// just found, where that is not good enough: where s2/M2 is large all the same, where one group makes up most of s2 (an
// outlier: its roundings have nothing to average with), where the squares come near the f32 underflow, or where f32
// overflowed. Blocks so small that roundings do not average out are summed in f64 from the start, without a shift: f64
// holds the square of an f32 exactly, and s2 is right to n*2^-53. They, too, are summed again where s2/M2 is large.
#ifndef BNORM_KERNELS_MOMENTS_INL
#define BNORM_KERNELS_MOMENTS_INL

#include "kernels/rows_ahead.inl"
#include "kernels/simd.hpp"

namespace bnorm::kernels {
namespace {

constexpr double kInfinity = __builtin_inf();
// The largest magnification of the error of s2 that is accepted. Blocks beyond are summed twice: at 1.5, seven in a
// hundred vectors of columns would be.
constexpr double kMaxCancellation = 1.75;
// The most of s2 that one group of eight may be.
constexpr double kMaxGroupShare = 0.5;
// Below this mean square an f32 square has fewer than 24 bits, even if the caller flushes denormals to zero.
constexpr double kMinMeanSquare = 0x1p-100;
constexpr std::int64_t kGroup = 8;
// The same of small blocks. Of 256 elements M2 is right to 256 * 2^-53 * 2^20 = 3e-8, then.
constexpr double kMaxCancellationInF64 = 0x1p20;
// Below: f64 sums. They are also done sooner than groups and the samples of their shift (SSE2: below 128 only).
constexpr std::int64_t kFewElements = 256;

struct F32Sums {
    F32 s1;
    F32 s2;
};

BNORM_INLINE F32Sums add(const F32Sums& a, const F32Sums& b) { return {a.s1 + b.s1, a.s2 + b.s2}; }

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

// F32Sums of one vector of columns, in f64.
struct WideSums {
    F64 s1[2];
    F64 s2[2];
};

BNORM_INLINE WideSums no_wide_sums() { return {{F64(0.0), F64(0.0)}, {F64(0.0), F64(0.0)}}; }

BNORM_INLINE void add_widened(WideSums& sums, const F32Sums& group) {
    sums.s1[0] = sums.s1[0] + widen_low(group.s1);
    sums.s1[1] = sums.s1[1] + widen_high(group.s1);
    sums.s2[0] = sums.s2[0] + widen_low(group.s2);
    sums.s2[1] = sums.s2[1] + widen_high(group.s2);
}

BNORM_INLINE void store(const WideSums& sums, double* s1, double* s2) {
    store(s1, sums.s1[0]);
    store(s1 + kWidthF64, sums.s1[1]);
    store(s2, sums.s2[0]);
    store(s2 + kWidthF64, sums.s2[1]);
}

BNORM_INLINE void add_widened(double* sums, F32 value) {
    store(sums, load(sums) + widen_low(value));
    store(sums + kWidthF64, load(sums + kWidthF64) + widen_high(value));
}

// Sum over the virtual lanes in the fixed order 8-4-2-1. Spelled out: as loops it took a third of a small block's time.
template <class T>
BNORM_INLINE T sum_lanes(const T* v) {
    const T sum0 = (v[0] + v[8]) + (v[4] + v[12]);
    const T sum1 = (v[1] + v[9]) + (v[5] + v[13]);
    const T sum2 = (v[2] + v[10]) + (v[6] + v[14]);
    const T sum3 = (v[3] + v[11]) + (v[7] + v[15]);
    return (sum0 + sum2) + (sum1 + sum3);
}

// Vectors that hold the lanes, as far as a single one, in the same order.
template <class Vector>
BNORM_INLINE Vector fold_vectors(const Vector (&v)[1]) {
    return v[0];
}
template <class Vector, int kVectors>
BNORM_INLINE Vector fold_vectors(const Vector (&v)[kVectors]) {
    Vector sums[kVectors / 2];
    BNORM_UNROLL
    for (int i = 0; i < kVectors / 2; ++i) {
        sums[i] = v[i] + v[i + kVectors / 2];
    }
    return fold_vectors(sums);
}

template <class Vector, int kVectors>
BNORM_INLINE auto sum_vectors(const Vector (&v)[kVectors]) {
    return sum_halves(fold_vectors(v).data);
}

// ---- uniform: one channel -------------------------------------------------------------------------------------------

// One f64 sum a virtual lane. Where the lanes are one vector they stay in registers from row to row: by way of memory a
// short row waited for the one before it.
struct LaneTotals {
    F64 parts[kLanes / kWidthF64];
};

BNORM_INLINE void clear(LaneTotals& totals) {
    BNORM_UNROLL
    for (F64& part : totals.parts) {
        part = F64(0.0);
    }
}

BNORM_INLINE void add_widened(LaneTotals& totals, std::int64_t lane, F32 value) {
    F64* part = totals.parts + lane / kWidthF64;
    part[0] = part[0] + widen_low(value);
    part[1] = part[1] + widen_high(value);
}

BNORM_INLINE double sum_lanes(const LaneTotals& totals) { return sum_vectors(totals.parts); }

struct Rows {
    const float* x;
    std::int64_t rows;
    std::int64_t row_stride;
    std::int64_t columns;

    double count() const { return static_cast<double>(rows * columns); }
};

// Up to eight whole vectors of kLanes, spread evenly over a block. Their number is a power of two, so that the mean of
// equal values is exact.
struct Samples {
    std::int64_t count; // none: there is no whole vector
    std::int64_t vectors_per_row;
    std::int64_t rows_per_step; // whole ones, and
    std::int64_t vectors_per_step;
};

// Where blocks are alike, once for all of them: divisions take longer than the samples.
BNORM_INLINE Samples samples_of(const Rows& block) {
    const std::int64_t per_row = block.columns / kLanes;
    const std::int64_t vectors = block.rows * per_row;
    if (vectors == 0) {
        return {0, 0, 0, 0};
    }
    std::int64_t count = kGroup;
    while (count > vectors) {
        count /= 2;
    }
    const std::int64_t step = vectors / count;
    const std::int64_t rows_per_step = step / per_row;
    return {count, per_row, rows_per_step, step - rows_per_step * per_row};
}

// Of so many channels, one after the other in each row.
template <std::int64_t kChannels>
BNORM_INLINE void sample_means(const Rows& first, const Samples& samples, float (&means)[kChannels]) {
    F32 sums[kChannels][kLanes / kWidth];
    BNORM_UNROLL
    for (auto& channel : sums) {
        BNORM_UNROLL
        for (F32& sum : channel) {
            sum = F32(0.0F);
        }
    }
    const float* row = first.x;
    std::int64_t vector = 0; // within the row of a channel
    for (std::int64_t i = 0; i < samples.count; ++i) {
        BNORM_UNROLL
        for (std::int64_t k = 0; k < kChannels; ++k) {
            const float* sample = row + k * first.columns + vector * kLanes;
            BNORM_UNROLL
            for (std::int64_t lane = 0; lane < kLanes; lane += kWidth) {
                sums[k][lane / kWidth] = sums[k][lane / kWidth] + load(sample + lane);
            }
        }
        vector += samples.vectors_per_step;
        const bool past = vector >= samples.vectors_per_row;
        vector -= past ? samples.vectors_per_row : 0;
        row += (samples.rows_per_step + (past ? 1 : 0)) * first.row_stride;
    }
    BNORM_UNROLL
    for (std::int64_t k = 0; k < kChannels; ++k) {
        means[k] = samples.count == 0 ? first.x[k * first.columns]
                                      : sum_vectors(sums[k]) / static_cast<float>(samples.count * kLanes);
    }
}

constexpr std::int64_t kStepElements = kGroup * kLanes;

struct ExactShift {
    DifferenceFrom<F64> low;
    DifferenceFrom<F64> high;
    F32 zero; // the x whose d is 0

    explicit ExactShift(F32 shift) : low(widen_low(shift)), high(widen_high(shift)), zero(shift) {}
    // At most kWidthF64 lanes; d of the others is 0.
    BNORM_MEMBER F64 load_end(const float* x, std::int64_t lanes) const {
        return widen_low(blend_first(load_first(x, lanes), zero, lanes));
    }
};

// x itself in place of d.
struct NoShift {
    struct Same {
        BNORM_MEMBER F64 operator()(F64 x) const { return x; }
    };
    Same low;
    Same high;

    BNORM_MEMBER F64 load_end(const float* x, std::int64_t lanes) const { return widen_low(load_first(x, lanes)); }
};

// d and d*d formed in f64.
template <class Difference>
BNORM_INLINE void add_exact(F64& s1, F64& s2, F64 x, const Difference& difference) {
    const F64 d = difference(x);
    s1 = s1 + d;
    s2 = fma(d, d, s2);
}

template <class Shift>
BNORM_INLINE void add_exact(LaneTotals& s1, LaneTotals& s2, std::int64_t lane, F64 low, F64 high, const Shift& shift) {
    const std::int64_t part = lane / kWidthF64;
    add_exact(s1.parts[part], s2.parts[part], low, shift.low);
    add_exact(s1.parts[part + 1], s2.parts[part + 1], high, shift.high);
}

struct LaneSums {
    LaneTotals s1;
    LaneTotals s2;
    F32 largest; // of all lanes that share a place in a vector
};

BNORM_INLINE void add_group(LaneSums& sums, std::int64_t lane, const F32Sums& group) {
    add_widened(sums.s1, lane, group.s1);
    add_widened(sums.s2, lane, group.s2);
    sums.largest = xsimd::max(sums.largest, group.s2);
}

// Fewer than kGroup * kLanes elements at the ends of rows, as one group.
template <std::int64_t kRows>
BNORM_INLINE void sum_row_ends(const float* x, std::int64_t stride, std::int64_t columns,
                               const DifferenceFrom<F32>& difference, LaneSums& sums) {
    BNORM_UNROLL
    for (std::int64_t lane = 0; lane < kLanes; lane += kWidth) {
        F32Sums chains[kRows];
        BNORM_UNROLL
        for (F32Sums& chain : chains) {
            chain = {F32(0.0F), F32(0.0F)};
        }
        const auto add_of_each = [&](const auto& d_of) {
            BNORM_UNROLL
            for (std::int64_t k = 0; k < kRows; ++k) {
                const F32 d = d_of(x + k * stride);
                chains[k] = {chains[k].s1 + d, fma(d, d, chains[k].s2)};
            }
        };
        std::int64_t i = lane;
        for (; i + kWidth <= columns; i += kLanes) {
            add_of_each([&](const float* row) { return difference(load(row + i)); });
        }
        if (i < columns) {
            const std::int64_t lanes = columns - i;
            add_of_each([&](const float* row) { return keep_first(difference(load_first(row + i, lanes)), lanes); });
        }
        F32Sums group = chains[0];
        BNORM_UNROLL
        for (std::int64_t k = 1; k < kRows; ++k) {
            group = add(group, chains[k]);
        }
        add_group(sums, lane, group);
    }
}

BNORM_INLINE void sum_step(const float* x, const DifferenceFrom<F32>& difference, LaneSums& sums) {
    BNORM_UNROLL
    for (std::int64_t lane = 0; lane < kLanes; lane += kWidth) {
        const float* address = x + lane;
        add_group(sums, lane, sum_eight([&](std::int64_t k) { return difference(load(address + k * kLanes)); }));
    }
}

template <class Ahead>
BNORM_INLINE void fetch_ahead(std::int64_t elements, Ahead& ahead) {
    for (std::int64_t k = 0; k < elements; k += kWidth) {
        ahead.fetch();
    }
}

// Returns where they end. `ahead` fetches as many vectors as are summed.
template <class Ahead>
BNORM_INLINE std::int64_t sum_steps(const float* x, std::int64_t columns, const DifferenceFrom<F32>& difference,
                                    LaneSums& sums, Ahead& ahead) {
    std::int64_t i = 0;
    for (; i + kStepElements <= columns; i += kStepElements) {
        fetch_ahead(kStepElements, ahead);
        sum_step(x + i, difference, sums);
    }
    return i;
}

template <std::int64_t kRows, class Ahead>
BNORM_INLINE void sum_whole_rows(const float* x, std::int64_t stride, std::int64_t columns,
                                 const DifferenceFrom<F32>& difference, LaneSums& sums, Ahead& ahead) {
    std::int64_t i = 0;
    BNORM_UNROLL
    for (std::int64_t k = 0; k < kRows; ++k) {
        i = sum_steps(x + k * stride, columns, difference, sums, ahead);
        fetch_ahead(columns - i, ahead);
    }
    if (i < columns) {
        sum_row_ends<kRows>(x + i, stride, columns - i, difference, sums);
    }
}

// What two rows end with is one group as long as each adds no more terms to a lane than this: they round at most six
// times then.
constexpr std::int64_t kPairedEnd = 5 * kLanes;

BNORM_INLINE LaneSums no_sums() {
    LaneSums sums;
    clear(sums.s1);
    clear(sums.s2);
    sums.largest = F32(0.0F);
    return sums;
}

template <class Ahead>
BNORM_INLINE LaneSums sum_rows(const Rows& block, F32 shift, Ahead ahead) {
    LaneSums sums = no_sums();
    const DifferenceFrom<F32> difference(shift);
    const std::int64_t stride = block.row_stride;
    const std::int64_t end = block.columns % kStepElements;
    std::int64_t row = 0;
    for (; end > 0 && end <= kPairedEnd && row + 2 <= block.rows; row += 2) {
        sum_whole_rows<2>(block.x + row * stride, stride, block.columns, difference, sums, ahead);
    }
    for (; row < block.rows; ++row) {
        sum_whole_rows<1>(block.x + row * stride, stride, block.columns, difference, sums, ahead);
    }
    return sums;
}

// Out of line: the loop of sum_rows without fetching keeps its registers.
template <class Into>
BNORM_RARE LaneSums sum_rows_ahead(const Rows& block, const Course& course, F32 shift) {
    return sum_rows(block, shift, RowsAhead<Into>(block.x, block.row_stride, course));
}

struct Moments {
    double mean;
    double m2;
};

// Two passes in f64, the second with the correction of its own first sum (Chan, Golub and LeVeque 1983, eq. 1.7): for
// infinities, NaN, and f32 sums that overflowed. Rare, therefore plain, and out of line.
BNORM_RARE Moments moments_in_f64(const Rows& block) {
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

struct ExactSums {
    LaneTotals s1;
    LaneTotals s2;
};

// Every d and d*d in f64.
template <class Shift>
BNORM_INLINE ExactSums sum_exact(const Rows& block, const Shift& shift) {
    ExactSums sums;
    clear(sums.s1);
    clear(sums.s2);
    for (std::int64_t row = 0; row < block.rows; ++row) {
        const float* x = block.x + row * block.row_stride;
        std::int64_t i = 0;
        for (; i + kLanes <= block.columns; i += kLanes) {
            BNORM_UNROLL
            for (std::int64_t lane = 0; lane < kLanes; lane += kWidth) {
                add_exact(sums.s1, sums.s2, lane, load_widened(x + i + lane), load_widened(x + i + lane + kWidthF64),
                          shift);
            }
        }
        BNORM_UNROLL
        for (std::int64_t part = 0; part < kLanes / kWidthF64; ++part) {
            const std::int64_t lanes = block.columns - i - part * kWidthF64;
            if (lanes > 0) {
                add_exact(sums.s1.parts[part], sums.s2.parts[part],
                          shift.load_end(x + i + part * kWidthF64, lanes < kWidthF64 ? lanes : kWidthF64),
                          part % 2 == 0 ? shift.low : shift.high);
            }
        }
    }
    return sums;
}

// With the rounded mean as the shift cancellation costs nothing. Equal values, whose mean is exact, give M2 = 0.
BNORM_RARE Moments moments_around(const Rows& block, float around) {
    const ExactSums sums = sum_exact(block, ExactShift(F32(around)));
    const double sum = sum_lanes(sums.s1);
    const double m2 = sum_lanes(sums.s2) - sum * sum / block.count();
    if (m2 - m2 == 0.0) {
        return {static_cast<double>(around) + sum / block.count(), m2 > 0.0 ? m2 : 0.0};
    }
    return moments_in_f64(block);
}

BNORM_RARE Moments moments_of_few(const Rows& block) {
    const ExactSums sums = sum_exact(block, NoShift());
    const double sum = sum_lanes(sums.s1);
    const double square = sum_lanes(sums.s2);
    const double m2 = square - sum * sum / block.count();
    if (square <= kMaxCancellationInF64 * m2) {
        return {sum / block.count(), m2};
    }
    return moments_around(block, static_cast<float>(sum / block.count()));
}

BNORM_INLINE Moments close_block(const Rows& block, float shift, const LaneSums& sums) {
    const double n = block.count();
    const double s1 = sum_lanes(sums.s1);
    const double s2 = sum_lanes(sums.s2);
    const double m2 = s2 - s1 * s1 / n;
    const double mean = static_cast<double>(shift) + s1 / n;
    if (s2 <= kMaxCancellation * m2 && s2 < kInfinity && s2 >= n * kMinMeanSquare &&
        bits(sums.largest > F32(static_cast<float>(kMaxGroupShare * s2))) == 0) {
        return {mean, m2};
    }
    return moments_around(block, static_cast<float>(mean));
}

// sum(shift) gives the lanes' sums, unless there are few elements.
template <class Sum>
BNORM_INLINE Moments moments_by(const Rows& block, const Samples& samples, const Sum& sum) {
    if (block.rows * block.columns < kFewElements) {
        return moments_of_few(block);
    }
    float shifts[1];
    sample_means(block, samples, shifts);
    return close_block(block, shifts[0], sum(F32(shifts[0])));
}

BNORM_INLINE Moments moments_of_channel(const Rows& block, const Samples& samples, const Course& course) {
    return moments_by(block, samples, [&](F32 shift) {
        if (course.planes == 0) {
            return sum_rows(block, shift, NothingAhead());
        }
        return course.into_l1 ? sum_rows_ahead<IntoL1<3072>>(block, course, shift)
                              : sum_rows_ahead<IntoL2>(block, course, shift);
    });
}

} // namespace
} // namespace bnorm::kernels

#endif
