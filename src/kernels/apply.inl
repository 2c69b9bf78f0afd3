// y = act(fma(x - center, scale, shift) + residual).
//
// x - center is exact for x near the mean (Sterbenz), so the output is as good as in f64; the folded x*scale + shift
// would lose |mean|/std digits. Memory hides the extra subtraction.
#ifndef BNORM_KERNELS_APPLY_INL
#define BNORM_KERNELS_APPLY_INL

#include "kernels/elementwise.inl"

namespace bnorm::kernels {
namespace {

template <int kVariant>
struct ApplyVariant {
    static constexpr int kind = kVariant % kApplyKinds;
    static constexpr bool mask = kind >= kActivations;
    static constexpr auto activation = static_cast<Activation>(mask ? kind - kMaskedActivations : kind);
    static constexpr bool residual = (kVariant / kApplyKinds & 1) != 0;
    static constexpr bool stream = (kVariant / kApplyKinds & 2) != 0;
    static_assert(apply_variant(activation, residual, mask, stream) == kVariant);
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
    const float* y_ahead;
    std::uint8_t* mask;
};

BNORM_INLINE ApplyRow apply_row(const Apply& task, std::int64_t row) {
    float* y = task.y + row * task.y_stride;
    return {task.x + row * task.x_stride, task.residual + row * task.residual_stride, y, y + task.y_ahead,
            task.mask + row * task.mask_stride};
}

template <class Variant, Pattern kPattern>
BNORM_INLINE ApplyParameters apply_parameters(const Apply& task, std::int64_t column) {
    return {parameter<kPattern>(task.center, column), parameter<kPattern>(task.scale, column),
            parameter<kPattern>(task.shift, column), F32(task.activation_parameter)};
}

struct ApplyOutput {
    F32 y;
    std::uint32_t passed; // where the activation did: for the mask
};

template <class Variant, bool kWhole>
BNORM_INLINE ApplyOutput apply_output(const ApplyRow& row, std::int64_t column, std::int64_t lanes,
                                      const ApplyParameters& parameters) {
    F32 v = fma(load_lanes<kWhole>(row.x + column, lanes) - parameters.center, parameters.scale, parameters.shift);
    if (Variant::residual) {
        v = v + load_lanes<kWhole>(row.residual + column, lanes);
    }
    const std::uint32_t passed = Variant::mask ? passes<Variant::activation>(v, parameters.activation) : 0;
    return {activate<Variant::activation>(v, parameters.activation), passed};
}

template <bool kWhole, bool kStream>
BNORM_INLINE void store_y(const ApplyRow& row, std::int64_t column, std::int64_t lanes, F32 y) {
    if (kWhole && !kStream) {
        fetch_output(row.y_ahead + column);
    }
    store_lanes<kWhole, kStream>(row.y + column, y, lanes);
}

template <class Variant, bool kWhole, bool kStream>
BNORM_INLINE void store_output(const ApplyRow& row, std::int64_t column, std::int64_t lanes,
                               const ApplyOutput& output) {
    if (Variant::mask) {
        store_mask(row.mask, column, kWhole ? output.passed : output.passed & ((1U << lanes) - 1U));
    }
    store_y<kWhole, kStream>(row, column, lanes, output.y);
}

// The mask of all in one store: where stores that find their line in L1 take turns with others that do not, Intel's
// cores wait for each of the latter.
template <class Variant>
BNORM_INLINE void store_outputs(const ApplyRow& row, std::int64_t column, const ApplyOutput (&outputs)[kTogether]) {
    if (kTogether == 1) {
        store_output<Variant, true, Variant::stream>(row, column, kWidth, outputs[0]);
        return;
    }
    if (Variant::mask) {
        std::uint64_t passed = 0;
        BNORM_UNROLL
        for (std::int64_t k = 0; k < kTogether; ++k) {
            passed |= static_cast<std::uint64_t>(outputs[k].passed) << (k * kWidth);
        }
        __builtin_memcpy(row.mask + static_cast<std::uint64_t>(column) / 8, &passed, kTogether * kWidth / 8);
    }
    BNORM_UNROLL
    for (std::int64_t k = 0; k < kTogether; ++k) {
        store_y<true, Variant::stream>(row, column + k * kWidth, kWidth, outputs[k].y);
    }
}

template <class Variant, bool kWhole, bool kStream>
BNORM_INLINE void apply_vector(const ApplyRow& row, std::int64_t column, std::int64_t lanes,
                               const ApplyParameters& parameters) {
    store_output<Variant, kWhole, kStream>(row, column, lanes,
                                           apply_output<Variant, kWhole>(row, column, lanes, parameters));
}

// What `ahead` of the task asks for. Where x was not fetched, the sums, which come next, ask again; nothing else asks
// for the residual.
template <class Variant, int kResidualTimes>
struct FetchAhead {
    const Apply& task;
    const ApplyRow& row;

