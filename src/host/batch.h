// Raw system calls to be made by a parked body, collected and run in order; the first failure stops
// and is reported with `what`.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "base/result.h"
#include "stub/session.h"

namespace tess::host {

class Batch {
 public:
  template <typename... Args>
  void add(int64_t number, Args... args) {
    requests_.push_back({number, {static_cast<uint64_t>(args)...}, stub::kNotRun});
  }
  bool empty() const { return requests_.empty(); }
  size_t size() const { return requests_.size(); }

  Result<> run(stub::Session& session, const char* what) {
    auto done = session.batch(requests_, true);
    requests_.clear();
    if (!done) {
      return fail_with(std::move(done.error()), "{}", what);
    }
    return {};
  }
  // Runs all; failures do not matter. The calls, with their results.
  std::vector<stub::SyscallRequest> try_all(stub::Session& session) {
    (void)session.batch(requests_, false);
    return std::exchange(requests_, {});
  }

 private:
  std::vector<stub::SyscallRequest> requests_;
};

}  // namespace tess::host
