// What the kernels of every ISA provide: a plain struct of function pointers, and the plain structs they take.
//
// A kernel works on `rows` rows of `columns` contiguous elements; strides are signed and count elements (mask strides
// count bytes). Its per-channel parameters follow one of two patterns:
//   uniform   all rows belong to one channel: each parameter array holds one value, which is broadcast;
//   periodic  each column has its own parameters: the arrays hold `columns` values, readable up to the next multiple of
//             kLanes;
//   planes    the rows follow each other without a gap (strides are ignored) and each is a channel: the arrays hold
//             `rows` values, and `columns` is at least kLanes.
// Reductions with uniform parameters take any number of `channels`, whose elements, parameters and results follow each
// other; one row of the next channel starts `columns` elements after that of the last. A call for each would take
// longer than the sums of a short plane.
//
// Kernels allocate nothing, throw nothing, know no threads, and never touch an element outside the rows.
#ifndef BNORM_KERNELS_KERNEL_TABLE_HPP
#define BNORM_KERNELS_KERNEL_TABLE_HPP

#include <cstddef>
#include <cstdint>

namespace bnorm::kernels {

// Sums are formed on this many virtual f32 lanes on every ISA, so that all of them round alike.
constexpr std::int64_t kLanes = 16;

// The most columns that one call of moments_periodic takes: its shifts live on the stack.
constexpr std::int64_t kMaxMomentColumns = 1024;

// Of columns: elements of parameters, of all kinds together, that leave room in L1 for what they are applied to.
constexpr std::int64_t kMaxParameters = 4096;

// Planes that gradient_sums_uniform takes together are shorter than this: sums of their columns live on the stack.
constexpr std::int64_t kMaxTogetherColumns = 96;

// The most channels of planes that one call of gradient_sums_beside takes.
constexpr std::int64_t kMostPlanesBeside = 4;

enum class Activation : std::int32_t { identity, relu, leaky_relu, clipped_relu };
constexpr int kActivations = 4;

// How dy becomes dy': where the activation passed its argument on it stays, elsewhere it is dropped (or, for leaky
// ReLU, multiplied by the slope). Where it passed is read from a mask or computed again from x as the sign of the
// output.
enum class Gate : std::int32_t {
    none,
    mask_drop,
    mask_leaky,
    sign_relu,
    sign_leaky_relu,
    sign_clipped_relu,
};
constexpr int kGates = 6;

// The way of a reduction through a channel: `planes` rows of `columns` elements, each followed in memory by the next
// channel's. A block starts with element `start` of it. Reductions fetch ahead along it, into L2 or less far, into L1,
// where what comes from memory is on its way to L2 already; planes = 0: they do not.
struct Course {
    std::int64_t planes;
    std::int64_t columns;
    std::int64_t start;
    bool into_l1;
};

// Planes of one image after the other: `rows` of `columns` elements of each channel, which follows the one before. They
// are cut into blocks of `block_rows` rows of `block_columns`, the last of them smaller; each has a mean and an M2 =
// sum((x-mean)^2) of its own, which follow each other, those of one channel before the next one's.
struct PlaneMoments {
    const float* x;
    std::int64_t rows;
    std::int64_t row_stride;
    std::int64_t columns;
    std::int64_t block_rows;
    std::int64_t block_columns;
    std::int64_t channels;
    Course course;
    double* mean;
    double* m2;
};

// How moments of columns read: a panel of a few vectors from the first row to the last, then the next one, or whole
// rows, eight at a time, and where to those that come from memory are fetched ahead. Kernels
// whose vectors lose by panels of such rows read whole ones at any rate.
enum class ReadRows { by_panels, whole, whole_into_l2, whole_into_l1 };

// Whether gradient sums read rows of up to 1024 columns in the order of memory, and where those lie.
enum class RowsInOrder { no, from_memory, from_caches, from_l2 };

// y = act(fma(x - center, scale, shift) + residual)
//
// `ahead`, if not 0: elements from x (and dy) to what will be read soon, which uniform and planes kernels fetch
// meanwhile, and of the residual what lies `next_row` further; it need not be readable.
struct Apply {
    const float* x;
    const float* residual;
    float* y;
    std::uint8_t* mask; // one bit an element, each row starting at a byte
    std::int64_t rows;
    std::int64_t columns;
    std::int64_t x_stride;
    std::int64_t residual_stride;
    std::int64_t y_stride;
    std::int64_t mask_stride;
    const float* center;
    const float* scale;
    const float* shift;
    float activation_parameter;
    std::int64_t ahead;
    bool ask_again;       // whether what is fetched from memory is asked for several times
    bool inputs_into_l1;  // periodic; gradients of planes behind a gate: two inputs go into L1, if outputs are stored
                          // past it
    bool fetch_rows;      // periodic, rows without gaps: whether y is in memory and is fetched into L2 in good time
    std::int64_t y_ahead; // elements from what is stored to what of y is fetched, if it is stored in caches
    bool fetch_residual;  // uniform, planes, rows going on and on: whether it is fetched into L1 just before it is read
    std::int64_t next_row; // uniform, planes: elements from what is read of the residual to what is fetched of it
};

// sum_dy += dy' and sum_dy_centered_x += dy' * (x - center), over all rows; the results are overwritten. gradient_fixed
// stores dx = scale * dy', too.
// uniform: one value for each channel; periodic: `columns` values, writable up to the next multiple of kLanes.
struct GradientSums {
    const float* dy;
    const float* x;
    const std::uint8_t* mask;
    std::int64_t mask_bit; // of the first element of each row, counted from the row's first byte
    std::int64_t rows;
    std::int64_t columns;
    std::int64_t channels;   // uniform
    std::int64_t block_rows; // uniform, neither together nor by images: blocks as in PlaneMoments, of planes that
                             // are short (at most 64 elements) only one
    std::int64_t block_columns;
    std::int64_t channel_bits; // uniform: from the first mask bit of a channel to that of the next
    std::int64_t dy_stride;
    std::int64_t x_stride;
    std::int64_t mask_stride;
    const float* center;
    const float* scale; // scale and shift as in Apply: for the sign gates, and scale for dx
    const float* shift;
    float activation_parameter;
    bool prefetch;        // periodic, together: whether dy and x come from memory
    bool ask_often;       // periodic: whether those are asked for very often
    RowsInOrder in_order; // periodic, rows without gaps
    bool together;        // uniform: sum column by column; columns < kMaxTogetherColumns, channel_bits = columns
    bool by_images;       // uniform, not together: sum long planes image by image, fetched into L1
    Course course;        // uniform; neither together nor by images
    double* sum_dy;
    double* sum_dy_centered_x;
    float* dx; // gradient_fixed; may be dy or x
    std::int64_t dx_stride;
    std::int64_t dx_ahead; // uniform: as y_ahead
};

// dx = fma(scale, dy', fma(x_scale, x - center, offset)), or with fixed statistics dx = scale * dy'; dresidual = dy'
struct GradientApply {
    const float* dy;
    const float* x;
    const std::uint8_t* mask;
    float* dx;
    float* dresidual;
    std::int64_t rows;
    std::int64_t columns;
    std::int64_t dy_stride;
    std::int64_t x_stride;
    std::int64_t mask_stride;
    std::int64_t dx_stride;
    std::int64_t dresidual_stride;
    const float* center;
    const float* scale;
    const float* shift; // as in Apply: for the sign gates
    const float* x_scale;
    const float* offset;
    float activation_parameter;
    std::int64_t ahead;           // as in Apply
    std::int64_t dx_ahead;        // as y_ahead
    std::int64_t dresidual_ahead; // as y_ahead
    bool prefetch;                // periodic: whether dy and x come from memory
    bool ask_again;               // as in Apply
    bool inputs_into_l1;          // as in Apply
};

// The f32 number that is subtracted from x before anything is multiplied is the mean, rounded: near the mean the
// subtraction is exact (Sterbenz), and what the rounding leaves over goes into the shift. A mean beyond this is left to
// the shift altogether: x - mean could overflow there, while below it, x within a rounding of FLT_MAX absorbs the mean.
constexpr double kLargestCenter = 0x1p100;
// Internal linkage: each ISA's file compiles its own.
static inline double center_of(double mean) {
    return __builtin_fabs(mean) > kLargestCenter ? 0.0 : static_cast<double>(static_cast<float>(mean));
}

// One value a channel.
struct ChannelStatistics {
    const float* gamma;
    const float* beta;
    const double* mean;
    const double* inv_std;
};
struct ChannelAffine {
    float* center;
    float* scale;
    float* shift;
};

// Sums over a channel: of dy', and of dy' * (x - mean).
struct ChannelGradients {
    const double* dy;
    const double* dy_centered_x;
};
struct ChannelGradientAffine {
    float* x_scale;
    float* offset;
};

// Variants of a kernel are instantiated at compile time and found by index: those that a call can ask for, since each
// takes a quarter of a second to compile for each ISA. The identity has no mask.
constexpr int kMaskedActivations = kActivations - 1;
constexpr int kApplyKinds = kActivations + kMaskedActivations; // of activation and mask
constexpr int kApplyVariants = kApplyKinds * 2 * 2;
constexpr int apply_variant(Activation activation, bool residual, bool mask, bool stream) {
    const int kind = static_cast<int>(activation) + (mask ? kMaskedActivations : 0);
    return kind + kApplyKinds * ((residual ? 1 : 0) + (stream ? 2 : 0));
}
// Beside moments: without an activation, or ReLU with or without a mask.
constexpr int kMomentsBesideVariants = 3 * 2;
constexpr bool has_moments_beside(Activation activation, bool mask) {
    return activation == Activation::relu || (activation == Activation::identity && !mask);
}
constexpr int moments_beside_variant(Activation activation, bool residual, bool mask) {
    return (activation == Activation::identity ? 0 : mask ? 2 : 1) + (residual ? 3 : 0);
}
constexpr int apply_variant_beside(int variant) {
    return apply_variant(variant % 3 == 0 ? Activation::identity : Activation::relu, variant >= 3, variant % 3 == 2,
                         true);
}
// Of the usual gates only: each takes a second to compile for each ISA.
constexpr Gate kFixedGates[] = {Gate::none, Gate::mask_drop, Gate::sign_relu};
constexpr int kFixedGateCount = sizeof kFixedGates / sizeof kFixedGates[0];
// kFixedGateCount: none of them.
constexpr int fixed_gate_index(Gate gate) {
    int index = 0;
    while (index < kFixedGateCount && kFixedGates[index] != gate) {
        ++index;
    }
    return index;
}
constexpr bool is_fixed_gate(Gate gate) { return fixed_gate_index(gate) < kFixedGateCount; }
constexpr int kGradientFixedVariants = kFixedGateCount * 2;
constexpr int gradient_fixed_variant(Gate gate, bool stream) {
    return fixed_gate_index(gate) + (stream ? kFixedGateCount : 0);
}
// With dresidual not the last of them, by sign.
constexpr int kGradientBesideVariants = 2 * kFixedGateCount - 1;
static_assert(kFixedGates[kFixedGateCount - 1] == Gate::sign_relu);
constexpr int gradient_beside_variant(Gate gate, bool dresidual) {
    return fixed_gate_index(gate) + (dresidual ? kFixedGateCount : 0);
}
// With a residual the sign of the output does not follow from x: gates are by mask.
constexpr int kResidualGates = 3; // the first of them
static_assert(static_cast<int>(Gate::mask_leaky) == kResidualGates - 1);
constexpr int kGradientApplyKinds = kGates + kResidualGates; // of gate and dresidual
constexpr int kGradientApplyVariants = kGradientApplyKinds * 2 * 2;
constexpr int gradient_apply_variant(Gate gate, bool fixed, bool dresidual, bool stream) {
    const int kind = static_cast<int>(gate) + (dresidual ? kGates : 0);
    return kind + kGradientApplyKinds * ((fixed ? 1 : 0) + (stream ? 2 : 0));
}

struct KernelTable {
    void (*moments_uniform)(const PlaneMoments&);
    // Mean and M2 of each column; columns <= kMaxMomentColumns. mean and m2 are writable up to the next multiple of
    // kLanes. rows_per_run: rows that are summed in f32, a multiple of eight.
    void (*moments_periodic)(const float* x, std::int64_t rows, std::int64_t row_stride, std::int64_t columns,
                             std::int64_t rows_per_run, ReadRows read, double* mean, double* m2);
    // Merges b into a; arrays are readable and writable up to the next multiple of kLanes.
    void (*merge_moments)(std::int64_t columns, double count_a, double* mean_a, double* m2_a, double count_b,
                          const double* mean_b, const double* m2_b);
    void (*widen)(std::int64_t count, const float* values, double* result);
    // result = 1/sqrt(m2*share + epsilon); result may be m2.
    void (*inverse_std)(const double* m2, double share, double epsilon, std::int64_t count, double* result);
    // scale = gamma*inv_std, shift = beta - scale*(mean - center): nothing overlaps.
    void (*affine)(std::int64_t count, const ChannelStatistics& statistics, const ChannelAffine& result);
    // dx = scale*dy' + x_scale*(x - center) + offset, with affine's scale and center: x_scale =
    // -scale*inv_std^2*sum(dy'*(x-mean))*share, and the offset what is left; beta is not read, nothing overlaps.
    void (*gradient_affine)(std::int64_t count, const ChannelStatistics& statistics, const ChannelGradients& sums,
                            double share, const ChannelGradientAffine& result);
    // running = old_weight*running + new_weight*(batch*share)
    void (*running_average)(std::int64_t count, const double* batch, double share, double old_weight, double new_weight,
                            float* running);
    // Makes sum(dy'*(x-mean)) of sum(dy'*(x-center)); nothing overlaps.
    void (*about_mean)(std::int64_t count, const double* mean, const double* sum_dy, double* sum_dy_centered_x);
    // dgamma = inv_std*sum(dy'*(x-mean)), dbeta = sum(dy'), each if it is not null.
    void (*parameter_gradients)(std::int64_t count, const double* inv_std, const ChannelGradients& sums, float* dgamma,
                                float* dbeta);
    // `stream` variants store past the cache: y, dx and dresidual and their strides must be multiples of 64 bytes
    // (uniform: multiples of 4 bytes suffice), and the caller fences with fence_streams before another thread reads
    // them.
    void (*apply_uniform[kApplyVariants])(const Apply&);
    void (*apply_periodic[kApplyVariants])(const Apply&);
    void (*apply_planes[kApplyVariants])(const Apply&); // one mask row for all planes
    // moments_uniform of some channels, of blocks of whole rows or parts of one, beside apply_planes of as many others,
    // one run in each of as many rows (strides are not ignored), of a multiple of kLanes elements. y is stored past the
    // cache, at multiples of 64 bytes.
    void (*moments_beside[kMomentsBesideVariants])(const PlaneMoments&, const Apply&);
    void (*gradient_sums_uniform[kGates])(const GradientSums&);
    void (*gradient_sums_periodic[kGates])(const GradientSums&);
    // uniform: rows and blocks of multiples of kLanes columns, and as many bits of the mask; neither by images nor
    // together. Stored past the cache: dx is at multiples of 64 bytes.
    void (*gradient_fixed_uniform[kGradientFixedVariants])(const GradientSums&);
    void (*gradient_fixed_periodic[kGradientFixedVariants])(const GradientSums&);
    // gradient_sums_uniform of one channel, of any blocks, beside gradient_apply_uniform of another, of as many rows of
    // as many columns, a multiple of kLanes; or of 2 to kMostPlanesBeside channels, of blocks of whole rows, beside
    // planes of as many, one run in each of as many rows (strides are not ignored), whose elements are such a multiple.
    // Stored past the cache: dx and dresidual are at multiples of 64 bytes.
    void (*gradient_sums_beside[kGradientBesideVariants])(const GradientSums&, const GradientApply&);
    void (*gradient_apply_uniform[kGradientApplyVariants])(const GradientApply&);
    void (*gradient_apply_periodic[kGradientApplyVariants])(const GradientApply&);
    void (*gradient_apply_planes[kGradientApplyVariants])(const GradientApply&); // one mask row for all planes
    void (*fence_streams)();
};

extern const KernelTable kSse2Kernels;
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;

} // namespace bnorm::kernels

#endif
