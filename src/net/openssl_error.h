// The text of OpenSSL's error queue of this thread; empties it.
#pragma once

#include <string>

namespace tess::net {
std::string openssl_error();
}  // namespace tess::net
