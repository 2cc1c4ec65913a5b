#include "host/tessd_client.h"

#include <unistd.h>

#include <utility>

#include "wire/node.pb.h"

namespace tess::host {

TessdClient::TessdClient(net::Loop& loop, std::string socket_path, uint64_t job,
                         std::string home_node, Handlers handlers)
    : job_(job),
      home_node_(std::move(home_node)),
      handlers_(std::move(handlers)),
      tessd_(loop, std::move(socket_path),
             {.connected = [this](bool) { introduce(); },
              .message = [this](const wire::AgentDown& message) { handle(message); },
              .lost = [this] { recall_request_ = 0; }}) {
  tessd_.start();
}

void TessdClient::introduce() {
  wire::AgentUp message;
  wire::Register& registration = *message.mutable_register_();
  registration.set_job(job_);
  registration.set_role(wire::Register::HOST);
  registration.set_agent_pid(::getpid());
  registration.set_home_node(home_node_);
  tessd_.send(message);
  send_status();
}

void TessdClient::handle(const wire::AgentDown& message) {
  if (message.has_recall()) {
    recall_request_ = message.request();
    handlers_.recall();
  }
}

void TessdClient::send_status(bool finished) {
  wire::AgentUp message;
  wire::JobStatus& status = *message.mutable_job_status();
  status.set_job(job_);
  status.set_finished(finished);
  handlers_.fill_status(status);
  tessd_.send(message);
}

void TessdClient::recall_done() {
  if (recall_request_ == 0) {
    return;
  }
  wire::AgentUp message;
  message.set_request(std::exchange(recall_request_, 0));
  message.mutable_answer()->set_ok(true);
  tessd_.send(message);
}

}  // namespace tess::host
