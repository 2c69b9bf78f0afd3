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
    MaskBits mask;
};

// A multiple of kWidth from it.
template <Gate kGate>
BNORM_INLINE GradientRow at_column(const GradientRow& row, std::int64_t column) {
    return {row.dy + column, row.x + column, advance<kGate>(row.mask, column)};
}

BNORM_INLINE GradientRow rows_on(const GradientSums& task, const GradientRow& from, std::int64_t rows) {
    return {from.dy + rows * task.dy_stride,
            from.x + rows * task.x_stride,
            {from.mask.byte + rows * task.mask_stride, from.mask.shift, from.mask.lanes}};
}

template <Gate kGate>
BNORM_INLINE GradientRow gradient_row(const GradientSums& task, std::int64_t row) {
    return rows_on(task, {task.dy, task.x, mask_from<kGate>(task.mask, task.mask_bit)}, row);
}

struct GradientTerms {
    F32 dy;
    F32 e; // x - center
};

struct GateParameters {
    DifferenceFrom<F32> center;
    F32 scale;
    F32 shift;
    F32 activation;
};

template <Gate kGate, Pattern kPattern>
BNORM_INLINE GateParameters gate_parameters(const GradientSums& task, std::int64_t column) {
    const F32 none(0.0F);
    return {DifferenceFrom<F32>(parameter<kPattern>(task.center, column)),
            is_sign_gate(kGate) ? parameter<kPattern>(task.scale, column) : none,
            is_sign_gate(kGate) ? parameter<kPattern>(task.shift, column) : none, F32(task.activation_parameter)};
}

// Of one vector. Lanes from `lanes` on are 0 in dy, and therefore in both sums.
template <Gate kGate, bool kWhole>
BNORM_INLINE GradientTerms gradient_terms(const GradientRow& vector, std::int64_t lanes,
                                          const GateParameters& parameters) {
    const F32 x = load_lanes<kWhole>(vector.x, lanes);
    F32 e = kGate == Gate::none ? parameters.center(x) : parameters.center.by_addition(x);
    if (!kWhole) {
        e = keep_first(e, lanes);
    }
    if (kGate == Gate::none) {
        const F32 dy = in_register(load_lanes<kWhole>(vector.dy, lanes));
        return {F32(dy.data), e};
    }
    const Mask passed = is_mask_gate(kGate)
                            ? load_mask(vector.mask)
                            : passed_by_sign<kGate>(fma(e, parameters.scale, parameters.shift), parameters.activation);
    return {load_gated<kGate, kWhole>(vector.dy, lanes, passed, parameters.activation), e};
}

BNORM_INLINE F32Sums add_terms(const F32Sums& sums, const GradientTerms& t) {
    return {sums.s1 + t.dy, fma(t.dy, t.e, sums.s2)};
}

// Four terms as a tree; `terms(k)` gives the k-th.
template <class Terms>
BNORM_INLINE F32Sums sum_four_products(const Terms& terms) {
    const GradientTerms t0 = terms(0), t1 = terms(1), t2 = terms(2), t3 = terms(3);
    return {(t0.dy + t1.dy) + (t2.dy + t3.dy), fma(t1.dy, t1.e, t0.dy * t0.e) + fma(t3.dy, t3.e, t2.dy * t2.e)};
}

template <class Terms>
BNORM_INLINE F32Sums sum_eight_products(const Terms& terms) {
    const F32Sums low = sum_four_products(terms);
    const F32Sums high = sum_four_products([&](std::int64_t k) { return terms(k + 4); });
    return {low.s1 + high.s1, low.s2 + high.s2};
}

struct LaneGradients {
    LaneTotals dy;
    LaneTotals products;
};

BNORM_INLINE void add_group(LaneGradients& sums, std::int64_t lane, const F32Sums& group) {
    add_widened(sums.dy, lane, group.s1);
    add_widened(sums.products, lane, group.s2);
}

// How far ahead planes of dy and x are fetched into L1, from memory or where they are on their way to L2 already.
constexpr std::int64_t kPlanesAheadInL1 = 1024;

// How often what comes from memory by columns is asked for: as in elementwise passes that stream, or, on some CPUs,
// where that makes the sums a third faster, more often.
constexpr int kRequests = 3;
constexpr int kManyRequests = 7;

struct IntoL2AskedOften : IntoL2 {
    BNORM_MEMBER static void fetch(const float* address) { prefetch_into_l2<kManyRequests>(address); }
};

template <class Into>
struct GradientRowsAhead {
    RowsAhead<Into> dy;
    RowsAhead<Into> x;

    BNORM_MEMBER void fetch() {
        dy.fetch();
        x.fetch();
    }
};

template <class Into>
BNORM_INLINE auto gradients_ahead(const GradientSums& task, const GradientRow& first) {
    if constexpr (Into::kElements > 0) {
        return GradientRowsAhead<Into>{{first.dy, task.dy_stride, task.course}, {first.x, task.x_stride, task.course}};
    } else {
        return NothingAhead{};
    }
}

