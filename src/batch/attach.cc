#include "batch/attach.h"

#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "sys/process.h"
#include "sys/unix_socket.h"

namespace tess::batch {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

constexpr auto kTessdReturns = 10min;
constexpr auto kPause = 200ms;
// An agent that lost tessd in the middle of this connects again within a second; until then a new
// tessd does not know that this process has one.
constexpr int kTriesAfterLoss = 10;

json request_of(const JobSpec& spec) {
  json wishes = {{"home", spec.home},
                 {"stay", spec.stay},
                 {"cpu_bound", spec.cpu_bound},
                 {"avoid", spec.avoid},
                 {"cpus", spec.cpus}};
  if (spec.memory_bytes != 0) {
    wishes["memory_bytes"] = spec.memory_bytes;
  }
  return {
      {"op", "run"}, {"node", spec.node}, {"node_id", spec.node_id}, {"wishes", std::move(wishes)}};
}

// kDisconnected: tessd went away in the middle.
Result<json> converse(const sys::Fd& socket, const std::string& line) {
  const auto gone = [] { return fail(ErrorKind::kDisconnected, "tessd went away"); };
  for (size_t sent = 0; sent < line.size();) {
    const ssize_t n = ::send(socket.get(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (n <= 0 && errno != EINTR) {
      return gone();
    }
    sent += n > 0 ? static_cast<size_t>(n) : 0;
  }
  std::string text;
  while (true) {
    for (size_t end = 0; (end = text.find('\n')) != std::string::npos; text.erase(0, end + 1)) {
      json answer = json::parse(text.substr(0, end), nullptr, false);
      if (!answer.is_object()) {
        return fail(ErrorKind::kBadInput, "tessd's answer makes no sense");
      }
      if (!answer.contains("event")) {
        return answer;
      }
    }
    char piece[4096];
    const ssize_t n = ::recv(socket.get(), piece, sizeof(piece), 0);
    if (n > 0) {
      text.append(piece, static_cast<size_t>(n));
    } else if (n == 0 || errno != EINTR) {
      return gone();
    }
  }
}

}  // namespace

Result<> attach_to_tessd(const Order& order) {
  const std::string line =
      request_of(order.spec).dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  const auto give_up_at = sys::after(kTessdReturns);
  int tries_after_loss = -1;  // not lost so far
  while (true) {
    auto socket = sys::connect_unix(order.control_socket);
    if (!socket && socket.error().kind() != ErrorKind::kRetry) {
      return tl::unexpected(std::move(socket.error()));
    }
    auto answer = socket ? converse(*socket, line)
                         : Result<json>(fail(ErrorKind::kRetry, "tessd does not run"));
    if (answer && answer->value("ok", false)) {
      return {};
    }
    if (answer) {
      const bool later = answer->value("code", "") == "unavailable";
      const std::string why = answer->value("error", "tessd gives no reason");
      if (tries_after_loss <= 0) {
        return fail(later ? ErrorKind::kRetry : ErrorKind::kFailed, "{}", why);
      }
      --tries_after_loss;
    } else if (answer.error().kind() == ErrorKind::kDisconnected) {
      tries_after_loss = kTriesAfterLoss;
    } else if (answer.error().kind() != ErrorKind::kRetry ||
               std::chrono::steady_clock::now() > give_up_at) {
      return tl::unexpected(std::move(answer.error()));
    }
    ::usleep(std::chrono::microseconds(kPause).count());  // between two looks
  }
}

}  // namespace tess::batch
