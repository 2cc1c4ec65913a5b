#include "node/http.h"

#include <gtest/gtest.h>

namespace tess::node {
namespace {

HttpRead read(std::string_view bytes, HttpRequest* out = nullptr) {
  HttpRequest request;
  const HttpRead result = read_http_head(bytes, request);
  if (out != nullptr) {
    *out = request;
  }
  return result;
}

TEST(Http, AScrapeIsUnderstood) {
  HttpRequest request;
  EXPECT_EQ(read("GET /metrics?a=b HTTP/1.1\r\nHost: n1:9717\r\nAccept: */*\r\n\r\n", &request),
            HttpRead::kWhole);
  EXPECT_EQ(request.method, "GET");
  EXPECT_EQ(request.path, "/metrics");
  EXPECT_EQ(read("HEAD / HTTP/1.0\n\n", &request), HttpRead::kWhole);
  EXPECT_EQ(request.path, "/");
}

TEST(Http, APartIsWaitedForUpToALimit) {
  EXPECT_EQ(read(""), HttpRead::kIncomplete);
  EXPECT_EQ(read("GET /metrics HTTP/1.1\r\nHost"), HttpRead::kIncomplete);
  EXPECT_EQ(read("GET / HTTP/1.1\r\nX: " + std::string(kHttpHeadMost, 'x')), HttpRead::kBad);
}

TEST(Http, WhatIsNoRequestIsRefused) {
  for (const char* text : {"\r\n\r\n", "GET\r\n\r\n", "GET /x\r\n\r\n", "GET x HTTP/1.1\r\n\r\n",
                           "get / HTTP/1.1\r\n\r\n", "GET /a b HTTP/1.1\r\n\r\n",
                           "GET / HTTP/2\r\n\r\n", "\x16\x03\x01\x02 / HTTP/1.1\r\n\r\n"}) {
    EXPECT_EQ(read(text), HttpRead::kBad) << text;
  }
}

TEST(Http, AnAnswerSaysHowLongItIs) {
  EXPECT_EQ(http_answer(200, "text/plain", "abc"),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: "
            "close\r\n\r\nabc");
  EXPECT_TRUE(http_answer(200, "text/plain", "abc", true).ends_with("\r\n\r\n"));
  EXPECT_NE(http_answer(405, "t", "").find("Allow: GET, HEAD\r\n"), std::string::npos);
}

}  // namespace
}  // namespace tess::node