// Up to kMost elements (a bound by which compilers unroll) at the end of a row: each lane's one after the other.
// `result[lane / kWidth]` are the sums of a vector of lanes.
template <Gate kGate, std::int64_t kMost>
BNORM_INLINE void sum_lane_chains(const GradientRow& row, std::int64_t columns, const GateParameters& parameters,
                                  F32Sums (&result)[kLanes / kWidth]) {
    BNORM_UNROLL
    for (std::int64_t lane = 0; lane < kLanes; lane += kWidth) {
        F32Sums chain = {F32(0.0F), F32(0.0F)};
        std::int64_t i = lane;
        for (; i + kWidth <= kMost && i + kWidth <= columns; i += kLanes) {
            chain = add_terms(chain, gradient_terms<kGate, true>(at_column<kGate>(row, i), kWidth, parameters));
        }
        if (i < columns) {
            // Where the lanes are one vector, the same for every row: their mask is then made once.
            const std::int64_t left = kWidth == kLanes ? columns % kLanes : columns - i;
            chain = add_terms(chain, gradient_terms<kGate, false>(at_column<kGate>(row, i), left, parameters));
        }
        result[lane / kWidth] = chain;
    }
}

template <Gate kGate, class Ahead>
BNORM_INLINE void sum_gradient_row(const GradientRow& row, std::int64_t columns, const GateParameters& parameters,
                                   LaneGradients& sums, Ahead& ahead) {
    std::int64_t c = 0;
    for (; c + kStepElements <= columns; c += kStepElements) {
        const GradientRow step = at_column<kGate>(row, c);
        BNORM_UNROLL
        for (std::int64_t lane = 0; lane < kLanes; lane += kWidth) {
            add_group(sums, lane, sum_eight_products([&](std::int64_t k) {
                          ahead.fetch();
                          return gradient_terms<kGate, true>(at_column<kGate>(step, lane + k * kLanes), kWidth,
                                                             parameters);
                      }));
        }
    }
    if (c == columns) {
        return;
    }
    for (std::int64_t i = c; i < columns; i += kWidth) {
        ahead.fetch();
    }
    F32Sums chains[kLanes / kWidth];
    sum_lane_chains<kGate, kStepElements>(at_column<kGate>(row, c), columns - c, parameters, chains);
    BNORM_UNROLL
    for (std::int64_t lane = 0; lane < kLanes; lane += kWidth) {
        add_group(sums, lane, chains[lane / kWidth]);
    }
}

template <Gate kGate>
BNORM_INLINE GradientRow first_row_of(const GradientSums& task, std::int64_t channel) {
    const std::int64_t column = channel * task.columns;
    return {task.dy + column, task.x + column,
            mask_from<kGate>(task.mask, task.mask_bit + channel * task.channel_bits)};
}

template <Gate kGate, class Into>
BNORM_RARE void sum_gradients_of_channels(const GradientSums& arguments) {
    const GradientSums task = arguments;
    for (std::int64_t channel = 0; channel < task.channels; ++channel) {
        const GradientRow first = first_row_of<kGate>(task, channel);
        const GateParameters parameters = gate_parameters<kGate, Pattern::uniform>(task, channel);
        LaneGradients sums;
        clear(sums.dy);
        clear(sums.products);
        auto ahead = gradients_ahead<Into>(task, first);
        for (std::int64_t r = 0; r < task.rows; ++r) {
            sum_gradient_row<kGate>(rows_on(task, first, r), task.columns, parameters, sums, ahead);
        }
        task.sum_dy[channel] = sum_lanes(sums.dy);
        task.sum_dy_centered_x[channel] = sum_lanes(sums.products);
    }
}

// The same of several blocks of each channel. Apart: with these loops around them, sums of a single row beside a mask
// took up to 1.3 times as long (GCC 12 keeps less of them in registers).
template <Gate kGate, class Into>
BNORM_RARE void sum_gradients_of_blocks(const GradientSums& arguments) {
    const GradientSums task = arguments;
    double* sum_dy = task.sum_dy;
    double* sum_dy_centered_x = task.sum_dy_centered_x;
    for (std::int64_t channel = 0; channel < task.channels; ++channel) {
        const GradientRow first = first_row_of<kGate>(task, channel);
        const GateParameters parameters = gate_parameters<kGate, Pattern::uniform>(task, channel);
        auto ahead = gradients_ahead<Into>(task, first);
        for (std::int64_t row = 0; row < task.rows; row += task.block_rows) {
            const std::int64_t end = row + task.block_rows < task.rows ? row + task.block_rows : task.rows;
            for (std::int64_t column = 0; column < task.columns; column += task.block_columns) {
                const std::int64_t rest = task.columns - column;
                const std::int64_t columns = rest < task.block_columns ? rest : task.block_columns;
                const GradientRow top = at_column<kGate>(first, column);
                LaneGradients sums;
                clear(sums.dy);
                clear(sums.products);
                for (std::int64_t r = row; r < end; ++r) {
                    sum_gradient_row<kGate>(rows_on(task, top, r), columns, parameters, sums, ahead);
                }
                *sum_dy++ = sum_lanes(sums.dy);
                *sum_dy_centered_x++ = sum_lanes(sums.products);
            }
        }
    }
}

