// Kernels compute 1/std to the bits of IEEE's square root and division, whichever instructions they take for it.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/kernel_table.hpp"
#include "tables.hpp"

using namespace bnorm;

namespace {

std::uint64_t bits_of(double value) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

double from_bits(std::uint64_t bits) {
    double value = 0.0;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// x with x^2 = square modulo 2^bits, for squares that are 1 modulo 8: from one power of two to the next, the next bit
// of x is the one that is missing (Hensel's lemma).
std::uint64_t root_modulo(std::uint64_t square, int bits) {
    std::uint64_t x = 1;
    for (int i = 3; i < bits; ++i) {
        x += ((x * x - square) >> i & 1) << (i - 1);
    }
    return x;
}

// Numbers of 53 bits whose roots lie closest to the middle between two others: odd x of 54 bits with x^2 = value * 2^55
// + remainder, or 2^54, where the remainder is a few hundred of 108 bits.
void add_hardest_roots(std::vector<double>& values) {
    for (const int bits : {54, 55}) {
        for (int remainder = -4095; remainder < 4096; remainder += 8) {
            const std::uint64_t root = root_modulo(static_cast<std::uint64_t>(remainder), bits);
            const std::uint64_t modulus = std::uint64_t{1} << bits;
            const std::uint64_t half = modulus / 2;
            for (const std::uint64_t candidate : {root, modulus - root, root + half, half - root}) {
                const auto x = static_cast<long double>(candidate % modulus);
                values.push_back(static_cast<double>(x * x));
            }
        }
    }
}

void add_random(std::vector<double>& values) {
    std::mt19937_64 engine(1);
    for (int i = 0; i < 200000; ++i) {
        values.push_back(from_bits(engine()));                                              // of any size
        values.push_back(from_bits((engine() >> 12) | (std::uint64_t{0x3FF} << 52)));       // [1, 2)
        values.push_back(2.0 * from_bits((engine() >> 12) | (std::uint64_t{0x3FF} << 52))); // [2, 4)
    }
}

void add_special(std::vector<double>& values) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    for (const double value : {0.0, -0.0, -1.0, kInfinity, -kInfinity, std::numeric_limits<double>::quiet_NaN()}) {
        values.push_back(value);
    }
    for (int exponent = -1074; exponent < 1024; ++exponent) {
        const std::uint64_t power = bits_of(std::ldexp(1.0, exponent));
        for (std::uint64_t ulps = 0; ulps < 9; ++ulps) {
            values.push_back(from_bits(power + ulps - 4));
        }
    }
}

bool same(double a, double b) { return bits_of(a) == bits_of(b) || (std::isnan(a) && std::isnan(b)); }

void check_against_ieee(const kernels::KernelTable& table, const std::vector<double>& values) {
    constexpr std::int64_t kAtOnce = 13; // vectors, and what remains
    std::vector<double> results(kAtOnce);
    std::string wrong;
    for (std::size_t first = 0; first + kAtOnce <= values.size(); first += kAtOnce) {
        table.inverse_std(values.data() + first, 1.0, 0.0, kAtOnce, results.data());
        for (std::size_t i = 0; i < results.size(); ++i) {
            const double value = values[first + i];
            if (!same(results[i], 1.0 / std::sqrt(value + 0.0)) && wrong.size() < 200) {
                char hexadecimal[32] = {};
                std::snprintf(hexadecimal, sizeof hexadecimal, "%a ", value);
                wrong += hexadecimal;
            }
        }
    }
    CHECK(wrong == "");
}

} // namespace

TEST_CASE("1/std has IEEE's bits on every ISA") {
    std::vector<double> values;
    add_hardest_roots(values);
    add_random(values);
    add_special(values);
    for (const kernels::KernelTable* table : kernel_tables()) {
        check_against_ieee(*table, values);
    }
}
