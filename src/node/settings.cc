#include "node/settings.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cluster/placement/picture.h"
#include "sys/files.h"

namespace tess::node {
namespace {

using nlohmann::json;

// A policy value that can be set while tessd runs: a number, or seconds.
struct Setting {
  const char* name;
  double least;
  double most;
  double (*get)(const placement::Policy&);
  void (*set)(placement::Policy&, double);
};

#define TESS_SETTING(name, least, most)                                                 \
  {                                                                                     \
#name, least, most,                                                                 \
        [](const placement::Policy& p) { return p.name; }, [](placement::Policy & p,    \
                                                              double v) { p.name = v; } \
  }
#define TESS_SETTING_SECONDS(name, least, most)                                              \
  {                                                                                          \
#name, least, most, [](const placement::Policy& p) { return placement::seconds(p.name); }, \
        [](placement::Policy& p, double v) { p.name = placement::from_seconds(v); } \
  }

constexpr Setting kSettings[] = {
    TESS_SETTING(hysteresis, 0, 1),
    TESS_SETTING(price_margin, 0, 100),
    TESS_SETTING(bandwidth_bytes_per_s, 1e3, 1e12),
    TESS_SETTING(link_share, 0.01, 1),
    TESS_SETTING(stream_bytes_per_s, 1e3, 1e12),
    TESS_SETTING_SECONDS(rate_half_life, 1, 1e6),
    TESS_SETTING(memory_low, 0, 1),
    TESS_SETTING(memory_high, 0, 1),
    TESS_SETTING(memory_reserve, 0, 1),
    TESS_SETTING(turn_lag, 0, 10),
    TESS_SETTING_SECONDS(residency, 0, 86400),
    TESS_SETTING_SECONDS(max_residency, 0, 86400),
    TESS_SETTING_SECONDS(no_return, 0, 86400),
    TESS_SETTING_SECONDS(move_fixed, 0, 3600),
    TESS_SETTING_SECONDS(max_age, 1, 3600),
    TESS_SETTING_SECONDS(home_call_overhead, 0, 1),
};
#undef TESS_SETTING
#undef TESS_SETTING_SECONDS

constexpr const char* kBalance = "balance";

const Setting* find(const std::string& name) {
  const auto* found = std::find_if(std::begin(kSettings), std::end(kSettings),
                                   [&](const Setting& setting) { return name == setting.name; });
  return found == std::end(kSettings) ? nullptr : found;
}

Result<> check(const std::string& name, const std::string& value) {
  if (name == kBalance) {
    if (value != "on" && value != "off") {
      return fail(ErrorKind::kBadInput, "balance is 'on' or 'off', or 'default'");
    }
    return {};
  }
  const Setting* setting = find(name);
  if (setting == nullptr) {
    return fail(ErrorKind::kBadInput, "there is no setting '{}'", name);
  }
  char* end = nullptr;
  const double number = std::strtod(value.c_str(), &end);
  if (value.empty() || *end != '\0' || !(number >= setting->least && number <= setting->most)) {
    return fail(ErrorKind::kBadInput, "{} is a number from {} to {}, or 'default'", name,
                setting->least, setting->most);
  }
  return {};
}

}  // namespace

Settings::Settings(std::string state_dir) : path_(std::move(state_dir) + "/settings.json") {}

Result<> Settings::load() {
  std::error_code missing;
  if (!std::filesystem::exists(path_, missing)) {
    return {};
  }
  TESS_TRY_ASSIGN(const std::string text, sys::read_file(path_, 64 << 10));
  const json values = json::parse(text, nullptr, false);
  if (!values.is_object()) {
    return fail(ErrorKind::kBadInput, "{} is not a JSON object", path_);
  }
  std::map<std::string, std::string> chosen;
  for (const auto& [name, value] : values.items()) {
    if (!value.is_string()) {
      return fail(ErrorKind::kBadInput, "{}: {} is not a text", path_, name);
    }
    if (const auto good = check(name, value.get<std::string>()); !good) {
      return fail(ErrorKind::kBadInput, "{}: {}", path_, good.error().message());
    }
    chosen[name] = value.get<std::string>();
  }
  chosen_ = std::move(chosen);
  return {};
}

Result<> Settings::set(const std::string& name, const std::string& value) {
  auto chosen = chosen_;
  if (value == kDefault) {
    if (name != kBalance && find(name) == nullptr) {
      return check(name, value);
    }
    chosen.erase(name);
  } else {
    TESS_TRY(check(name, value));
    chosen[name] = value;
  }
  TESS_TRY(sys::replace_file(path_, json(chosen).dump(2) + "\n"));
  chosen_ = std::move(chosen);
  return {};
}

placement::Policy Settings::policy() const {
  placement::Policy policy;
  for (const auto& [name, value] : chosen_) {
    if (const Setting* setting = find(name)) {
      setting->set(policy, std::strtod(value.c_str(), nullptr));
    }
  }
  return policy;
}

std::optional<bool> Settings::balance() const {
  const auto found = chosen_.find(kBalance);
  return found == chosen_.end() ? std::nullopt : std::optional<bool>(found->second == "on");
}

std::map<std::string, double> Settings::numbers() const {
  const placement::Policy now = policy();
  std::map<std::string, double> values;
  for (const Setting& setting : kSettings) {
    values[setting.name] = setting.get(now);
  }
  return values;
}

}  // namespace tess::node