// ---- uniform, image by image ----------------------------------------------------------------------------------------

// Channels whose sums stay in L1 from image to image.
constexpr std::int64_t kChannelsByImages = 64;

// The plane that is fetched while another is summed: so many further on in an image, or in the next one.
class PlaneAhead {
  public:
    PlaneAhead(const GradientSums& task, std::int64_t channels)
        : task_(task), channels_(channels), image_((kPlanesAheadInL1 + task.columns - 1) / task.columns / channels),
          channel_((kPlanesAheadInL1 + task.columns - 1) / task.columns % channels) {}

    // `first` is that of the channels in the first image.
    BNORM_MEMBER void start(const GradientRow& first) {
        const std::int64_t column = channel_ * task_.columns;
        dy_ = first.dy + image_ * task_.dy_stride + column;
        x_ = first.x + image_ * task_.x_stride + column;
        const bool last = ++channel_ == channels_;
        channel_ = last ? 0 : channel_;
        image_ += last ? 1 : 0;
    }

    BNORM_MEMBER void fetch() {
        prefetch(dy_);
        prefetch(x_);
        dy_ += kWidth;
        x_ += kWidth;
    }

  private:
    const GradientSums& task_;
    std::int64_t channels_;
    std::int64_t image_;
    std::int64_t channel_;
    const float* dy_ = nullptr;
    const float* x_ = nullptr;
};

// As many runs of memory as images, not as there are planes.
template <Gate kGate>
BNORM_RARE void sum_gradients_by_images(const GradientSums& arguments) {
    const GradientSums task = arguments;
    LaneGradients sums[kChannelsByImages];
    for (std::int64_t first = 0; first < task.channels; first += kChannelsByImages) {
        const std::int64_t rest = task.channels - first;
        const std::int64_t channels = rest < kChannelsByImages ? rest : kChannelsByImages;
        for (std::int64_t c = 0; c < channels; ++c) {
            clear(sums[c].dy);
            clear(sums[c].products);
        }
        PlaneAhead ahead(task, channels);
        for (std::int64_t r = 0; r < task.rows; ++r) {
            for (std::int64_t c = 0; c < channels; ++c) {
                const GateParameters parameters = gate_parameters<kGate, Pattern::uniform>(task, first + c);
                LaneGradients of_channel = sums[c];
                ahead.start(first_row_of<kGate>(task, first));
                sum_gradient_row<kGate>(rows_on(task, first_row_of<kGate>(task, first + c), r), task.columns,
                                        parameters, of_channel, ahead);
                sums[c] = of_channel;
            }
        }
        for (std::int64_t c = 0; c < channels; ++c) {
            task.sum_dy[first + c] = sum_lanes(sums[c].dy);
            task.sum_dy_centered_x[first + c] = sum_lanes(sums[c].products);
        }
    }
}

// ---- uniform, short planes ------------------------------------------------------------------------------------------

// Of at most four vectors, whose halves make a group of eight.
constexpr std::int64_t kShortPlane = 4 * kLanes;

// f64 sums of half the lanes; folded once more, of one vector.
struct ShortPlanes {
    F64 dy[kLanes / 2 / kWidthF64];
    F64 products[kLanes / 2 / kWidthF64];
};

BNORM_INLINE void add_halved(F64 (&sums)[kLanes / 2 / kWidthF64], const F32 (&lanes)[kLanes / kWidth]) {
    F64 halves[kLanes / 2 / kWidthF64];
    widen_halved(lanes, halves);
    BNORM_UNROLL
    for (std::int64_t i = 0; i < kLanes / 2 / kWidthF64; ++i) {
        sums[i] = sums[i] + halves[i];
    }
}

template <Gate kGate, class Into>
BNORM_INLINE ShortPlanes sum_short_planes(const GradientSums& task, std::int64_t channel) {
    const GradientRow first = first_row_of<kGate>(task, channel);
    const GateParameters parameters = gate_parameters<kGate, Pattern::uniform>(task, channel);
    auto ahead = gradients_ahead<Into>(task, first);
    ShortPlanes sums;
    BNORM_UNROLL
    for (std::int64_t i = 0; i < kLanes / 2 / kWidthF64; ++i) {
        sums.dy[i] = sums.products[i] = F64(0.0);
    }
    for (std::int64_t r = 0; r < task.rows; ++r) {
        for (std::int64_t i = 0; i < task.columns; i += kWidth) {
            ahead.fetch();
        }
        F32Sums chains[kLanes / kWidth];
        sum_lane_chains<kGate, kShortPlane>(rows_on(task, first, r), task.columns, parameters, chains);
        F32 dy[kLanes / kWidth];
        F32 products[kLanes / kWidth];
        BNORM_UNROLL
        for (std::int64_t i = 0; i < kLanes / kWidth; ++i) {
            dy[i] = chains[i].s1;
            products[i] = chains[i].s2;
        }
        add_halved(sums.dy, dy);
        add_halved(sums.products, products);
    }
    return sums;
}

