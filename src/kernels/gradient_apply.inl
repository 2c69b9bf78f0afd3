// dx = fma(scale, dy', fma(x_scale, x - center, offset)) and dresidual = dy'; with fixed statistics dx = scale * dy'.
#ifndef BNORM_KERNELS_GRADIENT_APPLY_INL
#define BNORM_KERNELS_GRADIENT_APPLY_INL

#include "kernels/elementwise.inl"
#include "kernels/rows_ahead.inl"

namespace bnorm::kernels {
namespace {

template <int kVariant>
struct GradientApplyVariant {
    static constexpr int kind = kVariant % kGradientApplyKinds;
    static constexpr bool dresidual = kind >= kGates;
    static constexpr auto gate = static_cast<Gate>(dresidual ? kind - kGates : kind);
    static constexpr bool fixed = (kVariant / kGradientApplyKinds & 1) != 0;
    static constexpr bool stream = (kVariant / kGradientApplyKinds & 2) != 0;
    static_assert(gradient_apply_variant(gate, fixed, dresidual, stream) == kVariant);
    static constexpr bool reads_x = !fixed || is_sign_gate(gate);
};

struct GradientApplyParameters {
    F32 center;
    F32 scale;
    F32 shift;
    F32 x_scale;
    F32 offset;
    F32 activation;
};

struct GradientApplyRow {
    const float* dy;
    const float* x;
    const std::uint8_t* mask;
    float* dx;
    float* dresidual;
    const float* dx_ahead;
    const float* dresidual_ahead;
};

BNORM_INLINE GradientApplyRow gradient_apply_row(const GradientApply& task, std::int64_t row) {
    float* dx = task.dx + row * task.dx_stride;
    float* dresidual = task.dresidual + row * task.dresidual_stride;
    return {task.dy + row * task.dy_stride,
            task.x + row * task.x_stride,
            task.mask + row * task.mask_stride,
            dx,
            dresidual,
            dx + task.dx_ahead,
            dresidual + task.dresidual_ahead};
}

template <class Variant, Pattern kPattern>
BNORM_INLINE GradientApplyParameters gradient_apply_parameters(const GradientApply& task, std::int64_t column) {
    const F32 none(0.0F);
    constexpr bool kSign = is_sign_gate(Variant::gate);
    const F32 scale = parameter<kPattern>(task.scale, column);
    return {Variant::reads_x ? parameter<kPattern>(task.center, column) : none,
            kSign ? in_register(scale) : scale, // needed twice
            kSign ? parameter<kPattern>(task.shift, column) : none,
            Variant::fixed ? none : parameter<kPattern>(task.x_scale, column),
            Variant::fixed ? none : parameter<kPattern>(task.offset, column),
            F32(task.activation_parameter)};
}

struct GradientApplyOutput {
    F32 dx;
    F32 dresidual;
};

// `mask` is that of the column.
template <class Variant, bool kWhole>
BNORM_INLINE GradientApplyOutput gradient_apply_output(const GradientApplyRow& row, std::int64_t column,
                                                       const MaskBits& mask, std::int64_t lanes,
                                                       const GradientApplyParameters& parameters) {
    F32 dy = load_lanes<kWhole>(row.dy + column, lanes);
    F32 e(0.0F);
    if (Variant::reads_x) {
        e = load_lanes<kWhole>(row.x + column, lanes) - parameters.center;
    }
    if (is_mask_gate(Variant::gate)) {
        dy = gated<Variant::gate>(dy, load_mask(mask), parameters.activation);
    }
    if (is_sign_gate(Variant::gate)) {
        const F32 v = fma(e, parameters.scale, parameters.shift);
        dy = gated<Variant::gate>(dy, passed_by_sign<Variant::gate>(v, parameters.activation), parameters.activation);
    }
    const F32 dx = Variant::fixed ? parameters.scale * dy
                                  : fma(parameters.scale, dy, fma(parameters.x_scale, e, parameters.offset));
    return {dx, dy};
}

template <class Variant, bool kWhole, bool kStream>
BNORM_INLINE void store_output(const GradientApplyRow& row, std::int64_t column, std::int64_t lanes,
                               const GradientApplyOutput& output) {
    if (kWhole && !kStream) {
        fetch_output(row.dx_ahead + column);
        if (Variant::dresidual) {
            fetch_output(row.dresidual_ahead + column);
        }
    }
    if (Variant::dresidual) {
        store_lanes<kWhole, kStream>(row.dresidual + column, output.dresidual, lanes);
    }
    store_lanes<kWhole, kStream>(row.dx + column, output.dx, lanes);
}

template <class Variant>
BNORM_INLINE void store_outputs(const GradientApplyRow& row, std::int64_t column,
                                const GradientApplyOutput (&outputs)[kTogether]) {
    BNORM_UNROLL
    for (std::int64_t k = 0; k < kTogether; ++k) {
        store_output<Variant, true, Variant::stream>(row, column + k * kWidth, kWidth, outputs[k]);
    }
}

template <class Variant, bool kWhole, bool kStream>
BNORM_INLINE void gradient_apply_vector(const GradientApplyRow& row, std::int64_t column, std::int64_t lanes,
                                        const GradientApplyParameters& parameters) {
    const MaskBits mask = mask_from<Variant::gate>(row.mask, column);
    store_output<Variant, kWhole, kStream>(
        row, column, lanes, gradient_apply_output<Variant, kWhole>(row, column, mask, lanes, parameters));
}

template <class Variant>
struct FetchBothStreamed {
    const GradientApply& task;
    const GradientApplyRow& row;

