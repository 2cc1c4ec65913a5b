#include "node/http.h"

#include <fmt/format.h>

#include <algorithm>

namespace tess::node {
namespace {

const char* reason_of(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    default:
      return "Internal Server Error";
  }
}

bool is_token(std::string_view text) {
  return !text.empty() && text.size() <= 16 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
}

}  // namespace

HttpRead read_http_head(std::string_view bytes, HttpRequest& request) {
  size_t end = bytes.find("\r\n\r\n");
  const size_t bare = bytes.find("\n\n");  // as typed by hand
  end = std::min(end, bare);
  if (end == std::string_view::npos || end > kHttpHeadMost) {
    return bytes.size() > kHttpHeadMost ? HttpRead::kBad : HttpRead::kIncomplete;
  }
  std::string_view line = bytes.substr(0, bytes.find('\n'));
  if (line.ends_with('\r')) {
    line.remove_suffix(1);
  }
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == std::string_view::npos || last <= first) {
    return HttpRead::kBad;
  }
  const std::string_view target = line.substr(first + 1, last - first - 1);
  if (!is_token(line.substr(0, first)) || !target.starts_with('/') ||
      target.find(' ') != std::string_view::npos || !line.substr(last + 1).starts_with("HTTP/1.")) {
    return HttpRead::kBad;
  }
  request.method = line.substr(0, first);
  request.path = target.substr(0, target.find('?'));
  return HttpRead::kWhole;
}

std::string http_answer(int status, const std::string& type, const std::string& body,
                        bool head_only) {
  return fmt::format(
      "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}Connection: close\r\n\r\n{}",
      status, reason_of(status), type, body.size(), status == 405 ? "Allow: GET, HEAD\r\n" : "",
      head_only ? "" : body);
}

}  // namespace tess::node