// The lanes of several channels are summed at once: one by one took longer than all else of a 7x7 plane.
template <Gate kGate, class Into>
BNORM_RARE void sum_gradients_of_short_planes(const GradientSums& arguments) {
    const GradientSums task = arguments;
    std::int64_t channel = 0;
    for (; channel + kWidthF64 <= task.channels; channel += kWidthF64) {
        F64 dy[kWidthF64];
        F64 products[kWidthF64];
        BNORM_NO_UNROLL
        for (std::int64_t i = 0; i < kWidthF64; ++i) {
            const ShortPlanes sums = sum_short_planes<kGate, Into>(task, channel + i);
            dy[i] = fold_vectors(sums.dy);
            products[i] = fold_vectors(sums.products);
        }
        store(task.sum_dy + channel, sum_halves_of_each(dy));
        store(task.sum_dy_centered_x + channel, sum_halves_of_each(products));
    }
    BNORM_NO_UNROLL
    for (; channel < task.channels; ++channel) {
        const ShortPlanes sums = sum_short_planes<kGate, Into>(task, channel);
        task.sum_dy[channel] = sum_vectors(sums.dy);
        task.sum_dy_centered_x[channel] = sum_vectors(sums.products);
    }
}

// ---- periodic: down the columns, in groups of eight rows, whose terms are added one after the other -----------------

BNORM_INLINE F32Sums first_terms(const GradientTerms& t) { return {t.dy, t.dy * t.e}; }

template <Gate kGate, bool kWhole>
BNORM_INLINE GradientTerms column_terms(const GradientSums& task, const GradientRow& row, std::int64_t column) {
    return gradient_terms<kGate, kWhole>(at_column<kGate>(row, column), task.columns - column,
                                         gate_parameters<kGate, Pattern::periodic>(task, column));
}

// Who fetches the rows that are summed.
enum class Fetched {
    by_hardware,
    pieces,   // of a panel, prefetched into L1: hardware follows whole rows only
    in_order, // whole rows, prefetched from memory
    in_order_often,
};

BNORM_INLINE void prefetch_piece(const GradientSums& task, const GradientRow& row, std::int64_t column) {
    constexpr std::int64_t kRowsOn = 2;
    prefetch(row.dy + kRowsOn * task.dy_stride + column);
    prefetch(row.x + kRowsOn * task.x_stride + column);
}

// What is read in the order of memory.
template <int kTimes>
BNORM_INLINE void prefetch_in_order(const GradientRow& row, std::int64_t column) {
    prefetch_into_l2<kTimes>(row.dy + column + kStreamedAhead);
    prefetch_into_l2<kTimes>(row.x + column + kStreamedAhead);
}

// Of kVectors vectors of columns from `column` on, row by row. In a loop over the rows: unrolled, it reads slower.
template <Gate kGate, std::int64_t kVectors, Fetched kFetched = Fetched::by_hardware>
BNORM_INLINE void sum_group_of_rows(const GradientSums& task, std::int64_t first, std::int64_t column,
                                    F32Sums (&sums)[kVectors]) {
    GradientRow row = at_column<kGate>(gradient_row<kGate>(task, first), column);
    const auto terms = [&](std::int64_t v) {
        if (kFetched == Fetched::pieces) {
            prefetch_piece(task, row, v * kWidth);
        }
        if (kFetched == Fetched::in_order) {
            prefetch_in_order<kRequests>(row, v * kWidth);
        }
        if (kFetched == Fetched::in_order_often) {
            prefetch_in_order<kManyRequests>(row, v * kWidth);
        }
        return gradient_terms<kGate, true>(at_column<kGate>(row, v * kWidth), kWidth,
                                           gate_parameters<kGate, Pattern::periodic>(task, column + v * kWidth));
    };
    BNORM_UNROLL
    for (std::int64_t v = 0; v < kVectors; ++v) {
        sums[v] = first_terms(terms(v));
    }
    BNORM_NO_UNROLL
    for (std::int64_t k = 1; k < kGroup; ++k) {
        row = rows_on(task, row, 1);
        BNORM_UNROLL
        for (std::int64_t v = 0; v < kVectors; ++v) {
            sums[v] = add_terms(sums[v], terms(v));
        }
    }
}

