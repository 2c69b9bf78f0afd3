// Sums over blocks, merged in the fixed tree of plan::split_tree: the same bits wherever its subtrees were computed.
#ifndef BNORM_OPS_REDUCTION_TREE_HPP
#define BNORM_OPS_REDUCTION_TREE_HPP

#include "kernels/kernel_table.hpp"
#include "ops/operation.hpp"
#include "ops/statistics.hpp"

namespace bnorm::ops {

inline Sums merge(SumKind kind, const Sums& a, const Sums& b) {
    return kind == SumKind::moments ? merge_moments(a, b) : add_sums(a, b);
}

// One channel: leaf(i) gives the sums of block i.
template <class Leaf>
Sums reduce_tree(SumKind kind, std::int64_t first, std::int64_t count, const Leaf& leaf) {
    if (count == 1) {
        return leaf(first);
    }
    const std::int64_t left = plan::split_tree(count);
    const Sums a = reduce_tree(kind, first, left, leaf);
    return merge(kind, a, reduce_tree(kind, first + left, count - left, leaf));
}

// Of some blocks of one channel's grid, from `first_block` on, whose sums are in the arrays.
inline Sums merge_blocks(SumKind kind, const plan::BlockGrid& grid, std::int64_t first_block, std::int64_t blocks,
                         const double* first, const double* second) {
    return reduce_tree(kind, 0, blocks, [&](std::int64_t index) {
        const plan::Block block = grid.at(first_block + index);
        return Sums{static_cast<double>(block.rows * block.columns), first[index], second[index]};
    });
}

// The sums of some columns, each over `count` elements.
struct ColumnSums {
    double* first;
    double* second;
};

// Of all blocks of each of some channels, those of one before the next one's.
inline void merge_channels(SumKind kind, const plan::BlockGrid& grid, std::int64_t channels, const double* first,
                           const double* second, const ColumnSums& result) {
    const std::int64_t blocks = grid.count();
    for (std::int64_t c = 0; c < channels; ++c) {
        const Sums all = merge_blocks(kind, grid, 0, blocks, first + c * blocks, second + c * blocks);
        result.first[c] = all.first;
        result.second[c] = all.second;
    }
}

// Merges b into a; both arrays reach to the next multiple of plan::kLanes.
inline void merge_columns(const kernels::KernelTable& kernels, SumKind kind, std::int64_t columns, double count_a,
                          const ColumnSums& a, double count_b, const ColumnSums& b) {
    if (kind == SumKind::moments) {
        kernels.merge_moments(columns, count_a, a.first, a.second, count_b, b.first, b.second);
        return;
    }
    for (std::int64_t c = 0; c < columns; ++c) {
        a.first[c] += b.first[c];
        a.second[c] += b.second[c];
    }
}

// The tree of many columns at once. Its blocks can be summed in either order: what is merged with what stays the same.
struct ColumnsTree {
    const kernels::KernelTable& kernels;
    SumKind kind;
    std::int64_t columns;
    std::int64_t level_columns; // from one level's array to the next
    bool from_end;              // whether the last block is summed first
};

// leaf(i, sums) stores the sums of block i and returns how many rows they cover. `levels` holds one more pair of arrays
// for each level of the tree.
template <class Leaf>
double reduce_columns_tree(const ColumnsTree& tree, std::int64_t first, std::int64_t count, const ColumnSums& result,
                           double* levels, const Leaf& leaf) {
    if (count == 1) {
        return leaf(first, result);
    }
    const std::int64_t left = plan::split_tree(count);
    const ColumnSums right = {levels, levels + tree.level_columns};
    double* deeper = levels + 2 * tree.level_columns;
    const auto sum_left = [&] { return reduce_columns_tree(tree, first, left, result, deeper, leaf); };
    const auto sum_right = [&] { return reduce_columns_tree(tree, first + left, count - left, right, deeper, leaf); };
    double rows_left = 0.0;
    double rows_right = 0.0;
    if (tree.from_end) {
        rows_right = sum_right();
        rows_left = sum_left();
    } else {
        rows_left = sum_left();
        rows_right = sum_right();
    }
    merge_columns(tree.kernels, tree.kind, tree.columns, rows_left, result, rows_right, right);
    return rows_left + rows_right;
}

} // namespace bnorm::ops

#endif
