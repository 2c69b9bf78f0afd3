// The tensors that are timed, named after the layers they come from. Add a row and every benchmark has it.
#ifndef BNORM_BENCH_SHAPES_HPP
#define BNORM_BENCH_SHAPES_HPP

#include <array>
#include <cstdint>
#include <string>

namespace bench {

struct Shape {
    const char* layer;
    std::int64_t batch, channels, height, width;

    std::int64_t spatial() const { return height * width; }
    std::int64_t elements() const { return batch * channels * spatial(); }
    double bytes() const { return 4.0 * static_cast<double>(elements()); }
    std::string sizes() const {
        return std::to_string(batch) + "x" + std::to_string(channels) + "x" + std::to_string(height) + "x" +
               std::to_string(width);
    }
    Shape with_batch(std::int64_t images) const { return {layer, images, channels, height, width}; }
};

// Every distinct batch norm of ResNet-50 v1.5 (He et al. 2015; the stride in the 3x3 convolution), for one image.
inline constexpr std::array kResNet50 = {
    Shape{"resnet50_stem", 1, 64, 112, 112},       Shape{"resnet50_conv2", 1, 64, 56, 56},
    Shape{"resnet50_conv2_out", 1, 256, 56, 56},   Shape{"resnet50_conv3_first", 1, 128, 56, 56},
    Shape{"resnet50_conv3", 1, 128, 28, 28},       Shape{"resnet50_conv3_out", 1, 512, 28, 28},
    Shape{"resnet50_conv4_first", 1, 256, 28, 28}, Shape{"resnet50_conv4", 1, 256, 14, 14},
    Shape{"resnet50_conv4_out", 1, 1024, 14, 14},  Shape{"resnet50_conv5_first", 1, 512, 14, 14},
    Shape{"resnet50_conv5", 1, 512, 7, 7},         Shape{"resnet50_conv5_out", 1, 2048, 7, 7},
};
inline constexpr std::array<std::int64_t, 3> kResNet50Batches = {1, 8, 32};

// What does not fit kernels made for multiples of 16.
inline constexpr std::array kAwkward = {
    Shape{"one_channel", 8, 1, 128, 128},  Shape{"rgb", 8, 3, 224, 224},
    Shape{"channels_17", 8, 17, 56, 56},   Shape{"channels_65", 8, 65, 28, 28},
    Shape{"channels_100", 8, 100, 28, 28}, Shape{"dense", 4096, 1024, 1, 1},
    Shape{"huge_plane", 1, 3, 2160, 3840}, Shape{"tiny", 1, 16, 8, 8},
};

} // namespace bench

#endif
