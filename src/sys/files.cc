#include "sys/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>

namespace tess::sys {
namespace {

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

Result<> write_to(const std::string& path, int flags, std::string_view content, mode_t mode) {
  const Fd fd(::open(path.c_str(), flags | O_WRONLY | O_CLOEXEC, mode));
  if (!fd.valid()) {
    return fail_errno("open {} for writing", path);
  }
  if (auto written = write_all(fd, std::as_bytes(std::span(content))); !written) {
    return fail_with(std::move(written.error()), "write {}", path);
  }
  return {};
}

// `parent` is an open directory; `name` in it is removed, if it is on `device`.
Result<> remove_at(int parent, const char* name, dev_t device) {
  struct stat status {};
  if (::fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
    return errno == ENOENT ? Result<>() : fail_errno("look at {}", name);
  }
  if (status.st_dev != device) {
    return fail(ErrorKind::kNotPossible, "{} is a mount point", name);
  }
  if (!S_ISDIR(status.st_mode)) {
    return ::unlinkat(parent, name, 0) == 0 ? Result<>() : fail_errno("remove {}", name);
  }
  Fd fd(::openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) {
    return fail_errno("open directory {}", name);
  }
  const std::unique_ptr<DIR, CloseDirectory> directory(::fdopendir(fd.get()));
  if (directory == nullptr) {
    return fail_errno("read directory {}", name);
  }
  const int directory_fd = fd.release();  // now the DIR's
  while (const dirent* entry = ::readdir(directory.get())) {
    const std::string_view child = entry->d_name;
    if (child != "." && child != "..") {
      TESS_TRY(remove_at(directory_fd, entry->d_name, device));
    }
  }
  return ::unlinkat(parent, name, AT_REMOVEDIR) == 0 ? Result<>() : fail_errno("remove {}", name);
}

}  // namespace

Result<std::string> read_to_end(const Fd& fd, size_t limit) {
  std::string content;
  char buffer[16 << 10];
  while (true) {
    const ssize_t n = ::read(fd.get(), buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return fail_errno("read");
    }
    if (n == 0) {
      return content;
    }
    if (content.size() + static_cast<size_t>(n) > limit) {
      return fail(ErrorKind::kBadInput, "more than {} bytes", limit);
    }
    content.append(buffer, static_cast<size_t>(n));
  }
}

Result<std::string> read_file(const std::string& path, size_t limit) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    return fail_errno("open {}", path);
  }
  auto content = read_to_end(fd, limit);
  if (!content) {
    return fail_with(std::move(content.error()), "read {}", path);
  }
  return content;
}

Result<> rewind_file(const Fd& fd) {
  if (::lseek(fd.get(), 0, SEEK_SET) < 0) {
    return fail_errno("seek to the start");
  }
  return {};
}

Result<> write_file(const std::string& path, std::string_view content, mode_t mode) {
  return write_to(path, O_CREAT | O_TRUNC, content, mode);
}

Result<> replace_file(const std::string& path, std::string_view content, mode_t mode) {
  const std::string temporary = fmt::format("{}.{}.new", path, ::getpid());
  TESS_TRY(write_to(temporary, O_CREAT | O_TRUNC, content, mode));
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    const int saved = errno;
    ::unlink(temporary.c_str());
    errno = saved;
    return fail_errno("rename {} to {}", temporary, path);
  }
  return {};
}

Result<> write_control(const std::string& path, std::string_view content) {
  return write_to(path, 0, content, 0);
}

Result<> make_directories(const std::string& path, mode_t mode) {
  for (size_t end = 0; end != std::string::npos;) {
    end = path.find('/', end + 1);
    const std::string part = path.substr(0, end);
    if (::mkdir(part.c_str(), mode) != 0 && errno != EEXIST) {
      return fail_errno("make directory {}", part);
    }
  }
  return {};
}

Result<> copy_file(const std::string& from, const std::string& to) {
  const Fd in(::open(from.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (!in.valid() || ::fstat(in.get(), &status) != 0) {
    return fail_errno("open {}", from);
  }
  const Fd out(::open(to.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, status.st_mode & 0777));
  if (!out.valid()) {
    return fail_errno("create {}", to);
  }
  while (true) {
    const ssize_t n = ::sendfile(out.get(), in.get(), nullptr, 1 << 20);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return fail_errno("copy {} to {}", from, to);
    }
    if (n == 0) {
      return {};
    }
  }
}

Result<> remove_tree(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    return errno == ENOENT ? Result<>() : fail_errno("look at {}", path);
  }
  if (auto removed = remove_at(AT_FDCWD, path.c_str(), status.st_dev); !removed) {
    return fail_with(std::move(removed.error()), "remove {}", path);
  }
  return {};
}

}  // namespace tess::sys
