#include "reference.hpp"

#include <cmath>

namespace tests {

double Random::normal() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(6.283185307179586 * uniform());
}

Moments reference_moments(const Tensor& x, std::int64_t channel) {
    const Shape& shape = x.shape();
    const Real count = static_cast<Real>(shape.per_channel());
    Real sum = 0;
    for (std::int64_t n = 0; n < shape.batch; ++n) {
        for (std::int64_t s = 0; s < shape.spatial; ++s) {
            sum += static_cast<Real>(x(n, channel, s));
        }
    }
    const Real mean = sum / count;
    Real m2 = 0;
    for (std::int64_t n = 0; n < shape.batch; ++n) {
        for (std::int64_t s = 0; s < shape.spatial; ++s) {
            const Real d = static_cast<Real>(x(n, channel, s)) - mean;
            m2 += d * d;
        }
    }
    return {mean, m2};
}

Affine reference_affine(Real mean, Real variance, double epsilon, const float* gamma, const float* beta,
                        std::int64_t channel) {
    return {mean, 1 / std::sqrt(variance + static_cast<Real>(epsilon)),
            gamma == nullptr ? 1 : static_cast<Real>(gamma[channel]),
            beta == nullptr ? 0 : static_cast<Real>(beta[channel])};
}

} // namespace tests
