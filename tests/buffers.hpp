// Memory for tests: at protected pages, misaligned, with gaps between rows; and tensors on top of it.
#ifndef BNORM_TESTS_BUFFERS_HPP
#define BNORM_TESTS_BUFFERS_HPP

#include <emmintrin.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "bnorm/bnorm.h"

namespace tests {

enum class Placement {
    aligned,    // starts at a page
    misaligned, // starts 4 bytes after a 64-byte boundary
    ends_page,  // ends where a protected page begins: reading or writing past the end crashes
    starts_page // starts where a protected page ends: reading or writing before it crashes
};

inline constexpr Placement kPlacements[] = {Placement::aligned, Placement::misaligned, Placement::ends_page,
                                            Placement::starts_page};

inline std::size_t page_bytes() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

// Pages between two protected ones. Those of the last few buffers that are gone serve the next ones of as many bytes:
// new ones from the kernel took a third of all time.
class GuardedPages {
  public:
    static char* take(std::size_t bytes) {
        {
            const std::lock_guard lock(spare().mutex);
            auto& all = spare().pages;
            const auto found = std::find_if(all.begin(), all.end(), [&](const Pages& p) { return p.bytes == bytes; });
            if (found != all.end()) {
                char* first = found->first;
                all.erase(found);
                return first;
            }
        }
        void* base =
            mmap(nullptr, bytes + 2 * page_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (base == MAP_FAILED) {
            throw std::bad_alloc();
        }
        char* first = static_cast<char*>(base) + page_bytes();
        mprotect(base, page_bytes(), PROT_NONE);
        mprotect(first + bytes, page_bytes(), PROT_NONE);
        return first;
    }

    static void give_back(char* first, std::size_t bytes) {
        constexpr std::size_t kMost = 16; // tensors of a layer
        const std::lock_guard lock(spare().mutex);
        auto& all = spare().pages;
        all.push_back({first, bytes});
        if (all.size() > kMost) {
            munmap(all.front().first - page_bytes(), all.front().bytes + 2 * page_bytes());
            all.pop_front();
        }
    }

  private:
    struct Pages {
        char* first;
        std::size_t bytes;
    };
    struct Spare {
        std::mutex mutex;
        std::deque<Pages> pages;
    };
    // Never destroyed: static buffers give theirs back when the program ends.
    static Spare& spare() {
        static Spare& all = *new Spare;
        return all;
    }
};

// `count` values between two protected pages, all bytes set to 0xAB at first.
template <class T>
class Buffer {
  public:
    explicit Buffer(std::int64_t count, Placement placement = Placement::aligned) : count_(count) {
        usable_ = (bytes() + 64 + page_bytes() - 1) / page_bytes() * page_bytes();
        first_ = GuardedPages::take(usable_);
        std::memset(first_, 0xAB, usable_);
        std::size_t offset = 0;
        if (placement == Placement::misaligned) {
            offset = sizeof(T);
        } else if (placement == Placement::ends_page) {
            offset = usable_ - bytes();
        }
        data_ = reinterpret_cast<T*>(first_ + offset);
    }
    ~Buffer() {
        if (first_ != nullptr) {
            GuardedPages::give_back(first_, usable_);
        }
    }
    Buffer(Buffer&& other) noexcept
        : first_(std::exchange(other.first_, nullptr)), usable_(other.usable_), data_(other.data_),
          count_(other.count_) {}
    Buffer& operator=(Buffer&&) = delete;

    T* data() const { return data_; }
    std::int64_t size() const { return count_; }
    std::size_t bytes() const { return static_cast<std::size_t>(count_) * sizeof(T); }
    T& operator[](std::int64_t index) const { return data_[index]; }
    T* begin() const { return data_; }
    T* end() const { return data_ + count_; }

    std::vector<unsigned char> snapshot() const {
        const auto* first = reinterpret_cast<const unsigned char*>(data_);
        return {first, first + bytes()};
    }

  private:
    char* first_ = nullptr;
    std::size_t usable_ = 0;
    T* data_ = nullptr;
    std::int64_t count_;
};

// From all caches.
inline void evict(const float* values, std::int64_t count) {
    constexpr std::int64_t kLine = 16;
    for (std::int64_t i = 0; i < count; i += kLine) {
        _mm_clflush(values + i);
    }
    if (count > 0) {
        _mm_clflush(values + count - 1); // where values do not start at a line
    }
    _mm_mfence();
}

// Into the nearest cache that holds as much.
inline void fetch(const float* values, std::int64_t count) {
    volatile float sink = 0.0F;
    for (std::int64_t i = 0; i < count; ++i) {
        sink = values[i];
    }
    static_cast<void>(sink);
}

struct Shape {
    bnorm_layout layout;
    std::int64_t batch;
    std::int64_t channels;
    std::int64_t spatial;

