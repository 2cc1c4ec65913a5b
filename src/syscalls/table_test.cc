#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <string>

#include "syscalls/document.h"
#include "syscalls/kinds.h"
#include "syscalls/names.h"

namespace tess::syscalls {
namespace {

std::map<uint64_t, std::string> header_numbers() {
  std::map<uint64_t, std::string> numbers;
  std::ifstream file("/usr/include/x86_64-linux-gnu/asm/unistd_64.h");
  const std::regex define("#define __NR_(\\w+) (\\d+)");
  for (std::string line; std::getline(file, line);) {
    std::smatch match;
    if (std::regex_search(line, match, define)) {
      numbers[std::stoul(match[2])] = match[1];
    }
  }
  return numbers;
}

TEST(Table, agrees_with_the_kernel_header_on_every_number) {
  const auto numbers = header_numbers();
  ASSERT_GE(numbers.size(), 350U) << "no <asm/unistd_64.h>: install linux-libc-dev";
  for (const auto& [number, name] : numbers) {
    EXPECT_EQ(syscall_name(number), name) << number;
    EXPECT_NE(syscall_info(number), nullptr) << number << " " << name;
  }
}

TEST(Table, knows_the_calls_newer_than_the_header) {
  EXPECT_EQ(syscall_name(462), "mseal");
  EXPECT_EQ(syscall_name(467), "open_tree_attr");
  EXPECT_EQ(syscall_name(469), "file_setattr");
  for (uint64_t number = 424; number < kTableSize; ++number) {
    EXPECT_NE(syscall_info(number), nullptr) << number;
  }
}

TEST(Table, has_nothing_in_the_gap_and_beyond_its_end) {
  for (uint64_t number = 337; number < 424; ++number) {
    EXPECT_EQ(syscall_info(number), nullptr);
  }
  EXPECT_EQ(syscall_info(kTableSize), nullptr);
  EXPECT_EQ(syscall_info(0x40000000), nullptr);
  EXPECT_EQ(syscall_info(~uint64_t{0}), nullptr);
}

TEST(Table, entries_make_sense) {
  for (uint64_t number = 0; number < kTableSize; ++number) {
    const SyscallInfo* info = syscall_info(number);
    if (!info) {
      continue;
    }
    SCOPED_TRACE(syscall_name(number));
    EXPECT_EQ(info->number, number);
    const bool explained = info->where == Class::kRefused || info->where == Class::kHomeward;
    EXPECT_EQ(explained, info->refusal != 0);
    EXPECT_EQ(explained, !refusal_reason(number).empty());
    EXPECT_LE(info->arg_count, 6);
    if (info->where == Class::kSplit) {
      EXPECT_NE(info->special, Special::kNone);
    }
    for (uint8_t i = 0; i < 6; ++i) {
      const Arg& arg = info->args[i];
      if (i >= info->arg_count) {
        EXPECT_EQ(arg.kind, Kind::kValue);
      }
      EXPECT_EQ(arg.kind >= Kind::kFirstPointer, (info->pointer_mask >> i & 1) != 0);
      EXPECT_LT(arg.ref, info->arg_count == 0 ? 1 : info->arg_count);
      if (arg.kind == Kind::kSockaddrOut || arg.kind == Kind::kOptionOut) {
        EXPECT_EQ(info->args[arg.ref].kind, Kind::kSocklen);
      }
    }
    if (info->timeout == Timeout::kMilliseconds) {
      EXPECT_EQ(info->args[info->timeout_arg].kind, Kind::kValue);
    } else if (info->timeout != Timeout::kNone) {
      EXPECT_EQ(info->args[info->timeout_arg].size, 16U);
    }
  }
}

TEST(Table, marks_descriptors_and_timeouts) {
  EXPECT_EQ(syscall_info(0)->fd_mask, 1);       // read
  EXPECT_EQ(syscall_info(33)->fd_mask, 3);      // dup2
  EXPECT_EQ(syscall_info(9)->fd_mask, 1 << 4);  // mmap
  EXPECT_EQ(syscall_info(264)->fd_mask, 5);     // renameat
  EXPECT_EQ(syscall_info(7)->timeout, Timeout::kMilliseconds);
  EXPECT_EQ(syscall_info(7)->timeout_arg, 2);
  EXPECT_EQ(syscall_info(270)->timeout, Timeout::kTimespec);
  EXPECT_EQ(syscall_info(270)->timeout_arg, 4);
  EXPECT_EQ(syscall_info(23)->timeout, Timeout::kTimeval);
}

TEST(Document, is_up_to_date) {
  std::ifstream file(TESS_SOURCE_DIR "/docs/syscalls.md");
  std::ostringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), syscalls_document()) << "run: ninja syscalls_md";
}

}  // namespace
}  // namespace tess::syscalls
