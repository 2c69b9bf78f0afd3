// What the elementwise passes share: parameters by pattern, loads of whole and partial vectors, activations, mask bits.
#ifndef BNORM_KERNELS_ELEMENTWISE_INL
#define BNORM_KERNELS_ELEMENTWISE_INL

#include "kernels/kernel_table.hpp"
#include "kernels/simd.hpp"

namespace bnorm::kernels {
namespace {

enum class Pattern { uniform, periodic };

// Uniform: of a channel.
template <Pattern kPattern>
BNORM_INLINE F32 parameter(const float* values, std::int64_t column) {
    return kPattern == Pattern::uniform ? F32(values[column]) : load(values + column);
}

template <bool kWhole, bool kStream>
BNORM_INLINE void store_lanes(float* address, F32 value, std::int64_t lanes) {
    if (!kWhole) {
        store_first(address, value, lanes);
    } else if (kStream) {
        stream(address, value);
    } else {
        store(address, value);
    }
}

// What of an output will be written soon. A store that finds its line in L1 is done at once; others are few at a time,
// from L2, too. Narrower vectors gained nothing: they wait less for each line, and ask for it several times.
BNORM_INLINE void fetch_output(const float* address) {
    if (kWidth == 16) {
        prefetch_to_write(address);
    }
}

// Where the activation passes v on. NaN does not pass.
template <Activation kActivation>
BNORM_INLINE std::uint32_t passes(F32 v, F32 parameter) {
    const std::uint32_t positive = bits(v > F32(0.0F));
    return kActivation == Activation::clipped_relu ? positive & bits(v < parameter) : positive;
}

// The comparisons are false for NaN, which thereby stays NaN; -0 becomes +0.
template <Activation kActivation>
BNORM_INLINE F32 activate(F32 v, F32 parameter) {
    const F32 zero(0.0F);
    switch (kActivation) {
    case Activation::identity: return v;
    case Activation::relu: return xsimd::select(v <= zero, zero, v);
    case Activation::leaky_relu: return xsimd::select(v > zero, v, v * parameter);
    case Activation::clipped_relu: {
        const F32 lower = xsimd::select(v <= zero, zero, v);
        return xsimd::select(lower >= parameter, parameter, lower);
    }
    }
    return v;
}

// Bit i of a mask is bit i%8 of byte i/8. A vector of four lanes shares its byte with a neighbour: the lower one writes
// first and clears the upper half.
BNORM_INLINE void store_mask(std::uint8_t* mask, std::int64_t bit, std::uint32_t value) {
    std::uint8_t* byte = mask + static_cast<std::uint64_t>(bit) / 8; // a shift
    if (kWidth == 16) {
        const std::uint16_t two = static_cast<std::uint16_t>(value);
        __builtin_memcpy(byte, &two, sizeof two);
    } else if (kWidth == 8 || bit % 8 == 0) {
        *byte = static_cast<std::uint8_t>(value);
    } else {
        *byte = static_cast<std::uint8_t>(*byte | value << 4);
    }
}

// Rows of a mask are whole units of kLanes bits; where narrow vectors do not reach the last byte, it becomes 0 all the
// same.
BNORM_INLINE void end_mask_row(std::uint8_t* mask, std::int64_t bits) {
    if (kWidth < 16 && bits % 16 != 0 && bits % 16 <= 8) {
        mask[bits / 16 * 2 + 1] = 0;
    }
}

constexpr bool is_sign_gate(Gate gate) {
    return gate == Gate::sign_relu || gate == Gate::sign_leaky_relu || gate == Gate::sign_clipped_relu;
}
constexpr bool is_mask_gate(Gate gate) { return gate == Gate::mask_drop || gate == Gate::mask_leaky; }
constexpr bool is_leaky_gate(Gate gate) { return gate == Gate::mask_leaky || gate == Gate::sign_leaky_relu; }

// The mask from any bit on, or nothing where the gate is none by mask. `lanes` stay the same along a row: shifted for
// each vector, its bits took longer than the rest of a short plane's sums.
struct MaskBits {
    const std::uint8_t* byte;
    std::int64_t shift; // below 8
    LaneBits lanes;
};

template <Gate kGate>
BNORM_INLINE MaskBits mask_from(const std::uint8_t* mask, std::int64_t bit) {
    if (!is_mask_gate(kGate)) {
        return {nullptr, 0, lane_bits(0)};
    }
    const std::uint64_t index = static_cast<std::uint64_t>(bit); // divides by a shift
    const std::int64_t shift = static_cast<std::int64_t>(index % 8);
    return {mask + index / 8, shift, lane_bits(shift)};
}

// By a multiple of kWidth.
template <Gate kGate>
BNORM_INLINE MaskBits advance(const MaskBits& mask, std::int64_t columns) {
    if (kWidth % 8 != 0) {
        return mask_from<kGate>(mask.byte, mask.shift + columns);
    }
    return {mask_from<kGate>(mask.byte, columns).byte, mask.shift, mask.lanes};
}

// The next kWidth bits. Reads up to three bytes past the last of them: masks end with spare bytes.
BNORM_INLINE Mask load_mask(const MaskBits& mask) {
    std::int32_t word = 0;
    __builtin_memcpy(&word, mask.byte, sizeof word);
    return test_bits(word, mask.lanes);
}

// Where the activation passed, by the output v = fma(e, scale, shift) that forward computed from the same operands with
// the same rounding.
template <Gate kGate>
BNORM_INLINE Mask passed_by_sign(F32 v, F32 parameter) {
    const Mask positive = v > F32(0.0F);
    return kGate == Gate::sign_clipped_relu ? positive & (v < parameter) : positive;
}

// dy through the derivative of the activation, given where that passed.
template <Gate kGate>
BNORM_INLINE F32 gated(F32 dy, Mask passed, F32 parameter) {
    return xsimd::select(passed, dy, is_leaky_gate(kGate) ? dy * parameter : F32(0.0F));
}
// dy from memory, gated so: what is dropped is not loaded.
template <Gate kGate, bool kWhole>
BNORM_INLINE F32 load_gated(const float* address, std::int64_t lanes, Mask passed, F32 parameter) {
    if (!is_leaky_gate(kGate) && kWhole) {
        return in_register(load_where(passed, address));
    }
    return gated<kGate>(in_register(load_lanes<kWhole>(address, lanes)), passed, parameter);
}

BNORM_INLINE void prefetch_ahead(const float* address, std::int64_t ahead) {
    if (ahead != 0) {
        prefetch_into_l2(address + ahead);
    }
}

// Rows of columns whose outputs bypass the cache: inputs are fetched so many elements (8 KiB) ahead. Hardware alone, or
// asked once, fetched less on some CPUs.
constexpr std::int64_t kStreamedAhead = 2048;
BNORM_INLINE void prefetch_streamed(const float* address, bool again) {
    prefetch_into_l2<3>(address + kStreamedAhead, again);
}

// Into L1, which is faster where stores bypass the caches, on some CPUs.
struct FetchTwoIntoL1 {
    const float* a;
    const float* b;

