#include <asm-generic/errno.h>

#include "syscalls/args.h"
#include "syscalls/kinds.h"

namespace tess::syscalls {
namespace {

using namespace words;

struct Table {
  SyscallInfo calls[kTableSize] = {};
};

template <typename... Words>
constexpr SyscallInfo describe(uint16_t number, Class where, Special special, Words... words) {
  static_assert(sizeof...(words) <= 6);
  SyscallInfo info;
  info.number = number;
  info.where = where;
  info.special = special;
  info.arg_count = sizeof...(words);
  const Word list[] = {words..., Word{}};
  for (uint8_t i = 0; i < info.arg_count; ++i) {
    info.args[i] = list[i].arg;
    if (list[i].arg.kind == Kind::kFd || list[i].arg.kind == Kind::kDirfd) {
      info.fd_mask = static_cast<uint8_t>(info.fd_mask | 1 << i);
    } else if (list[i].arg.kind >= Kind::kFirstPointer) {
      info.pointer_mask = static_cast<uint8_t>(info.pointer_mask | 1 << i);
    }
    if (list[i].timeout != Timeout::kNone) {
      info.timeout = list[i].timeout;
      info.timeout_arg = i;
    }
  }
  return info;
}

constexpr Table make_table() {
  Table table;
#define SYSCALL(number, name, where, special, ...) \
  table.calls[number] =                            \
      describe(number, Class::k##where, Special::k##special __VA_OPT__(, ) __VA_ARGS__);
#define REFUSED(number, name, error, reason)                               \
  table.calls[number] = describe(number, Class::kRefused, Special::kNone); \
  table.calls[number].refusal = error;
#define HOMEWARD(number, name, error, reason)                               \
  table.calls[number] = describe(number, Class::kHomeward, Special::kNone); \
  table.calls[number].refusal = error;
#include "syscalls/table.def"
#undef SYSCALL
#undef REFUSED
#undef HOMEWARD
  return table;
}

constexpr Table kTable = make_table();

}  // namespace

const SyscallInfo* syscall_info(uint64_t number) {
  if (number >= kTableSize || kTable.calls[number].where == Class::kUnknown) {
    return nullptr;
  }
  return &kTable.calls[number];
}

}  // namespace tess::syscalls
