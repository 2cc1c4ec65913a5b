#include "home/tracing_program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <unistd.h>

#include <algorithm>

namespace tess::home {
namespace {

sys::Fd open_program(const char* path) {
  return sys::Fd(::open(path, O_RDONLY | O_CLOEXEC));
}

TEST(TracingProgram, OneThatIsLinkedAgainstPtraceTraces) {
  // This one is.
  (void)::ptrace(PTRACE_DETACH, ::getpid(), nullptr, nullptr);
  EXPECT_TRUE(traces_others(open_program("/proc/self/exe")));
  EXPECT_TRUE(traces_others(::getpid()));
}

TEST(TracingProgram, OthersDoNot) {
  EXPECT_FALSE(traces_others(open_program("/bin/sh")));
  EXPECT_FALSE(traces_others(open_program("/usr/bin/env")));
}

TEST(TracingProgram, WhatIsNoProgramDoesNot) {
  EXPECT_FALSE(traces_others(open_program("/etc/passwd")));
  EXPECT_FALSE(traces_others(open_program("/dev/null")));
  EXPECT_FALSE(traces_others(open_program("/no/such/file")));
}

// Its parts lie anywhere, and there are any number of them.
TEST(TracingProgram, SenselessOnesDoNot) {
  const sys::Fd whole = open_program("/proc/self/exe");
  char header[4096] = {};
  ASSERT_EQ(::pread(whole.get(), header, sizeof(header), 0), static_cast<ssize_t>(sizeof(header)));
  for (size_t at = 24; at < sizeof(header); at += 3) {
    const sys::Fd file(::memfd_create("program", MFD_CLOEXEC));
    char broken[sizeof(header)];
    std::copy(header, header + sizeof(header), broken);
    std::fill(broken + at, broken + std::min(at + 8, sizeof(header)), static_cast<char>(0xff));
    ASSERT_EQ(::write(file.get(), broken, sizeof(broken)), static_cast<ssize_t>(sizeof(broken)));
    (void)traces_others(file);
  }
}

}  // namespace
}  // namespace tess::home
