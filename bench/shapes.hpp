// The tensors that are timed, named after the networks and layers they come from.
#ifndef BNORM_BENCH_SHAPES_HPP
#define BNORM_BENCH_SHAPES_HPP

#include <cstdint>
#include <string>
#include <vector>

namespace bench {

struct Shape {
    std::string layer;
    std::int64_t batch, channels, height, width; // of 3-D networks, height is depth x height

    std::int64_t spatial() const { return height * width; }
    std::int64_t elements() const { return batch * channels * spatial(); }
    double bytes() const { return 4.0 * static_cast<double>(elements()); }
    std::string sizes() const; // 32x64x56x56
};

// A layer of ResNet-50, "conv3_out" for example, for so many images.
Shape resnet50(const std::string& layer, std::int64_t batch);

// All of them; see shapes.cpp.
std::vector<Shape> suite();

} // namespace bench

#endif
