// ProgramBook: what a job's programs have cost, to decide at the next exec of one whether it is
// worth asking where it should run. A program that has been short costs nothing: it stays where
// files and parents are. Plain values; no clock, no processes.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace tess::home {

class ProgramBook {
 public:
  struct Advice {
    bool ask = false;      // false: it stays at home
    uint64_t work_ns = 0;  // of CPU that it is expected to take; 0: not known
  };
  // It begins. Call ended() once for each.
  Advice begins(const std::string& program);
  // `cpu_ns`: what it took from its exec on; nullptr: not known.
  void ended(const std::string& program, const uint64_t* cpu_ns);

 private:
  struct Known {
    uint64_t runs = 0;  // that have ended, with what they took
    double work_ns = 0;
    uint64_t begun = 0;  // and not ended
  };
  std::map<std::string, Known> programs_;
};

}  // namespace tess::home
