// Formulas in f64 of one channel, and of many by the kernels of each ISA.
#ifndef BNORM_OPS_STATISTICS_HPP
#define BNORM_OPS_STATISTICS_HPP

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "bnorm/bnorm.h"
#include "kernels/kernel_table.hpp"

namespace bnorm::ops {

struct Sums {
    double count;
    double first;  // mean, or sum(dy')
    double second; // M2, or sum(dy'*(x-center))
};

// Chan, Golub and LeVeque 1983, as kernels/moments.inl. An empty side is neutral.
inline Sums merge_moments(const Sums& a, const Sums& b) {
    if (a.count == 0.0 && b.count == 0.0) {
        return {0.0, 0.0, 0.0};
    }
    if (a.count == 0.0 || b.count == 0.0) {
        return a.count == 0.0 ? b : a;
    }
    const double count = a.count + b.count;
    const double weight = b.count / count;
    const double delta = b.first - a.first;
    const double merged = a.first + delta * weight;
    const double mean = merged == merged ? merged : a.first + b.first;
    return {count, mean, a.second + b.second + delta * delta * (a.count * weight)};
}

inline Sums add_sums(const Sums& a, const Sums& b) {
    return {a.count + b.count, a.first + b.first, a.second + b.second};
}

// m2/count, within a rounding of f64: a division for each channel would take longer than all else that is done for it.
inline double population_variance(double m2, double count) { return m2 * (1.0 / count); }

inline double inverse_std(double variance, double epsilon) { return 1.0 / std::sqrt(variance + epsilon); }

// Formulas run over so many channels at a time, each as a loop of its own over arrays, which the compiler vectorizes:
// divisions and square roots of one channel after the other take longer than the sums of a small tensor.
constexpr std::int64_t kChannelsAtOnce = 64;

// body(index, count) for groups of at most kChannelsAtOnce channels of `channels`.
template <class Body>
void for_channels(std::int64_t channels, const Body& body) {
    for (std::int64_t index = 0; index < channels; index += kChannelsAtOnce) {
        body(index, std::min(kChannelsAtOnce, channels - index));
    }
}

// The same for many channels; result may be m2.
inline void inverse_std(const kernels::KernelTable& kernels, const double* m2, double samples, double epsilon,
                        std::int64_t count, double* result) {
    kernels.inverse_std(m2, 1.0 / samples, epsilon, count, result);
}

// kChannelsAtOnce values of an array that may be absent.
class ValuesOr {
  public:
    ValuesOr(const float* values, std::int64_t first, std::int64_t count, float otherwise) : values_(buffer_) {
        if (values != nullptr) {
            values_ = values + first;
        } else {
            std::fill_n(buffer_, count, otherwise);
        }
    }
    ValuesOr(const ValuesOr&) = delete;
    ValuesOr& operator=(const ValuesOr&) = delete;
    const float* data() const { return values_; }

  private:
    float buffer_[kChannelsAtOnce];
    const float* values_;
};

// Mean and inv_std of frozen layers; an absent mean is 0, an absent variance 1.
inline void running_statistics(const kernels::KernelTable& kernels, const float* running_mean, const float* running_var,
                               double epsilon, std::int64_t first, std::int64_t count, double* mean, double* inv_std) {
    const ValuesOr means(running_mean, first, count, 0.0F);
    const ValuesOr variances(running_var, first, count, 1.0F);
    kernels.widen(count, means.data(), mean);
    kernels.widen(count, variances.data(), inv_std);
    inverse_std(kernels, inv_std, 1.0, epsilon, count, inv_std);
}

// running statistics -> next running statistics, for a batch statistic (already with Bessel's factor where it applies)
struct RunningWeights {
    double old_weight;
    double new_weight;
    bool unbiased;
};

inline RunningWeights running_weights(bnorm_running_update update, double momentum, std::int64_t batches_seen) {
    switch (update) {
    case BNORM_RUNNING_ONNX: return {momentum, 1.0 - momentum, false};
    case BNORM_RUNNING_CUMULATIVE: {
        const double share = 1.0 / (static_cast<double>(batches_seen) + 1.0);
        return {1.0 - share, share, true};
    }
    default: return {1.0 - momentum, momentum, true};
    }
}

inline void update_running_mean(const kernels::KernelTable& kernels, const double* mean, std::int64_t count,
                                const RunningWeights& weights, float* running) {
    kernels.running_average(count, mean, 1.0, weights.old_weight, weights.new_weight, running);
}

// What the running variance takes of M2; Bessel's factor of a single element is 1.
inline double running_variance_share(double samples, const RunningWeights& weights) {
    return 1.0 / (weights.unbiased && samples > 1.0 ? samples - 1.0 : samples);
}

inline void update_running_var(const kernels::KernelTable& kernels, const double* m2, double samples,
                               std::int64_t count, const RunningWeights& weights, float* running) {
    kernels.running_average(count, m2, running_variance_share(samples, weights), weights.old_weight, weights.new_weight,
                            running);
}

} // namespace bnorm::ops

#endif
