#include "memory.hpp"

#include <immintrin.h>
#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <iterator>

namespace bench {

namespace {

// 32 KiB: small beside what a thread does.
constexpr std::int64_t kPiece = 8192;

constexpr std::int64_t kUnroll = 4;        // vectors at a time
constexpr std::int64_t kWidestVector = 16; // of all; arrays are a multiple of so many of them

struct Kernels {
    Memory::Kernel read;
    Memory::Kernel read_two;
    Memory::Kernel copy;
    Memory::Kernel add;
    Memory::Kernel split;
    Memory::Kernel copy_nontemporal;
    Memory::Kernel add_nontemporal;
    Memory::Kernel split_nontemporal;
};

// `count` is a multiple of kUnroll vectors. What is read is added up only to keep the loads.
#define BENCH_READ_KERNELS(suffix, isa, Vector, width, load, store, add, zero)                                         \
    __attribute__((target(isa))) void read_##suffix(const Arrays& arrays, std::int64_t count) {                        \
        const float* a = arrays.a;                                                                                     \
        Vector sums[kUnroll] = {zero(), zero(), zero(), zero()};                                                       \
        for (std::int64_t i = 0; i < count; i += kUnroll * std::int64_t{width}) {                                      \
            for (std::int64_t k = 0; k < kUnroll; ++k) {                                                               \
                sums[k] = add(sums[k], load(a + i + k * std::int64_t{width}));                                         \
            }                                                                                                          \
        }                                                                                                              \
        store(arrays.to, add(add(sums[0], sums[1]), add(sums[2], sums[3])));                                           \
    }                                                                                                                  \
    __attribute__((target(isa))) void read_two_##suffix(const Arrays& arrays, std::int64_t count) {                    \
        const float *a = arrays.a, *b = arrays.b;                                                                      \
        Vector sums[kUnroll] = {zero(), zero(), zero(), zero()};                                                       \
        for (std::int64_t i = 0; i < count; i += kUnroll * std::int64_t{width}) {                                      \
            for (std::int64_t k = 0; k < kUnroll; ++k) {                                                               \
                const std::int64_t at = i + k * std::int64_t{width};                                                   \
                sums[k] = add(sums[k], add(load(a + at), load(b + at)));                                               \
            }                                                                                                          \
        }                                                                                                              \
        store(arrays.to, add(add(sums[0], sums[1]), add(sums[2], sums[3])));                                           \
    }

// The sums of two are stored after the loads of their group, as bnorm's outputs are. `put` stores, `end` is done last.
#define BENCH_WRITE_KERNELS(suffix, isa, Vector, width, load, put, add, end)                                           \
    __attribute__((target(isa))) void copy_##suffix(const Arrays& arrays, std::int64_t count) {                        \
        for (std::int64_t i = 0; i < count; i += kUnroll * std::int64_t{width}) {                                      \
            for (std::int64_t k = 0; k < kUnroll; ++k) {                                                               \
                put(arrays.to + i + k * std::int64_t{width}, load(arrays.a + i + k * std::int64_t{width}));            \
            }                                                                                                          \
        }                                                                                                              \
        end;                                                                                                           \
    }                                                                                                                  \
    __attribute__((target(isa))) void add_##suffix(const Arrays& arrays, std::int64_t count) {                         \
        const float *a = arrays.a, *b = arrays.b;                                                                      \
        float* to = arrays.to;                                                                                         \
        for (std::int64_t i = 0; i < count; i += kUnroll * std::int64_t{width}) {                                      \
            Vector outputs[kUnroll];                                                                                   \
            for (std::int64_t k = 0; k < kUnroll; ++k) {                                                               \
                const std::int64_t at = i + k * std::int64_t{width};                                                   \
                outputs[k] = add(load(a + at), load(b + at));                                                          \
            }                                                                                                          \
            for (std::int64_t k = 0; k < kUnroll; ++k) {                                                               \
                put(to + i + k * std::int64_t{width}, outputs[k]);                                                     \
            }                                                                                                          \
        }                                                                                                              \
        end;                                                                                                           \
    }                                                                                                                  \
    __attribute__((target(isa))) void split_##suffix(const Arrays& arrays, std::int64_t count) {                       \
        const float *a = arrays.a, *b = arrays.b;                                                                      \
        float *to = arrays.to, *second = arrays.second;                                                                \
        for (std::int64_t i = 0; i < count; i += kUnroll * std::int64_t{width}) {                                      \
            Vector outputs[2 * kUnroll];                                                                               \
            for (std::int64_t k = 0; k < kUnroll; ++k) {                                                               \
                const std::int64_t at = i + k * std::int64_t{width};                                                   \
                outputs[kUnroll + k] = load(b + at);                                                                   \
                outputs[k] = add(load(a + at), outputs[kUnroll + k]);                                                  \
            }                                                                                                          \
            for (std::int64_t k = 0; k < kUnroll; ++k) {                                                               \
                put(to + i + k * std::int64_t{width}, outputs[k]);                                                     \
            }                                                                                                          \
            for (std::int64_t k = 0; k < kUnroll; ++k) {                                                               \
                put(second + i + k * std::int64_t{width}, outputs[kUnroll + k]);                                       \
            }                                                                                                          \
        }                                                                                                              \
        end;                                                                                                           \
    }

