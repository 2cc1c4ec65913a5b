// As much of HTTP/1.1 as a scrape needs: the head of a request without a body, and an answer after
// which the connection ends. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tess::node {

inline constexpr size_t kHttpHeadMost = 8 << 10;

struct HttpRequest {
  std::string method;
  std::string path;  // without the query
};

enum class HttpRead : uint8_t { kIncomplete, kWhole, kBad };

// `bytes`: all that has come so far.
HttpRead read_http_head(std::string_view bytes, HttpRequest& request);
std::string http_answer(int status, const std::string& type, const std::string& body,
                        bool head_only = false);

}  // namespace tess::node
