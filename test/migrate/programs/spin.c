// Waits or spins until the file `stop` is there, after putting itself into a state named by its
// arguments that forbids a move: plain, uring, seccomp, traced (a child of ours traces us).
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "rounds.h"

static void use_uring(void) {
  char params[120] = {0};
  long fd = syscall(425, 8, params);
  if (fd < 0) {
    printf("no io_uring: %s\n", strerror(errno));
    exit(77);
  }
}

static void use_seccomp(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_acct, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {4, code};
  CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  CHECK_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static pid_t helper;

static void be_traced(void) {
  int ends[2];
  CHECK_EQ(pipe(ends), 0);
  prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
  pid_t me = getpid();
  helper = fork();
  CHECK(helper >= 0);
  if (helper == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    CHECK_EQ(ptrace(PTRACE_SEIZE, me, 0, 0), 0);
    CHECK_EQ(write(ends[1], "t", 1), 1);
    for (;;) {
      int status;
      if (waitpid(me, &status, __WALL) == me && WIFSTOPPED(status)) {
        ptrace(PTRACE_CONT, me, 0, status >> 16 ? 0 : WSTOPSIG(status));
      }
    }
  }
  char byte;
  CHECK_EQ(read(ends[0], &byte, 1), 1);
}

int main(int argc, char** argv) {
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "uring") == 0) {
      use_uring();
    } else if (strcmp(argv[i], "seccomp") == 0) {
      use_seccomp();
    } else if (strcmp(argv[i], "traced") == 0) {
      be_traced();
    }
  }
  puts("ready");
  fflush(stdout);
  uint64_t x = 1;
  long checks = 0;
  while (!stop_wanted()) {
    for (int i = 0; i < 20000; i++) {
      x = mix(x + 1);
    }
    checks++;
  }
  if (helper > 0) {
    kill(helper, SIGKILL);
    waitpid(helper, NULL, 0);
  }
  puts(checks && x ? "untouched" : "stopped before it ran");
  return 0;
}
