// What the machine does apart from plain calls: code and calls of 32 bits, flags, frames of signals
// that the program has made or spoilt.
#include "check.h"

// The calls of the other table, by their numbers there.
static long call32(long number, long a, long b, long c) {
  long result;
  asm volatile("int $0x80"
               : "=a"(result)
               : "a"(number), "b"(a), "c"(b), "d"(c)
               : "memory", "r8", "r9", "r10", "r11");
  return result;
}
static char* low_memory(void) {
  char* m = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  CHECK(m != MAP_FAILED);
  return m;
}
static void no_core(void) {
  const struct rlimit none = {0, 0};
  EQ(setrlimit(RLIMIT_CORE, &none), 0);
}

T(calls_of_32_bits) {
  int p[2];
  char* text = low_memory();
  EQ(pipe(p), 0);
  EQ(call32(20, 0, 0, 0), getpid());
  strcpy(text, "hello");
  EQ(call32(4, p[1], (long)text, 5), 5);
  EQ(read(p[0], text, 5), 5);
  EQ(call32(9999, 0, 0, 0), -ENOSYS);
  EQ(call32(6, 999, 0, 0), -EBADF);
}
T(exit_of_32_bits) {
  pid_t pid = fork();
  if (!pid)
    call32(252, 42, 0, 0);
  EQ(WEXITSTATUS(reap(pid)), 42);
  pid = fork();
  if (!pid) {
    asm volatile("mov %0, %%ebp; sysenter" ::"r"((int)(long)low_memory()), "a"(252), "b"(43));
  }
  EQ(WEXITSTATUS(reap(pid)), 43);
}

static sigjmp_buf back;
static volatile long frame_cs;
static void leap(int s, siginfo_t* i, void* c) {
  last_info = *i;
  frame_cs = ((ucontext_t*)c)->uc_mcontext.gregs[REG_CSGSFS] & 0xffff;
  siglongjmp(back, 1);
}
static void leap_on(int s) {
  const struct sigaction a = {.sa_sigaction = leap,
                              .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
  EQ(sigaction(s, &a, 0), 0);
  static char stack[65536];
  const stack_t own = {.ss_sp = stack, .ss_size = sizeof stack};
  EQ(sigaltstack(&own, 0), 0);
}

// Handlers run in 64 bits, whatever they interrupt, and return to it.
T(handler_out_of_32_bits) {
  char* code = low_memory();
  memset(code, 0xcc, 4096);
  memcpy(code, "\x0f\x0b\xcb", 3);                       // ud2; lret
  memcpy(code + 16, "\x67\xff\x5c\x24\x08\xc3\xcb", 7);  // lcall *8(%esp); ret
  void skip(int s, siginfo_t* i, void* c) {
    frame_cs = ((ucontext_t*)c)->uc_mcontext.gregs[REG_CSGSFS] & 0xffff;
    ((ucontext_t*)c)->uc_mcontext.gregs[REG_RIP] += 2;
    getppid();
  }
  const struct sigaction a = {.sa_sigaction = skip, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  leap_on(SIGSEGV);
  EQ(sigaction(SIGILL, &a, 0), 0);
  long stack = (long)code + 4096;
  asm volatile(
      "subl $8, %%ecx; movl $0x23, 4(%%ecx); movl %%edx, 0(%%ecx);"
      "pushq %%rbp; movq %%rsp, %%rbp; movq %%rcx, %%rsp; callq *%%rbx; leaveq"
      : "+c"(stack)
      : "b"(code + 16), "d"(code)
      : "memory");
  EQ(frame_cs, 0x23);
}
static void cannot_return_from(void (*spoils)(int, siginfo_t*, void*)) {
  const struct sigaction a = {.sa_sigaction = spoils, .sa_flags = SA_SIGINFO};
  leap_on(SIGSEGV);
  EQ(sigaction(SIGUSR1, &a, 0), 0);
  if (!sigsetjmp(back, 1)) {
    raise(SIGUSR1);
    FAIL("returned");
  }
  EQ(last_info.si_code, SI_KERNEL);
}
T(frame_of_a_wrong_segment) {
  void spoil(int s, siginfo_t* i, void* c) {
    *(short*)&((ucontext_t*)c)->uc_mcontext.gregs[REG_CSGSFS] = 0x1234;
  }
  cannot_return_from(spoil);
  EQ(frame_cs, 0x1237);
}
T(frame_without_registers) {
  void spoil(int s, siginfo_t* i, void* c) {
    ((ucontext_t*)c)->uc_mcontext.fpregs = (void*)0x123;
  }
  cannot_return_from(spoil);
}
T(frame_nowhere) {
  leap_on(SIGSEGV);
  if (!sigsetjmp(back, 1))
    asm volatile("mov $0x1000, %%rsp; mov $15, %%eax; syscall" ::: "memory");
  EQ(last_info.si_code, SI_KERNEL);
  EQ((long)last_info.si_addr, 0);
  pid_t pid = fork();
  if (!pid) {
    no_core();
    signal(SIGSEGV, SIG_DFL);
    asm volatile("mov $0x1000, %%rsp; mov $15, %%eax; syscall" ::: "memory");
  }
  EQ(reap(pid), SIGSEGV);
}

#define CHECK_ALIGNMENT "sub $128, %%rsp; pushf; orq $0x40000, (%%rsp); popf; add $128, %%rsp;"
#define ALLOW_UNALIGNED "sub $128, %%rsp; pushf; andq $~0x40000, (%%rsp); popf; add $128, %%rsp;"
T(alignment_checked) {
  char text[32] = "";
  int left;
  asm volatile(
      CHECK_ALIGNMENT
      "mov $110, %%eax; syscall; mov $110, %%eax; syscall; pushf; pop %%rax;" ALLOW_UNALIGNED
      : "=a"(left)::"rcx", "r11", "memory", "cc");
  CHECK(left & 0x40000);
  pid_t pid = fork();
  if (!pid) {
    no_core();
    asm volatile(CHECK_ALIGNMENT "movl 1(%0), %%eax" ::"r"((long)text & ~15L)
                 : "rax", "memory", "cc");
  }
  EQ(reap(pid), SIGBUS);
}
