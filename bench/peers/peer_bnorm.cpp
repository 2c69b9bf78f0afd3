// bnorm, and what this machine's memory gives: operations read, copy and copy_nontemporal move the same elements.
#include <cstring>
#include <iostream>
#include <memory>
#include <stdexcept>

#include "../case.hpp"
#include "../memory.hpp"
#include "peer.hpp"

namespace {

using namespace bench;

class Bnorm final : public Peer {
  public:
    std::string name() const override { return "bnorm"; }
    std::string version() const override { return bnorm_build_info(); }

    Prepared prepare(const Task& task, float* x) override {
        for (const Traffic traffic : kTraffic) {
            if (task.operation == traffic_name(traffic)) {
                const auto memory = std::make_shared<Memory>(traffic, task.shape.elements(), task.threads);
                return {"", [memory] { memory->run(); }, nullptr, nullptr};
            }
        }
        bnorm_isa isa = BNORM_ISA_AUTO;
        if (bnorm_get_isa(&isa) != BNORM_OK) {
            throw std::runtime_error(bnorm_last_error());
        }
        for (const Operation& operation : kOperations) {
            if (task.operation == operation.name) {
                const bnorm_layout layout = task.layout == "nchw" ? BNORM_NCHW : BNORM_NHWC;
                const auto subject =
                    std::make_shared<Case>(Description{operation, layout, task.shape, isa, task.threads}, x);
                return {bnorm_isa_name(isa), [subject] { subject->run(); }, subject->x(), subject->y()};
            }
        }
        throw std::runtime_error("no such operation");
    }
};

// For the program that runs the comparison: the suite's operations and shapes, so that they are listed in one place
// only.
void print_suite() {
    for (const Operation& operation : kOperations) {
        std::cout << "operation " << operation.name << " " << operation.streams << "\n";
    }
    for (const Shape& shape : suite()) {
        std::cout << "shape " << shape.layer << " " << shape.batch << " " << shape.channels << " " << shape.height
                  << " " << shape.width << "\n";
    }
}

} // namespace

int main(int argc, char** argv) {
    if (argc == 2 && std::strcmp(argv[1], "--suite") == 0) {
        print_suite();
        return 0;
    }
    Bnorm peer;
    return serve(peer);
}
