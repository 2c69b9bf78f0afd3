#include "runtime/workspace.hpp"

#include <algorithm>
#include <new>

namespace bnorm::runtime {

WorkspacePool::~WorkspacePool() {
    while (free_ != nullptr) {
        Link* next = free_->next;
        ::operator delete (free_, std::align_val_t{kCacheLine});
        free_ = next;
    }
}

Workspace::Workspace(WorkspacePool& pool) : pool_(pool), data_(nullptr) {
    {
        const std::lock_guard lock(pool.mutex_);
        if (pool.free_ != nullptr) {
            data_ = reinterpret_cast<std::byte*>(pool.free_);
            pool.free_ = pool.free_->next;
            return;
        }
    }
    const std::size_t bytes = std::max(pool.bytes_, sizeof(WorkspacePool::Link));
    data_ = static_cast<std::byte*>(::operator new (bytes, std::align_val_t{kCacheLine}));
}

Workspace::~Workspace() {
    auto* link = new (data_) WorkspacePool::Link{nullptr};
    const std::lock_guard lock(pool_.mutex_);
    link->next = pool_.free_;
    pool_.free_ = link;
}

} // namespace bnorm::runtime
