// The title that a process gives itself by writing over its arguments (setproctitle): whoever is at
// home reads it there, from the deputy, so a change goes home in front of the next request.
#include "stub/blob/body.h"
#include "stub/marshal.h"

namespace tess::stub {
namespace {

inline constexpr uint64_t kTitleMax = 4096;

// Up to the end of the arguments; if they do not end there, the title goes on into the environment
// (get_mm_cmdline in fs/proc/base.c).
uint64_t title_size(const ControlBlock& control) {
  uint8_t last = 0;
  if (control.title_end <= control.title_begin ||
      !copy_from_app(&last, control.title_end - 1, sizeof(last))) {
    return 0;
  }
  const bool longer = last != 0 && control.environment_end > control.title_end;
  return lesser((longer ? control.environment_end : control.title_end) - control.title_begin,
                kTitleMax);
}

// Never 0, which stands for no digest.
uint64_t digest_of(const uint64_t* words, uint64_t count) {
  uint64_t digest = count;
  for (uint64_t i = 0; i < count; ++i) {
    digest = (digest ^ words[i]) * 0x9e37'79b9'7f4a'7c15;
    digest ^= digest >> 29;
  }
  return digest | 1;
}

}  // namespace

void tell_title(Slot* slot) {
  ControlBlock& control = control_of(slot);
  uint64_t title[kTitleMax / sizeof(uint64_t)];
  const uint64_t size = title_size(control);
  const uint64_t count = (size + sizeof(uint64_t) - 1) / sizeof(uint64_t);
  if (size == 0 || priv(slot).vfork_child != 0) {  // that has its parent's
    return;
  }
  title[count - 1] = 0;
  if (!copy_from_app(title, control.title_begin, size)) {
    return;
  }
  const uint64_t digest = digest_of(title, count);
  if (digest == __atomic_load_n(&control.title_told, __ATOMIC_RELAXED)) {
    return;
  }
  const uint64_t args[6] = {control.title_begin, size, 0, 0, 0, 0};
  const OwnSegment text{title, (uint32_t)size, nullptr, 0};
  put_own_request(slot, kOpTitle, args, &text, 1, 0);
  __atomic_store_n(&control.title_told, digest, __ATOMIC_RELAXED);
}

}  // namespace tess::stub
