#include "syscalls/document.h"

#include <fmt/format.h>

#include <cstring>
#include <iterator>

#include "syscalls/filter.h"
#include "syscalls/kinds.h"
#include "syscalls/names.h"

namespace tess::syscalls {
namespace {

constexpr std::string_view kIntroduction = R"(# System calls of a body

Made from `src/syscalls/table.def`; do not edit (`ninja syscalls_md` writes it anew).

| class | meaning |
| --- | --- |
| local | runs natively on the host, at no cost |
| cached | answered by the body's stub from state kept in step with home |
| home | carried to the deputy at home, which makes the real call |
| split | both sides do their part |
| homeward | the process returns home and makes the call there |
| refused | fails at once, as on a kernel without it |

`mmap` is local if anonymous and private, `munmap` of less than 4 GiB, `futex` unless it waits with a timeout, `clock_gettime` unless it asks for a CPU-time clock,
`getrandom` of less than a page, `madvise` but for guard pages (`MADV_GUARD_INSTALL`: EINVAL, as on kernels without them); otherwise the
stub does its part. Numbers that are in no list get ENOSYS. Homeward are also `prctl(PR_SET_SECCOMP)`, `PR_SET_SYSCALL_USER_DISPATCH`,
`clone` of a thread with a descriptor table of its own, `clone`, `unshare` and `setns` with a new
pid or time namespace, `clone3` into a cgroup, `unshare(CLONE_FILES)` of one thread among several, `timer_create` on the CPU-time
clock of another process, `fcntl(F_ADD_SEALS)` that fails with EBUSY, `mmap` and `shmat` of pages of the hugetlb pool that home has, and a new thread or
child of a process that may have no more descriptors.

## Limits

- One call carries at most 256 MiB; a longer read or write is shortened, as by a signal.
- `sendmmsg` and `recvmmsg` take at most 64 messages at a time; more are left for the caller's next call.
- `MSG_ZEROCOPY` fails with ENOBUFS, setting `SO_ZEROCOPY` with EOPNOTSUPP: callers fall back to copying.
- Socket options of xtables (pointers to tables) are homeward.
- `ioctl`: known numbers and those that encode their size are carried. Homeward are numbers that tell nothing, and drivers whose structs
  point to more or that work on mapped memory: SG_IO, TIOCLINUX, ALSA, DRM, KVM, NVMe, usbdevfs, V4L2.
- `ioctl(SIOCETHTOOL)`: the fixed-size commands; others get EOPNOTSUPP. `keyctl`: no vectors, no public-key operations (EOPNOTSUPP).
- The bytes between the entries of `getdents` are not those the buffer held before.
- `prctl(PR_SET_MM)` gets EPERM; `PR_SCHED_CORE` and `PR_SET_VMA` EINVAL.
- `semctl(GETALL)` writes back the whole buffer it may use, so another thread must not change the rest of it meanwhile.
)";

std::string_view class_name(Class where) {
  switch (where) {
    case Class::kLocal:
      return "local";
    case Class::kCached:
      return "cached";
    case Class::kHome:
      return "home";
    case Class::kSplit:
      return "split";
    case Class::kRefused:
      return "refused";
    case Class::kHomeward:
      return "homeward";
    default:
      return "unknown";
  }
}

bool on_condition(const SyscallInfo& info) {
  return info.where == Class::kLocal && info.special != Special::kNone;
}

void list_with_reasons(std::string& text, Class where, std::string_view heading) {
  const auto out = std::back_inserter(text);
  fmt::format_to(out, "\n## {}\n\n| number | call | error | reason |\n| --- | --- | --- | --- |\n",
                 heading);
  for (uint64_t number = 0; number < kTableSize; ++number) {
    const SyscallInfo* info = syscall_info(number);
    if (info && info->where == where) {
      fmt::format_to(out, "| {} | `{}` | {} | {} |\n", number, syscall_name(number),
                     ::strerrorname_np(info->refusal), refusal_reason(number));
    }
  }
}

}  // namespace

std::string syscalls_document() {
  std::string text(kIntroduction);
  const auto out = std::back_inserter(text);
  size_t counts[8] = {};
  for (uint64_t number = 0; number < kTableSize; ++number) {
    if (const SyscallInfo* info = syscall_info(number)) {
      ++counts[static_cast<size_t>(info->where)];
    }
  }
  fmt::format_to(out, "\n## Count\n\n| class | calls |\n| --- | --- |\n");
  for (const Class where : {Class::kLocal, Class::kCached, Class::kHome, Class::kSplit,
                            Class::kHomeward, Class::kRefused}) {
    fmt::format_to(out, "| {} | {} |\n", class_name(where), counts[static_cast<size_t>(where)]);
  }
  list_with_reasons(text, Class::kRefused, "Refused");
  list_with_reasons(text, Class::kHomeward,
                    "Homeward\n\nThe error is for a process that cannot go home at that moment: a "
                    "child of vfork before its exec.");
  fmt::format_to(out, "\n## All\n\n| number | call | class |\n| --- | --- | --- |\n");
  for (uint64_t number = 0; number < kTableSize; ++number) {
    if (const SyscallInfo* info = syscall_info(number)) {
      fmt::format_to(out, "| {} | `{}` | {}{} |\n", number, syscall_name(number),
                     class_name(info->where), on_condition(*info) ? ", on a condition" : "");
    }
  }
  fmt::format_to(out, "\n## What the stub itself may call\n\nFrom its own two instructions only:");
  std::string_view separator = " ";
  for (const uint16_t number : stub_calls()) {
    fmt::format_to(out, "{}`{}`", separator, syscall_name(number));
    separator = ", ";
  }
  fmt::format_to(out, ".\n");
  return text;
}

}  // namespace tess::syscalls
