// Whether executions find out where tensors are. By times, of which one can be wrong: each answer is the share of
// many. What was just read may be gone all the same while others take the caches, and memory may be faster than when
// its time was taken: tensors are small, and one of some attempts, a while apart and each with a time of its own,
// decides.
#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "../buffers.hpp"
#include "ops/residence.hpp"
#include "plan/geometry.hpp"
#include "runtime/cache_probe.hpp"
#include "runtime/cpu.hpp"

using namespace bnorm;

namespace {

void evict(const std::vector<float>& tensor) { tests::evict(tensor.data(), static_cast<std::int64_t>(tensor.size())); }

float fetch(const std::vector<float>& tensor) {
    float sum = 0.0F;
    for (const float value : tensor) {
        sum += value;
    }
    return sum;
}

// NHWC with rows `stride` elements apart.
plan::Geometry geometry_of(std::int64_t channels, std::int64_t pixels, std::int64_t stride) {
    bnorm_problem problem = {};
    problem.operation = BNORM_BACKWARD;
    problem.layout = BNORM_NHWC;
    problem.batch = 1;
    problem.channels = channels;
    problem.spatial = pixels;
    problem.x_stride = problem.y_stride = stride;
    return plan::make_geometry(problem);
}

struct Tensors {
    explicit Tensors(std::int64_t elements)
        : x(static_cast<std::size_t>(elements), 1.0F), dy(static_cast<std::size_t>(elements), 2.0F) {}
    std::vector<float> x;
    std::vector<float> dy;
};

constexpr int kExecutions = 101;
// From cache, 0 to 15 say memory; from memory nearly all, but a third where the pages that memory's time was taken from
// lie in slower memory than the tensors (one process of 200 on a machine whose memory is not all equally far).
constexpr int kMostFromCache = kExecutions / 4;

// How many executions that begin after `prepare` find something in memory.
template <class Prepare>
int times_in_memory(const plan::Geometry& geometry, const ops::ReducedTensors& read, const Prepare& prepare) {
    const std::uint64_t most_ticks = runtime::measure_most_ticks_of_caches();
    int found = 0;
    volatile float sink = 0.0F;
    for (int i = 0; i < kExecutions; ++i) {
        sink = prepare();
        found += ops::found_in_memory(geometry, read, most_ticks) ? 1 : 0;
    }
    static_cast<void>(sink);
    MESSAGE("found in memory ", found, " times of ", kExecutions);
    return found;
}

template <class Holds>
bool holds_once(const Holds& holds) {
    constexpr int kAttempts = 8;
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
        if (holds()) {
            return true;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return false;
}

template <class Prepare>
bool often_in_memory(const plan::Geometry& geometry, const ops::ReducedTensors& read, const Prepare& prepare) {
    return holds_once([&] { return times_in_memory(geometry, read, prepare) > kMostFromCache; });
}

template <class Prepare>
bool rarely_in_memory(const plan::Geometry& geometry, const ops::ReducedTensors& read, const Prepare& prepare) {
    return holds_once([&] { return times_in_memory(geometry, read, prepare) <= kMostFromCache; });
}

} // namespace

TEST_CASE("tensors are found in cache or in memory, dense or of rows apart") {
    constexpr std::int64_t kChannels = 256;
    constexpr std::int64_t kPixels = 40;
    for (const std::int64_t stride : {kChannels, kChannels + 64, std::int64_t{1024}}) {
        INFO("stride ", stride);
        const plan::Geometry geometry = geometry_of(kChannels, kPixels, stride);
        const Tensors tensors(stride * kPixels);
        const auto both = [&] { return fetch(tensors.x) + fetch(tensors.dy); };
        const auto evicted = [&](const std::vector<float>& gone) {
            return [&] {
                const float sum = both();
                evict(gone);
                return sum;
            };
        };
        const ops::ReducedTensors read = {tensors.x.data(), tensors.dy.data()};
        CHECK(rarely_in_memory(geometry, read, both));
        CHECK(often_in_memory(geometry, read, evicted(tensors.x)));
        CHECK(often_in_memory(geometry, read, evicted(tensors.dy)));
        CHECK(often_in_memory(geometry, {tensors.x.data(), nullptr}, evicted(tensors.x)));
        CHECK(rarely_in_memory(geometry, {tensors.x.data(), nullptr}, evicted(tensors.dy)));
    }
}

// Farther away than L2, but not in memory. Others may take that cache, or much of it where these tensors lie: each
// attempt has tensors of its own.
TEST_CASE("tensors of twice L2 are found in the last-level cache") {
    constexpr std::int64_t kChannels = 256;
    const std::int64_t pixels = 2 * runtime::cache_sizes().l2 / (kChannels * static_cast<std::int64_t>(sizeof(float)));
    const plan::Geometry geometry = geometry_of(kChannels, pixels, kChannels);
    std::vector<Tensors> kept;
    CHECK(holds_once([&] {
        kept.emplace_back(kChannels * pixels);
        const Tensors& tensors = kept.back();
        const auto both = [&] { return fetch(tensors.x) + fetch(tensors.dy); };
        return times_in_memory(geometry, {tensors.x.data(), tensors.dy.data()}, both) <= kMostFromCache;
    }));
}

// Of these, no row has two lines that are far enough from each other, and the plan's expectation stays.
TEST_CASE("short rows apart count as in cache") {
    constexpr std::int64_t kPixels = 2000;
    constexpr std::int64_t kStride = 128;
    const plan::Geometry geometry = geometry_of(64, kPixels, kStride);
    const Tensors tensors(kPixels * kStride);
    const auto evicted = [&] {
        evict(tensors.x);
        return 0.0F;
    };
    CHECK(rarely_in_memory(geometry, {tensors.x.data(), nullptr}, evicted));
}
