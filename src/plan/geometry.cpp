#include "plan/geometry.hpp"

#include <algorithm>
#include <bit>
#include <numeric>

#include "plan/integers.hpp"

namespace bnorm::plan {
namespace {

// A block of one channel's elements is at most this long: 16 KiB, half of the smallest L1 cache.
constexpr std::int64_t kBlockElements = 4096;
// A block of columns is at most this high. The sums of a block are closed once, which costs as much as about 16 rows.
constexpr std::int64_t kBlockRows = 256;
// Kernels sum eight rows at a time.
constexpr std::int64_t kGroupRows = 8;
// Runs of rows that are summed in f32: at most as long, and at least so many in a tensor: a column then rounds no worse
// than one of 128 rows in groups of eight.
constexpr std::int64_t kMaxRunRows = 32;
constexpr std::int64_t kMinRuns = 16;
// Rows are made at least this long where pixels are short: below it, loop overhead shows.
constexpr std::int64_t kMinRowLength = 256;
// But not so long that fewer than this many are left: below 64, kernels sum in f64.
constexpr std::int64_t kEnoughRows = 128;
// Below these rows are whole panels, and a single one: from memory longer rows are fetched ahead more easily. Not so by
// gradient sums, which read rows of a single panel as one stream: their blocks have as many elements as of longer rows.
constexpr std::int64_t kWholePanelElements = std::int64_t{1} << 20;
constexpr std::int64_t kSinglePanelElements = std::int64_t{1} << 21;
// And at most this long: their parameters stay in L1, and their partial sums below 1 % of the tensor.
constexpr std::int64_t kMaxRowLength = 512;
constexpr std::int64_t kMaxRowLengthOfLargeTensors = 2048;
constexpr std::int64_t kLargeTensorElements = std::int64_t{1} << 22;

// A unit of joined planes has at most this many elements in the whole batch: two tensors of it stay in half of L2.
constexpr std::int64_t kMaxUnitElements = 65536;

// Images from which on short planes are summed together: with fewer, adding up the columns of each channel takes longer
// than it saves, unless images are a multiple of a page apart, where they drive each other out of L1.
constexpr std::int64_t kImagesTogether = 12;
constexpr std::int64_t kAliasedImagesTogether = 8;
constexpr std::int64_t kPageElements = 1024;
// Planes of so many whole vectors are faster one by one.
constexpr std::int64_t kWholeVectors = 4;

std::int64_t dense_or(std::int64_t stride, std::int64_t dense) { return stride == 0 ? dense : stride; }

bool sums_together(const Geometry& geometry) {
    const std::int64_t plane = geometry.columns_per_channel;
    const std::int64_t images = geometry.row_length % kPageElements == 0 ? kAliasedImagesTogether : kImagesTogether;
    const bool whole_vectors = plane % kLanes == 0 && plane >= kWholeVectors * kLanes;
    return plane < kMinLongPlane && geometry.rows >= images && !whole_vectors;
}

bool sums_gradients(bnorm_operation operation) {
    return operation == BNORM_BACKWARD || operation == BNORM_BACKWARD_FIXED || operation == BNORM_GRADIENT_SUMS;
}

void make_planes(Geometry& geometry, std::int64_t images, std::int64_t plane) {
    geometry.kind = MatrixKind::planes;
    geometry.rows = images;
    geometry.row_length = geometry.channels * plane;
    geometry.columns_per_channel = plane;
    const std::int64_t unit = kLanes / std::gcd(plane, kLanes);
    geometry.joined_planes =
        plane < kMinLongPlane || (unit > 1 && unit * geometry.elements_per_channel <= kMaxUnitElements);
    geometry.unit_channels = geometry.joined_planes ? unit : 1;
    geometry.sums_together = sums_together(geometry);
    geometry.mask_row_bytes = geometry.joined_planes ? divide_up(geometry.row_length, kLanes) * 2
                                                     : geometry.channels * (divide_up(plane, kLanes) * 2);
}

void make_columns(Geometry& geometry, std::int64_t rows, std::int64_t columns_per_channel) {
    geometry.kind = MatrixKind::columns;
    geometry.rows = rows;
    geometry.row_length = geometry.channels * columns_per_channel;
    geometry.columns_per_channel = columns_per_channel;
    geometry.mask_row_bytes = divide_up(geometry.row_length, kLanes) * 2;
}

// The fewest pixels that fill whole panels; 0: too few pixels, or too many elements or channels.
std::int64_t pixels_of_panels(std::int64_t channels, std::int64_t pixels, bool gradients) {
    const std::int64_t count = kPanelColumns / std::gcd(channels, kPanelColumns);
    const bool single = channels * count == kPanelColumns;
    const std::int64_t most = single ? kSinglePanelElements : kWholePanelElements;
    const bool few_elements = channels * pixels < most || (single && gradients);
    return channels <= kMinRowLength / count && pixels >= count * kEnoughRows && few_elements ? count : 0;
}

// Pixels to take as one row, so that rows are long and no vector is partial; 1 if that would make rows too long.
std::int64_t pixels_per_row(std::int64_t channels, std::int64_t pixels, bool gradients) {
    const std::int64_t panels = pixels_of_panels(channels, pixels, gradients);
    if (panels > 0) {
        return panels;
    }
    const std::int64_t longest =
        channels * pixels >= kLargeTensorElements ? kMaxRowLengthOfLargeTensors : kMaxRowLength;
    const std::int64_t whole = kLanes / std::gcd(channels, kLanes);
    const std::int64_t most_units =
        std::max<std::int64_t>(1, std::min(kMinRowLength / (channels * whole), pixels / (whole * kEnoughRows)));
    const std::int64_t count = whole * most_units;
    return channels * count <= longest && count <= pixels ? count : 1;
}

// Tensors that most machines read from memory gain nothing by runs (their moments took 1.1 to 1.3 times as long), so
// they get the better roundings.
std::int64_t rows_per_run(const Geometry& geometry) {
    if (geometry.elements() >= kLargeTensorElements || geometry.rows < 2 * kGroupRows * kMinRuns) {
        return kGroupRows;
    }
    return geometry.rows < kMaxRunRows * kMinRuns ? 2 * kGroupRows : kMaxRunRows;
}

BlockGrid make_grid(const Geometry& geometry) {
    BlockGrid grid;
    grid.rows = geometry.rows;
    if (geometry.kind == MatrixKind::columns) {
        grid.columns = grid.columns_per_block = geometry.row_length;
        const bool many_short = geometry.row_length == kPanelColumns && geometry.elements() >= kSinglePanelElements;
        const std::int64_t most_rows = many_short ? kBlockRows * (kMinRowLength / kPanelColumns) : kBlockRows;
        const std::int64_t blocks = std::max<std::int64_t>(1, divide_up(geometry.rows, most_rows));
        grid.rows_per_block = std::max(kGroupRows, round_up(divide_up(geometry.rows, blocks), kGroupRows));
        grid.rows_per_run = rows_per_run(geometry);
        return grid;
    }
    grid.columns = geometry.columns_per_channel;
    const std::int64_t pieces = divide_up(grid.columns, kBlockElements);
    grid.columns_per_block = std::min(grid.columns, round_up(divide_up(grid.columns, pieces), 8 * kLanes));
    const std::int64_t most_rows = pieces > 1 ? 1 : kBlockElements / grid.columns;
    const std::int64_t blocks = std::max<std::int64_t>(1, divide_up(geometry.rows, most_rows));
    grid.rows_per_block = std::max<std::int64_t>(1, divide_up(geometry.rows, blocks));
    return grid;
}

void join_pixels(Geometry& geometry, bool gradients) {
    const std::int64_t pixels = geometry.rows;
    const std::int64_t count = pixels_per_row(geometry.channels, pixels, gradients);
    if (count == 1) {
        return;
    }
    make_columns(geometry, pixels / count, count);
    geometry.interleaved = true;
    geometry.tail_columns = pixels % count * geometry.channels;
    geometry.x_stride = geometry.y_stride = geometry.residual_stride = geometry.row_length;
}

} // namespace

std::int64_t BlockGrid::row_blocks() const { return divide_up(rows, rows_per_block); }
std::int64_t BlockGrid::column_blocks() const { return divide_up(columns, columns_per_block); }

Block BlockGrid::at(std::int64_t index) const {
    const std::int64_t row = index / column_blocks() * rows_per_block;
    const std::int64_t column = index % column_blocks() * columns_per_block;
    return {row, std::min(rows_per_block, rows - row), column, std::min(columns_per_block, columns - column)};
}

std::int64_t split_tree(std::int64_t count) {
    return static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(count - 1)));
}

