// What a thread or process has set about itself stays set, and has its effect, wherever it runs:
// prctl, arch_prctl, scheduling, priorities, advice about memory.
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <x86intrin.h>

#include "rounds.h"

enum { kSetCpuid = 0x1012, kGetCpuid = 0x1011, kSetMerge = 67, kGetMerge = 68, kSize = 1 << 16 };

struct facts {
  int tsc, death_signal, subreaper, policy, mode;
  long slack, no_thp, merge, no_cpuid, keepcaps, machine_check, priority, io_priority, person;
  unsigned long nodes[16];
  int sequential, random, no_advice;
  stack_t stack;
  int tsc_faults, cpuid_faults, implies_exec;
};

static char *sequential, *random_access, *no_advice;
static char alternate[1 << 16];
static sigjmp_buf out;

static void on_fault(int signal) {
  (void)signal;
  siglongjmp(out, 1);
}

static int tsc_faults(void) {
  if (sigsetjmp(out, 1) != 0) {
    return 1;
  }
  (void)__rdtsc();
  return 0;
}

static int cpuid_faults(void) {
  if (sigsetjmp(out, 1) != 0) {
    return 1;
  }
  unsigned a = 0, b, c, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
  return 0;
}

// Whether the mapping at `address` has that flag in smaps.
static int has_flag(const void* address, const char* flag) {
  FILE* file = fopen("/proc/self/smaps", "r");
  CHECK(file);
  char line[4096];
  int inside = 0, found = -1;
  while (fgets(line, sizeof(line), file)) {
    unsigned long start, end;
    if (sscanf(line, "%lx-%lx ", &start, &end) == 2) {
      inside = (unsigned long)address >= start && (unsigned long)address < end;
    } else if (inside && strncmp(line, "VmFlags:", 8) == 0) {
      found = strstr(line, flag) != NULL;
    }
  }
  fclose(file);
  return found;
}

static int implies_exec(void) {
  char* at = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(at != MAP_FAILED);
  FILE* file = fopen("/proc/self/maps", "r");
  CHECK(file);
  char line[4096], rights[5];
  int found = -1;
  while (fgets(line, sizeof(line), file)) {
    unsigned long start, end;
    if (sscanf(line, "%lx-%lx %4s", &start, &end, rights) == 3 && (unsigned long)at >= start &&
        (unsigned long)at < end) {
      found = rights[2] == 'x';
    }
  }
  fclose(file);
  CHECK_EQ(munmap(at, 4096), 0);
  return found;
}

static void look(struct facts* f, int of_process) {
  memset(f, 0, sizeof(*f));
  CHECK_EQ(prctl(PR_GET_TSC, &f->tsc), 0);
  f->slack = prctl(PR_GET_TIMERSLACK);
  f->no_cpuid = syscall(SYS_arch_prctl, kGetCpuid, 0) == 0;
  f->tsc_faults = tsc_faults();
  f->cpuid_faults = cpuid_faults();
  f->policy = sched_getscheduler(0);
  f->io_priority = syscall(SYS_ioprio_get, 1, 0);
  syscall(SYS_get_mempolicy, &f->mode, f->nodes, sizeof(f->nodes) * 8, 0, 0);
  if (!of_process) {
    return;
  }
  CHECK_EQ(prctl(PR_GET_PDEATHSIG, &f->death_signal), 0);
  CHECK_EQ(prctl(PR_GET_CHILD_SUBREAPER, &f->subreaper), 0);
  f->no_thp = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
  f->merge = prctl(kGetMerge, 0, 0, 0, 0);
  f->keepcaps = prctl(PR_GET_KEEPCAPS);
  f->machine_check = prctl(PR_MCE_KILL_GET, 0, 0, 0, 0);
  f->priority = getpriority(PRIO_PROCESS, 0);
  f->person = personality(0xffffffff);
  f->implies_exec = implies_exec();
  CHECK_EQ(sigaltstack(NULL, &f->stack), 0);
  f->sequential = has_flag(sequential, " sr");
  f->random = has_flag(random_access, " rr");
  f->no_advice = has_flag(no_advice, " sr") | has_flag(no_advice, " rr");
}