    std::int64_t elements() const { return batch * channels * spatial; }
    std::int64_t per_channel() const { return batch * spatial; }
    std::int64_t rows() const { return layout == BNORM_NCHW ? batch : batch * spatial; }
    std::int64_t row_elements() const { return layout == BNORM_NCHW ? channels * spatial : channels; }
};

// An f32 tensor addressed by image, channel and position, whatever its layout and stride.
class Tensor {
  public:
    explicit Tensor(const Shape& shape, Placement placement = Placement::aligned, std::int64_t gap = 0)
        : shape_(shape), stride_(shape.row_elements() + gap),
          buffer_(shape.elements() == 0 ? 0 : (shape.rows() - 1) * stride_ + shape.row_elements(), placement) {}

    float& operator()(std::int64_t n, std::int64_t c, std::int64_t s) const { return buffer_[offset(n, c, s)]; }
    float* data() const { return buffer_.data(); }
    void evict() const { tests::evict(buffer_.data(), buffer_.size()); }
    const Shape& shape() const { return shape_; }
    std::int64_t stride() const { return stride_; }

    template <class Generator>
    void fill(Generator&& generator) {
        for (std::int64_t c = 0; c < shape_.channels; ++c) {
            for (std::int64_t n = 0; n < shape_.batch; ++n) {
                for (std::int64_t s = 0; s < shape_.spatial; ++s) {
                    (*this)(n, c, s) = generator(c);
                }
            }
        }
    }

    // Of the same shape.
    void copy_from(const Tensor& other) {
        for (std::int64_t index = 0; index < shape_.rows(); ++index) {
            std::copy_n(other.row(index), shape_.row_elements(), row(index));
        }
    }

    // The elements alone, in the order of memory: equal bytes mean equal bits.
    std::vector<float> values() const {
        std::vector<float> result(static_cast<std::size_t>(shape_.elements()));
        for (std::int64_t index = 0; index < shape_.rows(); ++index) {
            std::copy_n(row(index), shape_.row_elements(), result.data() + index * shape_.row_elements());
        }
        return result;
    }

    // Whether the bytes between rows are as the buffer was made.
    bool gaps_untouched() const {
        for (std::int64_t index = 0; index + 1 < shape_.rows(); ++index) {
            const auto* gap = reinterpret_cast<const unsigned char*>(row(index) + shape_.row_elements());
            const auto bytes = static_cast<std::size_t>(stride_ - shape_.row_elements()) * sizeof(float);
            for (std::size_t i = 0; i < bytes; ++i) {
                if (gap[i] != 0xAB) {
                    return false;
                }
            }
        }
        return true;
    }

  private:
    float* row(std::int64_t index) const { return buffer_.data() + index * stride_; }
    std::int64_t offset(std::int64_t n, std::int64_t c, std::int64_t s) const {
        return shape_.layout == BNORM_NCHW ? n * stride_ + c * shape_.spatial + s
                                           : (n * shape_.spatial + s) * stride_ + c;
    }

    Shape shape_;
    std::int64_t stride_;
    Buffer<float> buffer_;
};

// Whether two float sequences are the same bit for bit.
inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

// Numbers that are the same with every standard library: splitmix64, and Box-Muller on top.
class Random {
  public:
    explicit Random(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15U + 1) {}
    std::uint64_t bits() {
        std::uint64_t z = (state_ += 0x9E3779B97F4A7C15U);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
        return z ^ (z >> 31);
    }
    double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
    double normal();
    // Mean 0, variance 1, at most 3.5 from it: four uniform numbers of 16 bits added up (Irwin and Hall), a tenth of
    // the time.
    double nearly_normal() {
        const std::uint64_t four = bits();
        const std::uint64_t sum = (four & 0xFFFF) + (four >> 16 & 0xFFFF) + (four >> 32 & 0xFFFF) + (four >> 48);
        return (static_cast<double>(sum) * 0x1p-16 - 2.0) * 1.7320508075688772; // sqrt(3)
    }

  private:
    std::uint64_t state_;
};

} // namespace tests

#endif
