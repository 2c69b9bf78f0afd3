// The vector types and operations of the ISA that the including file is compiled for. The only file that knows xsimd
// and intrinsics. Everything has internal linkage: see README, "Adding an ISA".
#ifndef BNORM_KERNELS_SIMD_HPP
#define BNORM_KERNELS_SIMD_HPP

#include <cstddef>
#include <cstdint>

#include <immintrin.h>
#include <xsimd/xsimd.hpp>

#define BNORM_INLINE static inline __attribute__((always_inline))
#define BNORM_MEMBER __attribute__((always_inline))
// xsimd's functions are ordinary inline templates: without flatten the compiler may leave one out of line as a weak
// symbol, and the linker may pick that copy for a file of another ISA. A kernel that calls another gets no copy of it.
#define BNORM_KERNEL __attribute__((noinline, flatten)) static
// For what is seldom needed: out of line, so that it does not weigh on the loop that nearly always suffices.
#define BNORM_RARE __attribute__((noinline, flatten)) static

// Before a loop over the parts of a small array: only with constant indices do compilers keep its parts in registers.
#if defined(__clang__)
#define BNORM_UNROLL _Pragma("clang loop unroll(full)")
#define BNORM_NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define BNORM_UNROLL _Pragma("GCC unroll 8")
// Before what is left over after a loop of several at once: unrolled, it takes more to compile than the loop itself.
#define BNORM_NO_UNROLL _Pragma("GCC unroll 1")
#endif

namespace bnorm::kernels {
namespace {

#if defined(__AVX512F__)
using Architecture = xsimd::avx512f;
#elif defined(__AVX2__)
using Architecture = xsimd::fma3<xsimd::avx2>;
#else
using Architecture = xsimd::sse2;
#endif

using F32 = xsimd::batch<float, Architecture>;
using F64 = xsimd::batch<double, Architecture>;
using Mask = xsimd::batch_bool<float, Architecture>;

// Which bit of a 32-bit word belongs to each lane: lane i has bit i + shift.
#if defined(__AVX512F__)
using LaneBits = __m512i;
#elif defined(__AVX2__)
using LaneBits = __m256i;
#else
using LaneBits = __m128i;
#endif

constexpr std::int64_t kWidth = static_cast<std::int64_t>(F32::size);
constexpr std::int64_t kWidthF64 = static_cast<std::int64_t>(F64::size);

BNORM_INLINE F32 load(const float* address) { return F32::load_unaligned(address); }
BNORM_INLINE F64 load(const double* address) { return F64::load_unaligned(address); }
BNORM_INLINE void store(float* address, F32 value) { value.store_unaligned(address); }
BNORM_INLINE void store(double* address, F64 value) { value.store_unaligned(address); }

// The sum of all lanes: the upper half onto the lower one, and again, the same order on every ISA. xsimd's own promises
// no order.
BNORM_INLINE double sum_halves(__m128d value) {
    return _mm_cvtsd_f64(value) + _mm_cvtsd_f64(_mm_unpackhi_pd(value, value));
}
BNORM_INLINE float sum_halves(__m128 value) {
    const __m128 two = _mm_add_ps(value, _mm_movehl_ps(value, value));
    return _mm_cvtss_f32(two) + _mm_cvtss_f32(_mm_shuffle_ps(two, two, 1));
}
#if defined(__AVX2__)
BNORM_INLINE double sum_halves(__m256d value) {
    return sum_halves(_mm_add_pd(_mm256_castpd256_pd128(value), _mm256_extractf128_pd(value, 1)));
}
BNORM_INLINE float sum_halves(__m256 value) {
    return sum_halves(_mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1)));
}
#endif

