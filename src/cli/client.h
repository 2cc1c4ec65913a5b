// A conversation with this node's tessd over its control socket (docs/control-api.md): JSON lines,
// in and out. Blocking.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "base/result.h"
#include "cli/exit_codes.h"
#include "sys/fd.h"

namespace tess::cli {

class Client {
 public:
  // The error says what to do: start tessd, become root or a member of the group.
  static Result<Client> connect();
  Result<> send(const nlohmann::json& request);
  // Next line; kDisconnected when tessd has gone.
  Result<nlohmann::json> receive();
  // The same without waiting: nothing if no whole line is there yet. For poll(2) there is fd().
  Result<std::optional<nlohmann::json>> receive_now();
  int fd() const { return fd_.get(); }

 private:
  explicit Client(sys::Fd fd) : fd_(std::move(fd)) {}
  // With its end; empty if it is not there yet and `flags` say not to wait.
  Result<std::string> receive_line(int flags);
  sys::Fd fd_;
  std::string buffer_;
};

// One request and its final answer. Lines about progress go to standard error meanwhile. A failure
// has been printed when `code` is not kOk.
nlohmann::json ask(const nlohmann::json& request, ExitCode& code);
ExitCode exit_code_for(const nlohmann::json& answer);
void print_error(const std::string& text);
// For CLI11: empty, or what is wrong with the text as a process id.
std::string check_pid(const std::string& text);

// JSON to standard output, one line; bytes that are not UTF-8 are replaced.
void print_json(const nlohmann::json& value);

}  // namespace tess::cli
