// Executes itself again and again, while its other threads run and a child of it does the same:
// each program finds what the last one has left.
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "rounds.h"

enum { kRead, kWrite, kChild, kCount };

static char* self;
static long kept[kCount];  // both ends of a pipe, and the child

static void* spin(void* unused) {
  for (;;) {
    getppid();
  }
  return unused;
}

static void again(const char* role, long number) {
  char text[1 + kCount][32];
  snprintf(text[kCount], sizeof(text[0]), "%ld", number);
  for (int i = 0; i < kCount; ++i) {
    snprintf(text[i], sizeof(text[0]), "%ld", kept[i]);
  }
  execl("/proc/self/exe", self, role, text[kCount], text[kRead], text[kWrite], text[kChild], NULL);
  fail_at(__FILE__, __LINE__, "execl of number %ld", number);
}

static void begin(void) {
  int ends[2];
  CHECK_EQ(pipe(ends), 0);
  kept[kRead] = ends[0];
  kept[kWrite] = ends[1];
  kept[kChild] = fork();
  CHECK(kept[kChild] >= 0);
  again(kept[kChild] == 0 ? "child" : "parent", 1);
}

static void child(long number) {
  CHECK_EQ(write(kept[kWrite], &number, sizeof(number)), sizeof(number));
  again("child", number + 1);
}

static void parent(long number) {
  long told = 0;
  CHECK_EQ(read(kept[kRead], &told, sizeof(told)), sizeof(told));
  CHECK_EQ(told, number);
  if (number == 1) {
    puts("ready");
    fflush(stdout);
  }
  if (!stop_wanted()) {
    again("parent", number + 1);
  }
  int status = 0;
  CHECK_EQ(kill(kept[kChild], SIGKILL), 0);
  CHECK_EQ(waitpid(kept[kChild], &status, 0), kept[kChild]);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  puts("execs: each program found what the last one left");
}

int main(int argc, char** argv) {
  self = argv[0];
  for (int i = 0; i < 2; ++i) {
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, spin, NULL), 0);
  }
  if (argc < 3 + kCount) {
    begin();
  }
  for (int i = 0; i < kCount; ++i) {
    kept[i] = atol(argv[3 + i]);
  }
  (strcmp(argv[1], "child") == 0 ? child : parent)(atol(argv[2]));
  return 0;
}
