// Version, ISA, threads, plan information.
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <set>
#include <sstream>
#include <string>

#include "support.hpp"

using namespace tests;

namespace {

std::string text(const char* characters) { return characters; }

// The flags of the first processor as Linux reports them: a flag is there only if CPU and kernel both support it.
std::set<std::string> processor_flags() {
    std::ifstream file("/proc/cpuinfo");
    std::string line;
    while (std::getline(file, line) && line.rfind("flags", 0) != 0) {
    }
    std::istringstream words(line);
    return {std::istream_iterator<std::string>(words), std::istream_iterator<std::string>()};
}

} // namespace

TEST_CASE("texts") {
    CHECK(text(bnorm_status_text(BNORM_OK)) == "ok");
    CHECK(text(bnorm_status_text(BNORM_INVALID_ARGUMENT)) == "invalid argument");
    CHECK(text(bnorm_status_text(BNORM_OUT_OF_MEMORY)) == "out of memory");
    CHECK(text(bnorm_status_text(BNORM_UNSUPPORTED)) == "unsupported");
    CHECK(text(bnorm_status_text(BNORM_INTERNAL_ERROR)) == "internal error");
    CHECK(text(bnorm_status_text(5)) == "unknown status");
    CHECK(text(bnorm_status_text(-1)) == "unknown status");
    const std::string version = std::to_string(BNORM_VERSION_MAJOR) + "." + std::to_string(BNORM_VERSION_MINOR) + "." +
                                std::to_string(BNORM_VERSION_PATCH);
    CHECK(text(bnorm_version()) == version);
    for (const char* part : {"xsimd", "oneTBB", "sse2", "avx2", "avx512", version.c_str()}) {
        INFO(text(bnorm_build_info()));
        CHECK(text(bnorm_build_info()).find(part) != std::string::npos);
    }
}

TEST_CASE("the ISA in use is the one that BNORM_ISA names, and can be set") {
    bnorm_isa initial = BNORM_ISA_AUTO;
    REQUIRE_OK(bnorm_get_isa(&initial));
    const char* forced = std::getenv("BNORM_ISA");
    if (forced != nullptr && *forced != '\0') {
        CHECK(text(bnorm_isa_name(initial)) == forced);
    }
    CHECK(initial != BNORM_ISA_AUTO);
    CHECK(bnorm_isa_is_available(initial) == 1);
    CHECK(bnorm_isa_is_available(BNORM_ISA_AUTO) == 1);
    CHECK(bnorm_isa_is_available(BNORM_ISA_SSE2) == 1);
    CHECK(bnorm_isa_is_available(17) == 0);
    CHECK(text(bnorm_isa_name(17)) == "unknown");
    for (bnorm_isa isa = BNORM_ISA_SSE2; isa <= BNORM_ISA_AVX512; ++isa) {
        const bool available = bnorm_isa_is_available(isa) != 0;
        CHECK(bnorm_set_isa(isa) == (available ? BNORM_OK : BNORM_UNSUPPORTED));
        bnorm_isa current = BNORM_ISA_AUTO;
        REQUIRE_OK(bnorm_get_isa(&current));
        if (available) {
            CHECK(current == isa);
            CHECK(Plan(problem_of(BNORM_MOMENTS, {BNORM_NCHW, 1, 1, 1})).info().isa == isa);
        }
    }
    CHECK(bnorm_set_isa(17) == BNORM_INVALID_ARGUMENT);
    CHECK(bnorm_get_isa(nullptr) == BNORM_INVALID_ARGUMENT);
    const Plan before(problem_of(BNORM_MOMENTS, {BNORM_NCHW, 1, 1, 1}));
    const bnorm_isa isa_before = before.info().isa;
    REQUIRE_OK(bnorm_set_isa(BNORM_ISA_SSE2));
    CHECK(before.info().isa == isa_before);
    REQUIRE_OK(bnorm_set_isa(BNORM_ISA_AUTO));
    bnorm_isa back = BNORM_ISA_AUTO;
    REQUIRE_OK(bnorm_get_isa(&back));
    CHECK(back == initial);
}

TEST_CASE("an ISA is available exactly where Linux reports its flags") {
    const std::set<std::string> flags = processor_flags();
    REQUIRE(flags.contains("sse2"));
    const auto has = [&](std::initializer_list<const char*> names) {
        return std::all_of(names.begin(), names.end(), [&](const char* name) { return flags.contains(name); });
    };
    const bool avx2 = has({"avx2", "fma", "f16c"});
    CHECK((bnorm_isa_is_available(BNORM_ISA_AVX2) != 0) == avx2);
    CHECK((bnorm_isa_is_available(BNORM_ISA_AVX512) != 0) ==
          (avx2 && has({"avx512f", "avx512bw", "avx512dq", "avx512vl"})));
}

TEST_CASE("threads by the size of the work") {
    CHECK(bnorm_thread_count() >= 1);
    tbb::task_arena(1).execute([] { CHECK(bnorm_thread_count() == 1); });
    const auto threads = [](std::int64_t spatial, int most) {
        return Plan(problem_of(BNORM_TRAINING_FORWARD, {BNORM_NCHW, 8, 64, spatial}, {}, false, most)).info().threads;
    };
    CHECK(threads(16, 2) == 1); // 32 KiB
    CHECK(threads(3136, 2) == 2);
    CHECK(threads(3136, 1) == 1);
    CHECK(threads(3136, 7) == 7);
}

TEST_CASE("plan information") {
    const Shape shape = {BNORM_NCHW, 4, 5, 60};
    CHECK(Plan(problem_of(BNORM_TRAINING_FORWARD, shape)).info().mask_bytes == 0);
    const std::size_t mask = Plan(problem_of(BNORM_TRAINING_FORWARD, shape, {BNORM_RELU, 0.0F})).info().mask_bytes;
    CHECK(mask >= 4 * 5 * 60 / 8);
    CHECK(mask == Plan(problem_of(BNORM_BACKWARD, shape, {BNORM_CLIPPED_RELU, 6.0F})).info().mask_bytes);
}
