#include "home/tessd_client.h"

#include <unistd.h>

#include "wire/node.pb.h"

namespace tess::home {
namespace {

constexpr std::chrono::seconds kHostTimeout{20};
constexpr std::chrono::milliseconds kPlaceTimeout(3000);
constexpr std::chrono::minutes kFetchTimeout(11);  // tessd's own is shorter

}  // namespace

TessdClient::TessdClient(net::Loop& loop, std::string socket_path, uint64_t job, std::string note,
                         Handlers handlers)
    : loop_(loop),
      job_(job),
      note_(std::move(note)),
      handlers_(std::move(handlers)),
      tessd_(loop, std::move(socket_path),
             {.connected = [this](bool again) { introduce(again); },
              .message = [this](const wire::AgentDown& message) { handle(message); },
              .lost = [this] { lost(); }}) {
  tessd_.start();
}

void TessdClient::introduce(bool again) {
  wire::AgentUp message;
  wire::Register& registration = *message.mutable_register_();
  registration.set_job(job_);
  registration.set_role(wire::Register::HOME);
  registration.set_agent_pid(::getpid());
  registration.set_home_node(node_);
  registration.set_note(note_);
  send(message);
  if (again) {
    send_status();  // the first one only when there is something to say: `tess run` takes it for
                    // "seized"
  }
}

void TessdClient::lost() {
  fetches_home_ = false;
  while (!placings_.empty()) {
    finish_placing(placings_.begin()->first, "");
  }
  while (!fetchings_.empty()) {
    finish_fetching(fetchings_.begin()->first,
                    fail(ErrorKind::kRetry, "this node's tessd went away; try again"));
  }
  while (!questions_.empty()) {
    finish_question(questions_.begin()->first,
                    fail(ErrorKind::kRetry, "this node's tessd went away; try again"));
  }
}

void TessdClient::handle(const wire::AgentDown& message) {
  switch (message.body_case()) {
    case wire::AgentDown::kRegistered:
      node_ = message.registered().node();
      fetches_home_ = message.registered().fetches_home();
      break;
    case wire::AgentDown::kHostPrepared: {
      const wire::HostPrepared& host = message.host_prepared();
      if (!host.ok()) {
        finish_question(message.request(), fail(ErrorKind::kNotPossible, "{}", host.message()));
        break;
      }
      finish_question(message.request(), HostAddress{.node = host.node(),
                                                     .address = host.address(),
                                                     .port = static_cast<uint16_t>(host.port()),
                                                     .token = host.token(),
                                                     .encrypt_channels = host.encrypt_channels(),
                                                     .protocol_version = host.protocol_version()});
      break;
    }
    case wire::AgentDown::kProgramPlaced:
      finish_placing(message.request(), message.program_placed().node());
      break;
    case wire::AgentDown::kHomeFetched: {
      const wire::HomeFetched& said = message.home_fetched();
      finish_fetching(message.request(),
                      said.ok() ? Result<>() : fail(ErrorKind::kNotPossible, "{}", said.message()));
      break;
    }
    default:
      handlers_.request(message);
  }
}

void TessdClient::finish_placing(uint64_t request, const std::string& node) {
  auto placing = placings_.extract(request);
  if (!placing.empty()) {
    placing.mapped().done(node);
  }
}

void TessdClient::place_program(pid_t pid, uint64_t work_ns,
                                std::function<void(const std::string&)> done) {
  if (!tessd_.connected()) {
    done("");
    return;
  }
  const uint64_t request = next_question_++;
  auto timer = std::make_unique<net::Timer>(loop_);
  timer->start(kPlaceTimeout, [this, request] { finish_placing(request, ""); });
  placings_[request] = {std::move(done), std::move(timer)};
  wire::AgentUp message;
  message.set_request(request);
  message.mutable_place_program()->set_pid(pid);
  message.mutable_place_program()->set_work_ns(work_ns);
  send(message);
}

void TessdClient::finish_fetching(uint64_t request, const Result<>& result) {
  auto fetching = fetchings_.extract(request);
  if (!fetching.empty()) {
    fetching.mapped().done(result);
  }
}

void TessdClient::fetch_home(pid_t pid, std::function<void(const Result<>&)> done) {
  if (!tessd_.connected() || !fetches_home_) {
    done(fail(
        ErrorKind::kRetry, "this node's tessd {}",
        tessd_.connected() ? "is older than the agent of the job; restart it" : "does not answer"));
    return;
  }
  const uint64_t request = next_question_++;
  auto timer = std::make_unique<net::Timer>(loop_);
  timer->start(kFetchTimeout, [this, request] {
    finish_fetching(request, fail(ErrorKind::kNotPossible, "this node's tessd does not answer"));
  });
  fetchings_[request] = {std::move(done), std::move(timer)};
  wire::AgentUp message;
  message.set_request(request);
  message.mutable_fetch_home()->set_pid(pid);
  send(message);
}

void TessdClient::finish_question(uint64_t request, Result<HostAddress> result) {
  auto node = questions_.extract(request);
  if (!node.empty()) {
    node.mapped().done(std::move(result));
  }
}

void TessdClient::send_status(bool finished) {
  wire::AgentUp message;
  wire::JobStatus& status = *message.mutable_job_status();
  status.set_job(job_);
  status.set_finished(finished);
  handlers_.fill_status(status);
  send(message);
}

void TessdClient::answer(uint64_t request, bool ok, const std::string& text) {
  wire::AgentUp message;
  message.set_request(request);
  message.mutable_answer()->set_ok(ok);
  message.mutable_answer()->set_message(text);
  send(message);
}

void TessdClient::log(pid_t pid, const std::string& text) {
  wire::AgentUp message;
  message.mutable_job_log()->set_pid(pid);
  message.mutable_job_log()->set_text(text);
  send(message);
}

void TessdClient::need_host(const std::string& node, uint64_t memory_bytes,
                            const std::string& cpu_features,
                            std::function<void(Result<HostAddress>)> done) {
  if (!tessd_.connected()) {
    done(fail(ErrorKind::kRetry, "this node's tessd does not answer; start it and try again"));
    return;
  }
  const uint64_t request = next_question_++;
  auto timer = std::make_unique<net::Timer>(loop_);
  timer->start(kHostTimeout, [this, request, node] {
    finish_question(request,
                    fail(ErrorKind::kRetry, "node {} did not prepare a host in time", node));
  });
  questions_[request] = {std::move(done), std::move(timer)};
  wire::AgentUp message;
  message.set_request(request);
  message.mutable_need_host()->set_node(node);
  message.mutable_need_host()->set_memory_bytes(memory_bytes);
  message.mutable_need_host()->set_cpu_features(cpu_features);
  send(message);
}

}  // namespace tess::home
