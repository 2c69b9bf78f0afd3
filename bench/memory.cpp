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

struct Kernels {
    Memory::Kernel read;
    Memory::Kernel read_two;
    Memory::Kernel copy;
    Memory::Kernel copy_nontemporal;
    Memory::Kernel add;
};

// `count` is a multiple of kUnroll vectors. What is read is added up only to keep the loads. Sums of two are stored
// after the loads of their group, as bnorm's outputs are.
#define BENCH_MEMORY_KERNELS(suffix, isa, Vector, width, load, store, stream, add, zero)                               \
    __attribute__((target(isa))) void read_##suffix(const float* a, const float*, float* to, std::int64_t count) {     \
        Vector sums[kUnroll] = {zero(), zero(), zero(), zero()};                                                       \
        for (std::int64_t i = 0; i < count; i += kUnroll * std::int64_t{width}) {                                      \
            for (std::int64_t k = 0; k < kUnroll; ++k) {                                                               \
                sums[k] = add(sums[k], load(a + i + k * std::int64_t{width}));                                         \
            }                                                                                                          \
        }                                                                                                              \
        store(to, add(add(sums[0], sums[1]), add(sums[2], sums[3])));                                                  \
    }                                                                                                                  \
    __attribute__((target(isa))) void read_two_##suffix(const float* a, const float* b, float* to,                     \
                                                        std::int64_t count) {                                          \
        Vector sums[kUnroll] = {zero(), zero(), zero(), zero()};                                                       \
        for (std::int64_t i = 0; i < count; i += kUnroll * std::int64_t{width}) {                                      \
            for (std::int64_t k = 0; k < kUnroll; ++k) {                                                               \
                const std::int64_t at = i + k * std::int64_t{width};                                                   \
                sums[k] = add(sums[k], add(load(a + at), load(b + at)));                                               \
            }                                                                                                          \
        }                                                                                                              \
        store(to, add(add(sums[0], sums[1]), add(sums[2], sums[3])));                                                  \
    }                                                                                                                  \
    __attribute__((target(isa))) void copy_##suffix(const float* a, const float*, float* to, std::int64_t count) {     \
        for (std::int64_t i = 0; i < count; i += kUnroll * std::int64_t{width}) {                                      \
            for (std::int64_t k = 0; k < kUnroll; ++k) {                                                               \
                store(to + i + k * std::int64_t{width}, load(a + i + k * std::int64_t{width}));                        \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    __attribute__((target(isa))) void add_##suffix(const float* a, const float* b, float* to, std::int64_t count) {    \
        for (std::int64_t i = 0; i < count; i += kUnroll * std::int64_t{width}) {                                      \
            Vector outputs[kUnroll];                                                                                   \
            for (std::int64_t k = 0; k < kUnroll; ++k) {                                                               \
                const std::int64_t at = i + k * std::int64_t{width};                                                   \
                outputs[k] = add(load(a + at), load(b + at));                                                          \
            }                                                                                                          \
            for (std::int64_t k = 0; k < kUnroll; ++k) {                                                               \
                store(to + i + k * std::int64_t{width}, outputs[k]);                                                   \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    __attribute__((target(isa))) void copy_nontemporal_##suffix(const float* a, const float*, float* to,               \
                                                                std::int64_t count) {                                  \
        for (std::int64_t i = 0; i < count; i += kUnroll * std::int64_t{width}) {                                      \
            for (std::int64_t k = 0; k < kUnroll; ++k) {                                                               \
                stream(to + i + k * std::int64_t{width}, load(a + i + k * std::int64_t{width}));                       \
            }                                                                                                          \
        }                                                                                                              \
        _mm_sfence();                                                                                                  \
    }                                                                                                                  \
    constexpr Kernels k_##suffix = {read_##suffix, read_two_##suffix, copy_##suffix, copy_nontemporal_##suffix,        \
                                    add_##suffix};

BENCH_MEMORY_KERNELS(sse2, "sse2", __m128, 4, _mm_load_ps, _mm_store_ps, _mm_stream_ps, _mm_add_ps, _mm_setzero_ps)
BENCH_MEMORY_KERNELS(avx, "avx", __m256, 8, _mm256_load_ps, _mm256_store_ps, _mm256_stream_ps, _mm256_add_ps,
                     _mm256_setzero_ps)
BENCH_MEMORY_KERNELS(avx512, "avx512f", __m512, 16, _mm512_load_ps, _mm512_store_ps, _mm512_stream_ps, _mm512_add_ps,
                     _mm512_setzero_ps)

const Kernels& kernels() {
    return __builtin_cpu_supports("avx512f") ? k_avx512 : __builtin_cpu_supports("avx") ? k_avx : k_sse2;
}

bool reads_two(Traffic traffic) { return traffic == Traffic::read_two_then_add; }

} // namespace

struct Memory::Threads {
    explicit Threads(int count) : arena(count) {}
    tbb::task_arena arena;
};

const char* traffic_name(Traffic traffic) {
    switch (traffic) {
    case Traffic::read: return "read";
    case Traffic::copy: return "copy";
    case Traffic::copy_nontemporal: return "copy_nontemporal";
    case Traffic::read_then_copy: return "read_then_copy";
    default: return "read_two_then_add";
    }
}

Memory::Memory(Traffic traffic, std::int64_t elements, int threads)
    : traffic_(traffic), elements_((elements + kPiece - 1) / kPiece * kPiece), a_(make_floats(elements_, true)),
      b_(reads_two(traffic) ? make_floats(elements_, true) : Floats()), to_(make_floats(elements_, false)),
      threads_(std::make_unique<Threads>(threads)) {}

Memory::~Memory() = default;

void Memory::pass(Kernel kernel) {
    const auto move_pieces = [&](const tbb::blocked_range<std::int64_t>& pieces) {
        const std::int64_t first = pieces.begin() * kPiece;
        const float* b = b_ == nullptr ? nullptr : b_.get() + first;
        kernel(a_.get() + first, b, to_.get() + first, static_cast<std::int64_t>(pieces.size()) * kPiece);
    };
    const tbb::blocked_range<std::int64_t> pieces(0, elements_ / kPiece, 4);
    if (threads_->arena.max_concurrency() == 1) {
        move_pieces(pieces);
    } else {
        threads_->arena.execute([&] { tbb::parallel_for(pieces, move_pieces, tbb::auto_partitioner()); });
    }
}

void Memory::run() {
    switch (traffic_) {
    case Traffic::read: pass(kernels().read); break;
    case Traffic::copy: pass(kernels().copy); break;
    case Traffic::copy_nontemporal: pass(kernels().copy_nontemporal); break;
    case Traffic::read_then_copy:
        pass(kernels().read);
        pass(kernels().copy);
        break;
    case Traffic::read_two_then_add:
        pass(kernels().read_two);
        pass(kernels().add);
        break;
    }
}

double Memory::bytes() const {
    const double arrays = traffic_ == Traffic::read ? 1.0 : reads_two(traffic_) ? 3.0 : 2.0;
    return arrays * 4.0 * static_cast<double>(elements_);
}

} // namespace bench
