// Memory without a file that processes share: anonymous, by memfd, by shm_open with process-shared
// mutexes, conditions and semaphores; inherited by fork, kept for long, changed by both sides.
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "rounds.h"

enum { PAGE = 4096, BULK = 64 * PAGE };
struct state {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  sem_t work, done;
  long asked, answered;
  int end;
};

static struct state* state;       // shm_open
static unsigned char* anonymous;  // MAP_ANONYMOUS
static unsigned char* memory;     // memfd
static int memfd;

static void set_up(void) {
  char name[64];
  snprintf(name, sizeof(name), "/tessera-test-%d", (int)getpid());
  int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
  CHECK(fd >= 0);
  CHECK_EQ(shm_unlink(name), 0);
  CHECK_EQ(ftruncate(fd, sizeof(*state)), 0);
  state = mmap(NULL, sizeof(*state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(state != MAP_FAILED);
  CHECK_EQ(close(fd), 0);
  pthread_mutexattr_t mutex;
  pthread_condattr_t condition;
  CHECK_EQ(pthread_mutexattr_init(&mutex), 0);
  CHECK_EQ(pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED), 0);
  CHECK_EQ(pthread_mutexattr_setrobust(&mutex, PTHREAD_MUTEX_ROBUST), 0);
  CHECK_EQ(pthread_mutex_init(&state->mutex, &mutex), 0);
  CHECK_EQ(pthread_condattr_init(&condition), 0);
  CHECK_EQ(pthread_condattr_setpshared(&condition, PTHREAD_PROCESS_SHARED), 0);
  CHECK_EQ(pthread_cond_init(&state->changed, &condition), 0);
  CHECK_EQ(sem_init(&state->work, 1, 0), 0);
  CHECK_EQ(sem_init(&state->done, 1, 0), 0);
  anonymous = mmap(NULL, BULK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(anonymous != MAP_FAILED);
  memfd = memfd_create("test", MFD_CLOEXEC);
  CHECK(memfd >= 0);
  CHECK_EQ(ftruncate(memfd, 2 * PAGE), 0);
  memory = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
  CHECK(memory != MAP_FAILED);
}

static void helper(void) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  while (1) {
    while (sem_wait(&state->work) != 0) {
      CHECK_EQ(errno, EINTR);
    }
    CHECK_EQ(pthread_mutex_lock(&state->mutex), 0);
    if (state->end) {
      CHECK_EQ(pthread_mutex_unlock(&state->mutex), 0);
      _exit(0);
    }
    unsigned char key = (unsigned char)state->asked;
    for (int i = 0; i < BULK; i += 64) {
      anonymous[i + 1] = anonymous[i] ^ key;
    }
    memory[PAGE] = memory[0] + 1;
    state->answered = state->asked;
    CHECK_EQ(pthread_cond_broadcast(&state->changed), 0);
    CHECK_EQ(pthread_mutex_unlock(&state->mutex), 0);
    CHECK_EQ(sem_post(&state->done), 0);
  }
}

// A robust mutex whose owner dies is told of, across processes.
static void owner_dies(void) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    CHECK_EQ(pthread_mutex_lock(&state->mutex), 0);
    _exit(0);
  }
  CHECK_EQ(waitpid(child, NULL, 0), child);
  CHECK_EQ(pthread_mutex_lock(&state->mutex), EOWNERDEAD);
  CHECK_EQ(pthread_mutex_consistent(&state->mutex), 0);
  CHECK_EQ(pthread_mutex_unlock(&state->mutex), 0);
}

// Made, shared and gone within a round.
static void short_lived(long number) {
  atomic_long* cell =
      mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(cell != MAP_FAILED);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    atomic_store(cell, number + 5);
    _exit(0);
  }
  CHECK_EQ(waitpid(child, NULL, 0), child);
  CHECK_EQ(atomic_load(cell), number + 5);
  CHECK_EQ(munmap(cell, PAGE), 0);
}

static void one_round(long number) {
  unsigned char key = (unsigned char)(number + 1);
  for (int i = 0; i < BULK; i += 64) {
    anonymous[i] = (unsigned char)mix(i + number);
  }
  memory[0] = key;
  CHECK_EQ(pthread_mutex_lock(&state->mutex), 0);
  state->asked = number + 1;
  CHECK_EQ(sem_post(&state->work), 0);
  while (state->answered != number + 1) {
    CHECK_EQ(pthread_cond_wait(&state->changed, &state->mutex), 0);
  }
  CHECK_EQ(pthread_mutex_unlock(&state->mutex), 0);
  while (sem_wait(&state->done) != 0) {
    CHECK_EQ(errno, EINTR);
  }
  for (int i = 0; i < BULK; i += 64) {
    CHECK_EQ(anonymous[i + 1], (unsigned char)mix(i + number) ^ key);
  }
  unsigned char answer;
  CHECK_EQ(pread(memfd, &answer, 1, PAGE), 1);
  CHECK_EQ(answer, (unsigned char)(key + 1));
  if (number % 3 == 0) {
    owner_dies();
    short_lived(number);
  }
}

int main(void) {
  set_up();
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    helper();
  }
  run_rounds(one_round);
  state->end = 1;
  CHECK_EQ(sem_post(&state->work), 0);
  int status;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  puts("sharedmem: all answers right");
  return 0;
}
