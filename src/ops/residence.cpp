#include "ops/residence.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "runtime/cache_probe.hpp"

namespace bnorm::ops {
namespace {

// In the middle of so many equal parts of a tensor.
constexpr auto kProbes = static_cast<std::int64_t>(runtime::kCacheProbes);
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

bool is_in_memory(const plan::Geometry& geometry, const void* tensor, std::int64_t stride, std::uint64_t most_ticks) {
    if (tensor == nullptr) {
        return false;
    }
    const Matrix matrix = matrix_of(geometry, tensor, stride);
    std::array<runtime::CacheProbe, runtime::kCacheProbes> probes{};
    for (std::int64_t part = 0; part < kProbes; ++part) {
        probes[static_cast<std::size_t>(part)] = probe_of(matrix, part);
    }
    return !runtime::reads_from_cache(probes, most_ticks);
}

using Lines = std::array<const char*, runtime::kCacheProbes>;

// In one page, or two: the way to each counts.
Lines lines_from(const float* data, std::int64_t columns, bool from_end) {
    constexpr std::int64_t kMostApart = 256;
    const std::int64_t step = std::min(kMostApart, columns / kProbes);
    Lines lines{};
    for (std::int64_t i = 0; i < kProbes; ++i) {
        lines[static_cast<std::size_t>(i)] =
            reinterpret_cast<const char*>(data + (from_end ? columns - 1 - i * step : i * step));
    }
    return lines;
}

} // namespace

bool nearer_at_end(const plan::Geometry& geometry, const plan::Block& last, const Inputs& tensors) {
    const bool backward = tensors.dy != nullptr;
    const auto* first_row = static_cast<const float*>(backward ? tensors.dy : tensors.x);
    const std::int64_t last_row = (last.row + last.rows - 1) * (backward ? geometry.y_stride : geometry.x_stride);
    const std::uint64_t at_begin = runtime::ticks_to_read(lines_from(first_row, last.columns, false));
    const std::uint64_t at_end =
        runtime::ticks_to_read(lines_from(first_row + last_row + last.column, last.columns, true));
    return 4 * at_end < 3 * at_begin;
}

bool found_in_memory(const plan::Geometry& geometry, const Inputs& tensors, std::uint64_t most_ticks_of_caches) {
    return is_in_memory(geometry, tensors.x, geometry.x_stride, most_ticks_of_caches) ||
           is_in_memory(geometry, tensors.dy, geometry.y_stride, most_ticks_of_caches);
}

} // namespace bnorm::ops
