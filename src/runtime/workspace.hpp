// Scratch memory of a plan: one block an execution, kept for the next.
#ifndef BNORM_RUNTIME_WORKSPACE_HPP
#define BNORM_RUNTIME_WORKSPACE_HPP

#include <cstddef>
#include <mutex>

namespace bnorm::runtime {

constexpr std::size_t kCacheLine = 64;

class WorkspacePool {
  public:
    explicit WorkspacePool(std::size_t bytes) : bytes_(bytes) {}
    ~WorkspacePool();
    WorkspacePool(const WorkspacePool&) = delete;
    WorkspacePool& operator=(const WorkspacePool&) = delete;

    std::size_t bytes() const { return bytes_; }

  private:
    friend class Workspace;
    struct Link {
        Link* next;
    };
    std::size_t bytes_;
    std::mutex mutex_;
    Link* free_ = nullptr;
};

// A block of the pool for the life of this object, aligned to a cache line. Throws std::bad_alloc.
class Workspace {
  public:
    explicit Workspace(WorkspacePool& pool);
    ~Workspace();
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;

    std::byte* data() const { return data_; }

  private:
    WorkspacePool& pool_;
    std::byte* data_;
};

} // namespace bnorm::runtime

#endif
