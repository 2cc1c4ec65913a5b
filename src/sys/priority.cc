#include "sys/priority.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstring>

namespace tess::sys {
namespace {

constexpr int kNice = -10;
constexpr const char* kNiceText = "-10";

}  // namespace

bool try_priority() {
  const sched_param other{};
  if (::sched_setscheduler(0, SCHED_OTHER | SCHED_RESET_ON_FORK, &other) != 0 ||
      ::setpriority(PRIO_PROCESS, 0, kNice) != 0) {
    return false;
  }
  const int group = ::open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
  if (group >= 0) {  // not every kernel has it, and it may be changed only now and then (EAGAIN)
    (void)!::write(group, kNiceText, std::strlen(kNiceText));
    ::close(group);
  }
  return true;
}

Result<> take_priority() {
  if (!try_priority()) {
    return fail_errno("take a nice value of {}", kNice);
  }
  return {};
}

}  // namespace tess::sys
