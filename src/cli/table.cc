#include "cli/table.h"

#include <fmt/format.h>

#include <algorithm>

namespace tess::cli {
namespace {

bool is_continuation(char c) {
  return (static_cast<unsigned char>(c) & 0xc0) == 0x80;
}

size_t width_of(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return !is_continuation(c); }));
}

}  // namespace

std::string printable(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    out.push_back(byte < 0x20 || byte == 0x7f ? '?' : c);
  }
  return out;
}

std::string cut(const std::string& text, size_t width) {
  if (width_of(text) <= width) {
    return text;
  }
  std::string out;
  size_t seen = 0;
  for (const char c : text) {
    if (!is_continuation(c) && ++seen >= width) {
      break;
    }
    out.push_back(c);
  }
  return out + "…";
}

std::string Table::text() const {
  std::vector<std::vector<std::string>> lines;
  std::vector<std::string> titles;
  for (const Column& column : columns_) {
    titles.push_back(column.title);
  }
  lines.push_back(titles);
  lines.insert(lines.end(), rows_.begin(), rows_.end());
  std::vector<size_t> widths(columns_.size(), 0);
  for (auto& line : lines) {
    for (size_t i = 0; i < columns_.size(); ++i) {
      line[i] = printable(line[i]);
      if (columns_[i].max_width != 0) {
        line[i] = cut(line[i], columns_[i].max_width);
      }
      widths[i] = std::max(widths[i], width_of(line[i]));
    }
  }
  std::string out;
  for (const auto& line : lines) {
    std::string row;
    for (size_t i = 0; i < columns_.size(); ++i) {
      const std::string pad(widths[i] - width_of(line[i]), ' ');
      row += i == 0 ? "" : "  ";
      row += columns_[i].align == Align::kRight ? pad + line[i] : line[i] + pad;
    }
    row.erase(row.find_last_not_of(' ') + 1);
    out += row + "\n";
  }
  return out;
}

std::string bytes_text(uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "K", "M", "G", "T"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{}B", bytes)
                   : fmt::format("{:.{}f}{}", value, value < 100 ? 1 : 0, kUnits[unit]);
}

std::string seconds_text(double seconds) {
  const double rounded = std::max(0.0, seconds);
  const auto whole = static_cast<uint64_t>(rounded);
  if (whole < 3600) {
    return fmt::format("{}:{:04.1f}", whole / 60,
                       std::min(59.9, rounded - static_cast<double>(whole / 60 * 60)));
  }
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

}  // namespace tess::cli
