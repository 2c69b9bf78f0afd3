#include "shapes.hpp"

#include <algorithm>
#include <initializer_list>
#include <stdexcept>

namespace bench {

namespace {

struct Layer {
    const char* name;
    std::int64_t channels, side;
};

// Every distinct batch norm of ResNet-50 v1.5 (He et al. 2015; the stride in the 3x3 convolution).
constexpr Layer kResNet50[] = {{"stem", 64, 112},        {"conv2", 64, 56},  {"conv2_out", 256, 56},
                               {"conv3_first", 128, 56}, {"conv3", 128, 28}, {"conv3_out", 512, 28},
                               {"conv4_first", 256, 28}, {"conv4", 256, 14}, {"conv4_out", 1024, 14},
                               {"conv5_first", 512, 14}, {"conv5", 512, 7},  {"conv5_out", 2048, 7}};

// Of the following networks, pairs of channels and side, for images of 224x224.
struct Plane {
    std::int64_t channels, side;
};

// Sandler et al. 2018.
constexpr Plane kMobileNetV2[] = {{32, 112}, {16, 112}, {96, 112}, {96, 56}, {24, 56},  {144, 56}, {144, 28},
                                  {32, 28},  {192, 28}, {192, 14}, {64, 14}, {384, 14}, {96, 14},  {576, 14},
                                  {576, 7},  {160, 7},  {960, 7},  {320, 7}, {1280, 7}};

// Tan and Le 2019.
constexpr Plane kEfficientNetB0[] = {{32, 112}, {16, 112}, {96, 112}, {96, 56}, {24, 56},  {144, 56}, {144, 28},
                                     {40, 28},  {240, 28}, {240, 14}, {80, 14}, {480, 14}, {112, 14}, {672, 14},
                                     {672, 7},  {192, 7},  {1152, 7}, {320, 7}, {1280, 7}};

// Huang et al. 2016: each block normalizes what has piled up, 32 channels more at each layer, and the bottleneck's 128.
constexpr Layer kDenseNet121Blocks[] = {
    {"block1", 64, 56}, {"block2", 128, 28}, {"block3", 256, 14}, {"block4", 512, 7}};
constexpr std::int64_t kDenseNet121Layers[] = {6, 12, 24, 16};

// Cicek et al. 2016, with padded convolutions and volumes of 96x96x96: channels and side of each resolution.
constexpr Plane kUNet3d[] = {{32, 96}, {64, 96}, {64, 48}, {128, 48}, {128, 24}, {256, 24}, {256, 12}, {512, 12}};

void add(std::vector<Shape>& shapes, const std::string& network, std::int64_t batch, const Plane& plane) {
    shapes.push_back({network + "_c" + std::to_string(plane.channels), batch, plane.channels, plane.side, plane.side});
}

void add_dense_net(std::vector<Shape>& shapes, std::int64_t batch) {
    add(shapes, "densenet121_stem", batch, {64, 112});
    for (std::size_t block = 0; block < std::size(kDenseNet121Blocks); ++block) {
        const auto& [name, first, side] = kDenseNet121Blocks[block];
        const std::string layer = std::string("densenet121_") + name;
        for (std::int64_t i = 0; i <= kDenseNet121Layers[block]; ++i) { // the last is the transition's
            add(shapes, layer, batch, {first + 32 * i, side});
        }
        if (first > 128) {
            add(shapes, layer, batch, {128, side});
        }
    }
}

// What kernels for multiples of 16 find awkward, what is very small, and what is very large.
void add_awkward(std::vector<Shape>& shapes) {
    for (const std::int64_t channels : {1, 3, 17, 65, 100}) {
        shapes.push_back({"channels_" + std::to_string(channels), 8, channels, 56, 56});
    }
    for (const std::int64_t batch : {64, 1024, 8192, 65536}) {
        shapes.push_back({"dense", batch, 256, 1, 1});
    }
    for (const std::int64_t side : {8, 16, 32}) { // 4, 16 and 64 KiB
        shapes.push_back({"tiny", 1, 16, side, side});
    }
    shapes.push_back({"huge_plane", 1, 3, 2160, 3840});
    shapes.push_back({"gibibyte", 33, 128, 256, 256});
}

} // namespace

std::string Shape::sizes() const {
    return std::to_string(batch) + "x" + std::to_string(channels) + "x" + std::to_string(height) + "x" +
           std::to_string(width);
}

Shape resnet50(const std::string& layer, std::int64_t batch) {
    const auto* found = std::find_if(std::begin(kResNet50), std::end(kResNet50),
                                     [&](const Layer& candidate) { return layer == candidate.name; });
    if (found == std::end(kResNet50)) {
        throw std::invalid_argument("ResNet-50 has no layer " + layer);
    }
    return {"resnet50_" + layer, batch, found->channels, found->side, found->side};
}

std::vector<Shape> suite() {
    std::vector<Shape> shapes;
    for (const std::int64_t batch : {32, 8, 1}) {
        for (const Layer& layer : kResNet50) {
            shapes.push_back(resnet50(layer.name, batch));
        }
    }
    for (const Plane& plane : kMobileNetV2) {
        add(shapes, "mobilenetv2", 8, plane);
    }
    for (const Plane& plane : kEfficientNetB0) {
        add(shapes, "efficientnetb0", 8, plane);
    }
    add_dense_net(shapes, 8);
    for (const Plane& plane : kUNet3d) {
        shapes.push_back(
            {"unet3d_c" + std::to_string(plane.channels), 1, plane.channels, plane.side * plane.side, plane.side});
    }
    add_awkward(shapes);
    return shapes;
}

} // namespace bench