// Of a single vector, which may be the last one, down the rows.
template <Gate kGate, bool kWhole, class Ahead>
BNORM_INLINE F32Sums sum_group_of_column(const GradientSums& task, std::int64_t first, std::int64_t column,
                                         Ahead& ahead) {
    const GateParameters parameters = gate_parameters<kGate, Pattern::periodic>(task, column);
    const GradientRow row = gradient_row<kGate>(task, first);
    const GradientRow top = {in_register(row.dy + column), in_register(row.x + column),
                             advance<kGate>(row.mask, column)};
    const auto terms = [&](std::int64_t k) {
        ahead.fetch();
        return gradient_terms<kGate, kWhole>(rows_on(task, top, k), task.columns - column, parameters);
    };
    F32Sums sums = first_terms(terms(0));
    BNORM_UNROLL
    for (std::int64_t k = 1; k < kGroup; ++k) {
        sums = add_terms(sums, terms(k));
    }
    return sums;
}

BNORM_INLINE void add_to_columns(const GradientSums& task, std::int64_t column, const F32Sums& sums) {
    add_widened(task.sum_dy + column, sums.s1);
    add_widened(task.sum_dy_centered_x + column, sums.s2);
}

template <Gate kGate, bool kWhole>
BNORM_INLINE void sum_last_rows(const GradientSums& task, std::int64_t first, std::int64_t column) {
    F32Sums sums = {F32(0.0F), F32(0.0F)};
    for (std::int64_t r = first; r < task.rows; ++r) {
        sums = add_terms(sums, column_terms<kGate, kWhole>(task, gradient_row<kGate>(task, r), column));
    }
    add_to_columns(task, column, sums);
}

// Vectors of columns in a panel: with more, and their f64 sums, registers do not suffice.
constexpr std::int64_t kColumnVectors = 4;
// So many without f64 sums: of rows that share sets of L1, long pieces are read, and narrow vectors are up to 1.3 times
// as fast as one after the other.
constexpr std::int64_t kAlongVectors = kWidth == 16 ? 8 : 4;

// Along the rows. Returns the row that the groups end at.
template <Gate kGate, std::int64_t kVectors, class Ahead>
BNORM_INLINE std::int64_t sum_groups_along_rows(const GradientSums& task, Ahead ahead) {
    std::int64_t r = 0;
    for (; r + kGroup <= task.rows; r += kGroup) {
        std::int64_t c = 0;
        for (; kVectors > 1 && c + kVectors * kWidth <= task.columns; c += kVectors * kWidth) {
            F32Sums sums[kVectors];
            sum_group_of_rows<kGate>(task, r, c, sums);
            BNORM_UNROLL
            for (std::int64_t v = 0; v < kVectors; ++v) {
                add_to_columns(task, c + v * kWidth, sums[v]);
            }
        }
        BNORM_NO_UNROLL
        for (; c + kWidth <= task.columns; c += kWidth) {
            add_to_columns(task, c, sum_group_of_column<kGate, true>(task, r, c, ahead));
        }
        if (c < task.columns) {
            add_to_columns(task, c, sum_group_of_column<kGate, false>(task, r, c, ahead));
        }
    }
    return r;
}

BNORM_INLINE void store_columns(const GradientSums& task, std::int64_t column, const WideSums& sums) {
    store(sums, task.sum_dy + column, task.sum_dy_centered_x + column);
}

// Down the rows: the f64 sums stay in registers from the first to the last. Row by row where a panel is a whole row,
// and where dy is gated (the address of a mask then advances once a row); else one vector after the other, which
// suffers less beside a busy thread of the same core.
template <Gate kGate, Fetched kFetched>
BNORM_INLINE void sum_panel(const GradientSums& task, std::int64_t column) {
    constexpr bool kByRows = kFetched != Fetched::pieces || kGate != Gate::none;
    WideSums totals[kColumnVectors];
    BNORM_UNROLL
    for (WideSums& vector : totals) {
        vector = no_wide_sums();
    }
    for (std::int64_t r = 0; r + kGroup <= task.rows; r += kGroup) {
        F32Sums sums[kColumnVectors];
        if (kByRows) {
            sum_group_of_rows<kGate, kColumnVectors, kFetched>(task, r, column, sums);
        }
        NothingAhead nothing;
        BNORM_UNROLL
        for (std::int64_t v = 0; v < kColumnVectors; ++v) {
            if (!kByRows) {
                sums[v] = sum_group_of_column<kGate, true>(task, r, column + v * kWidth, nothing);
            }
            add_widened(totals[v], sums[v]);
        }
    }
    BNORM_UNROLL
    for (std::int64_t v = 0; v < kColumnVectors; ++v) {
        store_columns(task, column + v * kWidth, totals[v]);
    }
}

template <Gate kGate, bool kWhole>
BNORM_INLINE void sum_column(const GradientSums& task, std::int64_t column) {
    WideSums totals = no_wide_sums();
    NothingAhead nothing;
    for (std::int64_t r = 0; r + kGroup <= task.rows; r += kGroup) {
        add_widened(totals, sum_group_of_column<kGate, kWhole>(task, r, column, nothing));
    }
    store_columns(task, column, totals);
}

