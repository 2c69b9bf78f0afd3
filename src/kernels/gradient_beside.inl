// Sums of gradients of one channel while dx and dresidual of another, whose sums are known, are stored past the cache;
// where planes share cache lines, of a few channels whose lines are their own. With fixed statistics, sums and dx of
// the same channel.
//
// Stores past the cache leave a core slowly, and loads from memory arrive slowly, but one does not wait for the other:
// step by step in turns, both together take less time than one after the other, and than a prefetch of the one beside
// the other, which each take an instruction more.
#ifndef BNORM_KERNELS_GRADIENT_BESIDE_INL
#define BNORM_KERNELS_GRADIENT_BESIDE_INL

#include "kernels/gradient_apply.inl"
#include "kernels/gradient_sums.inl"

namespace bnorm::kernels {
namespace {

// A row of an elementwise pass, taken on along with the sums of another.
template <class Variant>
struct RowBeside {
    GradientApplyRow row;
    std::int64_t column;
    GradientApplyParameters parameters;

    BNORM_MEMBER void apply(std::int64_t columns) {
        gradient_apply_vectors<Variant>(row, column, column + columns, NothingFetched{},
                                        [&](std::int64_t) { return parameters; });
        column += columns;
    }
};

// `columns` are whole vectors.
template <class Variant, class Ahead>
BNORM_INLINE void sum_gradient_row_beside(const GradientRow& row, std::int64_t columns,
                                          const GateParameters& parameters, LaneGradients& sums, Ahead& ahead,
                                          RowBeside<Variant> beside) {
    std::int64_t c = 0;
    for (; c + kStepElements <= columns; c += kStepElements) {
        sum_gradient_row<Variant::gate>(at_column<Variant::gate>(row, c), kStepElements, parameters, sums, ahead);
        beside.apply(kStepElements);
    }
    if (c < columns) {
        sum_gradient_row<Variant::gate>(at_column<Variant::gate>(row, c), columns - c, parameters, sums, ahead);
        beside.apply(columns - c);
    }
}

// Of as many channels of both.
template <class Variant, class Into>
BNORM_RARE void sum_blocks_beside(const GradientSums& arguments, const GradientApply& outputs) {
    const GradientSums task = arguments;
    const GradientApply other = outputs;
    double* sum_dy = task.sum_dy;
    double* sum_dy_centered_x = task.sum_dy_centered_x;
    for (std::int64_t channel = 0; channel < task.channels; ++channel) {
        const auto other_parameters = gradient_apply_parameters<Variant, Pattern::uniform>(other, channel);
        const std::int64_t other_column = channel * other.columns;
        const GradientRow first = first_row_of<Variant::gate>(task, channel);
        const GateParameters parameters = gate_parameters<Variant::gate, Pattern::uniform>(task, channel);
        auto ahead = gradients_ahead<Into>(task, first);
        for (std::int64_t row = 0; row < task.rows; row += task.block_rows) {
            const std::int64_t end = row + task.block_rows < task.rows ? row + task.block_rows : task.rows;
            for (std::int64_t column = 0; column < task.columns; column += task.block_columns) {
                const std::int64_t rest = task.columns - column;
                const std::int64_t columns = rest < task.block_columns ? rest : task.block_columns;
                LaneGradients sums;
                clear(sums.dy);
                clear(sums.products);
                for (std::int64_t r = row; r < end; ++r) {
                    sum_gradient_row_beside(
                        rows_on(task, at_column<Variant::gate>(first, column), r), columns, parameters, sums, ahead,
                        RowBeside<Variant>{gradient_apply_row(other, r), other_column + column, other_parameters});
                }
                *sum_dy++ = sum_lanes(sums.dy);
                *sum_dy_centered_x++ = sum_lanes(sums.products);
            }
        }
    }
}

// With fixed statistics dx does not wait for the sums: that of the very elements, while L1 has them. A step is summed
// before it is stored: dx may be dy or x.
BNORM_INLINE GradientApply fixed_outputs_of(const GradientSums& task) {
    GradientApply outputs{};
    outputs.dy = task.dy;
    outputs.x = task.x;
    outputs.mask = task.mask == nullptr ? nullptr : task.mask + task.mask_bit / 8;
    outputs.dx = task.dx;
    outputs.rows = task.rows;
    outputs.columns = task.columns;
    outputs.dy_stride = task.dy_stride;
    outputs.x_stride = task.x_stride;
    outputs.mask_stride = task.mask_stride;
    outputs.dx_stride = task.dx_stride;
    outputs.dx_ahead = task.dx_ahead;
    outputs.center = task.center;
    outputs.scale = task.scale;
    outputs.shift = task.shift;
    outputs.activation_parameter = task.activation_parameter;
    return outputs;
}

template <int kVariant>
BNORM_KERNEL void gradient_fixed_uniform(const GradientSums& task) {
    using Variant = GradientApplyVariant<gradient_apply_variant(kFixedGates[kVariant % kFixedGateCount], true, false,
                                                                kVariant >= kFixedGateCount)>;
    const GradientApply outputs = fixed_outputs_of(task);
    task.course.planes > 0 ? sum_blocks_beside<Variant, IntoL1<kPlanesAheadInL1>>(task, outputs)
                           : sum_blocks_beside<Variant, Nowhere>(task, outputs);
}

// ---- planes that share cache lines ----------------------------------------------------------------------------------

struct NoPlaneAhead {
    NoPlaneAhead(const GradientSums&, std::int64_t) {}
    BNORM_MEMBER void start(const GradientRow&) {}
    BNORM_MEMBER void fetch() {}
};

// One of a run of planes, and the vector that it shares with the next.
template <class Variant>
BNORM_INLINE void apply_plane_of_run(const GradientApply& task, const GradientApplyRow& run, std::int64_t plane) {
    const auto parameters = gradient_plane_parameters<Variant>(task, plane);
    const std::int64_t end = (plane + 1) * task.columns;
    const std::int64_t begin = (plane * task.columns + kWidth - 1) / kWidth * kWidth;
    const std::int64_t i =
        gradient_apply_vectors<Variant>(run, begin, end, NothingFetched{}, [&](std::int64_t) { return parameters; });
    if (i < end) {
        const auto both = blend_parameters(parameters, gradient_plane_parameters<Variant>(task, plane + 1), end - i);
        gradient_apply_vector<Variant, true, true>(run, i, kWidth, both);
    }
}

// Plane by plane in turns, in the order of memory.
template <class Variant, class Ahead>
BNORM_RARE void sum_planes_beside(const GradientSums& arguments, const GradientApply& outputs) {
    const GradientSums task = arguments;
    const GradientApply other = outputs;
    const std::int64_t blocks = (task.rows + task.block_rows - 1) / task.block_rows;
    LaneGradients sums[kMostPlanesBeside];
    Ahead ahead(task, task.channels);
    for (std::int64_t block = 0; block < blocks; ++block) {
        const std::int64_t first = block * task.block_rows;
        const std::int64_t end = first + task.block_rows < task.rows ? first + task.block_rows : task.rows;
        for (std::int64_t c = 0; c < task.channels; ++c) {
            clear(sums[c].dy);
            clear(sums[c].products);
        }
        for (std::int64_t r = first; r < end; ++r) {
            for (std::int64_t c = 0; c < task.channels; ++c) {
                const GateParameters parameters = gate_parameters<Variant::gate, Pattern::uniform>(task, c);
                LaneGradients of_channel = sums[c];
                ahead.start(first_row_of<Variant::gate>(task, 0));
                sum_gradient_row<Variant::gate>(rows_on(task, first_row_of<Variant::gate>(task, c), r), task.columns,
                                                parameters, of_channel, ahead);
                sums[c] = of_channel;
                apply_plane_of_run<Variant>(other, gradient_apply_row(other, r), c);
            }
        }
        for (std::int64_t c = 0; c < task.channels; ++c) {
            task.sum_dy[c * blocks + block] = sum_lanes(sums[c].dy);
            task.sum_dy_centered_x[c * blocks + block] = sum_lanes(sums[c].products);
        }
    }
}

template <int kVariant>
BNORM_KERNEL void gradient_sums_beside(const GradientSums& task, const GradientApply& other) {
    using Variant = GradientApplyVariant<gradient_apply_variant(kFixedGates[kVariant % kFixedGateCount], false,
                                                                kVariant >= kFixedGateCount, true)>;
    if (task.channels > 1) {
        task.course.planes > 0 ? sum_planes_beside<Variant, PlaneAhead>(task, other)
                               : sum_planes_beside<Variant, NoPlaneAhead>(task, other);
        return;
    }
    task.course.planes > 0 ? sum_blocks_beside<Variant, IntoL1<kPlanesAheadInL1>>(task, other)
                           : sum_blocks_beside<Variant, Nowhere>(task, other);
}

} // namespace
} // namespace bnorm::kernels

#endif
