// Pipes and unix sockets between processes of one machine. (TCP and TLS are src/net's.)
#pragma once

#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace tess::sys {

struct Pipe {
  Fd read;
  Fd write;
};
Result<Pipe> make_pipe();

struct SocketPair {
  Fd first;
  Fd second;
};
// type: SOCK_STREAM, SOCK_SEQPACKET or SOCK_DGRAM; SOCK_NONBLOCK may be added.
Result<SocketPair> make_socket_pair(int type);

// A listening unix stream socket. Whatever socket file was at `path` is replaced. `mode` holds from
// the first moment.
Result<Fd> listen_unix(const std::string& path, mode_t mode = 0600);
// kRetry while nobody listens there (no file yet, or refused): worth trying again.
Result<Fd> connect_unix(const std::string& path);

// One message with descriptors. Blocks. Sending never raises SIGPIPE: a peer that is gone is
// kDisconnected.
Result<> send_message(const Fd& socket, std::span<const std::byte> data,
                      std::span<const int> fds = {});
struct Message {
  std::vector<std::byte> data;  // empty: end of file
  std::vector<Fd> fds;
};
// A message cut short for lack of room is kBadInput.
Result<Message> receive_message(const Fd& socket, size_t max_bytes = 64 << 10, size_t max_fds = 16);

}  // namespace tess::sys