// Returns the row that the groups end at.
template <Gate kGate>
BNORM_RARE std::int64_t sum_panels(const GradientSums& arguments) {
    const GradientSums task = arguments;
    std::int64_t c = 0;
    for (; c + kColumnVectors * kWidth <= task.columns; c += kColumnVectors * kWidth) {
        sum_panel<kGate, Fetched::pieces>(task, c);
    }
    BNORM_NO_UNROLL
    for (; c + kWidth <= task.columns; c += kWidth) {
        sum_column<kGate, true>(task, c);
    }
    if (c < task.columns) {
        sum_column<kGate, false>(task, c);
    }
    return task.rows / kGroup * kGroup;
}

// Rows of a single panel that follow each other, in the order of memory: hardware fetches them sooner than any
// prefetch, but from memory not behind a gate, which decides what of dy is loaded. Two rows in turns already take twice
// as long.
template <Gate kGate>
BNORM_RARE std::int64_t sum_short_rows(const GradientSums& arguments) {
    const GradientSums task = arguments;
    if (kGate != Gate::none && task.prefetch) {
        task.ask_often ? sum_panel<kGate, Fetched::in_order_often>(task, 0)
                       : sum_panel<kGate, Fetched::in_order>(task, 0);
    } else {
        sum_panel<kGate, Fetched::by_hardware>(task, 0);
    }
    return task.rows / kGroup * kGroup;
}

// The same of longer rows, whose sums so far are kept in L1: the most columns that leave enough of it to the stream.
constexpr std::int64_t kMaxColumnsInOrder = 1024;

BNORM_INLINE bool are_one_stream(const GradientSums& task) {
    return task.dy_stride == task.columns && task.x_stride == task.columns;
}

// Of a group so far and one vector of columns. Side by side: from arrays apart, loads might wait for stores to
// addresses that agree in the lower 12 bits.
struct StoredSums {
    alignas(64) float s1[kWidth];
    alignas(64) float s2[kWidth];
};

enum class PartOfGroup { first, middle, last };

// From caches into L1, 4 KiB on: hardware follows several rows in turns less well than one.
BNORM_INLINE void prefetch_from_caches(const GradientRow& row, std::int64_t column) {
    constexpr std::int64_t kElementsOn = 1024;
    prefetch(row.dy + column + kElementsOn);
    prefetch(row.x + column + kElementsOn);
}

// `kRows` at once, `kVectors` of each in one turn of the loop; from memory, asked for kTimes, or, if that is 0, from
// caches.
template <Gate kGate, int kTimes, std::int64_t kRows, std::int64_t kVectors, PartOfGroup kPart>
BNORM_INLINE void sum_rows_in_order(const GradientSums& task, std::int64_t first, StoredSums* sums) {
    GradientRow rows[kRows];
    BNORM_UNROLL
    for (std::int64_t k = 0; k < kRows; ++k) {
        rows[k] = gradient_row<kGate>(task, first + k);
    }
    const auto add_vector = [&](std::int64_t c) {
        StoredSums& stored = sums[c / kWidth];
        F32Sums all = {F32(0.0F), F32(0.0F)};
        if (kPart != PartOfGroup::first) {
            all = {load(stored.s1), load(stored.s2)};
        }
        BNORM_UNROLL
        for (std::int64_t k = 0; k < kRows; ++k) {
            kTimes > 0 ? prefetch_in_order<kTimes>(rows[k], c) : prefetch_from_caches(rows[k], c);
            const GradientTerms t = column_terms<kGate, true>(task, rows[k], c);
            all = kPart == PartOfGroup::first && k == 0 ? first_terms(t) : add_terms(all, t);
        }
        if (kPart == PartOfGroup::last) {
            add_to_columns(task, c, all);
        } else {
            store(stored.s1, all.s1);
            store(stored.s2, all.s2);
        }
    };
    std::int64_t c = 0;
    for (; c + kVectors * kWidth <= task.columns; c += kVectors * kWidth) {
        BNORM_UNROLL
        for (std::int64_t v = 0; v < kVectors; ++v) {
            add_vector(c + v * kWidth);
        }
    }
    BNORM_NO_UNROLL
    for (; c < task.columns; c += kWidth) {
        add_vector(c);
    }
}

// Rows of whole vectors.
template <Gate kGate, int kTimes, std::int64_t kRows, std::int64_t kVectors>
BNORM_RARE std::int64_t sum_groups_in_order(const GradientSums& arguments) {
    const GradientSums task = arguments;
    StoredSums sums[kMaxColumnsInOrder / kWidth];
    std::int64_t r = 0;
    for (; r + kGroup <= task.rows; r += kGroup) {
        sum_rows_in_order<kGate, kTimes, kRows, kVectors, PartOfGroup::first>(task, r, sums);
        BNORM_NO_UNROLL
        for (std::int64_t k = kRows; k < kGroup - kRows; k += kRows) {
            sum_rows_in_order<kGate, kTimes, kRows, kVectors, PartOfGroup::middle>(task, r + k, sums);
        }
        sum_rows_in_order<kGate, kTimes, kRows, kVectors, PartOfGroup::last>(task, r + kGroup - kRows, sums);
    }
    return r;
}

