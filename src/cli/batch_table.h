// How `tess batch` shows jobs to people.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace tess::cli {

std::string batch_table(const nlohmann::json& jobs);
std::string batch_details(const nlohmann::json& job);

}  // namespace tess::cli