    BNORM_MEMBER void operator()(std::int64_t column) const {
        if (Variant::stream && task.prefetch) {
            prefetch_streamed(row.dy + column, task.ask_again);
            if (Variant::reads_x) {
                prefetch_streamed(row.x + column, task.ask_again);
            }
        }
    }
};

// What `ahead` of the task asks for.
struct FetchBothAhead {
    const GradientApply& task;
    const GradientApplyRow& row;

    BNORM_MEMBER void operator()(std::int64_t column) const {
        prefetch_ahead(row.x + column, task.ahead);
        prefetch_ahead(row.dy + column, task.ahead);
    }
};

// As apply_vectors.
template <class Variant, class Fetch, class Parameters>
BNORM_INLINE std::int64_t gradient_apply_vectors(const GradientApplyRow& row, std::int64_t column, std::int64_t end,
                                                 const Fetch& fetch, const Parameters& parameters) {
    MaskBits mask = mask_from<Variant::gate>(row.mask, column);
    return for_whole_vectors(
        column, end, fetch,
        [&](std::int64_t c) {
            // Step by step, or, where vectors are no whole bytes of it, at once.
            const MaskBits of_vector = kWidth % 8 == 0 ? mask : mask_from<Variant::gate>(row.mask, c);
            mask = advance<Variant::gate>(mask, kWidth);
            return gradient_apply_output<Variant, true>(row, c, of_vector, kWidth, parameters(c));
        },
        [&](std::int64_t c, const GradientApplyOutput(&outputs)[kTogether]) {
            store_outputs<Variant>(row, c, outputs);
        },
        [&](std::int64_t c, const GradientApplyOutput& output) {
            store_output<Variant, true, Variant::stream>(row, c, kWidth, output);
        });
}

template <int kVariant>
BNORM_KERNEL void gradient_apply_uniform(const GradientApply& arguments) {
    using Variant = GradientApplyVariant<kVariant>;
    const GradientApply task = arguments;
    const auto parameters = gradient_apply_parameters<Variant, Pattern::uniform>(task, 0);
    for (std::int64_t r = 0; r < task.rows; ++r) {
        const GradientApplyRow row = gradient_apply_row(task, r);
        std::int64_t c = 0;
        if (Variant::stream && lanes_to_boundary(row.dx) != 0) {
            const std::int64_t head = lanes_to_boundary(row.dx);
            c = head < task.columns ? head : task.columns;
            gradient_apply_vector<Variant, false, false>(row, 0, c, parameters);
        }
        c = gradient_apply_vectors<Variant>(row, c, task.columns, FetchBothAhead{task, row},
                                            [&](std::int64_t) { return parameters; });
        if (c < task.columns) {
            gradient_apply_vector<Variant, false, false>(row, c, task.columns - c, parameters);
        }
    }
}

template <class Variant>
BNORM_INLINE void gradient_apply_row_of_columns(const GradientApply& task, const GradientApplyRow& row) {
    const auto parameters = [&](std::int64_t column) {
        return gradient_apply_parameters<Variant, Pattern::periodic>(task, column);
    };
    const std::int64_t c =
        Variant::stream && Variant::reads_x && task.inputs_into_l1
            ? gradient_apply_vectors<Variant>(row, 0, task.columns, FetchTwoIntoL1{row.dy, row.x}, parameters)
            : gradient_apply_vectors<Variant>(row, 0, task.columns, FetchBothStreamed<Variant>{task, row}, parameters);
    if (c < task.columns) {
        gradient_apply_vector<Variant, false, false>(row, c, task.columns - c, parameters(c));
    }
}

template <class Variant, std::int64_t kRows>
BNORM_INLINE void gradient_apply_rows_together(const GradientApply& task, std::int64_t first) {
    std::int64_t c = 0;
    for (; c + kWidth <= task.columns; c += kWidth) {
        const auto parameters = gradient_apply_parameters<Variant, Pattern::periodic>(task, c);
        GradientApplyOutput outputs[kRows];
        BNORM_UNROLL
        for (std::int64_t k = 0; k < kRows; ++k) {
            const GradientApplyRow row = gradient_apply_row(task, first + k);
            outputs[k] = gradient_apply_output<Variant, true>(
                row, c, advance<Variant::gate>(mask_from<Variant::gate>(row.mask, 0), c), kWidth, parameters);
        }
        BNORM_UNROLL
        for (std::int64_t k = 0; k < kRows; ++k) {
            store_output<Variant, true, Variant::stream>(gradient_apply_row(task, first + k), c, kWidth, outputs[k]);
        }
    }
    if (c < task.columns) {
        const auto parameters = gradient_apply_parameters<Variant, Pattern::periodic>(task, c);
        BNORM_NO_UNROLL
        for (std::int64_t r = first; r < first + kRows; ++r) {
            gradient_apply_vector<Variant, false, false>(gradient_apply_row(task, r), c, task.columns - c, parameters);
        }
    }
}

template <class Fetch>
BNORM_INLINE void fetch_short_row(const Fetch& fetch) {
    BNORM_UNROLL
    for (std::int64_t v = 0; v < kTogether; ++v) {
        fetch(v * kWidth);
    }
}

// Rows of so many vectors that all their parameters stay in registers. Hardware fetches dy and x, but not behind
// a gate.
template <class Variant>
BNORM_INLINE void gradient_apply_short_rows(const GradientApply& task) {
    GradientApplyParameters parameters[kTogether];
    BNORM_UNROLL
    for (std::int64_t v = 0; v < kTogether; ++v) {
        parameters[v] = gradient_apply_parameters<Variant, Pattern::periodic>(task, v * kWidth);
    }
    for (std::int64_t r = 0; r < task.rows; ++r) {
        const GradientApplyRow row = gradient_apply_row(task, r);
        if (Variant::stream && Variant::reads_x && Variant::gate != Gate::none && task.inputs_into_l1) {
            fetch_short_row(FetchTwoIntoL1{row.dy, row.x});
        } else if (Variant::gate != Gate::none) {
            fetch_short_row(FetchBothStreamed<Variant>{task, row});
        }
        GradientApplyOutput outputs[kTogether];
        BNORM_UNROLL
        for (std::int64_t v = 0; v < kTogether; ++v) {
            outputs[v] = gradient_apply_output<Variant, true>(
                row, v * kWidth, mask_from<Variant::gate>(row.mask, v * kWidth), kWidth, parameters[v]);
        }
        store_outputs<Variant>(row, 0, outputs);
    }
}

// center, scale, x_scale, offset, and for the sign of the output shift. Rows of a page have just too many with that,
// but are slower together (0.6): they would share sets.
template <class Variant>
BNORM_INLINE bool parameters_fill_l1(const GradientApply& task) {
    const bool fifth = is_sign_gate(Variant::gate) && !shares_sets(task.x_stride);
    return task.columns * (fifth ? 5 : 4) > kMaxParameters;
}

// As apply_periodic.
template <int kVariant>
BNORM_KERNEL void gradient_apply_periodic(const GradientApply& arguments) {
    using Variant = GradientApplyVariant<kVariant>;
    const GradientApply task = arguments;
    if (kWidth == 16 && task.columns == kTogether * kWidth) {
        gradient_apply_short_rows<Variant>(task);
        return;
    }
    std::int64_t r = 0;
    if (task.columns < kTogether * kWidth) {
        for (; r + kTogether <= task.rows; r += kTogether) {
            gradient_apply_rows_together<Variant, kTogether>(task, r);
        }
    }
    if (!Variant::stream && parameters_fill_l1<Variant>(task)) {
        constexpr std::int64_t kRows = rows_together(Variant::dresidual);
        for (; r + kRows <= task.rows; r += kRows) {
            gradient_apply_rows_together<Variant, kRows>(task, r);
        }
    }
    for (; r < task.rows; ++r) {
        gradient_apply_row_of_columns<Variant>(task, gradient_apply_row(task, r));
    }
}

template <class Variant>
BNORM_INLINE GradientApplyParameters gradient_plane_parameters(const GradientApply& task, std::int64_t plane) {
    GradientApply channel = task;
    channel.center += plane;
    channel.scale += plane;
    channel.shift += plane;
    channel.x_scale += plane;
    channel.offset += plane;
    return gradient_apply_parameters<Variant, Pattern::uniform>(channel, 0);
}

BNORM_INLINE GradientApplyParameters blend_parameters(const GradientApplyParameters& a,
                                                      const GradientApplyParameters& b, std::int64_t lanes) {
    return {blend_first(a.center, b.center, lanes), blend_first(a.scale, b.scale, lanes),
            blend_first(a.shift, b.shift, lanes),   blend_first(a.x_scale, b.x_scale, lanes),
            blend_first(a.offset, b.offset, lanes), a.activation};
}

// As apply_planes.
template <int kVariant>
BNORM_KERNEL void gradient_apply_planes(const GradientApply& arguments) {
    using Variant = GradientApplyVariant<kVariant>;
    const GradientApply task = arguments;
    const GradientApplyRow run = gradient_apply_row(task, 0);
    auto parameters = gradient_plane_parameters<Variant>(task, 0);
    std::int64_t i = 0;
    if (Variant::stream && lanes_to_boundary(run.dx) != 0) {
        i = lanes_to_boundary(run.dx);
        gradient_apply_vector<Variant, false, false>(run, 0, i, parameters);
    }
    const FetchBothAhead fetch = {task, run};
    for (std::int64_t plane = 0; plane < task.rows; ++plane) {
        const std::int64_t end = (plane + 1) * task.columns;
        const auto same = [&](std::int64_t) { return parameters; };
        i = Variant::stream && Variant::gate != Gate::none && Variant::reads_x && task.inputs_into_l1
                ? gradient_apply_vectors<Variant>(run, i, end, FetchTwoIntoL1{run.dy, run.x}, same)
                : gradient_apply_vectors<Variant>(run, i, end, fetch, same);
        if (plane + 1 == task.rows) {
            break;
        }
        const auto following = gradient_plane_parameters<Variant>(task, plane + 1);
        if (i < end) {
            const auto both = blend_parameters(parameters, following, end - i);
            gradient_apply_vector<Variant, true, Variant::stream>(run, i, kWidth, both);
            i += kWidth;
        }
        parameters = following;
    }
    const std::int64_t elements = task.rows * task.columns;
    if (i < elements) {
        gradient_apply_vector<Variant, false, false>(run, i, elements - i, parameters);
    }
}

} // namespace
} // namespace bnorm::kernels

#endif
