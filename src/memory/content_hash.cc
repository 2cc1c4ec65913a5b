#include "memory/content_hash.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string_view>
#include <vector>

namespace tess::memory {
namespace {

struct DigestFree {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new()) {
    EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr);
  }
  void update(const void* data, size_t size) { EVP_DigestUpdate(context_.get(), data, size); }
  std::string finish() {
    std::string hash(32, '\0');
    EVP_DigestFinal_ex(context_.get(), reinterpret_cast<unsigned char*>(hash.data()), nullptr);
    return hash;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, DigestFree> context_;
};

std::string cache_name(const struct stat& st, uint64_t offset, uint64_t size) {
  return fmt::format("{:x}-{}-{}.{:09}-{}.{:09}-{}-{:x}-{:x}", st.st_dev, st.st_ino,
                     st.st_mtim.tv_sec, st.st_mtim.tv_nsec, st.st_ctim.tv_sec, st.st_ctim.tv_nsec,
                     st.st_size, offset, size);
}

// Failing to remember costs time only, so nothing here reports.
void remember(const std::string& dir, const std::string& name, const std::string& hash) {
  std::error_code ignored;
  std::filesystem::create_directories(dir, ignored);
  ::chmod(dir.c_str(), 0700);
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(dir, ignored)) {
    ++count;
  }
  if (count >= ContentHasher::kCacheEntries) {
    for (const auto& entry : std::filesystem::directory_iterator(dir, ignored)) {
      std::filesystem::remove(entry.path(), ignored);
    }
  }
  const std::string final_path = dir + "/" + name;
  const std::string draft = fmt::format("{}.{}", final_path, ::getpid());
  const sys::Fd fd(::open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (fd.valid() && sys::write_all(fd, std::as_bytes(std::span(hash)))) {
    ::rename(draft.c_str(), final_path.c_str());
  } else {
    ::unlink(draft.c_str());
  }
}

std::string recall(const std::string& path) {
  const sys::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string hash(33, '\0');
  if (!fd.valid() || ::read(fd.get(), hash.data(), hash.size()) != 32) {
    return {};
  }
  hash.resize(32);
  return hash;
}

}  // namespace

std::string sha256(std::string_view bytes) {
  Sha256 digest;
  digest.update(bytes.data(), bytes.size());
  return digest.finish();
}

Result<RangeHash> ContentHasher::hash(const sys::Fd& file, uint64_t offset, uint64_t size) const {
  struct stat st {};
  if (::fstat(file.get(), &st) != 0) {
    return fail_errno("look at a mapped file");
  }
  if (!S_ISREG(st.st_mode)) {
    return fail(ErrorKind::kNotPossible, "the mapped file is no regular file");
  }
  RangeHash result;
  const uint64_t file_size = static_cast<uint64_t>(st.st_size);
  result.length = offset >= file_size ? 0 : std::min(size, file_size - offset);
  const std::string name = cache_name(st, offset, size);
  if (!cache_dir_.empty()) {
    result.hash = recall(cache_dir_ + "/" + name);
    if (!result.hash.empty()) {
      return result;
    }
  }
  Sha256 digest;
  std::vector<std::byte> buffer(std::min<uint64_t>(result.length, 1 << 20));
  for (uint64_t done = 0; done < result.length;) {
    const ssize_t n =
        ::pread(file.get(), buffer.data(), std::min<uint64_t>(buffer.size(), result.length - done),
                static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return fail_errno("read a mapped file");
    }
    if (n == 0) {
      return fail(ErrorKind::kRetry, "a mapped file became shorter while it was read");
    }
    digest.update(buffer.data(), static_cast<size_t>(n));
    done += static_cast<uint64_t>(n);
  }
  result.hash = digest.finish();
  if (!cache_dir_.empty()) {
    remember(cache_dir_, name, result.hash);
  }
  return result;
}

}  // namespace tess::memory