// Sums of all lanes of each vector, in the order of sum_halves; as many vectors as one has lanes.
#if defined(__AVX512F__)
BNORM_INLINE F64 sum_halves_of_each(const F64 (&v)[kWidthF64]) {
    const auto halves = [](__m512d a, __m512d b) {
        return _mm512_add_pd(_mm512_shuffle_f64x2(a, b, 0x44), _mm512_shuffle_f64x2(a, b, 0xEE));
    };
    const auto quarters = [&](const F64& a, const F64& b, const F64& c, const F64& d) {
        const __m512d ab = halves(a.data, b.data), cd = halves(c.data, d.data);
        return _mm512_add_pd(_mm512_shuffle_f64x2(ab, cd, 0x88), _mm512_shuffle_f64x2(ab, cd, 0xDD));
    };
    const __m512d even = quarters(v[0], v[2], v[4], v[6]), odd = quarters(v[1], v[3], v[5], v[7]);
    return _mm512_add_pd(_mm512_unpacklo_pd(even, odd), _mm512_unpackhi_pd(even, odd));
}
#elif defined(__AVX2__)
BNORM_INLINE F64 sum_halves_of_each(const F64 (&v)[kWidthF64]) {
    const auto halves = [](__m256d a, __m256d b) {
        return _mm256_add_pd(_mm256_permute2f128_pd(a, b, 0x20), _mm256_permute2f128_pd(a, b, 0x31));
    };
    const __m256d even = halves(v[0].data, v[2].data), odd = halves(v[1].data, v[3].data);
    return _mm256_add_pd(_mm256_unpacklo_pd(even, odd), _mm256_unpackhi_pd(even, odd));
}
#else
BNORM_INLINE F64 sum_halves_of_each(const F64 (&v)[kWidthF64]) {
    return _mm_add_pd(_mm_unpacklo_pd(v[0].data, v[1].data), _mm_unpackhi_pd(v[0].data, v[1].data));
}
#endif

#if defined(__AVX2__)
constexpr bool kFusedMultiplyAdd = true;
#else
constexpr bool kFusedMultiplyAdd = false;
#endif

#if defined(__AVX512F__)

BNORM_INLINE double sum_halves(__m512d value) {
    return sum_halves(_mm256_add_pd(_mm512_castpd512_pd256(value), _mm512_extractf64x4_pd(value, 1)));
}
BNORM_INLINE float sum_halves(__m512 value) {
    return sum_halves(_mm256_add_ps(_mm512_castps512_ps256(value), _mm512_extractf32x8_ps(value, 1)));
}
// xsimd 8.1 multiplies, then adds; 9.0 and later have it.
BNORM_INLINE F32 fma(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a.data, b.data, c.data); }
BNORM_INLINE F64 fma(F64 a, F64 b, F64 c) { return _mm512_fmadd_pd(a.data, b.data, c.data); }
// Run-time masks: xsimd 14 has none for a count either.
BNORM_INLINE __mmask16 first_lanes(std::int64_t count) { return static_cast<__mmask16>((1U << count) - 1U); }
BNORM_INLINE F32 load_first(const float* address, std::int64_t count) {
    return _mm512_maskz_loadu_ps(first_lanes(count), address);
}
BNORM_INLINE void store_first(float* address, F32 value, std::int64_t count) {
    _mm512_mask_storeu_ps(address, first_lanes(count), value.data);
}
BNORM_INLINE F32 keep_first(F32 value, std::int64_t count) {
    return _mm512_maskz_mov_ps(first_lanes(count), value.data);
}
// The first `count` lanes of a, then those of b.
BNORM_INLINE F32 blend_first(F32 a, F32 b, std::int64_t count) {
    return _mm512_mask_mov_ps(b.data, first_lanes(count), a.data);
}
// Non-temporal stores: xsimd 14 has none.
BNORM_INLINE void stream(float* address, F32 value) { _mm512_stream_ps(address, value.data); }
// batch_bool::mask and from_mask came with xsimd 9 and 11.
BNORM_INLINE std::uint32_t bits(Mask mask) { return static_cast<std::uint32_t>(mask.data); }
BNORM_INLINE std::uint32_t bits(xsimd::batch_bool<double, Architecture> mask) {
    return static_cast<std::uint32_t>(mask.data);
}
BNORM_INLINE LaneBits lane_bits(std::int64_t shift) {
    const __m512i bits = _mm512_sllv_epi32(_mm512_set1_epi32(1),
                                           _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    return _mm512_sll_epi32(bits, _mm_cvtsi32_si128(static_cast<int>(shift)));
}
BNORM_INLINE Mask test_bits(std::int32_t word, LaneBits bits) {
    return Mask(_mm512_test_epi32_mask(_mm512_set1_epi32(word), bits));
}
// f32 to f64 of twice as many registers: xsimd 14 has widen.
BNORM_INLINE F64 widen_low(F32 value) { return _mm512_cvtps_pd(_mm512_castps512_ps256(value.data)); }
BNORM_INLINE F64 widen_high(F32 value) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(value.data, 1)); }
BNORM_INLINE F64 load_widened(const float* address) { return _mm512_cvtps_pd(_mm256_loadu_ps(address)); }

