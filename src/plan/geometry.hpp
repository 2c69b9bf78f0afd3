// A problem as a matrix of rows, cut into blocks. Integers only, a function of the shape alone: the block grid decides
// how results round, so neither threads nor caches may enter here (they enter in schedule.hpp).
//
// A row is what lies contiguous in memory: an image's C*S elements (NCHW) or a pixel's C (NHWC). Two kinds of matrix:
//   planes   NCHW with planes of at least kMinPlane elements: a channel is a run of S columns, reduced on its own with
//            uniform parameters;
//   columns  everything else: each column is summed on its own, with periodic parameters, and the `columns_per_channel`
//            columns of a channel are merged afterwards.
#ifndef BNORM_PLAN_GEOMETRY_HPP
#define BNORM_PLAN_GEOMETRY_HPP

#include <cstdint>

#include "bnorm/bnorm.h"

namespace bnorm::plan {

// A region of the matrix.
struct Block {
    std::int64_t row;
    std::int64_t rows;
    std::int64_t column;
    std::int64_t columns;
};

// The blocks in which the elements of a channel (planes) or of a set of columns are summed, in a fixed order. Their
// sums are merged in the tree of split_tree.
struct BlockGrid {
    std::int64_t rows = 0;
    std::int64_t columns = 0;
    std::int64_t rows_per_block = 1;
    std::int64_t columns_per_block = 1;
    // Columns: rows whose moments are summed in f32 before they enter the f64 sums.
    std::int64_t rows_per_run = 8;

    std::int64_t row_blocks() const;
    std::int64_t column_blocks() const;
    std::int64_t count() const { return row_blocks() * column_blocks(); }
    Block at(std::int64_t index) const;
};

// How many of `count` >= 2 neighbours go into the left branch of the merge tree: the largest power of two below count.
// Any aligned run of 2^k blocks is then a subtree, and a subtree may be computed anywhere.
std::int64_t split_tree(std::int64_t count);

enum class MatrixKind { planes, columns };

struct Geometry {
    MatrixKind kind = MatrixKind::columns;
    std::int64_t channels = 0;
    std::int64_t elements_per_channel = 0; // m = N*S
    std::int64_t rows = 0;
    std::int64_t row_length = 0; // columns of the matrix
    std::int64_t columns_per_channel = 1;
    // Columns of a channel: interleaved: c, c + channels, ...; otherwise contiguous from c * columns_per_channel.
    bool interleaved = false;
    // NHWC with few channels takes several pixels as one row; what does not fill the last row follows it.
    std::int64_t tail_columns = 0;
    std::int64_t x_stride = 0; // in elements, from row to row
    std::int64_t y_stride = 0;
    std::int64_t residual_stride = 0;
    // planes: whether the elementwise pass takes the planes of several channels as one run, and in multiples of so many
    // channels, whose outputs are whole cache lines and whose masks one run of bits.
    bool joined_planes = false;
    std::int64_t unit_channels = 1;
    // planes: whether gradient sums take the planes of several channels together, column by column.
    bool sums_together = false;
    std::int64_t mask_row_bytes = 0;
    BlockGrid grid; // planes: of each channel; columns: of all, whose columns_per_block is row_length

    std::int64_t mask_bit(std::int64_t column) const; // of a column, within its row's mask_row_bytes
    std::int64_t mask_bytes() const;
    std::int64_t elements() const { return channels * elements_per_channel; }
};

constexpr std::int64_t kLanes = 16;
// Kernels take at most so many columns at a time. Rows of just as many are read in the order of memory, and partial
// sums fill less of the cache.
constexpr std::int64_t kPanelColumns = 64;
// Planes shorter than this are summed column by column instead: most of a vector would be tail.
constexpr std::int64_t kMinPlane = 16;
// Planes shorter than this are always joined.
constexpr std::int64_t kMinLongPlane = 96;
// load_mask of the kernels reads up to three bytes past the last one it needs.
constexpr std::int64_t kMaskSpareBytes = 4;

// The problem must be valid (api/argument_checks.hpp).
Geometry make_geometry(const bnorm_problem& problem);

} // namespace bnorm::plan

#endif
