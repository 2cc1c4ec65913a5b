// vfork, posix_spawn, exec and clone: arguments, environment, descriptors and statuses pass; the
// shared memory of vfork is shared; close-on-exec closes.
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include "rounds.h"

extern char** environ;

static int reap(pid_t child) {
  int status;
  CHECK_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void with_posix_spawn(void) {
  int ends[2];
  CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  char* arguments[] = {"sh", "-c", "echo \"$0 $WORD\"; exit 6", "first", NULL};
  char* environment[] = {"WORD=spawned", "PATH=/usr/bin:/bin", NULL};
  pid_t child;
  CHECK_EQ(posix_spawn(&child, "/bin/sh", &actions, NULL, arguments, environment), 0);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  char text[64] = {0};
  size_t size = 0;
  ssize_t got;
  while ((got = read(ends[0], text + size, sizeof(text) - 1 - size)) > 0) {
    size += (size_t)got;
  }
  close(ends[0]);
  CHECK(strcmp(text, "first spawned\n") == 0);
  CHECK_EQ(reap(child), 6);
  CHECK_EQ(posix_spawnp(&child, "no-such-program", NULL, NULL, arguments, environ), ENOENT);
}

static void with_vfork(void) {
  volatile int shared = 1;
  pid_t child = vfork();
  CHECK(child >= 0);
  if (child == 0) {
    shared = 2;
    execl("/bin/true", "true", (char*)NULL);
    _exit(127);
  }
  CHECK_EQ(shared, 2);
  CHECK_EQ(reap(child), 0);
  child = vfork();
  CHECK(child >= 0);
  if (child == 0) {
    shared = 3;
    _exit(17);
  }
  CHECK_EQ(shared, 3);
  CHECK_EQ(reap(child), 17);
  child = vfork();
  CHECK(child >= 0);
  if (child == 0) {
    execl("/nonexistent", "nonexistent", (char*)NULL);
    _exit(errno == ENOENT ? 18 : 19);
  }
  CHECK_EQ(reap(child), 18);
}

static int cloned(void* argument) {
  *(volatile int*)argument = 77;
  _exit(4);
}

static void with_clone(void) {
  static char stack[1 << 16] __attribute__((aligned(16)));
  volatile int cell = 0;
  pid_t child = clone(cloned, stack + sizeof(stack), SIGCHLD, (void*)&cell);
  CHECK(child >= 0);
  CHECK_EQ(reap(child), 4);
  CHECK_EQ(cell, 0);
  child = clone(cloned, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, (void*)&cell);
  CHECK(child >= 0);
  CHECK_EQ(cell, 77);
  CHECK_EQ(reap(child), 4);
}

static void with_exec(const char* self) {
  int keep = open("/dev/null", O_RDONLY), lose = open("/dev/null", O_RDONLY | O_CLOEXEC);
  CHECK(keep >= 0 && lose >= 0);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    char a[16], b[16];
    snprintf(a, sizeof(a), "%d", keep);
    snprintf(b, sizeof(b), "%d", lose);
    execl(self, "spawn", "check-fds", a, b, (char*)NULL);
    _exit(127);
  }
  CHECK_EQ(reap(child), 33);
  close(keep);
  close(lose);
}

static const char* self_path;

static void one_round(long number) {
  (void)number;
  with_posix_spawn();
  with_vfork();
  with_clone();
  with_exec(self_path);
}

int main(int argc, char** argv) {
  if (argc == 4 && strcmp(argv[1], "check-fds") == 0) {
    CHECK(fcntl(atoi(argv[2]), F_GETFD) >= 0);
    CHECK(fcntl(atoi(argv[3]), F_GETFD) == -1 && errno == EBADF);
    return 33;
  }
  self_path = argv[0];
  run_rounds(one_round);
  puts("spawn: all children started and ended");
  return 0;
}