#elif defined(__AVX2__)

// Eight lanes starting at 8 - count: the first `count` are on.
alignas(64) constexpr std::int32_t kLaneSwitches[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

BNORM_INLINE F32 fma(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a.data, b.data, c.data); }
BNORM_INLINE F64 fma(F64 a, F64 b, F64 c) { return _mm256_fmadd_pd(a.data, b.data, c.data); }
BNORM_INLINE __m256i first_lanes(std::int64_t count) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kLaneSwitches + 8 - count));
}
BNORM_INLINE F32 load_first(const float* address, std::int64_t count) {
    return _mm256_maskload_ps(address, first_lanes(count));
}
// In halves rather than by vmaskmovps, whose store form takes tens of cycles on AMD.
BNORM_INLINE void store_first(float* address, F32 value, std::int64_t count) {
    __m128 rest = _mm256_castps256_ps128(value.data);
    if (count & 8) {
        _mm256_storeu_ps(address, value.data);
        return;
    }
    if (count & 4) {
        _mm_storeu_ps(address, rest);
        rest = _mm256_extractf128_ps(value.data, 1);
        address += 4;
    }
    if (count & 2) {
        _mm_storel_pi(reinterpret_cast<__m64*>(address), rest);
        rest = _mm_movehl_ps(rest, rest);
        address += 2;
    }
    if (count & 1) {
        _mm_store_ss(address, rest);
    }
}
BNORM_INLINE F32 keep_first(F32 value, std::int64_t count) {
    return _mm256_and_ps(value.data, _mm256_castsi256_ps(first_lanes(count)));
}
BNORM_INLINE F32 blend_first(F32 a, F32 b, std::int64_t count) {
    return _mm256_blendv_ps(b.data, a.data, _mm256_castsi256_ps(first_lanes(count)));
}
BNORM_INLINE void stream(float* address, F32 value) { _mm256_stream_ps(address, value.data); }
BNORM_INLINE std::uint32_t bits(Mask mask) { return static_cast<std::uint32_t>(_mm256_movemask_ps(mask.data)); }
BNORM_INLINE std::uint32_t bits(xsimd::batch_bool<double, Architecture> mask) {
    return static_cast<std::uint32_t>(_mm256_movemask_pd(mask.data));
}
BNORM_INLINE LaneBits lane_bits(std::int64_t shift) {
    return _mm256_sll_epi32(_mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128), _mm_cvtsi32_si128(static_cast<int>(shift)));
}
BNORM_INLINE Mask test_bits(std::int32_t word, LaneBits bits) {
    const __m256i on = _mm256_and_si256(_mm256_set1_epi32(word), bits);
    return Mask(_mm256_castsi256_ps(_mm256_cmpeq_epi32(on, bits)));
}
BNORM_INLINE F64 widen_low(F32 value) { return _mm256_cvtps_pd(_mm256_castps256_ps128(value.data)); }
BNORM_INLINE F64 widen_high(F32 value) { return _mm256_cvtps_pd(_mm256_extractf128_ps(value.data, 1)); }
BNORM_INLINE F64 load_widened(const float* address) { return _mm256_cvtps_pd(_mm_loadu_ps(address)); }

#else

alignas(64) constexpr std::int32_t kLaneSwitches[8] = {-1, -1, -1, -1, 0, 0, 0, 0};

