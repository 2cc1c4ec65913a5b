#include "cli/client.h"

#include <sys/socket.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "sys/unix_socket.h"
#include "wire/agent_process.h"

namespace tess::cli {

using nlohmann::json;

Result<Client> Client::connect() {
  const std::string path = wire::control_socket();
  auto fd = sys::connect_unix(path);
  if (fd) {
    return Client(std::move(*fd));
  }
  const int error = fd.error().sys_errno();
  if (error == EACCES || error == EPERM) {
    return fail(ErrorKind::kNotPossible,
                "may not talk to tessd at {}: become root or a member of group tessera", path);
  }
  if (error == ENOENT || error == ECONNREFUSED || fd.error().kind() == ErrorKind::kRetry) {
    return fail(
        ErrorKind::kDisconnected,
        "tessd does not run on this machine (nobody listens at {}); start it with `systemctl "
        "start tessd` or as root `tessd`",
        path);
  }
  return tl::unexpected(std::move(fd.error()));
}

Result<> Client::send(const json& request) {
  // MSG_NOSIGNAL: the disposition of SIGPIPE belongs to the command that `run` becomes.
  const std::string line = request.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  size_t sent = 0;
  while (sent < line.size()) {
    const ssize_t n = ::send(fd_.get(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return fail_errno("ask tessd");
    }
    sent += static_cast<size_t>(n);
  }
  return {};
}

// One line of JSON from tessd.
static Result<json> parse(const std::string& line) {
  json answer = json::parse(line, nullptr, false);
  if (!answer.is_object()) {
    return fail(ErrorKind::kBadInput,
                "tessd's answer makes no sense; are tess and tessd of the same version?");
  }
  return answer;
}

Result<json> Client::receive() {
  TESS_TRY_ASSIGN(const std::string line, receive_line(0));
  return parse(line);
}

Result<std::optional<json>> Client::receive_now() {
  TESS_TRY_ASSIGN(const std::string line, receive_line(MSG_DONTWAIT));
  std::optional<json> answer;
  if (!line.empty()) {
    TESS_TRY_ASSIGN(json parsed, parse(line));
    answer.emplace(std::move(parsed));
  }
  return answer;
}

Result<std::string> Client::receive_line(int flags) {
  size_t end = 0;
  while ((end = buffer_.find('\n')) == std::string::npos) {
    char piece[16 << 10];
    const ssize_t n = ::recv(fd_.get(), piece, sizeof(piece), flags);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0 && errno == EAGAIN && flags != 0) {
      return std::string();
    }
    if (n < 0) {
      return fail_errno("hear from tessd");
    }
    if (n == 0) {
      return fail(ErrorKind::kDisconnected, "tessd has ended in the middle of this");
    }
    buffer_.append(piece, static_cast<size_t>(n));
  }
  std::string line = buffer_.substr(0, end + 1);
  buffer_.erase(0, end + 1);
  return line;
}

void print_error(const std::string& text) {
  std::fprintf(stderr, "tess: %s\n", text.c_str());
}

std::string check_pid(const std::string& text) {
  const bool good = !text.empty() && text.size() < 10 && text[0] != '0' &&
                    text.find_first_not_of("0123456789") == std::string::npos;
  return good ? std::string() : fmt::format("'{}' is not a process id", text);
}

void print_json(const json& value) {
  std::puts(value.dump(-1, ' ', false, json::error_handler_t::replace).c_str());
}

ExitCode exit_code_for(const json& answer) {
  if (answer.value("ok", false)) {
    return kOk;
  }
  const std::string code = answer.value("code", "failed");
  if (code == "unknown_pid" || code == "unknown_node" || code == "unknown_job") {
    return kUnknown;
  }
  if (code == "not_permitted") {
    return kNotPermitted;
  }
  if (code == "refused") {
    return kRefused;
  }
  if (code == "unavailable") {
    return kUnavailable;
  }
  return code == "bad_request" ? kUsage : kFailed;
}

json ask(const json& request, ExitCode& code) {
  auto client = Client::connect();
  if (!client) {
    print_error(client.error().message());
    code = kNoDaemon;
    return json::object();
  }
  Result<> sent = client->send(request);
  while (sent) {
    auto answer = client->receive();
    if (!answer) {
      sent = tl::unexpected(std::move(answer.error()));
      break;
    }
    if (answer->contains("event")) {
      std::fprintf(stderr, "tess: %s\n", answer->value("text", "").c_str());
      continue;
    }
    code = exit_code_for(*answer);
    if (code != kOk) {
      print_error(answer->value("error", "tessd gives no reason"));
    }
    return std::move(*answer);
  }
  print_error(sent.error().message());
  code = kNoDaemon;
  return json::object();
}

}  // namespace tess::cli
