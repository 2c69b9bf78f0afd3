// Fills the table of one ISA. Included once by each ISA's file, which defines BNORM_KERNEL_TABLE as the table's name.
#ifndef BNORM_KERNELS_TABLE_INL
#define BNORM_KERNELS_TABLE_INL

#include "kernels/apply.inl"
#include "kernels/channel_moments.inl"
#include "kernels/channels.inl"
#include "kernels/column_moments.inl"
#include "kernels/gradient_apply.inl"
#include "kernels/gradient_beside.inl"
#include "kernels/gradient_fixed.inl"
#include "kernels/gradient_sums.inl"
#include "kernels/moments_beside.inl"

namespace bnorm::kernels {
namespace {

BNORM_KERNEL void fence_streams() { fence(); }

// All variants of a kernel by index, without std::index_sequence (kernel files use nothing of std).
#define BNORM_FOUR(kernel, n) kernel<(n)>, kernel<(n) + 1>, kernel<(n) + 2>, kernel<(n) + 3>
#define BNORM_TWELVE(kernel, n) BNORM_FOUR(kernel, n), BNORM_FOUR(kernel, (n) + 4), BNORM_FOUR(kernel, (n) + 8)
#define BNORM_APPLY_VARIANTS(kernel)                                                                                   \
    { BNORM_TWELVE(kernel, 0), BNORM_TWELVE(kernel, 12), BNORM_FOUR(kernel, 24) }
#define BNORM_GRADIENT_APPLY_VARIANTS(kernel)                                                                          \
    { BNORM_TWELVE(kernel, 0), BNORM_TWELVE(kernel, 12), BNORM_TWELVE(kernel, 24) }
#define BNORM_FIVE_VARIANTS(kernel)                                                                                    \
    { BNORM_FOUR(kernel, 0), kernel<4> }
#define BNORM_SIX_VARIANTS(kernel)                                                                                     \
    { BNORM_FOUR(kernel, 0), kernel<4>, kernel<5> }
#define BNORM_GATES(kernel)                                                                                            \
    {                                                                                                                  \
        kernel<Gate::none>, kernel<Gate::mask_drop>, kernel<Gate::mask_leaky>, kernel<Gate::sign_relu>,                \
            kernel<Gate::sign_leaky_relu>, kernel<Gate::sign_clipped_relu>                                             \
    }

// A list with too few would end in null pointers.
static_assert(kApplyVariants == 28 && kGates == 6 && kGradientFixedVariants == 6 && kGradientBesideVariants == 5 &&
              kMomentsBesideVariants == 6 && kGradientApplyVariants == 36);

} // namespace

extern const KernelTable BNORM_KERNEL_TABLE;
const KernelTable BNORM_KERNEL_TABLE = {
    moments_uniform,
    moments_periodic,
    merge_moments,
    widen,
    inverse_std,
    affine,
    gradient_affine,
    running_average,
    about_mean,
    parameter_gradients,
    BNORM_APPLY_VARIANTS(apply_uniform),
    BNORM_APPLY_VARIANTS(apply_periodic),
    BNORM_APPLY_VARIANTS(apply_planes),
    BNORM_SIX_VARIANTS(moments_beside),
    BNORM_GATES(gradient_sums_uniform),
    BNORM_GATES(gradient_sums_periodic),
    BNORM_SIX_VARIANTS(gradient_fixed_uniform),
    BNORM_SIX_VARIANTS(gradient_fixed_periodic),
    BNORM_FIVE_VARIANTS(gradient_sums_beside),
    BNORM_GRADIENT_APPLY_VARIANTS(gradient_apply_uniform),
    BNORM_GRADIENT_APPLY_VARIANTS(gradient_apply_periodic),
    BNORM_GRADIENT_APPLY_VARIANTS(gradient_apply_planes),
    fence_streams,
};

} // namespace bnorm::kernels

#endif
