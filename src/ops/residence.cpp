#include "ops/residence.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

#include "runtime/cache_probe.hpp"

namespace bnorm::ops {
namespace {

// Of each tensor, in the middle of so many equal parts of it.
constexpr std::int64_t kProbes = 4;
constexpr std::intptr_t kPageBytes = 4096; // the smallest there are

struct Matrix {
    const float* data;
    std::int64_t rows;
    std::int64_t row_length;
    std::int64_t stride;
};

Matrix matrix_of(const plan::Geometry& geometry, const void* tensor, std::int64_t stride) {
    const auto* data = static_cast<const float*>(tensor);
    if (stride == geometry.row_length) {
        return {data, 1, geometry.rows * geometry.row_length, stride};
    }
    return {data, geometry.rows, geometry.row_length, stride};
}

// A byte as far from the line as its page and its row allow: the nearest lines are what hardware fetches along.
const char* neighbour_in_page(const char* line, const float* row, std::int64_t row_length) {
    const auto address = reinterpret_cast<std::intptr_t>(line);
    const auto begin = reinterpret_cast<std::intptr_t>(row);
    const auto end = reinterpret_cast<std::intptr_t>(row + row_length);
    for (const std::intptr_t distance : {2048, -2048, 1024, -1024, 512, -512}) {
        const std::intptr_t other = address + distance;
        if (other / kPageBytes == address / kPageBytes && other >= begin && other < end) {
            return line + distance;
        }
    }
    return line;
}

runtime::CacheProbe probe_of(const Matrix& matrix, std::int64_t part) {
    const std::int64_t element = matrix.rows * matrix.row_length / (2 * kProbes) * (2 * part + 1);
    const std::int64_t row_index = matrix.rows == 1 ? 0 : element / matrix.row_length; // divisions are half of the time
    const float* row = matrix.data + row_index * matrix.stride;
    const auto* line = reinterpret_cast<const char*>(row + (element - row_index * matrix.row_length));
    return {line, neighbour_in_page(line, row, matrix.row_length)};
}

} // namespace

bool found_in_memory(const plan::Geometry& geometry, const ReducedTensors& tensors) {
    std::array<runtime::CacheProbe, 2 * kProbes> probes{};
    std::size_t count = 0;
    const auto add = [&](const void* tensor, std::int64_t stride) {
        const Matrix matrix = matrix_of(geometry, tensor, stride);
        for (std::int64_t part = 0; tensor != nullptr && part < kProbes; ++part) {
            probes[count++] = probe_of(matrix, part);
        }
    };
    add(tensors.x, geometry.x_stride);
    add(tensors.dy, geometry.y_stride);
    return !runtime::reads_from_cache({probes.data(), count});
}

} // namespace bnorm::ops
