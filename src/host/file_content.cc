#include "host/file_content.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "memory/content_hash.h"

namespace tess::host {
namespace {

Result<sys::Fd> make_memfd(const std::string& name) {
  sys::Fd fd(::memfd_create(name.c_str(), MFD_CLOEXEC));
  if (!fd.valid()) {
    return fail_errno("make memory for {}", name);
  }
  return fd;
}

// Within the kernel: a buffer of ours would cost another copy and its page faults.
Result<> copy(const sys::Fd& from, const sys::Fd& to, uint64_t to_offset, uint64_t length) {
  if (::lseek(to.get(), static_cast<off_t>(to_offset), SEEK_SET) < 0) {
    return fail_errno("write file content to memory");
  }
  off_t at = 0;
  while (static_cast<uint64_t>(at) < length) {
    const ssize_t n = ::sendfile(to.get(), from.get(), &at, length - static_cast<uint64_t>(at));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      return fail_errno("copy kept file content to memory");
    }
  }
  return {};
}

uint64_t device(const memory::Mapping& mapping) {
  return uint64_t{mapping.dev_major} << 32 | mapping.dev_minor;
}

}  // namespace

FileContent::File* FileContent::find(const memory::Mapping& mapping) {
  const auto files = files_.find({device(mapping), mapping.inode});
  if (files == files_.end()) {
    return nullptr;
  }
  const memory::ContentHasher hasher("");
  for (const auto& file : files->second) {
    const auto exact = file->ranges.find(mapping.offset);
    if (exact != file->ranges.end() && exact->second.size == mapping.size()) {
      if (exact->second.hash == mapping.content_hash) {
        return file.get();
      }
      continue;
    }
    // A part of what is there (a mapping that was split since), or several parts together.
    if (overlaps(*file, mapping)) {
      const auto known = hasher.hash(file->memfd, mapping.offset, mapping.size());
      if (known && known->hash == mapping.content_hash) {
        return file.get();
      }
    }
  }
  return nullptr;
}

bool FileContent::overlaps(const File& file, const memory::Mapping& mapping) {
  return std::any_of(file.ranges.begin(), file.ranges.end(), [&](const auto& range) {
    return range.first < mapping.offset + mapping.size() &&
           mapping.offset < range.first + range.second.size;
  });
}

Result<> FileContent::add(const memory::Mapping& mapping, const sys::Fd& from, uint64_t length) {
  auto& files = files_[{device(mapping), mapping.inode}];
  File* target = nullptr;
  for (const auto& file : files) {
    if (!overlaps(*file, mapping)) {
      target = file.get();
      break;
    }
  }
  if (target == nullptr) {
    auto file = std::make_unique<File>();
    TESS_TRY_ASSIGN(file->memfd, make_memfd(memory::body_file_name(mapping)));
    target = files.emplace_back(std::move(file)).get();
  }
  TESS_TRY(copy(from, target->memfd, mapping.offset, length));
  target->size = std::max(target->size, mapping.offset + length);
  if (::ftruncate(target->memfd.get(), static_cast<off_t>(target->size)) != 0) {
    return fail_errno("size the memory of a mapped file");
  }
  target->ranges[mapping.offset] = {length, mapping.size(), mapping.content_hash};
  return {};
}

bool FileContent::has(const memory::Mapping& mapping) {
  const std::lock_guard guard(mutex_);
  if (find(mapping) != nullptr) {
    return true;
  }
  const auto kept = store_.find(mapping.content_hash);
  struct stat st {};
  return kept && ::fstat(kept->get(), &st) == 0 &&
         static_cast<uint64_t>(st.st_size) <= mapping.size() &&
         add(mapping, *kept, static_cast<uint64_t>(st.st_size)).has_value();
}

Result<> FileContent::Draft::write(uint64_t offset, std::span<const std::byte> bytes) {
  if (::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)) !=
      static_cast<ssize_t>(bytes.size())) {
    return fail_errno("keep file content");
  }
  length_ = std::max(length_, offset + bytes.size());
  return {};
}

Result<FileContent::Draft> FileContent::begin(const memory::Mapping&) {
  Draft draft;
  TESS_TRY_ASSIGN(draft.file_, make_memfd("tess-draft"));
  return draft;
}

Result<> FileContent::finish(const memory::Mapping& mapping, Draft draft) {
  if (auto kept = store_.store(mapping.content_hash, draft.file_, 0, draft.length_); !kept) {
    return fail_with(std::move(kept.error()), "content of {}", mapping.path);
  }
  const std::lock_guard guard(mutex_);
  return add(mapping, draft.file_, draft.length_);
}

Result<sys::Fd> FileContent::open(const memory::Mapping& mapping) {
  const std::lock_guard guard(mutex_);
  const File* file = find(mapping);
  if (file == nullptr) {
    return fail(ErrorKind::kFailed, "the content of {} is not here", mapping.path);
  }
  // Read-only, so that a body cannot write into what others of its job map.
  const std::string path = fmt::format("/proc/self/fd/{}", file->memfd.get());
  sys::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    return fail_errno("open the content of {}", mapping.path);
  }
  return fd;
}

}  // namespace tess::host
