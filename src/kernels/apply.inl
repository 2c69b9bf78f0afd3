// y = act(fma(x - center, scale, shift) + residual).
//
// x - center is exact for x near the mean (Sterbenz), so the output is as good as in f64; the folded x*scale + shift
// would lose |mean|/std digits. Memory hides the extra subtraction.
#ifndef BNORM_KERNELS_APPLY_INL
#define BNORM_KERNELS_APPLY_INL

#include "kernels/elementwise.inl"

namespace bnorm::kernels {
namespace {

// How many elements ahead inputs are fetched where outputs bypass the cache: 16 KiB.
constexpr std::int64_t kStreamedAhead = 4096;

template <int kVariant>
struct ApplyVariant {
    static constexpr auto activation = static_cast<Activation>(kVariant % kActivations);
    static constexpr bool residual = (kVariant / kActivations & 1) != 0;
    static constexpr bool mask = (kVariant / kActivations & 2) != 0;
    static constexpr bool stream = (kVariant / kActivations & 4) != 0;
};

struct ApplyParameters {
    F32 center;
    F32 scale;
    F32 shift;
    F32 activation;
};

struct ApplyRow {
    const float* x;
    const float* residual;
    float* y;
    std::uint8_t* mask;
};

BNORM_INLINE ApplyRow apply_row(const Apply& task, std::int64_t row) {
    return {task.x + row * task.x_stride, task.residual + row * task.residual_stride, task.y + row * task.y_stride,
            task.mask + row * task.mask_stride};
}

template <class Variant, Pattern kPattern>
BNORM_INLINE ApplyParameters apply_parameters(const Apply& task, std::int64_t column) {
    return {parameter<kPattern>(task.center, column), parameter<kPattern>(task.scale, column),
            parameter<kPattern>(task.shift, column), F32(task.activation_parameter)};
}

template <class Variant, bool kWhole, bool kStream>
BNORM_INLINE void apply_vector(const ApplyRow& row, std::int64_t column, std::int64_t lanes,
                               const ApplyParameters& parameters) {
    F32 v = fma(load_lanes<kWhole>(row.x + column, lanes) - parameters.center, parameters.scale, parameters.shift);
    if (Variant::residual) {
        v = v + load_lanes<kWhole>(row.residual + column, lanes);
    }
    if (Variant::mask) {
        const std::uint32_t passed = passes<Variant::activation>(v, parameters.activation);
        store_mask(row.mask, column, kWhole ? passed : passed & ((1U << lanes) - 1U));
    }
    store_lanes<kWhole, kStream>(row.y + column, activate<Variant::activation>(v, parameters.activation), lanes);
}

template <class Variant>
BNORM_INLINE void prefetch_residual(const float* address, std::int64_t ahead) {
    if (Variant::residual) {
        prefetch_ahead(address, ahead);
    }
}

template <int kVariant>
BNORM_KERNEL void apply_uniform(const Apply& arguments) {
    using Variant = ApplyVariant<kVariant>;
    const Apply task = arguments;
    const ApplyParameters parameters = apply_parameters<Variant, Pattern::uniform>(task, 0);
    for (std::int64_t r = 0; r < task.rows; ++r) {
        const ApplyRow row = apply_row(task, r);
        std::int64_t c = 0;
        if (Variant::stream && lanes_to_boundary(row.y) != 0) {
            const std::int64_t head = lanes_to_boundary(row.y);
            c = head < task.columns ? head : task.columns;
            apply_vector<Variant, false, false>(row, 0, c, parameters);
        }
        for (; c + kWidth <= task.columns; c += kWidth) {
            prefetch_ahead(row.x + c, task.ahead);
            prefetch_residual<Variant>(row.residual + c, task.residual_ahead);
            apply_vector<Variant, true, Variant::stream>(row, c, kWidth, parameters);
        }
        if (c < task.columns) {
            apply_vector<Variant, false, false>(row, c, task.columns - c, parameters);
        }
        if (Variant::mask) {
            end_mask_row(row.mask, task.columns);
        }
    }
}

// One row after the other: taking four at once, so that a load of parameters serves all, was slower by a quarter with
// streaming stores and by half from the last-level cache.
template <int kVariant>
BNORM_KERNEL void apply_periodic(const Apply& arguments) {
    using Variant = ApplyVariant<kVariant>;
    const Apply task = arguments;
    for (std::int64_t r = 0; r < task.rows; ++r) {
        const ApplyRow row = apply_row(task, r);
        std::int64_t c = 0;
        for (; c + kWidth <= task.columns; c += kWidth) {
            const auto parameters = apply_parameters<Variant, Pattern::periodic>(task, c);
            if (Variant::stream) {
                prefetch_into_l2(row.x + c + kStreamedAhead);
            }
            if (Variant::stream && Variant::residual) {
                prefetch_into_l2(row.residual + c + kStreamedAhead);
            }
            apply_vector<Variant, true, Variant::stream>(row, c, kWidth, parameters);
        }
        if (c < task.columns) {
            const auto parameters = apply_parameters<Variant, Pattern::periodic>(task, c);
            apply_vector<Variant, false, false>(row, c, task.columns - c, parameters);
        }
        if (Variant::mask) {
            end_mask_row(row.mask, task.columns);
        }
    }
}

BNORM_INLINE ApplyParameters plane_parameters(const Apply& task, std::int64_t plane) {
    return {F32(task.center[plane]), F32(task.scale[plane]), F32(task.shift[plane]), F32(task.activation_parameter)};
}

BNORM_INLINE ApplyParameters blend_parameters(const ApplyParameters& a, const ApplyParameters& b, std::int64_t lanes) {
    return {blend_first(a.center, b.center, lanes), blend_first(a.scale, b.scale, lanes),
            blend_first(a.shift, b.shift, lanes), a.activation};
}

// All planes as one run, so that only its ends are tails. A plane has kLanes elements at least: a vector meets two of
// them at most.
template <int kVariant>
BNORM_KERNEL void apply_planes(const Apply& arguments) {
    using Variant = ApplyVariant<kVariant>;
    const Apply task = arguments;
    const ApplyRow run = apply_row(task, 0);
    ApplyParameters parameters = plane_parameters(task, 0);
    std::int64_t i = 0;
    if (Variant::stream && lanes_to_boundary(run.y) != 0) {
        i = lanes_to_boundary(run.y);
        apply_vector<Variant, false, false>(run, 0, i, parameters);
    }
    for (std::int64_t plane = 0; plane < task.rows; ++plane) {
        const std::int64_t end = (plane + 1) * task.columns;
        for (; i + kWidth <= end; i += kWidth) {
            prefetch_ahead(run.x + i, task.ahead);
            prefetch_residual<Variant>(run.residual + i, task.residual_ahead);
            apply_vector<Variant, true, Variant::stream>(run, i, kWidth, parameters);
        }
        if (plane + 1 == task.rows) {
            break;
        }
        const ApplyParameters following = plane_parameters(task, plane + 1);
        if (i < end) {
            const ApplyParameters both = blend_parameters(parameters, following, end - i);
            apply_vector<Variant, true, Variant::stream>(run, i, kWidth, both);
            i += kWidth;
        }
        parameters = following;
    }
    const std::int64_t elements = task.rows * task.columns;
    if (i < elements) {
        apply_vector<Variant, false, false>(run, i, elements - i, parameters);
    }
    if (Variant::mask) {
        end_mask_row(run.mask, elements);
    }
}

} // namespace
} // namespace bnorm::kernels

#endif