    BNORM_MEMBER void operator()(std::int64_t column) const {
        prefetch(a + column + kStreamedAhead);
        prefetch(b + column + kStreamedAhead);
    }
};

struct NothingFetched {
    BNORM_MEMBER void operator()(std::int64_t) const {}
};

// How many vectors are computed before the first of them is stored. A load whose address agrees with an earlier store's
// in the lower 12 bits waits for it, and tensors that follow each other on the heap tend to start 64 bytes apart in
// those: stored one by one, each output held up the next input, which took up to 1.3 times as long.
// Not with vectors of 16 bytes, four of which make a cache line.
constexpr std::int64_t kTogether = kWidth == 4 ? 1 : 4;

// The whole vectors from `column` on of up to `end`: output(c) computes one, store_output(c, output) stores it and
// store_together(c, outputs) kTogether of them. Returns where they end. `fetch` is an object, not a lambda: GCC drops
// calls of a function that does nothing but prefetch unless it is always inlined.
template <class Fetch, class Output, class StoreTogether, class Store>
BNORM_INLINE std::int64_t for_whole_vectors(std::int64_t column, std::int64_t end, const Fetch& fetch,
                                            const Output& output, const StoreTogether& store_together,
                                            const Store& store_output) {
    for (; column + kTogether * kWidth <= end; column += kTogether * kWidth) {
        decltype(output(column)) outputs[kTogether];
        BNORM_UNROLL
        for (std::int64_t k = 0; k < kTogether; ++k) {
            fetch(column + k * kWidth);
            outputs[k] = output(column + k * kWidth);
        }
        store_together(column, outputs);
    }
    BNORM_NO_UNROLL
    for (; column + kWidth <= end; column += kWidth) {
        fetch(column);
        store_output(column, output(column));
    }
    return column;
}

// Rows whose parameters would fill L1 are taken so many at a time, so that each vector of parameters serves all of
// them, but not where outputs bypass the cache. Which rows come whole is the plan's decision.
// Fewer with a residual where registers are 16 instead of 32.
constexpr std::int64_t rows_together(bool residual) { return residual && kWidth < 16 ? 4 : 8; }

// Elements before the first 64-byte boundary, for streaming a row that starts anywhere.
BNORM_INLINE std::int64_t lanes_to_boundary(const float* address) {
    const std::uintptr_t bytes = static_cast<std::uintptr_t>(kWidth) * sizeof(float);
    const std::uintptr_t past = reinterpret_cast<std::uintptr_t>(address) % bytes;
    return static_cast<std::int64_t>(past == 0 ? 0 : (bytes - past) / sizeof(float));
}

} // namespace
} // namespace bnorm::kernels

#endif