// SSE2 has no fused multiply-add: this rounds twice, which is why SSE2 promises accuracy but not the other ISAs' bits.
BNORM_INLINE F32 fma(F32 a, F32 b, F32 c) { return a * b + c; }
BNORM_INLINE F64 fma(F64 a, F64 b, F64 c) { return a * b + c; }
BNORM_INLINE F32 load_first(const float* address, std::int64_t count) {
    switch (count) {
    case 0: return _mm_setzero_ps();
    case 1: return _mm_load_ss(address);
    case 2: return _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(address)));
    case 3:
        return _mm_movelh_ps(_mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(address))),
                             _mm_load_ss(address + 2));
    default: return _mm_loadu_ps(address);
    }
}
BNORM_INLINE void store_first(float* address, F32 value, std::int64_t count) {
    __m128 rest = value.data;
    if (count & 4) {
        _mm_storeu_ps(address, rest);
        return;
    }
    if (count & 2) {
        _mm_storel_pi(reinterpret_cast<__m64*>(address), rest);
        rest = _mm_movehl_ps(rest, rest);
        address += 2;
    }
    if (count & 1) {
        _mm_store_ss(address, rest);
    }
}
BNORM_INLINE __m128 first_lanes(std::int64_t count) {
    return _mm_castsi128_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(kLaneSwitches + 4 - count)));
}
BNORM_INLINE F32 keep_first(F32 value, std::int64_t count) { return _mm_and_ps(value.data, first_lanes(count)); }
BNORM_INLINE F32 blend_first(F32 a, F32 b, std::int64_t count) {
    const __m128 first = first_lanes(count);
    return _mm_or_ps(_mm_and_ps(first, a.data), _mm_andnot_ps(first, b.data));
}
BNORM_INLINE void stream(float* address, F32 value) { _mm_stream_ps(address, value.data); }
BNORM_INLINE std::uint32_t bits(Mask mask) { return static_cast<std::uint32_t>(_mm_movemask_ps(mask.data)); }
BNORM_INLINE std::uint32_t bits(xsimd::batch_bool<double, Architecture> mask) {
    return static_cast<std::uint32_t>(_mm_movemask_pd(mask.data));
}
BNORM_INLINE LaneBits lane_bits(std::int64_t shift) {
    return _mm_sll_epi32(_mm_setr_epi32(1, 2, 4, 8), _mm_cvtsi32_si128(static_cast<int>(shift)));
}
BNORM_INLINE Mask test_bits(std::int32_t word, LaneBits bits) {
    const __m128i on = _mm_and_si128(_mm_set1_epi32(word), bits);
    return Mask(_mm_castsi128_ps(_mm_cmpeq_epi32(on, bits)));
}
BNORM_INLINE F64 widen_low(F32 value) { return _mm_cvtps_pd(value.data); }
BNORM_INLINE F64 widen_high(F32 value) { return _mm_cvtps_pd(_mm_movehl_ps(value.data, value.data)); }
BNORM_INLINE F64 load_widened(const float* address) {
    return _mm_cvtps_pd(_mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(address))));
}

#endif

// load_where: elsewhere 0. widen_halved: the upper half of 16 lanes onto the lower one, which is widened.
#if defined(__AVX512F__)
BNORM_INLINE F32 load_where(Mask mask, const float* address) { return _mm512_maskz_loadu_ps(mask.data, address); }
BNORM_INLINE void widen_halved(const F32 (&v)[1], F64 (&result)[1]) {
    const __m256 low = _mm512_castps512_ps256(v[0].data);
    result[0] = _mm512_cvtps_pd(_mm256_add_ps(low, _mm512_extractf32x8_ps(v[0].data, 1)));
}

