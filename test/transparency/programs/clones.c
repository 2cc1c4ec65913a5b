// Children by clone and clone3, what they are refused, and what a program keeps that executes
// another.
#define _GNU_SOURCE
#include "check.h"

struct wish {
  uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
      set_tid_size, cgroup;
};

// A child that ends at once; its status, or -1.
static int end_of(long child) {
  int status = -1;
  if (child == 0)
    _exit(5);
  if (child > 0)
    EQ(waitpid(child, &status, __WALL), child);
  return status;
}
static int cloned(uint64_t flags, const void* parent_tid, const void* child_tid, uint64_t tls) {
  return end_of(syscall(SYS_clone, flags, 0, parent_tid, child_tid, tls));
}
static int wished(struct wish wish) {
  return end_of(syscall(SYS_clone3, &wish, sizeof wish));
}

T(pidfd_wanted) {
  const void* nowhere = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int pidfd = -1, tid = -1;
  ERR(cloned(CLONE_PIDFD | SIGCHLD, nowhere, 0, 0), EFAULT);
  ERR(cloned(CLONE_PIDFD | CLONE_DETACHED | SIGCHLD, &pidfd, 0, 0), EINVAL);
  ERR(cloned(CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD, &pidfd, 0, 0), EINVAL);
  struct wish wish = {.flags = CLONE_PIDFD, .pidfd = (uintptr_t)nowhere, .exit_signal = SIGCHLD};
  ERR(wished(wish), EFAULT);
  ERR(waitpid(-1, 0, __WALL), ECHILD);
  wish.flags |= CLONE_PARENT_SETTID;
  wish.pidfd = wish.parent_tid = (uintptr_t)&pidfd;
  ERR(wished(wish), EINVAL);
  wish.parent_tid = (uintptr_t)&tid;
  EQ(wished(wish), 5 << 8);
  CHECK(pidfd >= 0 && tid > 0);
}
T(exit_signals) {
  ERR(wished((struct wish){.flags = CLONE_PARENT, .exit_signal = SIGCHLD}), EINVAL);
  ERR(wished(
          (struct wish){.flags = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD, .exit_signal = SIGCHLD}),
      EINVAL);
  ERR(wished((struct wish){.exit_signal = 65}), EINVAL);
  EQ(cloned(100, 0, 0, 0), 5 << 8);  // clone takes what is no signal, and sends none
}
T(told_nowhere) {
  EQ(cloned(CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, (void*)-1, (void*)-1, 0), 5 << 8);
  ERR(cloned(CLONE_SETTLS | SIGCHLD, 0, 0, 1ul << 62), EPERM);
}
// By the parent, whose memory the child no longer shares.
T(parent_told_only) {
  int tid = 0, pidfd = 0;
  pid_t child = syscall(SYS_clone, CLONE_PARENT_SETTID | SIGCHLD, 0, &tid, 0, 0);
  if (!child)
    _exit(tid != 0);
  child_ok(child);
  EQ(tid, child);
  child = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, &pidfd, 0, 0);
  if (!child)
    _exit(pidfd != 0);
  child_ok(child);
  CHECK(pidfd > 0);
}
T(child_told) {
  int tid = 0;
  const pid_t child = syscall(SYS_clone, CLONE_CHILD_SETTID | SIGCHLD, 0, 0, &tid, 0);
  if (!child)
    _exit(tid != getpid());
  child_ok(child);
  EQ(tid, 0);
}

static void set_interval(int which, long value_s, long value_us) {
  const struct itimerval timer = {{100, 0}, {value_s, value_us}};
  EQ(setitimer(which, &timer, 0), 0);
}
T(exec_keeps_interval_timers) {
  const int of_cpu[] = {ITIMER_VIRTUAL, ITIMER_PROF};
  const int signals[] = {SIGVTALRM, SIGPROF};
  for (int i = 0; i < 2; i++) {
    const pid_t child = fork();
    if (!child) {
      set_interval(of_cpu[i], 0, 300000);
      execlp("sh", "sh", "-c", "while :; do :; done", NULL);
    }
    const int status = reap(child);
    CHECK(WIFSIGNALED(status));
    EQ(WTERMSIG(status), signals[i]);
  }
}
T(failed_exec_keeps_interval_timers) {
  set_interval(ITIMER_VIRTUAL, 50, 0);
  ERR(execl("/nowhere", "nowhere", NULL), ENOENT);
  struct itimerval left;
  EQ(getitimer(ITIMER_VIRTUAL, &left), 0);
  CHECK(left.it_value.tv_sec >= 49);
  EQ(left.it_interval.tv_sec, 100);
  EQ(getitimer(ITIMER_PROF, &left), 0);
  EQ(left.it_value.tv_sec + left.it_value.tv_usec, 0);
}
