#include "cli/top_feed.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/users.h"

namespace tess::cli::top {
namespace {

using nlohmann::json;

const json& nodes_request() {
  static const json request = {{"op", "nodes"}};
  return request;
}
const json& processes_request() {
  static const json request = {{"op", "ps"}, {"all", true}, {"follow", false}};
  return request;
}

// Longer than tessd gives another node to answer.
constexpr std::chrono::seconds kPatience{10};

}  // namespace

bool Feed::connect() {
  auto client = Client::connect();
  if (!client) {
    return lost(client.error().message());
  }
  client_ = std::move(*client);
  state_ = State::kIdle;
  return false;
}

bool Feed::lost(const std::string& reason) {
  client_.reset();
  state_ = State::kIdle;
  const bool news = trouble_ != reason;
  trouble_ = reason;
  return news;
}

bool Feed::ask(const json& request) {
  const auto sent = client_->send(request);
  return !sent && lost(sent.error().message());
}

bool Feed::turn(Time now) {
  bool news = false;
  while (client_) {
    auto line = client_->receive_now();
    if (!line) {
      news |= lost(line.error().message());
      due_ = now + interval_;
    } else if (!line->has_value()) {
      break;
    } else {
      news |= take(std::move(**line));
    }
  }
  if (client_ && state_ != State::kIdle && now > asked_ + kPatience) {
    news |= lost("tessd does not answer");
  }
  if (now < due_ || state_ != State::kIdle) {
    return news;
  }
  due_ = now + interval_;
  if (!client_) {
    news |= connect();
  }
  if (client_) {
    state_ = State::kAskedNodes;
    asked_ = now;
    news |= ask(nodes_request());
  }
  return news;
}

bool Feed::take(json answer) {
  if (!answer.value("ok", false)) {
    return lost(answer.value("error", "tessd gives no reason"));
  }
  if (state_ == State::kAskedNodes) {
    nodes_ = answer.dump(-1, ' ', false, json::error_handler_t::replace);
    state_ = State::kAskedProcesses;
    return ask(processes_request());
  }
  if (state_ == State::kAskedProcesses) {
    add_users(answer["processes"]);
    picture_ = make_picture(json::parse(nodes_, nullptr, false), answer);
    has_picture_ = true;
    trouble_.clear();
    state_ = State::kIdle;
    return true;
  }
  return false;
}

Result<Picture> fetch_picture() {
  TESS_TRY_ASSIGN(Client client, Client::connect());
  TESS_TRY(client.send(nodes_request()));
  TESS_TRY_ASSIGN(const json nodes, client.receive());
  TESS_TRY(client.send(processes_request()));
  TESS_TRY_ASSIGN(json processes, client.receive());
  for (const json* answer : {&nodes, static_cast<const json*>(&processes)}) {
    if (!answer->value("ok", false)) {
      return fail(ErrorKind::kFailed, "{}", answer->value("error", "tessd gives no reason"));
    }
  }
  add_users(processes["processes"]);
  return make_picture(nodes, processes);
}

}  // namespace tess::cli::top
