// What keeps `tess top` fed: a connection to tessd that is asked for nodes and processes once a
// second, and made again when tessd has gone. Never waits: turn() does what is due, fd() is for
// poll(2).
#pragma once

#include <chrono>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "base/result.h"
#include "cli/client.h"
#include "cli/top_model.h"

namespace tess::cli::top {

class Feed {
 public:
  using Time = std::chrono::steady_clock::time_point;

  explicit Feed(std::chrono::milliseconds interval) : interval_(interval) {}

  // True if there is something new to show: a picture, or that there is none.
  bool turn(Time now);
  void hurry() { due_ = {}; }
  // -1: not connected.
  int fd() const { return client_ ? client_->fd() : -1; }
  Time due() const { return due_; }

  const Picture& picture() const { return picture_; }
  bool has_picture() const { return has_picture_; }
  // Why there is nothing newer than picture(); empty: all is well.
  const std::string& trouble() const { return trouble_; }

 private:
  enum class State : uint8_t { kIdle, kAskedNodes, kAskedProcesses };

  bool connect();
  bool lost(const std::string& reason);
  bool ask(const nlohmann::json& request);
  // True: a whole picture has come.
  bool take(nlohmann::json answer);

  const std::chrono::milliseconds interval_;
  std::optional<Client> client_;
  State state_ = State::kIdle;
  Time due_{};
  Time asked_{};
  std::string nodes_;  // the answer, as text
  Picture picture_;
  bool has_picture_ = false;
  std::string trouble_;
};

// One picture, waiting for it. The processes' CPU use is that of the last seconds, measured by
// tessd.
Result<Picture> fetch_picture();

}  // namespace tess::cli::top
