// Vector and floating-point state: known values sit in xmm/ymm/zmm and mask registers, MXCSR and
// the x87 control word while the program spins without a system call, then are compared. Two
// threads hold different values.
#include <cpuid.h>
#include <immintrin.h>
#include <pthread.h>

#include "rounds.h"

static int has_avx512;

__attribute__((target("avx2"))) static void hold_ymm(uint64_t seed, uint64_t spins) {
  uint64_t in[16][4] __attribute__((aligned(32))), out[16][4] __attribute__((aligned(32)));
  for (int r = 0; r < 16; r++) {
    for (int i = 0; i < 4; i++) {
      in[r][i] = mix(seed + (uint64_t)(r * 4 + i));
    }
  }
#define LOAD(n) "vmovdqa " #n "*32(%[in]), %%ymm" #n "\n"
#define STORE(n) "vmovdqa %%ymm" #n ", " #n "*32(%[out])\n"
#define ALL(f) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12) f(13) f(14) f(15)
  __asm__ volatile(ALL(LOAD) "1: dec %[n]\n jnz 1b\n" ALL(STORE)
                   : [n] "+r"(spins)
                   : [in] "r"(in), [out] "r"(out)
                   : "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
                     "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
  CHECK(memcmp(in, out, sizeof(in)) == 0);
}

__attribute__((target("avx512f,avx512bw"))) static void hold_zmm(uint64_t seed, uint64_t spins) {
  uint64_t in[4][8] __attribute__((aligned(64))), out[4][8] __attribute__((aligned(64)));
  uint64_t mask_in = mix(seed), mask_out = 0;
  for (int r = 0; r < 4; r++) {
    for (int i = 0; i < 8; i++) {
      in[r][i] = mix(seed + (uint64_t)(r * 8 + i));
    }
  }
  __asm__ volatile(
      "vmovdqa64 (%[in]), %%zmm3\n vmovdqa64 64(%[in]), %%zmm17\n vmovdqa64 128(%[in]), %%zmm24\n"
      "vmovdqa64 192(%[in]), %%zmm31\n kmovq %[mask], %%k5\n"
      "1: dec %[n]\n jnz 1b\n"
      "vmovdqa64 %%zmm3, (%[out])\n vmovdqa64 %%zmm17, 64(%[out])\n vmovdqa64 %%zmm24, "
      "128(%[out])\n"
      "vmovdqa64 %%zmm31, 192(%[out])\n kmovq %%k5, %[got]\n"
      : [n] "+r"(spins), [got] "=&r"(mask_out)
      : [in] "r"(in), [out] "r"(out), [mask] "r"(mask_in)
      : "memory", "xmm3", "xmm17", "xmm24", "xmm31", "k5");
  CHECK(memcmp(in, out, sizeof(in)) == 0);
  CHECK(mask_in == mask_out);
}

static void hold(uint64_t seed) {
  unsigned mxcsr = 0x1f80 | (seed & 1 ? 0x2000 : 0x4000);  // rounding down or up
  uint16_t control = seed & 1 ? 0x077f : 0x0b7f, control_now = 0;
  _mm_setcsr(mxcsr);
  __asm__ volatile("fldcw %0" ::"m"(control));
  volatile long double x87 = 1.0L / 3.0L;
  hold_ymm(seed, 20000000);
  if (has_avx512) {
    hold_zmm(seed, 10000000);
  }
  CHECK_EQ(_mm_getcsr() & 0xffc0, mxcsr & 0xffc0);
  __asm__ volatile("fnstcw %0" : "=m"(control_now));
  CHECK_EQ(control_now & 0x0f00, control & 0x0f00);
  volatile long double again = 1.0L / 3.0L;
  CHECK(x87 == again);
}

static void* other(void* argument) {
  (void)argument;
  hold(0x1235);
  return NULL;
}

static void one_round(long number) {
  (void)number;
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, NULL, other, NULL), 0);
  hold(0x777700);
  CHECK_EQ(pthread_join(thread, NULL), 0);
}

int main(void) {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2")) {
    puts("ready\navx: no AVX2 here");
    return 0;
  }
  has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
  run_rounds(one_round);
  printf("avx: registers kept%s\n", has_avx512 ? ", AVX-512 too" : "");
  return 0;
}
