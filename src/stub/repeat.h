// Which waits a signal handler ends for good. A wait that a move has interrupted goes on as if it
// had not been: if a handler runs meanwhile, it has to end as it would have, or the program waits
// for what has happened already.
#pragma once

#include <sys/syscall.h>

#include <cstdint>

namespace tess::stub {

// What a cancellable call of the deputy's gives when the agent has cut it short after it had begun.
inline constexpr long kCutShort = -514;

// In rcx and r11 of a thread that stands before a wait to be made again at home: a system call
// overwrites both, so nobody reads them.
inline constexpr uint64_t kRepeatMark = 0x7e55'e7a0'4e00'9ea7;
// In rcx instead, if a handler ends that wait whatever SA_RESTART says
// (ThreadContext::repeat_ends).
inline constexpr uint64_t kRepeatEndsMark = kRepeatMark ^ 1;

// Never made again after a handler, whatever SA_RESTART says (signal(7)).
inline constexpr bool handler_ends(int64_t number) {
  switch (number) {
    case __NR_pause:
    case __NR_rt_sigsuspend:
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

// What the handler of a signal that comes in the middle of a call does to it: true, it fails with
// EINTR, false, it is made again. `r10` is the call's fourth argument: a futex with a timeout is
// never made again (futex(2)).
inline constexpr bool handler_ends(int64_t number, uint64_t r10, uint64_t sa_flags) {
  constexpr uint64_t kSaRestart = 0x10000000;
  return handler_ends(number) || (sa_flags & kSaRestart) == 0 || (number == __NR_futex && r10 != 0);
}

}  // namespace tess::stub
