#include "syscalls/names.h"

namespace tess::syscalls {
namespace {

struct Named {
  uint64_t number;
  std::string_view name;
  std::string_view reason;
};

constexpr Named kNames[] = {
#define SYSCALL(number, name, ...) {number, #name, {}},
#define REFUSED(number, name, error, reason) {number, #name, reason},
#define HOMEWARD(number, name, error, reason) {number, #name, reason},
#include "syscalls/table.def"
#undef SYSCALL
#undef REFUSED
#undef HOMEWARD
};

const Named* find(uint64_t number) {
  for (const Named& named : kNames) {
    if (named.number == number) {
      return &named;
    }
  }
  return nullptr;
}

}  // namespace

std::string_view syscall_name(uint64_t number) {
  const Named* named = find(number);
  return named ? named->name : std::string_view{};
}

std::string_view refusal_reason(uint64_t number) {
  const Named* named = find(number);
  return named ? named->reason : std::string_view{};
}

}  // namespace tess::syscalls
