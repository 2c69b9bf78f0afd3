// Scalar formulas in f64, one channel at a time. What every ISA and every path must agree on is written only here.
#ifndef BNORM_OPS_STATISTICS_HPP
#define BNORM_OPS_STATISTICS_HPP

#include <cmath>
#include <cstdint>

#include "bnorm/bnorm.h"

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

inline double inverse_std(double variance, double epsilon) { return 1.0 / std::sqrt(variance + epsilon); }

template <class T>
T value_or(const T* values, std::int64_t index, T otherwise) {
    return values != nullptr ? values[index] : otherwise;
}

// The f32 number that is subtracted from x before anything is multiplied. Near the mean the subtraction is exact
// (Sterbenz); what the rounding of the mean leaves over goes into the shift. A mean beyond 2^100 is left to the shift
// altogether: x - mean could overflow there, while below it, x within a rounding of FLT_MAX absorbs the mean.
inline double center_of(double mean) {
    return std::fabs(mean) > 0x1p100 ? 0.0 : static_cast<double>(static_cast<float>(mean));
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

inline float update_running(float running, double batch, const RunningWeights& weights) {
    return static_cast<float>(weights.old_weight * static_cast<double>(running) + weights.new_weight * batch);
}

// What a batch's M2 contributes to the running variance; Bessel's factor of a single element is 1.
inline double running_batch_variance(double m2, double count, const RunningWeights& weights) {
    return weights.unbiased && count > 1.0 ? m2 / (count - 1.0) : m2 / count;
}

} // namespace bnorm::ops

#endif
