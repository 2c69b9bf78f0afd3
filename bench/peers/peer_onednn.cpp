// oneDNN through its C++ API, 2.x and 3.x. Where it has no fused operation, its separate ones run one after the other.
#include <dnnl.hpp>

#include <memory>
#include <stdexcept>
#include <unordered_map>
#include <vector>

#include <omp.h>

#include "../case.hpp"
#include "peer.hpp"

namespace {

using namespace bench;
using dnnl::algorithm;
using dnnl::batch_normalization_backward;
using dnnl::batch_normalization_forward;
using dnnl::memory;
using dnnl::normalization_flags;
using dnnl::prop_kind;
using Arguments = std::unordered_map<int, memory>;

constexpr float kEpsilon = 1e-5F;

#if DNNL_VERSION_MAJOR >= 3
batch_normalization_forward::primitive_desc forward_of(const dnnl::engine& engine, prop_kind kind,
                                                       const memory::desc& data, normalization_flags flags) {
    return {engine, kind, data, data, kEpsilon, flags};
}
batch_normalization_backward::primitive_desc backward_of(const dnnl::engine& engine, const memory::desc& data,
                                                         normalization_flags flags,
                                                         const batch_normalization_forward::primitive_desc& forward) {
    return {engine, prop_kind::backward, data, data, data, kEpsilon, flags, forward};
}
dnnl::binary::primitive_desc add_of(const dnnl::engine& engine, const memory::desc& data,
                                    const dnnl::primitive_attr& attributes) {
    return {engine, algorithm::binary_add, data, data, data, attributes};
}
dnnl::eltwise_backward::primitive_desc relu_backward_of(const dnnl::engine& engine, const memory::desc& data) {
    const dnnl::eltwise_forward::primitive_desc forward(engine, prop_kind::forward_training,
                                                        algorithm::eltwise_relu_use_dst_for_bwd, data, data, 0.0F);
    return {engine, algorithm::eltwise_relu_use_dst_for_bwd, data, data, data, 0.0F, 0.0F, forward};
}
void append_relu(dnnl::post_ops& operations) { operations.append_eltwise(algorithm::eltwise_relu, 0.0F, 0.0F); }
#else
batch_normalization_forward::primitive_desc forward_of(const dnnl::engine& engine, prop_kind kind,
                                                       const memory::desc& data, normalization_flags flags) {
    return {{kind, data, kEpsilon, flags}, engine};
}
batch_normalization_backward::primitive_desc backward_of(const dnnl::engine& engine, const memory::desc& data,
                                                         normalization_flags flags,
                                                         const batch_normalization_forward::primitive_desc& forward) {
    return {{prop_kind::backward, data, data, kEpsilon, flags}, engine, forward};
}
dnnl::binary::primitive_desc add_of(const dnnl::engine& engine, const memory::desc& data,
                                    const dnnl::primitive_attr& attributes) {
    return {{algorithm::binary_add, data, data, data}, attributes, engine};
}
dnnl::eltwise_backward::primitive_desc relu_backward_of(const dnnl::engine& engine, const memory::desc& data) {
    const dnnl::eltwise_forward::primitive_desc forward(
        {prop_kind::forward_training, algorithm::eltwise_relu_use_dst_for_bwd, data, 0.0F}, engine);
    return {{algorithm::eltwise_relu_use_dst_for_bwd, data, data, 0.0F}, engine, forward};
}
void append_relu(dnnl::post_ops& operations) { operations.append_eltwise(1.0F, algorithm::eltwise_relu, 0.0F, 0.0F); }
#endif

// The tensors and primitives of one task.
class Layer {
  public:
    Layer(const Task& task, float* x) : task_(task), data_(data_desc()), x_(x) {
        const std::string& operation = task.operation;
        relu_ = operation.find("_relu") != std::string::npos;
        residual_ = operation.find("_residual") != std::string::npos;
        if (operation.rfind("training_forward", 0) == 0 || operation.rfind("inference", 0) == 0) {
            prepare_forward(operation[0] == 'i');
        } else if (operation.rfind("backward", 0) == 0) {
            prepare_backward(operation == "backward_fixed");
        } else {
            throw std::runtime_error("oneDNN has no such operation");
        }
    }

    const std::string& implementation() const { return implementation_; }
    float* x() const { return x_; } // of forward
    float* y() const { return y_; }

    void run() {
        for (auto& [primitive, arguments] : steps_) {
            primitive.execute(stream_, arguments);
        }
        stream_.wait();
    }

  private:
    memory::desc data_desc() const {
        const Shape& s = task_.shape;
        return {{s.batch, s.channels, s.height, s.width},
                memory::data_type::f32,
                task_.layout == "nchw" ? memory::format_tag::nchw : memory::format_tag::nhwc};
    }

    memory tensor(const memory::desc& description, bool random = true) {
        storage_.push_back(make_floats(static_cast<std::int64_t>(description.get_size() / sizeof(float)) + 1, random));
        return {description, engine_, storage_.back().get()};
    }
    memory channels(float value) {
        memory result = tensor({{task_.shape.channels}, memory::data_type::f32, memory::format_tag::x}, false);
        float* values = static_cast<float*>(result.get_data_handle());
        for (std::int64_t i = 0; i < task_.shape.channels; ++i) {
            values[i] = value;
        }
        return result;
    }

