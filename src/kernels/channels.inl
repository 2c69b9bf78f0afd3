// Formulas of f64 statistics, one value a channel: plain loops, which compilers vectorize for each ISA. Divisions and
// square roots two at a time (all that SSE2 has) took a third of the inference of small tensors with many channels.
#ifndef BNORM_KERNELS_CHANNELS_INL
#define BNORM_KERNELS_CHANNELS_INL

#include "kernels/kernel_table.hpp"
#include "kernels/simd.hpp"

namespace bnorm::kernels {
namespace {

BNORM_KERNEL void widen(std::int64_t count, const float* values, double* result) {
    for (std::int64_t i = 0; i < count; ++i) {
        result[i] = static_cast<double>(values[i]);
    }
}

// m2 * share is the population variance.
BNORM_KERNEL void inverse_std(const double* m2, double share, double epsilon, std::int64_t count, double* result) {
    std::int64_t i = 0;
    for (; i + kWidthF64 <= count; i += kWidthF64) {
        store(result + i, F64(1.0) / square_root(load(m2 + i) * F64(share) + F64(epsilon)));
    }
    for (; i < count; ++i) {
        result[i] = 1.0 / __builtin_sqrt(m2[i] * share + epsilon);
    }
}

BNORM_KERNEL void affine(std::int64_t count, const ChannelStatistics& statistics, const ChannelAffine& result) {
    const float* __restrict gamma = statistics.gamma;
    const float* __restrict beta = statistics.beta;
    const double* __restrict mean = statistics.mean;
    const double* __restrict inv_std = statistics.inv_std;
    float* __restrict center = result.center;
    float* __restrict scale = result.scale;
    float* __restrict shift = result.shift;
    for (std::int64_t i = 0; i < count; ++i) {
        const double subtracted = center_of(mean[i]);
        const double factor = static_cast<double>(gamma[i]) * inv_std[i];
        center[i] = static_cast<float>(subtracted);
        scale[i] = static_cast<float>(factor);
        shift[i] = static_cast<float>(static_cast<double>(beta[i]) - factor * (mean[i] - subtracted));
    }
}

BNORM_KERNEL void gradient_affine(std::int64_t count, const ChannelStatistics& statistics, const ChannelGradients& sums,
                                  double share, const ChannelGradientAffine& result) {
    const float* __restrict gamma = statistics.gamma;
    const double* __restrict mean = statistics.mean;
    const double* __restrict inv_std = statistics.inv_std;
    const double* __restrict dy = sums.dy;
    const double* __restrict dy_centered_x = sums.dy_centered_x;
    float* __restrict x_scale = result.x_scale;
    float* __restrict offset = result.offset;
    for (std::int64_t i = 0; i < count; ++i) {
        const double scale = static_cast<double>(gamma[i]) * inv_std[i];
        const double factor = -scale * inv_std[i] * inv_std[i] * (dy_centered_x[i] * share);
        x_scale[i] = static_cast<float>(factor);
        offset[i] = static_cast<float>(-scale * (dy[i] * share) - factor * (mean[i] - center_of(mean[i])));
    }
}

BNORM_KERNEL void running_average(std::int64_t count, const double* batch, double share, double old_weight,
                                  double new_weight, float* running) {
    for (std::int64_t i = 0; i < count; ++i) {
        running[i] = static_cast<float>(old_weight * static_cast<double>(running[i]) + new_weight * (batch[i] * share));
    }
}

BNORM_KERNEL void about_mean(std::int64_t count, const double* mean, const double* sum_dy, double* sum_dy_centered_x) {
    const double* __restrict means = mean;
    const double* __restrict dy = sum_dy;
    double* __restrict products = sum_dy_centered_x;
    for (std::int64_t i = 0; i < count; ++i) {
        products[i] = products[i] - (means[i] - center_of(means[i])) * dy[i];
    }
}

BNORM_KERNEL void parameter_gradients(std::int64_t count, const double* inv_std, const ChannelGradients& sums,
                                      float* dgamma, float* dbeta) {
    const double* __restrict dy = sums.dy;
    const double* __restrict dy_centered_x = sums.dy_centered_x;
    for (std::int64_t i = 0; dgamma != nullptr && i < count; ++i) {
        dgamma[i] = static_cast<float>(inv_std[i] * dy_centered_x[i]);
    }
    for (std::int64_t i = 0; dbeta != nullptr && i < count; ++i) {
        dbeta[i] = static_cast<float>(dy[i]);
    }
}

} // namespace
} // namespace bnorm::kernels

#endif
