// Tables and quantities for people.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tess::cli {

class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kLeft;
    size_t max_width = 0;  // 0: as wide as it takes
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  // With a line of titles; two spaces between columns, no trailing ones.
  std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

std::string bytes_text(uint64_t bytes);    // "12.3M"
std::string seconds_text(double seconds);  // "1:02.5", "1:02:03"

// Control characters made visible, so that a process name cannot play with the terminal; columns
// are counted in code points.
std::string printable(const std::string& text);
std::string cut(const std::string& text, size_t width);

}  // namespace tess::cli
