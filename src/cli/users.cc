#include "cli/users.h"

#include <fmt/format.h>
#include <pwd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

namespace tess::cli {

std::string user_name(uid_t uid) {
  static std::map<uid_t, std::string> known;
  auto& name = known[uid];
  if (name.empty()) {
    const passwd* entry = ::getpwuid(uid);
    name = entry != nullptr ? entry->pw_name : std::to_string(uid);
  }
  return name;
}

std::optional<uid_t> user_number(const std::string& text) {
  if (const passwd* entry = ::getpwnam(text.c_str()); entry != nullptr) {
    return entry->pw_uid;
  }
  const bool digits = !text.empty() && text.size() < 10 &&
                      text.find_first_not_of("0123456789") == std::string::npos;
  return digits ? std::optional<uid_t>(std::stoul(text)) : std::nullopt;
}

void add_users(nlohmann::json& processes) {
  for (auto& process : processes) {
    process["user"] = user_name(process.value("uid", 0U));
  }
}

std::string signal_name(int number) {
  const char* name = ::sigabbrev_np(number);
  return name != nullptr ? name : std::to_string(number);
}

int signal_number(const std::string& text) {
  if (!text.empty() && text.size() < 3 &&
      text.find_first_not_of("0123456789") == std::string::npos) {
    const int number = std::stoi(text);
    return number <= SIGRTMAX ? number : -1;
  }
  std::string name = text;
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (name.starts_with("SIG")) {
    name.erase(0, 3);
  }
  for (int number = 1; number < SIGRTMIN; ++number) {
    const char* known = ::sigabbrev_np(number);
    if (known != nullptr && name == known) {
      return number;
    }
  }
  return -1;
}

}  // namespace tess::cli
