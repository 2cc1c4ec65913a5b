// Which waits a signal handler ends for good. A wait that a move has interrupted goes on as if it
// had not been: if a handler runs meanwhile, it has to end as it would have, or the program waits
// for what has happened already.
#pragma once

#include <sys/syscall.h>

#include <cstdint>

namespace tess::stub {

// Never made again after a handler, whatever SA_RESTART says (signal(7)). A futex is, unless it has
// a timeout.
inline constexpr bool handler_ends(int64_t number) {
  switch (number) {
    case __NR_pause:
    case __NR_nanosleep:
    case __NR_clock_nanosleep:
    case __NR_select:
    case __NR_pselect6:
    case __NR_poll:
    case __NR_ppoll:
    case __NR_epoll_wait:
    case __NR_epoll_pwait:
    case __NR_epoll_pwait2:
    case __NR_semop:
    case __NR_semtimedop:
    case __NR_msgsnd:
    case __NR_msgrcv:
    case __NR_rt_sigtimedwait:
      return true;
    default:
      return false;
  }
}

}  // namespace tess::stub
