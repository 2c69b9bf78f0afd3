#include "memory.hpp"

#include <immintrin.h>
#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>

#include <algorithm>

namespace bench {

namespace {

// 32 KiB: a multiple of every vector, and small beside what a thread does.
constexpr std::int64_t kPiece = 8192;

constexpr std::int64_t kUnroll = 4; // vectors at a time

// `count` is a multiple of them. Read's result is only there to keep the loads.
#define BENCH_MEMORY_KERNELS(suffix, isa, Vector, width, load, store, stream, add, zero)                               \
    __attribute__((target(isa))) void read_##suffix(const float* from, float* to, std::int64_t count) {                \
        Vector sums[kUnroll] = {zero(), zero(), zero(), zero()};                                                       \
        for (std::int64_t i = 0; i < count; i += kUnroll * std::int64_t{width}) {                                      \
            for (std::int64_t k = 0; k < kUnroll; ++k) {                                                               \
                sums[k] = add(sums[k], load(from + i + k * std::int64_t{width}));                                      \
            }                                                                                                          \
        }                                                                                                              \
        store(to, add(add(sums[0], sums[1]), add(sums[2], sums[3])));                                                  \
    }                                                                                                                  \
    __attribute__((target(isa))) void copy_##suffix(const float* from, float* to, std::int64_t count) {                \
        for (std::int64_t i = 0; i < count; i += kUnroll * std::int64_t{width}) {                                      \
            for (std::int64_t k = 0; k < kUnroll; ++k) {                                                               \
                store(to + i + k * std::int64_t{width}, load(from + i + k * std::int64_t{width}));                     \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    __attribute__((target(isa))) void copy_nontemporal_##suffix(const float* from, float* to, std::int64_t count) {    \
        for (std::int64_t i = 0; i < count; i += kUnroll * std::int64_t{width}) {                                      \
            for (std::int64_t k = 0; k < kUnroll; ++k) {                                                               \
                stream(to + i + k * std::int64_t{width}, load(from + i + k * std::int64_t{width}));                    \
            }                                                                                                          \
        }                                                                                                              \
        _mm_sfence();                                                                                                  \
    }

BENCH_MEMORY_KERNELS(sse2, "sse2", __m128, 4, _mm_load_ps, _mm_store_ps, _mm_stream_ps, _mm_add_ps, _mm_setzero_ps)
BENCH_MEMORY_KERNELS(avx, "avx", __m256, 8, _mm256_load_ps, _mm256_store_ps, _mm256_stream_ps, _mm256_add_ps,
                     _mm256_setzero_ps)
BENCH_MEMORY_KERNELS(avx512, "avx512f", __m512, 16, _mm512_load_ps, _mm512_store_ps, _mm512_stream_ps, _mm512_add_ps,
                     _mm512_setzero_ps)

using Kernel = void (*)(const float*, float*, std::int64_t);

Kernel kernel_of(Traffic traffic) {
    constexpr Kernel kernels[3][3] = {{read_sse2, copy_sse2, copy_nontemporal_sse2},
                                      {read_avx, copy_avx, copy_nontemporal_avx},
                                      {read_avx512, copy_avx512, copy_nontemporal_avx512}};
    const int isa = __builtin_cpu_supports("avx512f") ? 2 : __builtin_cpu_supports("avx") ? 1 : 0;
    return kernels[isa][static_cast<int>(traffic)];
}

} // namespace

struct Memory::Threads {
    explicit Threads(int count) : arena(count) {}
    tbb::task_arena arena;
};

const char* traffic_name(Traffic traffic) {
    switch (traffic) {
    case Traffic::read: return "read";
    case Traffic::copy: return "copy";
    default: return "copy_nontemporal";
    }
}

Memory::Memory(Traffic traffic, std::int64_t elements, int threads)
    : traffic_(traffic), elements_((elements + kPiece - 1) / kPiece * kPiece), from_(make_floats(elements_, true)),
      to_(make_floats(elements_, false)), threads_(std::make_unique<Threads>(threads)) {}

Memory::~Memory() = default;

void Memory::run() {
    const Kernel kernel = kernel_of(traffic_);
    const auto move_pieces = [&](const tbb::blocked_range<std::int64_t>& pieces) {
        const std::int64_t first = pieces.begin() * kPiece;
        kernel(from_.get() + first, to_.get() + first, static_cast<std::int64_t>(pieces.size()) * kPiece);
    };
    const tbb::blocked_range<std::int64_t> pieces(0, elements_ / kPiece, 4);
    if (threads_->arena.max_concurrency() == 1) {
        move_pieces(pieces);
    } else {
        threads_->arena.execute([&] { tbb::parallel_for(pieces, move_pieces, tbb::auto_partitioner()); });
    }
}

double Memory::bytes() const { return (traffic_ == Traffic::read ? 1.0 : 2.0) * 4.0 * static_cast<double>(elements_); }

} // namespace bench
