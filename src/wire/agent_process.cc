#include "wire/agent_process.h"

#include <cstdlib>

namespace tess::wire {
namespace {

std::string from_environment(const char* variable, const char* otherwise) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0' ? value : otherwise;
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') {
    return c - '0';
  }
  if (c >= 'a' && c <= 'f') {
    return c - 'a' + 10;
  }
  if (c >= 'A' && c <= 'F') {
    return c - 'A' + 10;
  }
  return -1;
}

}  // namespace

std::string state_dir() {
  return from_environment("TESS_STATE_DIR", "/var/lib/tessera");
}
std::string run_dir() {
  return from_environment("TESS_RUN_DIR", "/run/tessera");
}
std::string config_path() {
  return from_environment("TESS_CONFIG", "/etc/tessera/tessera.toml");
}
std::string control_socket() {
  return run_dir() + "/control.sock";
}
std::string agents_socket() {
  return run_dir() + "/agents.sock";
}

std::string to_hex(const std::string& bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const unsigned char byte : bytes) {
    text.push_back(kDigits[byte >> 4]);
    text.push_back(kDigits[byte & 15]);
  }
  return text;
}

std::string from_hex(const std::string& text) {
  if (text.size() % 2 != 0) {
    return {};
  }
  std::string bytes;
  bytes.reserve(text.size() / 2);
  for (size_t i = 0; i < text.size(); i += 2) {
    const int high = hex_value(text[i]);
    const int low = hex_value(text[i + 1]);
    if (high < 0 || low < 0) {
      return {};
    }
    bytes.push_back(static_cast<char>(high << 4 | low));
  }
  return bytes;
}

}  // namespace tess::wire
