#include "lab/spec.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>

namespace tess::lab {
namespace {

constexpr uint64_t kSmallestMemory = uint64_t{16} << 20;
constexpr uint64_t kSmallestRate = 64'000;
constexpr double kSmallestCpus = 0.01;
constexpr uint64_t kSmallestBurst = 16 << 10;
constexpr uint64_t kSmallestQueue = 128 << 10;

// A number with a unit: splits "1.5Gbit" into 1.5 and "gbit".
Result<std::pair<double, std::string>> split_unit(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  const bool starts_well = !text.empty() && std::isdigit(static_cast<unsigned char>(text[0])) != 0;
  if (!starts_well || !std::isfinite(value) || value < 0) {
    return fail(ErrorKind::kBadInput, "'{}' is not a number with a unit", text);
  }
  std::string unit(end);
  std::transform(unit.begin(), unit.end(), unit.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::pair{value, unit};
}

Result<uint64_t> scale(double value, char prefix, double base, const std::string& text) {
  const std::string prefixes = "kmgt";
  const size_t power = prefix == '\0' ? 0 : prefixes.find(prefix) + 1;
  const double scaled = value * std::pow(base, static_cast<double>(power));
  if (scaled >= 9e18) {
    return fail(ErrorKind::kBadInput, "'{}' is too large", text);
  }
  return static_cast<uint64_t>(std::llround(scaled));
}

// "m" + one of the endings, or one of them alone; the prefix character or '\0'.
std::optional<char> unit_prefix(std::string unit, const std::vector<std::string>& endings) {
  for (const std::string& ending : endings) {
    if (!ending.empty() && unit.size() >= ending.size() && unit.ends_with(ending)) {
      unit.resize(unit.size() - ending.size());
      break;
    }
  }
  if (unit.empty()) {
    return '\0';
  }
  if (unit.size() == 1 && std::string("kmgt").find(unit[0]) != std::string::npos) {
    return unit[0];
  }
  return std::nullopt;
}

}  // namespace

Result<> check_spec(const Spec& spec) {
  const bool good_name = !spec.name.empty() && spec.name.size() <= 32 &&
                         std::isalnum(static_cast<unsigned char>(spec.name[0])) != 0 &&
                         std::all_of(spec.name.begin(), spec.name.end(), [](unsigned char c) {
                           return std::isalnum(c) != 0 || c == '-' || c == '_';
                         });
  if (!good_name) {
    return fail(ErrorKind::kBadInput,
                "'{}' cannot be the name of a lab: 1 to 32 letters, digits, '-' and '_', starting "
                "with a letter or digit",
                spec.name);
  }
  if (spec.node_count < 1 || spec.node_count > kMaxNodes) {
    return fail(ErrorKind::kBadInput, "a lab has 1 to {} nodes, not {}", kMaxNodes,
                spec.node_count);
  }
  if (spec.cpus && !(*spec.cpus >= kSmallestCpus && *spec.cpus <= 4096)) {
    return fail(ErrorKind::kBadInput, "--cpus {}: at least {} of a CPU", *spec.cpus, kSmallestCpus);
  }
  if (spec.memory_bytes && *spec.memory_bytes < kSmallestMemory) {
    return fail(ErrorKind::kBadInput, "--memory: a node needs at least {} MiB",
                kSmallestMemory >> 20);
  }
  if (spec.rate_bits && *spec.rate_bits < kSmallestRate) {
    return fail(ErrorKind::kBadInput, "--rate: at least {} bits a second", kSmallestRate);
  }
  return {};
}

std::string node_name(int number) {
  return fmt::format("n{}", number);
}

std::string node_address(int subnet, int number) {
  return fmt::format("10.77.{}.{}", subnet, number);
}

std::string node_config(const Spec& spec, int subnet, int number) {
  std::string text = fmt::format("name = \"{}\"\nlisten = \"{}:{}\"\n", node_name(number),
                                 node_address(subnet, number), kTessdPort);
  if (!spec.balance) {
    text += "balance = false\n";
  }
  for (int other = 1; other <= spec.node_count; ++other) {
    if (other != number) {
      text += fmt::format("\n[[node]]\nname = \"{}\"\naddress = \"{}:{}\"\n", node_name(other),
                          node_address(subnet, other), kTessdPort);
    }
  }
  return text;
}

Result<uint64_t> parse_bytes(const std::string& text) {
  TESS_TRY_ASSIGN(const auto number, split_unit(text));
  const auto prefix = unit_prefix(number.second, {"ib", "b"});
  if (!prefix) {
    return fail(ErrorKind::kBadInput, "'{}' is not a size; for example 512M or 2G", text);
  }
  return scale(number.first, *prefix, 1024, text);
}

Result<uint64_t> parse_bits(const std::string& text) {
  TESS_TRY_ASSIGN(const auto number, split_unit(text));
  const auto prefix = unit_prefix(number.second, {"bit", "bps"});
  if (!prefix) {
    return fail(ErrorKind::kBadInput, "'{}' is not a rate; for example 100mbit or 1gbit", text);
  }
  return scale(number.first, *prefix, 1000, text);
}

Bucket bucket_for(uint64_t rate_bits) {
  const uint64_t bytes_per_second = rate_bits / 8;
  return {std::max(bytes_per_second / 200, kSmallestBurst),
          std::max(bytes_per_second / 20, kSmallestQueue)};
}

}  // namespace tess::lab
