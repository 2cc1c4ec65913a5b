// What test harnesses do: children that trace and are traced, each made by a parent that shares its
// results with them. A child asks to be traced, attaches to its parent, and its parent attaches to
// it.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rounds.h"

static void attach_and_detach(pid_t pid) {
  int status = 0;
  CHECK_EQ(ptrace(PTRACE_ATTACH, pid, 0, 0), 0);
  CHECK_EQ(waitpid(pid, &status, __WALL), pid);
  CHECK(WIFSTOPPED(status));
  CHECK_EQ(ptrace(PTRACE_DETACH, pid, 0, 0), 0);
}

static int one_round(void) {
  int to_child[2], to_parent[2];
  char byte = 0;
  CHECK_EQ(pipe(to_child), 0);
  CHECK_EQ(pipe(to_parent), 0);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    attach_and_detach(getppid());
    CHECK_EQ(ptrace(PTRACE_TRACEME, 0, 0, 0), 0);
    CHECK_EQ(write(to_parent[1], "t", 1), 1);
    CHECK_EQ(raise(SIGSTOP), 0);
    CHECK_EQ(read(to_child[0], &byte, 1), 1);
    _exit(3);
  }
  int status = 0;
  CHECK_EQ(read(to_parent[0], &byte, 1), 1);
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
  CHECK_EQ(ptrace(PTRACE_DETACH, child, 0, 0), 0);
  attach_and_detach(child);
  CHECK_EQ(write(to_child[1], "e", 1), 1);
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK(WIFEXITED(status));
  return WEXITSTATUS(status);
}

int main(void) {
  int* results = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(results != MAP_FAILED);
  for (int i = 0; i < 3; i++) {
    pid_t round = fork();
    CHECK(round >= 0);
    if (round == 0) {
      results[i] = one_round();
      _exit(0);
    }
    int status = 0;
    CHECK_EQ(waitpid(round, &status, 0), round);
    CHECK_EQ(status, 0);
    CHECK_EQ(results[i], 3);
  }
  puts("traced");
  return 0;
}