    BNORM_MEMBER void operator()(std::int64_t column) const {
        prefetch_ahead(row.x + column, task.ahead);
        if (Variant::residual && task.ahead != 0) {
            prefetch_into_l2<kResidualTimes>(row.residual + column + task.next_row, task.ask_again);
        }
    }
};

struct FetchResidual {
    const float* residual;

    BNORM_MEMBER void operator()(std::int64_t column) const { prefetch(residual + column); }
};

template <class Variant>
struct FetchStreamed {
    const Apply& task;
    const ApplyRow& row;

    BNORM_MEMBER void operator()(std::int64_t column) const {
        if (Variant::stream) {
            prefetch_streamed(row.x + column, task.ask_again);
            if (Variant::residual) {
                prefetch_streamed(row.residual + column, task.ask_again);
            }
        }
    }
};

// `parameters(column)` gives each vector its own. Returns where the whole vectors end.
template <class Variant, class Fetch, class Parameters>
BNORM_INLINE std::int64_t apply_vectors(const ApplyRow& row, std::int64_t column, std::int64_t end, const Fetch& fetch,
                                        const Parameters& parameters) {
    return for_whole_vectors(
        column, end, fetch, [&](std::int64_t c) { return apply_output<Variant, true>(row, c, kWidth, parameters(c)); },
        [&](std::int64_t c, const ApplyOutput(&outputs)[kTogether]) { store_outputs<Variant>(row, c, outputs); },
        [&](std::int64_t c, const ApplyOutput& output) {
            store_output<Variant, true, Variant::stream>(row, c, kWidth, output);
        });
}

// As apply_vectors, of columns. Asked vector by vector, into which cache took as long as the prefetches save.
template <class Variant, class Parameters>
BNORM_INLINE std::int64_t apply_vectors_of_columns(const Apply& task, const ApplyRow& row, std::int64_t column,
                                                   std::int64_t end, const Parameters& parameters) {
    return Variant::stream && Variant::residual && task.inputs_into_l1
               ? apply_vectors<Variant>(row, column, end, FetchTwoIntoL1{row.x, row.residual}, parameters)
               : apply_vectors<Variant>(row, column, end, FetchStreamed<Variant>{task, row}, parameters);
}

// How far ahead the residual is fetched into L1: while outputs are stored past the caches, what is asked for into L2
// comes no sooner than by itself.
constexpr std::int64_t kResidualAhead = 1024;

// As apply_vectors, of a row of the residual that ends at `row_end`, from where on the next one is fetched.
template <class Variant, class Parameters>
BNORM_INLINE std::int64_t apply_vectors_fetching_residual(const Apply& task, const ApplyRow& row, std::int64_t column,
                                                          std::int64_t end, std::int64_t row_end,
                                                          const Parameters& parameters) {
    const std::int64_t ahead = kResidualAhead < task.columns ? kResidualAhead : task.columns;
    const std::int64_t turn = (row_end - ahead) / (kTogether * kWidth) * kTogether * kWidth;
    column =
        apply_vectors<Variant>(row, column, turn < end ? turn : end, FetchResidual{row.residual + ahead}, parameters);
    return apply_vectors<Variant>(row, column, end, FetchResidual{row.residual + task.next_row + ahead - row_end},
                                  parameters);
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
        const auto same = [&](std::int64_t) { return parameters; };
        c = Variant::residual && task.fetch_residual
                ? apply_vectors_fetching_residual<Variant>(task, row, c, task.columns, task.columns, same)
                : apply_vectors<Variant>(row, c, task.columns, FetchAhead<Variant, 3>{task, row}, same);
        if (c < task.columns) {
            apply_vector<Variant, false, false>(row, c, task.columns - c, parameters);
        }
        if (Variant::mask) {
            end_mask_row(row.mask, task.columns);
        }
    }
}

// Lines that are in memory do not come within what fetch_output asks for. Row by row, as a branch for each vector took
// up to a tenth of the time in cache.
template <class Variant>
BNORM_INLINE void fetch_rows(const Apply& task, std::int64_t first, std::int64_t rows) {
    if (Variant::stream || !task.fetch_rows) {
        return;
    }
    constexpr std::int64_t kElementsOfLine = 16;
    const float* y = task.y + first * task.columns + kStreamedAhead;
    for (std::int64_t element = 0; element < rows * task.columns; element += kElementsOfLine) {
        prefetch_into_l2(y + element);
    }
}

// Each vector of parameters serves all of so many rows.
template <class Variant, std::int64_t kRows>
BNORM_INLINE void apply_rows_together(const Apply& task, std::int64_t first) {
    std::int64_t c = 0;
    for (; c + kWidth <= task.columns; c += kWidth) {
        const ApplyParameters parameters = apply_parameters<Variant, Pattern::periodic>(task, c);
        ApplyOutput outputs[kRows];
        BNORM_UNROLL
        for (std::int64_t k = 0; k < kRows; ++k) {
            outputs[k] = apply_output<Variant, true>(apply_row(task, first + k), c, kWidth, parameters);
        }
        BNORM_UNROLL
        for (std::int64_t k = 0; k < kRows; ++k) {
            store_output<Variant, true, Variant::stream>(apply_row(task, first + k), c, kWidth, outputs[k]);
        }
    }
    BNORM_NO_UNROLL
    for (std::int64_t r = first; r < first + kRows; ++r) {
        if (c < task.columns) {
            apply_vector<Variant, false, false>(apply_row(task, r), c, task.columns - c,
                                                apply_parameters<Variant, Pattern::periodic>(task, c));
        }
        if (Variant::mask) {
            end_mask_row(apply_row(task, r).mask, task.columns);
        }
    }
}

// From vector kFirst on.
template <class Variant, std::int64_t kFirst>
BNORM_INLINE void apply_rest_of_row(const Apply& task, const ApplyRow& row) {
    const auto parameters = [&](std::int64_t column) {
        return apply_parameters<Variant, Pattern::periodic>(task, column);
    };
    const std::int64_t c = apply_vectors_of_columns<Variant>(task, row, kFirst * kWidth, task.columns, parameters);
    if (c < task.columns) {
        apply_vector<Variant, false, false>(row, c, task.columns - c, parameters(c));
    }
    if (Variant::mask) {
        end_mask_row(row.mask, task.columns);
    }
}

// The parameters of the first kVectors stay in registers for all rows. Where they do not, a vector takes four loads
// instead of one, and L1 cannot do those in the time in which L2 delivers x.
template <class Variant, std::int64_t kVectors, bool kRest>
BNORM_INLINE void apply_rows_keeping(const Apply& task, std::int64_t first) {
    static_assert(kVectors == kTogether || kVectors == 2 * kTogether);
    ApplyParameters parameters[kVectors];
    BNORM_UNROLL
    for (std::int64_t v = 0; v < kVectors; ++v) {
        parameters[v] = apply_parameters<Variant, Pattern::periodic>(task, v * kWidth);
    }
    for (std::int64_t r = first; r < task.rows; ++r) {
        const ApplyRow row = apply_row(task, r);
        fetch_rows<Variant>(task, r, 1);
        BNORM_UNROLL
        for (std::int64_t v = 0; v < kVectors; v += kTogether) {
            apply_vectors_of_columns<Variant>(task, row, v * kWidth, (v + kTogether) * kWidth,
                                              [&](std::int64_t c) { return parameters[c / kWidth]; });
        }
        if (kRest) {
            apply_rest_of_row<Variant, kVectors>(task, row);
        }
    }
}

template <class Variant, std::int64_t kVectors>
BNORM_INLINE void apply_rows_keeping(const Apply& task, std::int64_t first) {
    if (task.columns == kVectors * kWidth) {
        apply_rows_keeping<Variant, kVectors, false>(task, first);
    } else {
        apply_rows_keeping<Variant, kVectors, true>(task, first);
    }
}

// As many as registers hold beside what else is needed. Where outputs bypass the cache more were slower, and so were
// rows of more than those.
template <class Variant>
BNORM_INLINE void apply_long_rows(const Apply& task, std::int64_t first) {
    const std::int64_t vectors = task.columns / kWidth;
    if (kWidth == 16 && !Variant::stream && vectors >= 2 * kTogether) {
        apply_rows_keeping<Variant, 2 * kTogether>(task, first);
    } else if (kWidth >= 8 && !Variant::stream && vectors >= kTogether) {
        apply_rows_keeping<Variant, kTogether>(task, first);
    } else if (kWidth >= 8 && task.columns == kTogether * kWidth) {
        apply_rows_keeping<Variant, kTogether, false>(task, first);
    } else {
        for (std::int64_t r = first; r < task.rows; ++r) {
            fetch_rows<Variant>(task, r, 1);
            apply_rest_of_row<Variant, 0>(task, apply_row(task, r));
        }
    }
}

// Other long rows one after the other: taking four at once was slower by a quarter with streaming stores and by half
// from the last-level cache.
template <int kVariant>
BNORM_KERNEL void apply_periodic(const Apply& arguments) {
    using Variant = ApplyVariant<kVariant>;
    const Apply task = arguments;
    std::int64_t r = 0;
    if (task.columns < kTogether * kWidth) {
        for (; r + kTogether <= task.rows; r += kTogether) {
            fetch_rows<Variant>(task, r, kTogether);
            apply_rows_together<Variant, kTogether>(task, r);
        }
    }
    if (!Variant::stream && task.columns * 3 > kMaxParameters) { // center, scale, shift
        constexpr std::int64_t kRows = rows_together(Variant::residual);
        for (; r + kRows <= task.rows; r += kRows) {
            fetch_rows<Variant>(task, r, kRows);
            apply_rows_together<Variant, kRows>(task, r);
        }
    }
    apply_long_rows<Variant>(task, r);
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
        const auto same = [&](std::int64_t) { return parameters; };
        i = Variant::residual && task.fetch_residual
                ? apply_vectors_fetching_residual<Variant>(task, run, i, end, task.rows * task.columns, same)
                : apply_vectors<Variant>(run, i, end, FetchAhead<Variant, 1>{task, run}, same);
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
