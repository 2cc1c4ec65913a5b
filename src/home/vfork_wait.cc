#include "home/vfork_wait.h"

#include <chrono>
#include <thread>

#include "migrate/sharing.h"

namespace tess::home {

bool wait_out_vfork(pid_t pid) {
  constexpr std::chrono::milliseconds kLongest(5'000);  // the child may wait for a CPU
  constexpr std::chrono::milliseconds kLook(2);
  const auto deadline = std::chrono::steady_clock::now() + kLongest;
  while (!migrate::find_clone_sharers(pid).empty()) {
    if (std::chrono::steady_clock::now() >= deadline) {
      return false;
    }
    std::this_thread::sleep_for(kLook);
  }
  return true;
}

}  // namespace tess::home