static char* memory(void) {
  char* at = mmap(NULL, kSize + 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(at != MAP_FAILED);
  CHECK_EQ(mprotect(at, kSize, PROT_READ | PROT_WRITE), 0);
  return at;
}

static void set(void) {
  sequential = memory();
  random_access = memory();
  no_advice = memory();
  CHECK_EQ(madvise(sequential, kSize, MADV_SEQUENTIAL), 0);
  CHECK_EQ(madvise(random_access, kSize, MADV_RANDOM), 0);
  CHECK_EQ(signal(SIGSEGV, on_fault) == SIG_ERR, 0);
  CHECK_EQ(prctl(PR_SET_TIMERSLACK, 123456), 0);
  CHECK_EQ(prctl(PR_SET_PDEATHSIG, SIGURG), 0);
  CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  CHECK_EQ(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
  (void)prctl(kSetMerge, 1, 0, 0, 0);  // Linux 6.4
  CHECK_EQ(prctl(PR_SET_KEEPCAPS, 1), 0);
  CHECK_EQ(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0), 0);
  struct sched_param none = {0};
  CHECK_EQ(sched_setscheduler(0, SCHED_BATCH, &none), 0);
  CHECK_EQ(setpriority(PRIO_PROCESS, 0, 3), 0);
  CHECK_EQ(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 6), 0);
  CHECK(personality(ADDR_NO_RANDOMIZE | READ_IMPLIES_EXEC) >= 0);
  const stack_t stack = {.ss_sp = alternate, .ss_size = sizeof(alternate), .ss_flags = 1U << 31};
  CHECK_EQ(sigaltstack(&stack, NULL), 0);
  (void)syscall(SYS_arch_prctl, kSetCpuid, 0);  // ENODEV where the processor cannot
}

// One thread more, with settings of its own, told by pipes what to do.
static int ask[2], reply[2];
static void* other(void* unused) {
  (void)unused;
  struct facts f;
  CHECK_EQ(prctl(PR_SET_TSC, PR_TSC_SIGSEGV), 0);
  CHECK_EQ(prctl(PR_SET_TIMERSLACK, 77777), 0);
  for (char c; read(ask[0], &c, 1) == 1;) {
    look(&f, 0);
    CHECK_EQ(write(reply[1], &f, sizeof(f)), sizeof(f));
  }
  return NULL;
}

static struct facts ours, others;
static void look_at_other(struct facts* f) {
  CHECK_EQ(write(ask[1], "?", 1), 1);
  CHECK_EQ(read(reply[0], f, sizeof(*f)), sizeof(*f));
}

static void compare(const struct facts* was, const struct facts* is) {
#define SAME(field) CHECK_EQ(is->field, was->field)
  SAME(tsc);
  SAME(death_signal);
  SAME(subreaper);
  SAME(policy);
  SAME(mode);
  SAME(slack);
  SAME(no_thp);
  SAME(merge);
  SAME(no_cpuid);
  SAME(keepcaps);
  SAME(machine_check);
  SAME(priority);
  SAME(io_priority);
  SAME(person);
  SAME(nodes[0]);
  SAME(sequential);
  SAME(random);
  SAME(no_advice);
  SAME(stack.ss_flags);
  SAME(stack.ss_size);
  SAME(tsc_faults);
  SAME(cpuid_faults);
  SAME(implies_exec);
}

// Some virtual machines let rdtsc through whatever the program wants.
static int machine_faults(void) {
  pid_t child = fork();
  if (child == 0) {
    _exit(prctl(PR_SET_TSC, PR_TSC_SIGSEGV) == 0 && tsc_faults() == 1 ? 1 : 0);
  }
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK(WIFEXITED(status));
  return WEXITSTATUS(status);
}

static void round_of(long number) {
  pthread_t thread;
  if (number == 0) {
    set();
    CHECK_EQ(pipe(ask), 0);
    CHECK_EQ(pipe(reply), 0);
    CHECK_EQ(pthread_create(&thread, NULL, other, NULL), 0);
    look(&ours, 1);
    look_at_other(&others);
    CHECK_EQ(ours.tsc_faults, 0);
    CHECK_EQ(ours.slack, 123456);
    CHECK_EQ(ours.sequential, 1);
    CHECK_EQ(ours.random, 1);
    CHECK_EQ(others.tsc_faults, machine_faults());
    CHECK_EQ(others.slack, 77777);
  }
  struct facts now;
  look(&now, 1);
  compare(&ours, &now);
  look_at_other(&now);
  compare(&others, &now);
  // A child has them, too.
  const pid_t child = fork();
  if (child == 0) {
    CHECK_EQ(prctl(PR_GET_TIMERSLACK), 123456);
    CHECK_EQ(has_flag(sequential, " sr"), 1);
    CHECK_EQ(cpuid_faults(), ours.cpuid_faults);
    _exit(0);
  }
  int status = -1;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
}

int main(void) {
  run_rounds(round_of);
  puts("settings: all rounds alike");
  return 0;
}
