// The affine function of every operation: y = scale*(x-center) + shift.
#ifndef BNORM_OPS_AFFINE_HPP
#define BNORM_OPS_AFFINE_HPP

#include "ops/operation.hpp"
#include "ops/statistics.hpp"

namespace bnorm::ops {

// Coefficients of `count` channels, at most kChannelsAtOnce, from the index-th of the range: scale = gamma*inv_std, and
// what the center's rounding leaves of the mean goes into the shift.
inline void set_affine(const ChannelRange& range, std::int64_t index, std::int64_t count, const float* gamma_or_null,
                       const float* beta_or_null, const double* mean, const double* inv_std) {
    const ValuesOr gammas(gamma_or_null, range.first + index, count, 1.0F);
    const ValuesOr betas(beta_or_null, range.first + index, count, 0.0F);
    const float* gamma = gammas.data();
    const float* beta = betas.data();
    float* centers = range.coefficients[kCenter] + index;
    float* scales = range.coefficients[kScale] + index;
    float* shifts = range.coefficients[kShift] + index;
    for (std::int64_t i = 0; i < count; ++i) {
        const double center = center_of(mean[i]);
        const double scale = static_cast<double>(gamma[i]) * inv_std[i];
        centers[i] = static_cast<float>(center);
        scales[i] = static_cast<float>(scale);
        shifts[i] = static_cast<float>(static_cast<double>(beta[i]) - scale * (mean[i] - center));
    }
}

} // namespace bnorm::ops

#endif
