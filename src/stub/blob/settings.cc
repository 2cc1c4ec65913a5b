// What prctl and arch_prctl have set for a thread or process and the kernel looks at where the code
// runs: it moves with the thread. Everything else of theirs stays with the deputy.
#include "stub/blob/core.h"

namespace tess::stub {
namespace {

inline constexpr int kGetTsc = 25, kSetTsc = 26, kSetTimerslack = 29, kGetTimerslack = 30,
                     kSetThpDisable = 41, kGetThpDisable = 42, kSetMemoryMerge = 67,
                     kGetMemoryMerge = 68;
inline constexpr int kArchGetCpuid = 0x1011, kArchSetCpuid = 0x1012;
inline constexpr int kTscSigsegv = 2;
inline constexpr uint64_t kUsualSlack = 50'000;
inline constexpr uint32_t kGetPersonality = 0xffffffff;

void set_bit(ThreadContext& t, uint32_t bit, bool on) {
  t.settings = on ? t.settings | bit : t.settings & ~bit;
}

}  // namespace

void save_settings(Slot* slot) {
  ThreadContext& t = slot->thread;
  int32_t tsc = 0;
  sys(__NR_prctl, kGetTsc, &tsc, 0, 0, 0);
  const long slack = sys(__NR_prctl, kGetTimerslack, 0, 0, 0, 0);
  t.timerslack_ns = slack > 0 && (uint64_t)slack != kUsualSlack ? (uint64_t)slack : 0;
  t.settings = 0;
  set_bit(t, kSettingNoTsc, tsc == kTscSigsegv);
  set_bit(t, kSettingNoCpuid, sys(__NR_arch_prctl, kArchGetCpuid, 0) == 0);
  t.personality = (uint32_t)sys(__NR_personality, kGetPersonality);
}

// Each thread carries them, as any may be the last.
void save_process_settings(Slot* any) {
  const bool no_thp = sys(__NR_prctl, kGetThpDisable, 0, 0, 0, 0) > 0;
  const bool merge = sys(__NR_prctl, kGetMemoryMerge, 0, 0, 0, 0) > 0;
  for_each_slot(control_of(any), [&](uint32_t index) {
    ThreadContext& t = slot_at(any, index)->thread;
    set_bit(t, kSettingNoThp, no_thp);
    set_bit(t, kSettingMerge, merge);
  });
}

void inherit_settings(ThreadContext& child) {
  child.settings &= ~(kSettingNoThp | kSettingMerge);
}

void apply_settings(const Slot* slot) {
  const ThreadContext& t = slot->thread;
  if (t.timerslack_ns != 0) {
    sys(__NR_prctl, kSetTimerslack, t.timerslack_ns, 0, 0, 0);
  }
  if (t.personality != (uint32_t)sys(__NR_personality, kGetPersonality)) {
    sys(__NR_personality, t.personality);
  }
  if ((t.settings & kSettingNoTsc) != 0) {
    sys(__NR_prctl, kSetTsc, kTscSigsegv, 0, 0, 0);
  }
  if ((t.settings & kSettingNoCpuid) != 0) {
    sys(__NR_arch_prctl, kArchSetCpuid, 0);
  }
  if ((t.settings & kSettingNoThp) != 0) {
    sys(__NR_prctl, kSetThpDisable, 1, 0, 0, 0);
  }
  if ((t.settings & kSettingMerge) != 0) {
    sys(__NR_prctl, kSetMemoryMerge, 1, 0, 0, 0);
  }
}

void note_setting(Slot* slot, int command, uint64_t value) {
  ThreadContext& t = slot->thread;
  switch (command) {
    case kSetTsc:
      set_bit(t, kSettingNoTsc, (int)value == kTscSigsegv);
      break;
    case kSetTimerslack: {
      const long slack = sys(__NR_prctl, kGetTimerslack, 0, 0, 0, 0);
      t.timerslack_ns = slack > 0 ? (uint64_t)slack : 0;
      break;
    }
    case kArchSetCpuid:
      set_bit(t, kSettingNoCpuid, value == 0);
      break;
    default:
      break;
  }
}

}  // namespace tess::stub
