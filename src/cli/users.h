// Names for the numbers that people do not think in: users and signals.
#pragma once

#include <sys/types.h>

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

namespace tess::cli {

// Adds `user` to each process of an answer to `ps`. tessd knows numbers only; names are looked up
// here, where waiting for a directory server harms nobody.
void add_users(nlohmann::json& processes);
std::string user_name(uid_t uid);
// By name or number; nullopt: there is none of that name.
std::optional<uid_t> user_number(const std::string& text);

// "TERM", "SIGTERM", "sigterm", "15"; -1 if it is none. 0 is one: it only asks whether one might.
int signal_number(const std::string& text);
std::string signal_name(int number);

}  // namespace tess::cli
