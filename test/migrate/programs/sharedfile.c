// A file mapped shared by a parent, a child that lives as long as it does, and a program that each round
// executes, which opens and maps the file again: atomics and futexes in it, the descriptor closed.
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "rounds.h"

enum { PARENT, CHILD, LAST };
struct page {
  atomic_uint turn;  // whose it is: a futex
  atomic_ulong sum;
  atomic_uint attached;
  char text[64];
};

static struct page* shared;
static char* program;

static struct page* attach(const char* path, int flags) {
  int fd = open(path, O_RDWR | flags, 0600);
  CHECK(fd >= 0);
  if (flags != 0) {
    CHECK_EQ(ftruncate(fd, 3 * 4096), 0);
  }
  struct page* page = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(page != MAP_FAILED);
  CHECK_EQ(close(fd), 0);
  return page;
}

static void wait_turn(unsigned mine) {
  unsigned now;
  while ((now = atomic_load(&shared->turn)) != mine) {
    if (now == LAST) {
      _exit(0);
    }
    syscall(SYS_futex, &shared->turn, FUTEX_WAIT, now, NULL, NULL, 0);
  }
}

static void give_turn(unsigned to) {
  atomic_store(&shared->turn, to);
  syscall(SYS_futex, &shared->turn, FUTEX_WAKE, 100, NULL, NULL, 0);
}

static void play(unsigned me, unsigned other, int times) {
  for (int i = 0; i < times; ++i) {
    wait_turn(me);
    atomic_fetch_add(&shared->sum, me + 1);
    give_turn(other);
  }
}

static void run_other_program(void) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    snprintf(shared->text, sizeof(shared->text), "before exec %d", (int)getpid());
    execl(program, program, "attach", "page", (char*)NULL);
    _exit(9);
  }
  int status;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  char wanted[64];
  snprintf(wanted, sizeof(wanted), "after exec %d", (int)child);
  CHECK(strcmp(shared->text, wanted) == 0);
}

static void one_round(long number) {
  play(PARENT, CHILD, 20);
  if (number % 4 == 0) {
    run_other_program();
  }
  wait_turn(PARENT);
  CHECK_EQ(atomic_load(&shared->sum), 20 * (1 + 2));
  atomic_store(&shared->sum, 0);
}

static int attached_program(const char* path) {
  shared = attach(path, 0);
  char wanted[64];
  snprintf(wanted, sizeof(wanted), "before exec %d", (int)getpid());
  CHECK(strcmp(shared->text, wanted) == 0);
  snprintf(shared->text, sizeof(shared->text), "after exec %d", (int)getpid());
  atomic_fetch_add(&shared->attached, 1);
  return 0;
}

int main(int argc, char** argv) {
  if (argc == 3) {
    return attached_program(argv[2]);
  }
  program = argv[0];
  shared = attach("page", O_CREAT | O_TRUNC);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (1) {
      play(CHILD, PARENT, 1);
    }
  }
  run_rounds(one_round);
  give_turn(LAST);
  int status;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  CHECK(atomic_load(&shared->attached) > 0);
  memset(shared, 0, sizeof(*shared));
  strcpy((char*)shared + 4096, "left in the file");
  CHECK_EQ(munmap(shared, 3 * 4096), 0);
  puts("sharedfile: all turns taken");
  return 0;
}
