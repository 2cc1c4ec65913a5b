// Inside of ControlApi: one request in the making, for the files that carry operations.
#pragma once

#include <nlohmann/json.hpp>

#include "net/loop.h"
#include "node/control_api.h"

namespace tess::node {

// Text of agents and processes need not be UTF-8; JSON must be.
std::string json_text(const nlohmann::json& value);
const char* code_of(const Error& error);

struct ControlApi::Request {
  Caller caller;
  nlohmann::json body;
  std::shared_ptr<ControlReply> reply;
  std::unique_ptr<net::Timer> timer;

  void ok(nlohmann::json answer) {
    answer["ok"] = true;
    reply->send_line(json_text(answer));
  }
  void error(const char* code, const std::string& text) {
    reply->send_line(json_text({{"ok", false}, {"code", code}, {"error", text}}));
  }
  void error(const Error& failure) { error(code_of(failure), failure.message()); }
  std::string text(const char* key) const {
    const auto found = body.find(key);
    return found != body.end() && found->is_string() ? found->get<std::string>() : std::string();
  }
  bool flag(const char* key) const {
    const auto found = body.find(key);
    return found != body.end() && found->is_boolean() && found->get<bool>();
  }
};

}  // namespace tess::node
