// Mean and M2 of several channels, each of which lies uniform: one after the other, or as many small ones at once as a
// vector has f64 lanes. At once, the same sums in the same order take fewer instructions: the lanes of all of them are
// summed, and their blocks closed, by vectors.
#ifndef BNORM_KERNELS_CHANNEL_MOMENTS_INL
#define BNORM_KERNELS_CHANNEL_MOMENTS_INL

#include "kernels/moments.inl"

namespace bnorm::kernels {
namespace {

// The most elements of a small channel. Larger ones hide the rest behind their sums; those of several images come from
// memory in a worse order where the shifts of all are sampled first.
constexpr std::int64_t kSmallPlane = 1024;
constexpr std::int64_t kSmallPlanes = 400;

constexpr bool is_small(std::int64_t rows, std::int64_t columns) {
    return rows * columns <= (rows == 1 ? kSmallPlane : kSmallPlanes);
}

BNORM_INLINE Rows channel_of(const Rows& first, std::int64_t channel) {
    return {first.x + channel * first.columns, first.rows, first.row_stride, first.columns};
}

// Each channel's lanes folded to one vector.
struct ChannelSums {
    F64 s1[kWidthF64];
    F64 s2[kWidthF64];
    alignas(64) double shifts[kWidthF64];
};

// Of all channels, one a lane.
struct ClosedChannels {
    F64 mean;
    F64 m2;
    F64 square; // s2
};

BNORM_INLINE ClosedChannels close(double count, const ChannelSums& sums) {
    const F64 n(count);
    const F64 sum = sum_halves_of_each(sums.s1);
    const F64 square = sum_halves_of_each(sums.s2);
    return {load(sums.shifts) + sum / n, square - sum * sum / n, square};
}

// again(k) for each channel that is not accepted.
template <class Again>
BNORM_INLINE void replace_others(std::uint32_t accepted, const Again& again, double* mean, double* m2) {
    constexpr std::uint32_t kAll = (1U << kWidthF64) - 1U;
    if ((accepted & kAll) == kAll) {
        return;
    }
    BNORM_NO_UNROLL
    for (std::int64_t k = 0; k < kWidthF64; ++k) {
        if ((accepted >> k & 1U) == 0) {
            const Moments moments = again(k);
            mean[k] = moments.mean;
            m2[k] = moments.m2;
        }
    }
}

// As moments_of_few each channel.
BNORM_RARE void moments_of_few_each(const Rows& first, double* mean, double* m2) {
    ChannelSums sums;
    BNORM_NO_UNROLL
    for (std::int64_t k = 0; k < kWidthF64; ++k) {
        const ExactSums exact = sum_exact(channel_of(first, k), NoShift());
        sums.s1[k] = fold_vectors(exact.s1.parts);
        sums.s2[k] = fold_vectors(exact.s2.parts);
        sums.shifts[k] = 0.0;
    }
    const ClosedChannels closed = close(first.count(), sums);
    store(mean, closed.mean);
    store(m2, closed.m2);
    const auto again = [&](std::int64_t k) {
        return moments_around(channel_of(first, k), static_cast<float>(mean[k]));
    };
    replace_others(bits(closed.square <= F64(kMaxCancellationInF64) * closed.m2), again, mean, m2);
}

// As close_block.
BNORM_INLINE std::uint32_t accepted_channels(double n, const ClosedChannels& closed, const F32 (&largest)[kWidthF64]) {
    alignas(64) double squares[kWidthF64];
    store(squares, closed.square);
    std::uint32_t accepted = bits(closed.square <= F64(kMaxCancellation) * closed.m2) &
                             bits(closed.square < F64(kInfinity)) & bits(closed.square >= F64(n * kMinMeanSquare));
    BNORM_NO_UNROLL
    for (std::int64_t k = 0; k < kWidthF64; ++k) {
        const F32 most(static_cast<float>(kMaxGroupShare * squares[k]));
        accepted &= bits(largest[k] > most) == 0 ? ~0U : ~(1U << k);
    }
    return accepted;
}

// As close_block of each channel.
BNORM_RARE void moments_of_channels(const Rows& first, const Samples& samples, double* mean, double* m2) {
    ChannelSums sums;
    F32 largest[kWidthF64];
    float shifts[kWidthF64]; // of all before any sums, which would wait for their own channel's
    sample_means(first, samples, shifts);
    BNORM_NO_UNROLL
    for (std::int64_t k = 0; k < kWidthF64; ++k) {
        const LaneSums lanes = sum_rows(channel_of(first, k), F32(shifts[k]), NothingAhead());
        sums.s1[k] = fold_vectors(lanes.s1.parts);
        sums.s2[k] = fold_vectors(lanes.s2.parts);
        sums.shifts[k] = static_cast<double>(shifts[k]);
        largest[k] = lanes.largest;
    }
    const ClosedChannels closed = close(first.count(), sums);
    store(mean, closed.mean);
    store(m2, closed.m2);
    const auto again = [&](std::int64_t k) {
        return moments_around(channel_of(first, k), static_cast<float>(mean[k]));
    };
    replace_others(accepted_channels(first.count(), closed, largest), again, mean, m2);
}

// Of one block each, as many as there are vectors of. Returns how many.
BNORM_INLINE std::int64_t moments_of_small_channels(const PlaneMoments& task, const Rows& first,
                                                    const Samples& samples) {
    std::int64_t channel = 0;
    if (first.rows * first.columns < kFewElements) {
        for (; channel + kWidthF64 <= task.channels; channel += kWidthF64) {
            moments_of_few_each(channel_of(first, channel), task.mean + channel, task.m2 + channel);
        }
    } else if (task.course.planes == 0 && is_small(first.rows, first.columns)) {
        for (; channel + kWidthF64 <= task.channels; channel += kWidthF64) {
            moments_of_channels(channel_of(first, channel), samples, task.mean + channel, task.m2 + channel);
        }
    }
    return channel;
}

// Of all blocks of a channel; `samples` are of the first, and of those that are as large. Returns how many blocks.
template <class MomentsOf>
BNORM_INLINE std::int64_t for_blocks(const PlaneMoments& task, const Rows& channel, const Samples& samples,
                                     double* mean, double* m2, const MomentsOf& moments_of) {
    std::int64_t blocks = 0;
    for (std::int64_t row = 0; row < channel.rows; row += task.block_rows) {
        for (std::int64_t column = 0; column < channel.columns; column += task.block_columns, ++blocks) {
            const std::int64_t rows = channel.rows - row;
            const std::int64_t columns = channel.columns - column;
            const Rows block = {channel.x + row * channel.row_stride + column,
                                rows < task.block_rows ? rows : task.block_rows, channel.row_stride,
                                columns < task.block_columns ? columns : task.block_columns};
            const bool whole = rows >= task.block_rows && columns >= task.block_columns;
            Course course = task.course;
            course.start += row * course.columns + column;
            const Moments moments = moments_of(block, whole ? samples : samples_of(block), course);
            mean[blocks] = moments.mean;
            m2[blocks] = moments.m2;
        }
    }
    return blocks;
}

// Of all blocks of all channels: moments_of(block, samples, course) of each.
template <class MomentsOf>
BNORM_INLINE void for_all_blocks(const PlaneMoments& task, const MomentsOf& moments_of) {
    const Rows first = {task.x, task.rows, task.row_stride, task.columns};
    const Samples samples =
        samples_of({task.x, task.rows < task.block_rows ? task.rows : task.block_rows, task.row_stride,
                    task.columns < task.block_columns ? task.columns : task.block_columns});
    double* mean = task.mean;
    double* m2 = task.m2;
    for (std::int64_t channel = 0; channel < task.channels; ++channel) {
        const std::int64_t blocks = for_blocks(task, channel_of(first, channel), samples, mean, m2, moments_of);
        mean += blocks;
        m2 += blocks;
    }
}

BNORM_RARE void moments_of_all_blocks(const PlaneMoments& arguments) {
    const PlaneMoments task = arguments;
    for_all_blocks(task, [](const Rows& block, const Samples& samples, const Course& course) {
        return moments_of_channel(block, samples, course);
    });
}

BNORM_KERNEL void moments_uniform(const PlaneMoments& arguments) {
    if (arguments.rows > arguments.block_rows || arguments.columns > arguments.block_columns) {
        moments_of_all_blocks(arguments);
        return;
    }
    const PlaneMoments task = arguments;
    const Rows first = {task.x, task.rows, task.row_stride, task.columns};
    const Samples samples = samples_of(first);
    for (std::int64_t channel = moments_of_small_channels(task, first, samples); channel < task.channels; ++channel) {
        const Moments moments = moments_of_channel(channel_of(first, channel), samples, task.course);
        task.mean[channel] = moments.mean;
        task.m2[channel] = moments.m2;
    }
}

} // namespace
} // namespace bnorm::kernels

#endif
