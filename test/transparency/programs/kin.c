// What processes do with each other's memory and as each other's tracers, wherever they are.
#include <linux/kcmp.h>
#include <stddef.h>
#include <sys/user.h>

#include "check.h"

static char text[32] = "as it was";
static int ready[2], go_on[2];

// A child that has changed `text` and waits; -1 is never returned.
static pid_t changed_child(void) {
  char c;
  EQ(pipe(ready), 0);
  EQ(pipe(go_on), 0);
  pid_t p = fork();
  if (!p) {
    strcpy(text, "CHANGED");
    EQ(write(ready[1], "x", 1), 1);
    EQ(read(go_on[0], &c, 1), 1);
    _exit(!strcmp(text, "CHANGED") ? 0 : !strcmp(text, "rewritten") ? 7 : 1);
  }
  EQ(read(ready[0], &c, 1), 1);
  return p;
}
static int ended(pid_t p) {
  EQ(write(go_on[1], "x", 1), 1);
  int status = reap(p);
  CHECK(WIFEXITED(status));
  return WEXITSTATUS(status);
}

// Opened before the child changed it, read afterwards, written at last.
T(mem_followed) {
  char name[64], got[sizeof text];
  int hold[2];
  char c;
  EQ(pipe(hold), 0);
  EQ(pipe(go_on), 0);
  EQ(pipe(ready), 0);
  pid_t p = fork();
  if (!p) {
    EQ(read(hold[0], &c, 1), 1);
    strcpy(text, "CHANGED");
    EQ(write(ready[1], "x", 1), 1);
    EQ(read(go_on[0], &c, 1), 1);
    _exit(!strcmp(text, "rewritten") ? 7 : 1);
  }
  sprintf(name, "/proc/%d/mem", p);
  int fd = open(name, O_RDWR);
  CHECK(fd >= 0);
  EQ(pread(fd, got, sizeof got, (long)text), sizeof got);
  CHECK(!strcmp(got, "as it was"));
  EQ(write(hold[1], "x", 1), 1);
  EQ(read(ready[0], &c, 1), 1);
  EQ(lseek(fd, (long)text, SEEK_SET), (long)text);
  EQ(read(fd, got, sizeof got), sizeof got);
  CHECK(!strcmp(got, "CHANGED"));
  EQ(pwrite(fd, "rewritten", 10, (long)text), 10);
  EQ(ended(p), 7);
}
// A child's mapping is in its maps.
T(maps_of_child) {
  char name[64], c;
  static char all[1 << 20];
  void** where = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  EQ(pipe(ready), 0);
  EQ(pipe(go_on), 0);
  pid_t p = fork();
  if (!p) {
    *where = mmap(0, 77 << 12, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(*where + (76 << 12), 4096, PROT_NONE);
    EQ(write(ready[1], "x", 1), 1);
    EQ(read(go_on[0], &c, 1), 1);
    _exit(0);
  }
  EQ(read(ready[0], &c, 1), 1);
  sprintf(name, "/proc/%d/maps", p);
  FILE* f = fopen(name, "r");
  CHECK(f);
  CHECK(fread(all, 1, sizeof all - 1, f) > 0);
  sprintf(name, "%lx ---p", (long)*where + (77 << 12));
  CHECK(strstr(all, name));
  EQ(ended(p), 0);
}
T(vm_both_ways) {
  char got[sizeof text];
  pid_t p = changed_child();
  struct iovec mine[2] = {{got, 4}, {got + 4, sizeof got - 4}}, theirs = {text, sizeof text};
  EQ(process_vm_readv(p, mine, 2, &theirs, 1, 0), sizeof text);
  CHECK(!strcmp(got, "CHANGED"));
  strcpy(got, "rewritten");
  EQ(process_vm_writev(p, mine, 2, &theirs, 1, 0), sizeof text);
  EQ(ended(p), 7);
}
// What the kernel says of bad arguments, and in which order.
T(vm_errors) {
  char got[8];
  pid_t p = changed_child();
  struct iovec mine = {got, 8}, theirs = {text, 8}, bad = {(void*)8, 8};
  ERR(process_vm_readv(p, &mine, 1, &theirs, 1, 1), EINVAL);
  ERR(process_vm_readv(p, (void*)8, 1, &theirs, 1, 0), EFAULT);
  ERR(process_vm_readv(p, &mine, 1, (void*)8, 1, 0), EFAULT);
  ERR(process_vm_readv(p, &mine, 1025, &theirs, 1, 0), EINVAL);
  EQ(process_vm_readv(p, &mine, 0, &theirs, 1, 0), 0);
  EQ(process_vm_readv(p, &mine, 1, &theirs, 0, 0), 0);
  ERR(process_vm_readv(p, &mine, 1, &bad, 1, 0), EFAULT);
  ERR(process_vm_readv(p, &bad, 1, &theirs, 1, 0), EFAULT);
  EQ(ended(p), 0);
  ERR(process_vm_readv(p, &mine, 1, &theirs, 1, 0), ESRCH);
}
T(vm_forbidden) {
  pid_t p = changed_child(), q = fork();
  if (!q) {
    char got[8];
    struct iovec mine = {got, 8}, theirs = {text, 8};
    EQ(setgid(65534), 0);
    EQ(setuid(65534), 0);
    ERR(process_vm_readv(p, &mine, 1, &theirs, 1, 0), EPERM);
    ERR(process_vm_writev(p, &mine, 1, &theirs, 1, 0), EPERM);
    _exit(0);
  }
  EQ(reap(q), 0);
  EQ(ended(p), 0);
}
#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif
T(madvise_child) {
  pid_t p = changed_child();
  int fd = syscall(SYS_pidfd_open, p, 0);
  CHECK(fd >= 0);
  struct iovec range = {(void*)((long)text & -4096), 4096};
  EQ(syscall(SYS_process_madvise, fd, &range, 1, MADV_COLD, 0), 4096);
  ERR(syscall(SYS_process_madvise, fd, &range, 1, MADV_DONTNEED + 1000, 0), EINVAL);
  EQ(ended(p), 0);
}
T(kcmp_child) {
  pid_t p = changed_child(), self = getpid();
  EQ(syscall(SYS_kcmp, self, p, KCMP_FILE, 1, 1), 0);
  EQ(syscall(SYS_kcmp, self, self, KCMP_VM, 0, 0), 0);
  CHECK(syscall(SYS_kcmp, self, p, KCMP_VM, 0, 0) > 0);
  EQ(ended(p), 0);
}

// A signal is there before what its sender does next, also if that is nothing but a write to
// memory.
static sem_t* posted;
static int rounds = 200;
static void* sender(void* to_thread) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, 0);
  for (int i = 0; i < rounds; i++) {
    EQ(to_thread ? pthread_kill(*(pthread_t*)to_thread, SIGUSR1) : kill(getpid(), SIGUSR1), 0);
    sem_post(posted);
    sem_wait(posted + 1);
  }
  return 0;
}
static void receive(void) {
  for (int i = 1; i <= rounds; i++) {
    while (sem_wait(posted) && errno == EINTR)
      ;
    sched_yield();  // a sender on another processor: a signal comes with the next call at the
                    // latest
    EQ(handled[SIGUSR1], i);
    sem_post(posted + 1);
  }
}
static void make_posted(void) {
  posted = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  sem_init(posted, 1, 0);
  sem_init(posted + 1, 1, 0);
  on(SIGUSR1, SA_RESTART);
}
T(signal_then_wake) {
  pthread_t t, self = pthread_self();
  make_posted();
  EQ(pthread_create(&t, 0, sender, 0), 0);
  receive();
  EQ(pthread_join(t, 0), 0);
  handled[SIGUSR1] = 0;
  EQ(pthread_create(&t, 0, sender, &self), 0);
  receive();
  EQ(pthread_join(t, 0), 0);
}
static void too_early(int s) {
  _exit(1);  // what was wrong, the child has said
}
T(signal_then_wake_child) {
  make_posted();
  signal(SIGCHLD, too_early);
  pid_t p = fork();
  if (!p) {
    receive();
    while (1)
      pause();
  }
  for (int i = 0; i < rounds; i++) {
    EQ(kill(p, SIGUSR1), 0);
    sem_post(posted);
    sem_wait(posted + 1);
  }
  signal(SIGCHLD, SIG_DFL);
  kill(p, SIGKILL);
  EQ(WTERMSIG(reap(p)), SIGKILL);
}