// Beside a mask panels of a row of 128 columns were as fast or faster.
template <Gate kGate>
BNORM_INLINE bool reads_in_order(const GradientSums& task) {
    constexpr std::int64_t kShortRow = 2 * kColumnVectors * kWidth;
    const bool short_row = is_mask_gate(kGate) && task.columns <= kShortRow;
    return task.in_order != RowsInOrder::no && task.columns <= kMaxColumnsInOrder && task.columns % kWidth == 0 &&
           (!short_row || task.in_order == RowsInOrder::from_memory);
}

// From caches four rows at once, so that each sum is loaded and stored a quarter as often; of longer rows, and of as
// long ones past L2, two: L1 holds four less well beside their sums. From L2 so many vectors in one turn that each load
// advances by a long and a short step in turns: at steps that are all alike Zen 5 fetches into L1 what slows it down.
template <Gate kGate>
BNORM_INLINE std::int64_t sum_groups_in_order(const GradientSums& task) {
    constexpr std::int64_t kLongRow = 512;
    if (task.in_order == RowsInOrder::from_memory) {
        return task.ask_often ? sum_groups_in_order<kGate, kManyRequests, 1, 4>(task)
                              : sum_groups_in_order<kGate, kRequests, 1, 4>(task);
    }
    if (task.in_order == RowsInOrder::from_l2 && task.columns <= kLongRow) {
        return sum_groups_in_order<kGate, 0, 4, 8>(task);
    }
    return task.columns < kLongRow ? sum_groups_in_order<kGate, 0, 4, 4>(task)
                                   : sum_groups_in_order<kGate, 0, 2, 2>(task);
}

template <class Into>
BNORM_INLINE GradientRowsAhead<Into> columns_ahead(const GradientSums& task) {
    return {{task.dy, task.dy_stride, task.columns}, {task.x, task.x_stride, task.columns}};
}

template <Gate kGate, class Into>
BNORM_RARE std::int64_t sum_groups_ahead(const GradientSums& task) {
    return sum_groups_along_rows<kGate, 1>(task, columns_ahead<Into>(task));
}

template <Gate kGate>
BNORM_RARE std::int64_t sum_groups_one_by_one(const GradientSums& task) {
    return sum_groups_along_rows<kGate, 1>(task, NothingAhead());
}

BNORM_INLINE bool rows_share_sets(const GradientSums& task) {
    return shares_sets(task.x_stride) || shares_sets(task.dy_stride);
}

// Of planes of several images. Hardware follows eight rows of them at a time, each on and on, but not the pieces of all
// rows that a panel consists of. Already fetched into L2, if they come from memory.
template <Gate kGate>
BNORM_INLINE std::int64_t sum_groups_of_planes(const GradientSums& task) {
    if (kWidth == 16 && (task.prefetch || !rows_share_sets(task))) {
        return sum_groups_one_by_one<kGate>(task);
    }
    return sum_groups_along_rows<kGate, kAlongVectors>(task, NothingAhead());
}

// Registers suffice for panels with vectors of 16 only.
template <Gate kGate>
BNORM_INLINE std::int64_t sum_groups_of_pixels(const GradientSums& task) {
    if (kWidth == 16 && are_one_stream(task)) {
        if (task.columns == kColumnVectors * kWidth) {
            return sum_short_rows<kGate>(task);
        }
        if (reads_in_order<kGate>(task)) {
            return sum_groups_in_order<kGate>(task);
        }
    }
    if (task.prefetch) {
        return task.ask_often ? sum_groups_ahead<kGate, IntoL2AskedOften>(task) : sum_groups_ahead<kGate, IntoL2>(task);
    }
    if (kWidth == 16 && !rows_share_sets(task)) {
        return sum_panels<kGate>(task);
    }
    return sum_groups_along_rows<kGate, kAlongVectors>(task, NothingAhead());
}

BNORM_INLINE void clear_columns(const GradientSums& task) {
    const std::int64_t padded = (task.columns + kLanes - 1) / kLanes * kLanes;
    for (std::int64_t c = 0; c < padded; c += kWidthF64) {
        store(task.sum_dy + c, F64(0.0));
        store(task.sum_dy_centered_x + c, F64(0.0));
    }
}

template <Gate kGate>
BNORM_KERNEL void gradient_sums_periodic(const GradientSums& arguments) {
    const GradientSums task = arguments;
    const std::int64_t whole = task.columns / kWidth * kWidth;
    clear_columns(task);
    const std::int64_t r = task.together ? sum_groups_of_planes<kGate>(task) : sum_groups_of_pixels<kGate>(task);
    if (r == task.rows) {
        return;
    }
    for (std::int64_t c = 0; c < whole; c += kWidth) {
        sum_last_rows<kGate, true>(task, r, c);
    }
    if (whole < task.columns) {
        sum_last_rows<kGate, false>(task, r, whole);
    }
}