#define BENCH_MEMORY_KERNELS(suffix, isa, Vector, width, load, store, stream, add, zero)                               \
    BENCH_READ_KERNELS(suffix, isa, Vector, width, load, store, add, zero)                                             \
    BENCH_WRITE_KERNELS(suffix, isa, Vector, width, load, store, add, static_cast<void>(0))                            \
    BENCH_WRITE_KERNELS(suffix##_nontemporal, isa, Vector, width, load, stream, add, _mm_sfence())                     \
    constexpr Kernels k_##suffix = {read_##suffix,                                                                     \
                                    read_two_##suffix,                                                                 \
                                    copy_##suffix,                                                                     \
                                    add_##suffix,                                                                      \
                                    split_##suffix,                                                                    \
                                    copy_##suffix##_nontemporal,                                                       \
                                    add_##suffix##_nontemporal,                                                        \
                                    split_##suffix##_nontemporal};

BENCH_MEMORY_KERNELS(sse2, "sse2", __m128, 4, _mm_load_ps, _mm_store_ps, _mm_stream_ps, _mm_add_ps, _mm_setzero_ps)
BENCH_MEMORY_KERNELS(avx, "avx", __m256, 8, _mm256_load_ps, _mm256_store_ps, _mm256_stream_ps, _mm256_add_ps,
                     _mm256_setzero_ps)
BENCH_MEMORY_KERNELS(avx512, "avx512f", __m512, 16, _mm512_load_ps, _mm512_store_ps, _mm512_stream_ps, _mm512_add_ps,
                     _mm512_setzero_ps)

const Kernels& kernels() {
    return __builtin_cpu_supports("avx512f") ? k_avx512 : __builtin_cpu_supports("avx") ? k_avx : k_sse2;
}

// What a kind of traffic does: its passes, and the arrays that it reads and writes.
struct Passes {
    const char* name;
    Memory::Kernel Kernels::*first;
    Memory::Kernel Kernels::*second;
    int reads;
    int writes;
};

const Passes& passes_of(Traffic traffic) {
    static constexpr Passes kPasses[] = {
        {"read", &Kernels::read, nullptr, 1, 0},
        {"copy", &Kernels::copy, nullptr, 1, 1},
        {"copy_nontemporal", &Kernels::copy_nontemporal, nullptr, 1, 1},
        {"read_then_copy", &Kernels::read, &Kernels::copy, 1, 1},
        {"read_then_copy_nontemporal", &Kernels::read, &Kernels::copy_nontemporal, 1, 1},
        {"read_then_add", &Kernels::read, &Kernels::add, 2, 1},
        {"read_then_add_nontemporal", &Kernels::read, &Kernels::add_nontemporal, 2, 1},
        {"read_two_then_add", &Kernels::read_two, &Kernels::add, 2, 1},
        {"read_two_then_add_nontemporal", &Kernels::read_two, &Kernels::add_nontemporal, 2, 1},
        {"read_two_then_split", &Kernels::read_two, &Kernels::split, 2, 2},
        {"read_two_then_split_nontemporal", &Kernels::read_two, &Kernels::split_nontemporal, 2, 2},
    };
    static_assert(std::size(kPasses) == kTraffic.size());
    return kPasses[static_cast<std::size_t>(traffic)];
}

Floats make_if(bool wanted, std::int64_t elements, bool random) {
    return wanted ? make_floats(elements, random) : Floats();
}

} // namespace

struct Memory::Threads {
    explicit Threads(int count) : arena(count) {}
    tbb::task_arena arena;
};

const char* traffic_name(Traffic traffic) { return passes_of(traffic).name; }

Memory::Memory(Traffic traffic, std::int64_t elements, int threads)
    : traffic_(traffic),
      elements_((elements + kUnroll * kWidestVector - 1) / (kUnroll * kWidestVector) * (kUnroll * kWidestVector)),
      a_(make_floats(elements_, true)), b_(make_if(passes_of(traffic).reads > 1, elements_, true)),
      to_(make_floats(elements_, false)), second_(make_if(passes_of(traffic).writes > 1, elements_, false)),
      threads_(std::make_unique<Threads>(threads)) {}

Memory::~Memory() = default;

void Memory::pass(Kernel kernel, bool backwards) {
    const auto at = [](auto* array, std::int64_t first) { return array == nullptr ? nullptr : array + first; };
    const auto move = [&](std::int64_t first, std::int64_t count) {
        kernel({at(static_cast<const float*>(a_.get()), first), at(static_cast<const float*>(b_.get()), first),
                at(to_.get(), first), at(second_.get(), first)},
               count);
    };
    const auto move_pieces = [&](const tbb::blocked_range<std::int64_t>& pieces) {
        const std::int64_t end = std::min(pieces.end() * kPiece, elements_);
        if (!backwards) {
            move(pieces.begin() * kPiece, end - pieces.begin() * kPiece);
            return;
        }
        for (std::int64_t piece = pieces.end() - 1; piece >= pieces.begin(); --piece) {
            move(piece * kPiece, std::min(kPiece, end - piece * kPiece));
        }
    };
    const tbb::blocked_range<std::int64_t> pieces(0, (elements_ + kPiece - 1) / kPiece, 4);
    if (threads_->arena.max_concurrency() == 1) {
        move_pieces(pieces);
    } else {
        // The same thread reads the same again.
        threads_->arena.execute([&] { tbb::parallel_for(pieces, move_pieces, tbb::static_partitioner()); });
    }
}

void Memory::run() {
    const Passes& passes = passes_of(traffic_);
    pass(kernels().*passes.first, false);
    if (passes.second != nullptr) {
        pass(kernels().*passes.second, true);
    }
}

double Memory::bytes() const {
    const Passes& passes = passes_of(traffic_);
    return (passes.reads + passes.writes) * 4.0 * static_cast<double>(elements_);
}

} // namespace bench