std::int64_t Geometry::mask_bit(std::int64_t column) const {
    if (kind == MatrixKind::planes && !joined_planes) {
        const std::int64_t plane_bits = divide_up(columns_per_channel, kLanes) * kLanes;
        return column / columns_per_channel * plane_bits + column % columns_per_channel;
    }
    return column;
}

std::int64_t Geometry::mask_bytes() const {
    return elements() == 0 ? 0 : rows * mask_row_bytes + divide_up(tail_columns, kLanes) * 2 + kMaskSpareBytes;
}

Geometry make_geometry(const bnorm_problem& problem) {
    Geometry geometry;
    geometry.channels = problem.channels;
    geometry.elements_per_channel = problem.batch * problem.spatial;
    const bool channels_first = problem.layout == BNORM_NCHW && problem.spatial != 1;
    const std::int64_t dense = problem.channels * (channels_first ? problem.spatial : 1);
    geometry.x_stride = dense_or(problem.x_stride, dense);
    geometry.y_stride = dense_or(problem.y_stride, dense);
    geometry.residual_stride = dense_or(problem.residual_stride, dense);
    const bool is_dense = geometry.x_stride == dense && geometry.y_stride == dense && geometry.residual_stride == dense;
    if (geometry.elements() == 0) {
        return geometry;
    }
    if (channels_first && problem.spatial >= kMinPlane) {
        make_planes(geometry, problem.batch, problem.spatial);
    } else if (channels_first) {
        make_columns(geometry, problem.batch, problem.spatial);
    } else if (problem.channels == 1 && is_dense && geometry.elements_per_channel >= kMinPlane) {
        make_planes(geometry, 1, geometry.elements_per_channel);
    } else {
        make_columns(geometry, geometry.elements_per_channel, 1);
        if (is_dense) {
            join_pixels(geometry, sums_gradients(problem.operation));
        }
    }
    geometry.grid = make_grid(geometry);
    return geometry;
}

} // namespace bnorm::plan