// ---- uniform, short planes together ---------------------------------------------------------------------------------

// Many channels' planes are one run of columns, whose sums are added up channel by channel in the end: no partial
// vectors but the last, and a few long streams of memory instead of as many short ones as there are images.
constexpr std::int64_t kRunColumns = 1024;
constexpr std::int64_t kMaxRunColumns = kMaxTogetherColumns * kLanes;

// So many channels that those after them start at a multiple of kLanes elements, too.
BNORM_INLINE std::int64_t channels_of_run(std::int64_t columns) {
    const std::int64_t units = kRunColumns / (columns * kLanes);
    return kLanes * (units < 1 ? 1 : units);
}

// `result` has room for a further vector, which becomes 0.
BNORM_INLINE void repeat_for_columns(const float* values, std::int64_t channels, std::int64_t columns, float* result) {
    for (std::int64_t channel = 0; channel < channels; ++channel) {
        const F32 value(values[channel]);
        for (std::int64_t c = 0; c < columns; c += kWidth) {
            store(result + channel * columns + c, value);
        }
    }
    store(result + channels * columns, F32(0.0F));
}

BNORM_INLINE double sum_of_columns(const double* sums, std::int64_t columns) {
    LaneTotals totals;
    clear(totals);
    std::int64_t c = 0;
    for (; c + kLanes <= columns; c += kLanes) {
        BNORM_UNROLL
        for (std::int64_t part = 0; part < kLanes / kWidthF64; ++part) {
            totals.parts[part] = totals.parts[part] + load(sums + c + part * kWidthF64);
        }
    }
    double rest = 0.0;
    for (; c < columns; ++c) {
        rest += sums[c];
    }
    return sum_lanes(totals) + rest;
}

struct RunOfPlanes {
    alignas(64) float center[kMaxRunColumns + kLanes];
    alignas(64) float scale[kMaxRunColumns + kLanes];
    alignas(64) float shift[kMaxRunColumns + kLanes];
    alignas(64) double sum_dy[kMaxRunColumns];
    alignas(64) double sum_dy_centered_x[kMaxRunColumns];
};

template <Gate kGate>
BNORM_RARE void sum_gradients_together(const GradientSums& arguments) {
    RunOfPlanes run;
    GradientSums task = arguments;
    const std::int64_t most = channels_of_run(arguments.columns);
    for (std::int64_t first = 0; first < arguments.channels; first += most) {
        const std::int64_t channels = arguments.channels - first < most ? arguments.channels - first : most;
        const std::int64_t column = first * arguments.columns;
        repeat_for_columns(arguments.center + first, channels, arguments.columns, run.center);
        if (is_sign_gate(kGate)) {
            repeat_for_columns(arguments.scale + first, channels, arguments.columns, run.scale);
            repeat_for_columns(arguments.shift + first, channels, arguments.columns, run.shift);
        }
        task.dy = arguments.dy + column;
        task.x = arguments.x + column;
        task.mask_bit = arguments.mask_bit + column;
        task.columns = channels * arguments.columns;
        task.center = run.center;
        task.scale = run.scale;
        task.shift = run.shift;
        task.sum_dy = run.sum_dy;
        task.sum_dy_centered_x = run.sum_dy_centered_x;
        gradient_sums_periodic<kGate>(task);
        for (std::int64_t channel = 0; channel < channels; ++channel) {
            const std::int64_t c = channel * arguments.columns;
            arguments.sum_dy[first + channel] = sum_of_columns(run.sum_dy + c, arguments.columns);
            arguments.sum_dy_centered_x[first + channel] = sum_of_columns(run.sum_dy_centered_x + c, arguments.columns);
        }
    }
}

template <Gate kGate, class Into>
BNORM_INLINE void sum_planes(const GradientSums& task) {
    if (task.columns <= kShortPlane) {
        sum_gradients_of_short_planes<kGate, Into>(task);
    } else if (task.rows > task.block_rows || task.columns > task.block_columns) {
        sum_gradients_of_blocks<kGate, Into>(task);
    } else {
        sum_gradients_of_channels<kGate, Into>(task);
    }
}

template <Gate kGate>
BNORM_KERNEL void gradient_sums_uniform(const GradientSums& arguments) {
    if (arguments.together) {
        sum_gradients_together<kGate>(arguments);
    } else if (arguments.by_images && arguments.columns > kShortPlane) {
        sum_gradients_by_images<kGate>(arguments);
    } else if (arguments.course.planes == 0) {
        sum_planes<kGate, Nowhere>(arguments);
    } else if (arguments.course.into_l1) {
        sum_planes<kGate, IntoL1<kPlanesAheadInL1>>(arguments);
    } else {
        sum_planes<kGate, IntoL2>(arguments);
    }
}

} // namespace
} // namespace bnorm::kernels

#endif
