// Checks of arguments, each of which stores a message and returns a status. They run before anything is written.
#ifndef BNORM_API_ARGUMENT_CHECKS_HPP
#define BNORM_API_ARGUMENT_CHECKS_HPP

#include <array>
#include <cstddef>
#include <cstdint>

#include "bnorm/bnorm.h"

namespace bnorm::api {

bnorm_status check_problem(const bnorm_problem* problem);

bool is_epsilon(double epsilon);
// Running-statistics members, where there are running statistics.
bnorm_status check_running_update(const char* function, bnorm_running_update update, double momentum,
                                  std::int64_t batches_seen);

// a * b * c, or -1 where that exceeds int64. Factors must not be negative.
std::int64_t checked_product(std::int64_t a, std::int64_t b, std::int64_t c = 1);

// The array arguments of one call, collected to be checked together: which are missing, and which overlap.
class ArgumentList {
  public:
    explicit ArgumentList(const char* function) : function_(function) {}

    enum class Role { input, output, input_and_output };

    // `rows` rows of `row_bytes`, `stride_bytes` apart. NULL is an error if required, else the argument is absent.
    // `in_place`: an output that may be exactly an input that is in_place as well.
    void add_rows(const char* name, const void* data, Role role, bool required, std::int64_t rows,
                  std::int64_t row_bytes, std::int64_t stride_bytes, bool in_place);
    void add_array(const char* name, const void* data, Role role, bool required, std::int64_t bytes,
                   bool in_place = false);

    // A condition with its message, for what has no array: "FUNCTION: MESSAGE."
    void require(bool condition, const char* message);

    // The first objection, if there was any; else whether outputs overlap anything they must not.
    bnorm_status check() const;

  private:
    struct Argument {
        const char* name;
        std::uintptr_t begin;
        std::uintptr_t end;
        std::int64_t rows;
        std::int64_t row_bytes;
        std::int64_t stride_bytes;
        Role role;
        bool in_place;
    };
    // Of two whose extents do: they may be rows between each other's.
    static bool elements_overlap(const Argument& a, const Argument& b);
    static bool may_coincide(const Argument& output, const Argument& other);

    const char* function_;
    const char* missing_ = nullptr;
    const char* objection_ = nullptr;
    std::array<Argument, 20> arguments_; // not cleared: that took a tenth of the smallest calls
    std::size_t count_ = 0;
};

} // namespace bnorm::api

#endif
