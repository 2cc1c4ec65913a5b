// A deep tree of forks: every process checks its parent, adds up its children's exit statuses and
// passes a byte through a pipe to the top.
#include <sys/wait.h>

#include "rounds.h"

static int tree(int depth, int width, int pipe_end) {
  int sum = 1;
  pid_t me = getpid();
  for (int i = 0; i < width && depth > 0; i++) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      CHECK_EQ(getppid(), me);
      CHECK(getpid() != me);
      char letter = (char)('a' + depth);
      CHECK_EQ(write(pipe_end, &letter, 1), 1);
      _exit(tree(depth - 1, width, pipe_end));
    }
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    sum += WEXITSTATUS(status);
  }
  CHECK_EQ(getpid(), me);
  return sum;
}

static void line_of(int depth, int pipe_end) {  // one child each, sixteen deep
  if (depth == 0) {
    CHECK_EQ(write(pipe_end, "!", 1), 1);
    _exit(0);
  }
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    line_of(depth - 1, pipe_end);
  }
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  _exit(WEXITSTATUS(status) + 1);
}

static void one_round(long number) {
  (void)number;
  int ends[2];
  CHECK_EQ(pipe(ends), 0);
  CHECK_EQ(tree(3, 2, ends[1]), 15);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    line_of(16, ends[1]);
  }
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(WEXITSTATUS(status), 16);
  close(ends[1]);
  char text[64];
  ssize_t size = 0, got;
  while ((got = read(ends[0], text + size, sizeof(text) - (size_t)size)) > 0) {
    size += got;
  }
  close(ends[0]);
  CHECK_EQ(size, 15);
  text[size] = 0;
  CHECK(strcmp(text, "dcbbcbbdcbbcbb!") == 0);
  CHECK(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD);
}

int main(void) {
  run_rounds(one_round);
  puts("forktree: all children accounted for");
  return 0;
}
