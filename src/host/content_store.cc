#include "host/content_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "memory/content_hash.h"
#include "sys/files.h"
#include "wire/agent_process.h"

namespace tess::host {
namespace {

struct Kept {
  std::string path;
  uint64_t size;
  int64_t used;  // seconds
};

std::vector<Kept> list(const std::string& dir) {
  std::vector<Kept> found;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(dir, ignored)) {
    struct stat st {};
    if (::stat(entry.path().c_str(), &st) == 0 && S_ISREG(st.st_mode)) {
      found.push_back(
          {entry.path().string(), static_cast<uint64_t>(st.st_size), st.st_mtim.tv_sec});
    }
  }
  return found;
}

}  // namespace

std::string ContentStore::path_of(const std::string& hash) const {
  return dir_ + "/" + wire::to_hex(hash);
}

std::optional<sys::Fd> ContentStore::find(const std::string& hash) const {
  sys::Fd fd(::open(path_of(hash).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) {
    return std::nullopt;
  }
  ::futimens(fd.get(), nullptr);
  return fd;
}

// Looking at all that is kept takes its time, so a look allows for more than what is wanted: as
// much as each of several agents may store beyond the limit without anybody's harm.
void ContentStore::make_room(uint64_t wanted) const {
  uint64_t allowed = allowance_->load();
  while (allowed >= wanted) {
    if (allowance_->compare_exchange_weak(allowed, allowed - wanted)) {
      return;
    }
  }
  const uint64_t slack = limit_ / 16;
  std::vector<Kept> kept = list(dir_);
  uint64_t total = wanted;
  for (const Kept& file : kept) {
    total += file.size;
  }
  if (total > limit_) {
    std::sort(kept.begin(), kept.end(),
              [](const Kept& a, const Kept& b) { return a.used < b.used; });
    for (const Kept& file : kept) {
      if (total <= limit_ - slack) {
        break;
      }
      ::unlink(file.path.c_str());
      total -= file.size;
    }
  }
  allowance_->store(std::min(slack, limit_ - std::min(total, limit_)));
}

Result<> ContentStore::store(const std::string& hash, const sys::Fd& from, uint64_t offset,
                             uint64_t length) const {
  const memory::ContentHasher hasher("");
  TESS_TRY_ASSIGN(const memory::RangeHash real, hasher.hash(from, offset, length));
  if (real.hash != hash) {
    return fail(ErrorKind::kBadInput, "file content does not have the hash it came under");
  }
  if (length > limit_) {
    return {};
  }
  TESS_TRY(sys::make_directories(dir_, 0700));
  make_room(length);
  static std::atomic<uint64_t> serial{0};  // names of drafts only
  const std::string draft = fmt::format("{}/draft-{}-{}", dir_, ::getpid(), ++serial);
  const sys::Fd to(::open(draft.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!to.valid()) {
    return fail_errno("create {}", draft);
  }
  loff_t at = static_cast<loff_t>(offset);
  uint64_t left = length;
  std::vector<std::byte> buffer(std::min<uint64_t>(left, 1 << 20));
  while (left > 0) {
    const ssize_t n =
        ::pread(from.get(), buffer.data(), std::min<uint64_t>(buffer.size(), left), at);
    if (n <= 0 || !sys::write_all(to, std::span(buffer).first(static_cast<size_t>(n)))) {
      ::unlink(draft.c_str());
      return {};  // no room for it: a cache may forget
    }
    at += n;
    left -= static_cast<uint64_t>(n);
  }
  if (::rename(draft.c_str(), path_of(hash).c_str()) != 0) {
    ::unlink(draft.c_str());
  }
  return {};
}

}  // namespace tess::host