// Who was just born hears a signal, also if it makes no call.
static void* hear(void* x) {
  while (!handled[SIGUSR1])
    ;
  return 0;
}
T(signal_newborn) {
  pthread_t t;
  on(SIGUSR1, 0);
  for (int i = 0; i < 40; i++) {
    pid_t p = fork();
    if (!p) {
      hear(0);
      _exit(0);
    }
    EQ(kill(p, SIGUSR1), 0);
    EQ(reap(p), 0);
    handled[SIGUSR1] = 0;
    EQ(pthread_create(&t, 0, hear, 0), 0);
    EQ(pthread_kill(t, SIGUSR1), 0);
    EQ(pthread_join(t, 0), 0);
    handled[SIGUSR1] = 0;
  }
}

// Threads that make children at the same moment each get their own.
static void* vforks(void* x) {
  for (int i = 0; i < 40; i++) {
    pid_t p = vfork();
    if (!p)
      _exit(3);
    CHECK(p > 0);
    EQ(reap(p), 3 << 8);
  }
  return 0;
}
T(vfork_by_threads) {
  pthread_t t[5];
  struct rlimit before, after;
  EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  for (int i = 0; i < 5; i++)
    EQ(pthread_create(t + i, 0, vforks, 0), 0);
  for (int i = 0; i < 5; i++)
    EQ(pthread_join(t[i], 0), 0);
  EQ(getrlimit(RLIMIT_NOFILE, &after), 0);
  EQ(after.rlim_cur, before.rlim_cur);
}

