// For the marshalling tests: the same steps, made directly and carried, must leave the same trace.
#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <string_view>

#include "syscalls/loopback.h"

namespace tess::syscalls {

// What a sequence of calls did: results and memory, as text.
class Trace {
 public:
  void result(std::string_view what, int64_t value) {
    text_ += fmt::format(
        "{}={}{}\n", what, value,
        value < 0 ? std::string(" ") + ::strerrorname_np(static_cast<int>(-value)) : std::string());
  }
  void memory(std::string_view what, const void* at, size_t n) {
    text_ += fmt::format("{}:", what);
    for (size_t i = 0; i < n; ++i) {
      text_ += fmt::format(" {:02x}", static_cast<const unsigned char*>(at)[i]);
    }
    text_ += '\n';
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

template <typename Steps>
void expect_same(Steps steps) {
  Trace direct;
  Trace carried;
  steps(Caller(false), direct);
  steps(Caller(true), carried);
  EXPECT_FALSE(direct.text().empty());
  EXPECT_EQ(direct.text(), carried.text());
}

// Two accessible pages before one that is not.
class GuardedPages {
 public:
  GuardedPages() {
    base_ = static_cast<char*>(
        ::mmap(nullptr, 3 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ::mprotect(base_ + 2 * kPage, kPage, PROT_NONE);
  }
  ~GuardedPages() { ::munmap(base_, 3 * kPage); }
  GuardedPages(const GuardedPages&) = delete;
  GuardedPages& operator=(const GuardedPages&) = delete;
  static constexpr size_t kPage = 4096;
  char* begin() const { return base_; }
  char* end() const { return base_ + 2 * kPage; }  // the first bad byte

 private:
  char* base_;
};

// A descriptor closed at the end of its block.
class OwnedFd {
 public:
  explicit OwnedFd(int fd) : fd_(fd) { EXPECT_GE(fd, 0); }
  ~OwnedFd() { ::close(fd_); }
  OwnedFd(const OwnedFd&) = delete;
  OwnedFd& operator=(const OwnedFd&) = delete;
  operator int() const { return fd_; }  // a test helper; tests pass it to calls only

 private:
  int fd_;
};

inline char* const kNowhere = reinterpret_cast<char*>(16);  // never mapped

inline int temporary_file() {
  return ::memfd_create("test", MFD_CLOEXEC);
}

}  // namespace tess::syscalls
