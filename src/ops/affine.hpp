// The affine function of every operation: y = scale*(x-center) + shift.
#ifndef BNORM_OPS_AFFINE_HPP
#define BNORM_OPS_AFFINE_HPP

#include "ops/operation.hpp"
#include "ops/statistics.hpp"

namespace bnorm::ops {

// Coefficients of `count` channels, at most kChannelsAtOnce, from the index-th of the range: scale = gamma*inv_std, and
// what the center's rounding leaves of the mean goes into the shift.
inline void set_affine(const kernels::KernelTable& kernels, const ChannelRange& range, std::int64_t index,
                       std::int64_t count, const float* gamma_or_null, const float* beta_or_null, const double* mean,
                       const double* inv_std) {
    const ValuesOr gamma(gamma_or_null, range.first + index, count, 1.0F);
    const ValuesOr beta(beta_or_null, range.first + index, count, 0.0F);
    kernels.affine(
        count, {gamma.data(), beta.data(), mean, inv_std},
        {range.coefficients[kCenter] + index, range.coefficients[kScale] + index, range.coefficients[kShift] + index});
}

} // namespace bnorm::ops

#endif