    void prepare_forward(bool inference) {
        const bool fused_relu = relu_ && !residual_;
        auto flags = normalization_flags::use_scale | normalization_flags::use_shift;
        if (inference) {
            flags |= normalization_flags::use_global_stats;
        }
        if (fused_relu) {
            flags |= normalization_flags::fuse_norm_relu;
        }
        const auto kind = inference ? prop_kind::forward_inference : prop_kind::forward_training;
        const auto description = forward_of(engine_, kind, data_, flags);
        implementation_ = description.impl_info_str();
        const memory y = tensor(data_, false);
        const memory x = x_ == nullptr ? tensor(data_) : memory(data_, engine_, x_);
        x_ = static_cast<float*>(x.get_data_handle());
        y_ = static_cast<float*>(y.get_data_handle());
        Arguments arguments = {{DNNL_ARG_SRC, x},
                               {DNNL_ARG_DST, y},
                               {DNNL_ARG_SCALE, channels(kGamma)},
                               {DNNL_ARG_SHIFT, channels(kBeta)},
                               {DNNL_ARG_MEAN, channels(0.0F)},
                               {DNNL_ARG_VARIANCE, channels(1.0F)}};
        if (fused_relu && !inference) {
            arguments.insert({DNNL_ARG_WORKSPACE, tensor(description.workspace_desc(), false)});
        }
        steps_.emplace_back(batch_normalization_forward(description), arguments);
        if (residual_) {
            dnnl::primitive_attr attributes;
            dnnl::post_ops operations;
            append_relu(operations);
            attributes.set_post_ops(operations);
            steps_.emplace_back(dnnl::binary(add_of(engine_, data_, attributes)),
                                Arguments{{DNNL_ARG_SRC_0, y}, {DNNL_ARG_SRC_1, tensor(data_)}, {DNNL_ARG_DST, y}});
            implementation_ += ", then binary add with ReLU";
        }
    }

    void prepare_backward(bool fixed) {
        const bool fused_relu = relu_ && !residual_;
        auto flags = normalization_flags::use_scale | normalization_flags::use_shift;
        if (fixed) {
            flags |= normalization_flags::use_global_stats;
        }
        if (fused_relu) {
            flags |= normalization_flags::fuse_norm_relu;
        }
        const auto forward = forward_of(engine_, prop_kind::forward_training, data_, flags);
        const auto description = backward_of(engine_, data_, flags, forward);
        implementation_ = description.impl_info_str();
        memory dy = tensor(data_);
        if (residual_) {
            const memory dresidual = tensor(data_, false);
            steps_.emplace_back(
                dnnl::eltwise_backward(relu_backward_of(engine_, data_)),
                Arguments{{DNNL_ARG_DIFF_DST, dy}, {DNNL_ARG_DST, tensor(data_)}, {DNNL_ARG_DIFF_SRC, dresidual}});
            dy = dresidual;
            implementation_ += " after ReLU's own backward";
        }
        Arguments arguments = {{DNNL_ARG_SRC, tensor(data_)},
                               {DNNL_ARG_DIFF_DST, dy},
                               {DNNL_ARG_DIFF_SRC, tensor(data_, false)},
                               {DNNL_ARG_SCALE, channels(kGamma)},
                               {DNNL_ARG_DIFF_SCALE, channels(0.0F)},
                               {DNNL_ARG_DIFF_SHIFT, channels(0.0F)},
                               {DNNL_ARG_MEAN, channels(0.0F)},
                               {DNNL_ARG_VARIANCE, channels(0.33F)}};
        if (DNNL_VERSION_MAJOR < 3) { // 3.x refuses what it does not read
            arguments.insert({DNNL_ARG_SHIFT, channels(kBeta)});
        }
        if (fused_relu) {
            arguments.insert({DNNL_ARG_WORKSPACE, tensor(description.workspace_desc(), true)});
        }
        steps_.emplace_back(batch_normalization_backward(description), arguments);
    }

    Task task_;
    dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
    dnnl::stream stream_{engine_};
    memory::desc data_;
    bool relu_ = false;
    bool residual_ = false;
    std::string implementation_;
    float* x_;
    float* y_ = nullptr;
    std::vector<Floats> storage_;
    std::vector<std::pair<dnnl::primitive, Arguments>> steps_;
};

class OneDnn final : public Peer {
  public:
    std::string name() const override { return "oneDNN"; }
    std::string version() const override {
        const dnnl::version_t* version = dnnl::version();
        return std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
               std::to_string(version->patch);
    }
    Prepared prepare(const Task& task, float* x) override {
        omp_set_num_threads(task.threads);
        const auto layer = std::make_shared<Layer>(task, x);
        return {layer->implementation(), [layer] { layer->run(); }, layer->x(), layer->y()};
    }
};

} // namespace

int main() {
    OneDnn peer;
    return serve(peer);
}
