// Runs a program and has it moved right after one of its system calls.
//
//   at_call REPORT CALL MOVES PROGRAM [ARGUMENT...]    after its call number CALL (0: never)
//   at_call REPORT every:N MOVES PROGRAM [ARGUMENT...] after each N-th, as long as MOVES ends at home
//
// Calls are those of the first thread, from its exec on. The program is stopped (SIGSTOP) at the end
// of the call, each of MOVES ("n2,n3,home") is made by `tess migrate`, and it goes on (SIGCONT). "-"
// moves nothing, "-N" takes N ms for it, as moves do. REPORT then says how many calls it has made while it was watched, how many moves were
// made, and what tess said to one that was not. Status: the program's, 128 + its signal, or 199.
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kFailed = 199, kSyscallStop = SIGTRAP | 0x80 };

static const char* report_path;
static long calls, moves_made;
static char refusal[4096];

static void report(void) {
  FILE* out = fopen(report_path, "w");
  if (out) {
    fprintf(out, "%ld %ld %s\n", calls, moves_made, refusal);
    fclose(out);
  }
}

static void give_up(pid_t pid, const char* what) {
  fprintf(stderr, "at_call: %s: %s\n", what, strerror(errno));
  if (pid > 0) kill(pid, SIGKILL);
  report();
  exit(kFailed);
}

static int end_of(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// Exits when the program has ended.
static void finish(int status) {
  report();
  exit(end_of(status));
}

// True: made. What tess says otherwise is kept.
static int migrate(pid_t pid, const char* node) {
  char command[256];
  snprintf(command, sizeof(command), "tess migrate %d %s 2>&1", pid, node);
  FILE* said = popen(command, "r");
  if (!said) give_up(pid, "popen");
  size_t n = fread(refusal, 1, sizeof(refusal) - 1, said);
  refusal[n] = 0;
  for (char* at = refusal; *at; at++) *at = *at == '\n' ? ' ' : *at;
  if (pclose(said) != 0) return 0;
  refusal[0] = 0;
  moves_made++;
  return 1;
}

static void make_moves(pid_t pid, const char* moves) {
  char list[256];
  snprintf(list, sizeof(list), "%s", moves);
  if (list[0] == '-') {
    const long pause_ms = atol(list + 1);
    const struct timespec pause = {pause_ms / 1000, pause_ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
    return;
  }
  for (char* node = strtok(list, ","); node; node = strtok(NULL, ","))
    if (!migrate(pid, node)) return;
}

// Not traced any more, and stopped at the end of its call.
static void stop_and_leave(pid_t pid) {
  if (syscall(SYS_tgkill, pid, pid, SIGSTOP) || ptrace(PTRACE_DETACH, pid, 0, 0))
    give_up(pid, "leave it stopped");
  int status;
  if (waitpid(pid, &status, WUNTRACED) != pid) give_up(pid, "wait for its stop");
  if (!WIFSTOPPED(status)) finish(status);
}

static void seize(pid_t pid) {
  const int options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC;
  // The agent lets a process that has come home go when it has answered.
  for (int i = 0; ptrace(PTRACE_SEIZE, pid, 0, options); i++) {
    if (errno != EPERM || i == 2000) give_up(pid, "take hold of it");
    const struct timespec moment = {0, 5000000};
    nanosleep(&moment, NULL);
  }
}

static void wait_for_end(pid_t pid) {
  int status;
  while (waitpid(pid, &status, 0) != pid)
    if (errno != EINTR) give_up(pid, "wait for its end");
  finish(status);
}

static pid_t start(char** argv) {
  int go[2];
  if (pipe(go)) give_up(0, "pipe");
  const pid_t pid = fork();
  if (pid == 0) {
    char byte;
    close(go[1]);
    if (read(go[0], &byte, 1) != 1) _exit(kFailed);
    close(go[0]);
    execv(argv[0], argv);
    _exit(kFailed);
  }
  if (pid < 0) give_up(0, "fork");
  seize(pid);
  if (ptrace(PTRACE_INTERRUPT, pid, 0, 0) || write(go[1], "x", 1) != 1) give_up(pid, "begin");
  close(go[0]);
  close(go[1]);
  return pid;
}

static void resume(pid_t pid, int how, long signal) {
  if (ptrace(how, pid, 0, signal) && errno != ESRCH) give_up(pid, "let it go on");
}

// True: it stands at the end of a call.
static int at_end_of_call(pid_t pid) {
  struct __ptrace_syscall_info info;
  return ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) > 0 &&
         info.op == PTRACE_SYSCALL_INFO_EXIT;
}

static int is_stop_signal(int signal) {
  return signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
}

int main(int argc, char** argv) {
  if (argc < 5) {
    fprintf(stderr, "at_call REPORT CALL|every:N MOVES PROGRAM [ARGUMENT...]\n");
    return kFailed;
  }
  report_path = argv[1];
  const char* moves = argv[3];
  const int every = !strncmp(argv[2], "every:", 6);
  const long wanted = atol(argv[2] + (every ? 6 : 0));
  const pid_t pid = start(argv + 4);
  int executed = 0;
  while (1) {
    int status;
    if (waitpid(pid, &status, __WALL) != pid) give_up(pid, "waitpid");
    if (!WIFSTOPPED(status)) finish(status);
    const int signal = WSTOPSIG(status);
    if (status >> 16 == PTRACE_EVENT_STOP && is_stop_signal(signal)) {
      resume(pid, PTRACE_LISTEN, 0);
      continue;
    }
    if (status >> 16 == PTRACE_EVENT_EXEC) executed = 1;
    if (status >> 16 != 0 || signal != kSyscallStop) {
      resume(pid, PTRACE_SYSCALL, status >> 16 != 0 ? 0 : signal);
      continue;
    }
    calls += executed && at_end_of_call(pid);
    if (!at_end_of_call(pid) || calls == 0 || wanted == 0 ||
        (every ? calls % wanted != 0 : calls != wanted)) {
      resume(pid, PTRACE_SYSCALL, 0);
      continue;
    }
    stop_and_leave(pid);
    make_moves(pid, moves);
    if (!every) {
      kill(pid, SIGCONT);
      wait_for_end(pid);
    }
    seize(pid);
    kill(pid, SIGCONT);
  }
}
