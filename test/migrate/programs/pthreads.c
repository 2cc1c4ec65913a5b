// Threads: mutexes, condition variables, thread-local storage, a robust mutex whose owner dies, a
// barrier, a read-write lock, names, creation and join while being moved.
#include <pthread.h>
#include <sys/syscall.h>

#include "rounds.h"

enum { kWorkers = 6, kItems = 400 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_empty = PTHREAD_COND_INITIALIZER, not_full = PTHREAD_COND_INITIALIZER;
static int queue[16], queued_count, queue_head, produced;
static uint64_t consumed_sum;
static _Thread_local uint64_t own_sum;
static _Thread_local int own_id = -1;
static pthread_barrier_t barrier;
static pthread_rwlock_t table_lock = PTHREAD_RWLOCK_INITIALIZER;
static uint64_t table[64];
static pthread_mutex_t robust;

static void* producer(void* argument) {
  (void)argument;
  for (;;) {
    pthread_mutex_lock(&lock);
    while (queued_count == 16) {
      pthread_cond_wait(&not_full, &lock);
    }
    int item = produced < kItems ? ++produced : -1;
    queue[(queue_head + queued_count++) % 16] = item;
    pthread_cond_signal(&not_empty);
    int last = item < 0;
    pthread_mutex_unlock(&lock);
    if (last) {
      return NULL;
    }
  }
}

static void* consumer(void* argument) {
  own_id = (int)(intptr_t)argument;
  own_sum = 0;
  pid_t tid = (pid_t)syscall(SYS_gettid);
  char name[16], got[16];
  snprintf(name, sizeof(name), "worker-%d", own_id);
  CHECK_EQ(pthread_setname_np(pthread_self(), name), 0);
  for (;;) {
    pthread_mutex_lock(&lock);
    while (queued_count == 0) {
      pthread_cond_wait(&not_empty, &lock);
    }
    int item = queue[queue_head];
    queue_head = (queue_head + 1) % 16;
    queued_count--;
    pthread_cond_signal(&not_full);
    pthread_mutex_unlock(&lock);
    if (item < 0) {
      break;
    }
    uint64_t x = (uint64_t)item;
    for (int i = 0; i < 300; i++) {
      x = mix(x);
    }
    own_sum += x;
    pthread_rwlock_wrlock(&table_lock);
    table[item % 64]++;
    pthread_rwlock_unlock(&table_lock);
  }
  pthread_barrier_wait(&barrier);
  CHECK_EQ(own_id, (int)(intptr_t)argument);
  CHECK_EQ(tid, syscall(SYS_gettid));
  CHECK_EQ(pthread_getname_np(pthread_self(), got, sizeof(got)), 0);
  CHECK(strcmp(name, got) == 0);
  pthread_mutex_lock(&lock);
  consumed_sum += own_sum;
  pthread_mutex_unlock(&lock);
  return argument;
}

static void* dies_with_lock(void* argument) {
  (void)argument;
  CHECK_EQ(pthread_mutex_lock(&robust), 0);
  return NULL;
}

static void one_round(long number) {
  static uint64_t first_sum;
  pthread_t workers[kWorkers], makers[kWorkers], dead;
  pthread_barrier_init(&barrier, NULL, kWorkers);
  memset(table, 0, sizeof(table));
  consumed_sum = 0;
  produced = queued_count = queue_head = 0;
  for (int i = 0; i < kWorkers; i++) {
    CHECK_EQ(pthread_create(&workers[i], NULL, consumer, (void*)(intptr_t)i), 0);
    CHECK_EQ(pthread_create(&makers[i], NULL, producer, NULL), 0);
  }
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&robust, &attributes);
  CHECK_EQ(pthread_create(&dead, NULL, dies_with_lock, NULL), 0);
  CHECK_EQ(pthread_join(dead, NULL), 0);
  CHECK_EQ(pthread_mutex_lock(&robust), EOWNERDEAD);
  CHECK_EQ(pthread_mutex_consistent(&robust), 0);
  CHECK_EQ(pthread_mutex_unlock(&robust), 0);
  pthread_mutex_destroy(&robust);
  for (int i = 0; i < kWorkers; i++) {
    void* result;
    CHECK_EQ(pthread_join(workers[i], &result), 0);
    CHECK_EQ((intptr_t)result, i);
    CHECK_EQ(pthread_join(makers[i], NULL), 0);
  }
  uint64_t entries = 0;
  for (int i = 0; i < 64; i++) {
    entries += table[i];
  }
  CHECK_EQ(entries, kItems);
  if (number == 0) {
    first_sum = consumed_sum;
    printf("sum %016llx\n", (unsigned long long)first_sum);
  }
  CHECK_EQ(consumed_sum, first_sum);
  pthread_barrier_destroy(&barrier);
}

int main(void) {
  run_rounds(one_round);
  puts("pthreads: every item once");
  return 0;
}