// Who has a filter of its own, and its children, can be traced.
T(traced_after_filter) {
  struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog program = {1, &allow};
  EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
  int status;
  pid_t p = fork();
  if (!p) {
    EQ(ptrace(PTRACE_TRACEME, 0, 0, 0), 0);
    raise(SIGSTOP);
    _exit(3);
  }
  EQ(waitpid(p, &status, 0), p);
  EQ(status, SIGSTOP << 8 | 0x7f);
  EQ(ptrace(PTRACE_DETACH, p, 0, 0), 0);
  EQ(WEXITSTATUS(reap(p)), 3);
  p = changed_child();
  EQ(ptrace(PTRACE_ATTACH, p, 0, 0), 0);
  EQ(waitpid(p, &status, 0), p);
  CHECK(WIFSTOPPED(status));
  EQ(ptrace(PTRACE_DETACH, p, 0, 0), 0);
  EQ(ended(p), 0);
}
// A filter that asks a tracer: a child attaches, changes the number of a call and lets it go on.
T(traced_calls) {
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_yield, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | 5),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {4, filter};
  pid_t self = getpid();
  char c;
  EQ(pipe(ready), 0);
  pid_t p = fork();
  if (!p) {
    int status;
    unsigned long message = 0;
    EQ(ptrace(PTRACE_ATTACH, self, 0, 0), 0);
    EQ(waitpid(self, &status, 0), self);
    EQ(ptrace(PTRACE_SETOPTIONS, self, 0, PTRACE_O_TRACESECCOMP), 0);
    EQ(ptrace(PTRACE_CONT, self, 0, 0), 0);
    EQ(write(ready[1], "x", 1), 1);
    do {
      EQ(waitpid(self, &status, 0), self);
      CHECK(WIFSTOPPED(status));
      if (status >> 8 != (SIGTRAP | PTRACE_EVENT_SECCOMP << 8))
        EQ(ptrace(PTRACE_CONT, self, 0, WSTOPSIG(status)), 0);
    } while (status >> 8 != (SIGTRAP | PTRACE_EVENT_SECCOMP << 8));
    EQ(ptrace(PTRACE_GETEVENTMSG, self, 0, &message), 0);
    EQ(message, 5);
    EQ(ptrace(PTRACE_POKEUSER, self, offsetof(struct user_regs_struct, orig_rax), SYS_getppid), 0);
    EQ(ptrace(PTRACE_DETACH, self, 0, 0), 0);
    _exit(0);
  }
  EQ(read(ready[0], &c, 1), 1);
  EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
  EQ(syscall(SYS_sched_yield), getppid());
  EQ(reap(p), 0);
}
// The next pid or tid shall be this one, if it is free.
static void number_next(int number) {
  char text[16];
  int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY), n = sprintf(text, "%d", number - 1);
  CHECK(fd >= 0);
  EQ(write(fd, text, n), n);
  close(fd);
}
static void* own_number(void* unused) {
  return (void*)(long)gettid();
}
// A number that has just been given back is given again at once, to a process or a thread.
T(number_again) {
  int again = 0;
  for (int i = 0; i < 150; i++) {
    number_next(30000);
    pid_t p = fork();
    if (!p) {
      if (i % 2)
        raise(SIGKILL);
      _exit(i);
    }
    CHECK(p > 0);
    again += p == 30000;
    EQ(reap(p), i % 2 ? SIGKILL : i << 8);
  }
  for (int i = 0; i < 150; i++) {
    pthread_t thread;
    void* tid;
    number_next(30000);
    EQ(pthread_create(&thread, 0, own_number, 0), 0);
    EQ(pthread_join(thread, &tid), 0);
    again += (long)tid == 30000;
  }
  CHECK(again > 100);
}
