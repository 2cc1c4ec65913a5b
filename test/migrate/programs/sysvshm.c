// System V shared memory: attached, inherited, attached by key, detached, removed while in use.
#include <stdatomic.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>

#include "rounds.h"

enum { SIZE = 5 * 4096 + 10 };
static atomic_int* kept;

static void by_key(long number) {
  key_t key = (key_t)(0x7e550000 ^ getpid());
  int id = shmget(key, SIZE, IPC_CREAT | IPC_EXCL | 0600);
  CHECK(id >= 0);
  char* here = shmat(id, NULL, 0);
  CHECK(here != (void*)-1);
  snprintf(here + 4096, 64, "parent %ld", number);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    int again = shmget(key, 0, 0);
    CHECK_EQ(again, id);
    char* other = shmat(again, NULL, SHM_RDONLY);
    CHECK(other != (void*)-1 && other != here);
    char wanted[64];
    snprintf(wanted, sizeof(wanted), "parent %ld", number);
    CHECK(strcmp(other + 4096, wanted) == 0);
    strcpy(here, "child was here");
    CHECK(strcmp(other, "child was here") == 0);
    struct shmid_ds about;
    CHECK_EQ(shmctl(id, IPC_STAT, &about), 0);
    CHECK_EQ(about.shm_nattch, 3);
    CHECK_EQ(about.shm_segsz, SIZE);
    CHECK_EQ(shmdt(other), 0);
    _exit(0);
  }
  int status;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  CHECK(strcmp(here, "child was here") == 0);
  CHECK_EQ(shmctl(id, IPC_RMID, NULL), 0);
  here[SIZE - 1] = 'l';  // goes on while attached
  CHECK_EQ(shmdt(here), 0);
  CHECK(shmdt(here) == -1 && errno == EINVAL);
  CHECK(shmat(id, NULL, 0) == (void*)-1 && (errno == EINVAL || errno == EIDRM));
}

static void at_address(void) {
  char* place = mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(place != MAP_FAILED);
  CHECK_EQ(munmap(place, 1 << 20), 0);
  int id = shmget(IPC_PRIVATE, 8192, 0600);
  CHECK(id >= 0);
  CHECK(shmat(id, place + 1, 0) == (void*)-1 && errno == EINVAL);
  CHECK(shmat(id, place + 1, SHM_RND) == place);
  place[8191] = 'x';
  CHECK(shmat(id, place, 0) == (void*)-1 && errno == EINVAL);  // occupied
  CHECK(shmat(id, place, SHM_REMAP) == place);
  CHECK_EQ(place[8191], 'x');
  CHECK_EQ(shmdt(place), 0);
  CHECK_EQ(shmctl(id, IPC_RMID, NULL), 0);
}

static void one_round(long number) {
  CHECK_EQ(atomic_fetch_add(kept, 1), number);
  by_key(number);
  at_address();
}

int main(void) {
  int id = shmget(IPC_PRIVATE, 4096, 0600);
  CHECK(id >= 0);
  kept = shmat(id, NULL, 0);
  CHECK(kept != (void*)-1);
  CHECK_EQ(shmctl(id, IPC_RMID, NULL), 0);
  long rounds = run_rounds(one_round);
  CHECK_EQ(atomic_load(kept), rounds);
  puts("sysvshm: all attached alike");
  return 0;
}