// IEEE's square root, to the bit, without the divider: that takes 24 cycles of Intel's cores for eight roots, and is
// what a caller's divisions wait for, too. One step of third order brings the approximation's 2^-14 to 2^-40, another
// adds half the remainder over the root (P. Markstein, Computation of elementary functions on the IBM RISC System/6000
// processor, 1990). The result is the nearest number if the remainder, value - root^2, is less than root * ulp: it is a
// multiple of ulp^2, therefore exact then, and (root +- ulp/2)^2 = root^2 +- root * ulp + ulp^2 / 4. That is not so of
// powers of two, below which ulps are half as large. What this does not prove is left to the instruction: roots that
// are powers of two, zero, negative numbers, infinity, NaN, and what is so small that the remainder would underflow.
BNORM_INLINE F64 square_root(F64 value) {
    const auto minus_product = [](F64 a, F64 b, F64 c) { return F64(_mm512_fnmadd_pd(a.data, b.data, c.data)); };
    const F64 estimate = _mm512_rsqrt14_pd(value.data);
    const F64 error = minus_product(value * estimate, estimate, F64(1.0));
    const F64 inverse = fma(fma(error, F64(0.375), F64(0.5)), estimate * error, estimate);
    const F64 near = value * inverse;
    const F64 root = fma(minus_product(near, near, value), inverse * F64(0.5), near);
    const F64 remainder = minus_product(root, root, value);
    const F64 power = _mm512_and_pd(root.data, _mm512_castsi512_pd(_mm512_set1_epi64(0x7FF0000000000000)));
    const auto rounded_so =
        (xsimd::abs(remainder) < root * (power * F64(0x1p-52))) & (root != power) & (value > F64(0x1p-900));
    return __builtin_expect(bits(rounded_so) == 0xFF, 1) ? root : xsimd::sqrt(value);
}
#else
BNORM_INLINE F32 load_where(Mask mask, const float* address) { return xsimd::select(mask, load(address), F32(0.0F)); }
template <int kVectors>
BNORM_INLINE void widen_halved(const F32 (&v)[kVectors], F64 (&result)[kVectors]) {
    BNORM_UNROLL
    for (int i = 0; i < kVectors / 2; ++i) {
        const F32 sum = v[i] + v[i + kVectors / 2];
        result[2 * i] = widen_low(sum);
        result[2 * i + 1] = widen_high(sum);
    }
}
BNORM_INLINE F64 square_root(F64 value) { return xsimd::sqrt(value); }
#endif

template <bool kWhole>
BNORM_INLINE F32 load_lanes(const float* address, std::int64_t lanes) {
    return kWhole ? load(address) : load_first(address, lanes);
}
BNORM_INLINE void fence() { _mm_sfence(); }
// GCC reads a value that is used twice twice from memory, which costs where it straddles cache lines.
BNORM_INLINE F32 in_register(F32 value) {
    __asm__("" : "+v"(value.data));
    return value;
}
BNORM_INLINE F64 in_register(F64 value) {
    __asm__("" : "+v"(value.data));
    return value;
}
// And keeps a pointer for each row and vector that an unrolled loop reads, most of them on the stack, instead of one
// for all.
BNORM_INLINE const float* in_register(const float* address) {
    __asm__("" : "+r"(address));
    return address;
}

// x - value. Sums consist of additions, which AMD's processors do in two pipes while the two that multiply stand idle:
// fma(x, 1, -value) is done there, and is the same number. The 1 is hidden, or compilers would see that. `by_addition`:
// where those that multiply have more to do.
template <class Vector>
class DifferenceFrom {
  public:
    DifferenceFrom() = default;
    explicit DifferenceFrom(Vector value) : minus_(-value), one_(in_register(Vector(1))) {}
    BNORM_MEMBER Vector operator()(Vector x) const { return kFusedMultiplyAdd ? fma(x, one_, minus_) : by_addition(x); }
    BNORM_MEMBER Vector by_addition(Vector x) const { return x + minus_; }

  private:
    Vector minus_;
    Vector one_;
};

// Any address will do: one that is not mapped is ignored.
BNORM_INLINE void prefetch(const void* address) { _mm_prefetch(static_cast<const char*>(address), _MM_HINT_T0); }
// Likewise, so that it can be stored to at once: read, a line that another core has written would have to be asked of
// it a second time.
BNORM_INLINE void prefetch_to_write(const void* address) { __builtin_prefetch(address, 1, 3); }
// A core seems to drop requests while many are outstanding: asked for several times in a row, more of what lies in
// memory arrives in time. Of vectors shorter than a cache line, several ask for the same line anyway.
template <int kTimes = 1>
BNORM_INLINE void prefetch_into_l2(const void* address) {
    constexpr int kRequests = 1 + (kTimes - 1) * static_cast<int>(kWidth / 16);
    BNORM_UNROLL
    for (int i = 0; i < kRequests; ++i) {
        _mm_prefetch(static_cast<const char*>(address), _MM_HINT_T1);
    }
}

// As prefetch_into_l2<kTimes>, or once.
template <int kTimes>
BNORM_INLINE void prefetch_into_l2(const void* address, bool again) {
    prefetch_into_l2(address);
    if (kWidth == 16 && again) {
        prefetch_into_l2<kTimes - 1>(address);
    }
}

} // namespace
} // namespace bnorm::kernels

#endif
