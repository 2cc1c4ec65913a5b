"""Cases of our own programs: each covers one family of what a process can do, and checks itself in rounds."""

import os
import signal
from pathlib import Path

import companions
from case import Case, Step, file_exists, output

SOURCES = Path(__file__).resolve().parent / "programs"
PYTHON = "/usr/bin/python3"
READY = dict(ready=output(b"ready"), ready_text="its first round to end")


def c_program(name, about, **more):
    program = more.pop("program", name)
    fields = dict(READY, proof=name.encode() + b":")
    arguments = more.pop("arguments", ())
    fields.update(more)
    return Case(name, about, [f"{{programs}}/{program}", *arguments], build=(program,), needs=("gcc",), **fields)


def script(name, about, interpreter, source, **more):
    fields = dict(READY, proof=b"all rounds alike", needs=(interpreter,))
    fields.update(more)
    return Case(name, about, [interpreter, str(SOURCES / source)], **fields)


def death(name, how, status):
    return Case(f"die-{name}", f"its end is the one that its parent sees: {how}", ["{programs}/die", how], build=("die",),
                needs=("gcc",), status=status, placements=("start", "mid", "hops"), **READY)


def foreground(comm):
    """Waits until that program has the terminal and sleeps."""
    def wait(program):
        def there():
            try:
                group = os.tcgetpgrp(program.terminal)
                stat = Path(f"/proc/{group}/stat").read_text()
            except OSError:
                return False
            return f"({comm}) S" in stat
        program.wait_for(there, f"{comm} to wait in the foreground")
    return wait


TERMINAL = [
    Step(expect=b"$ ", send=b"echo he''llo; stty size\n"),
    Step(expect=b"\nhello\r\n24 80\r\n"),
    Step(expect=b"$ ", send=b"cat\n"),
    Step(do=foreground("cat")),
    Step(send=b"one line\n"),
    Step(expect=b"one line\r\none line\r\n", send=b"\x1a"),
    Step(expect=b"Stopped"),
    Step(expect=b"$ ", send=b"jobs %1\n"),
    Step(expect=b"Stopped"),
    Step(expect=b"$ ", send=b"fg\n"),
    Step(expect=b"cat\r\n", do=foreground("cat")),
    Step(send=b"second line\n"),
    Step(expect=b"second line\r\nsecond line\r\n", send=b"\x03"),
    Step(expect=b"$ ", send=b"echo status $?\n"),
    Step(expect=b"status 130\r\n"),
    Step(expect=b"$ ", send=b"sleep 100 & sleep 200\n", do=foreground("sleep")),
    Step(send=b"\x03"),
    Step(expect=b"$ ", send=b"kill %1; wait %1; echo \"ended $?\"\n"),
    Step(expect=b"\nended 143\r\n"),
    Step(expect=b"$ ", send=b"read -p 'name? ' name\n"),
    Step(expect=b"\r\nname? ", send=b"tess\x7f\x7fsera\n"),
    Step(expect=b"$ ", send=b"echo \"[$name]\"; tty > /dev/null && test -t 0 && echo terminal\n"),
    Step(expect=b"[tesera]\r\nterminal\r\n"),
    Step(expect=b"$ ", send=b"cat > typed\n", do=foreground("cat")),
    Step(send=b"to a file\n\x04"),
    Step(expect=b"$ ", send=b"exit 4\n"),
]

# It moves while it shares nothing; the rounds then run where it is.
POOL = [Step(), Step(do=lambda program: (program.work / "go").touch()), Step(do=lambda program: (program.work / "stop").touch())]

OWN = [
    c_program("forktree", "deep and wide trees of forks"),
    c_program("signals", "queued signals, masks, alternate stacks, timers, EINTR and restart, faults"),
    c_program("pthreads", "mutexes, condition variables, TLS, robust mutex, barrier"),
    c_program("avx", "vector, mask and floating-point state kept while spinning"),
    c_program("clocks", "time goes on and never back"),
    c_program("cpu-clocks", "CPU clocks go on over hops", program="clocks", arguments=("cpu",), proof=b"clocks:",
              placements=("start", "mid", "hops3")),
    c_program("timer-threads", "timers on CPU time set by threads", program="timerthreads", proof=b"timerthreads:"),
    c_program("timer-clocks", "CPU clocks read by threads never go back", program="timerthreads", arguments=("clocks",),
              proof=b"timerthreads:", placements=("start", "mid", "hops3")),
    c_program("timer-leaderless", "timers on CPU time set by threads, the first of which has ended", program="timerthreads",
              arguments=("leaderless",), proof=b"timerthreads:", placements=("start",)),
    c_program("polling", "poll, select and epoll over pipes"),
    c_program("transfers", "blocking writes and whole receives", placements=("start", "mid", "hops3")),
    c_program("endless", "whole reads of /dev/zero, /dev/urandom and getrandom"),
    c_program("eventfds", "eventfd, timerfd, signalfd"),
    c_program("unixfds", "unix sockets, descriptors passed"),
    c_program("locks", "file locks between processes"),
    c_program("exits", "exit statuses, fatal signals, stop and continue as the parent sees them"),
    c_program("stopped", "a stopped child, moved, stays stopped", who="any", placements=("start", "mid", "hops")),
    c_program("timedwaits", "futexes with a relative timeout"),
    c_program("nestedwaits", "handlers that begin with the call that they interrupt"),
    c_program("spawn", "vfork, posix_spawn, clone, exec"),
    c_program("memory", "all kinds of private mappings and their changes"),
    c_program("title", "what the program writes over its arguments, as others see it"),
    c_program("limits", "a limit of memory that changes all the time"),
    c_program("sharedfile", "a mapped file with futexes in it, shared with a child and with programs executed"),
    c_program("sharedio", "a mapped file, also read, written and resized by calls of two processes"),
    c_program("remapped", "shared mappings of files that change places"),
    c_program("sharedmem", "anonymous memory, memfd and process-shared locks of parent and child"),
    c_program("robust", "processes that end with a robust lock in shared memory"),
    c_program("sysvshm", "System V shared memory"),
    c_program("fulltable", "all descriptors allowed are open"),
    c_program("files", "the file system as programs use it"),
    c_program("settings", "what prctl and its like have set"),
    c_program("procself", "what a process learns about itself", environment={"FROM_HOME": "kept"}),
    c_program("busy", "threads, pipes, files, timers and children all at once"),
    Case("musl-pthreads", "a static musl program with threads", ["{programs}/pthreads.static-musl"],
         build=("pthreads.static-musl",), needs=("musl-gcc",), proof=b"pthreads:", **READY),
    Case("musl-memory", "a static musl program that maps and unmaps", ["{programs}/memory.static-musl"],
         build=("memory.static-musl",), needs=("musl-gcc",), proof=b"memory:", **READY),
    death("exit", "exit:41", 41),
    death("return", "return", 5),
    death("thread", "thread", 23),
    death("kill", "raise:9", -signal.SIGKILL),
    death("term", "raise:15", -signal.SIGTERM),
    death("segv", "segv", -signal.SIGSEGV),
    death("fpe", "fpe", -signal.SIGFPE),
    death("abort", "abort", -signal.SIGABRT),
    script("bash-jobs", "bash with job control, traps, pipelines", "bash", "jobs.sh", status=3),
    script("dash-loops", "dash loops over builtins and small programs", "dash", "loops.sh", proof=b"all alike", who="any"),
    script("python-threads", "python3 threads and pools", PYTHON, "threads.py"),
    script("python-subprocess", "python3 subprocess, pipelines, fork", PYTHON, "subprocesses.py", who="any"),
    script("python-pool", "python3 multiprocessing: semaphores in shared memory while away", PYTHON, "pool.py",
           ready=file_exists("ready"), ready_text="it to be ready", placements=("start", "mid"), finish="own", steps=POOL),
    script("sqlite-wal", "SQLite in WAL mode by two processes", PYTHON, "wal.py"),
    script("python-signals", "python3 alarms, interval timers, sigwait, wakeup descriptor", PYTHON, "alarms.py"),
    script("python-server", "a TCP and UDP server with live clients from other nodes", PYTHON, "server.py",
           ready=file_exists("ports"), ready_text="its ports", proof=b"server: served", companion=companions.Clients),
    script("node", "node: event loop, thread pool, workers, child", "node", "work.js"),
    script("tcl", "Tcl: events, pipes, files", "tclsh", "work.tcl"),
    script("lua", "Lua: coroutines, garbage collection, files, popen", "lua5.4", "work.lua"),
    Case("go", "a Go program: goroutines, preemption by signals, garbage collection", ["{programs}/work.go"],
         build=("work.go",), needs=("go",), proof=b"all rounds alike", **READY),
    Case("java", "a JVM: threads, monitors, garbage collection, compiled code",
         ["java", "-Xmx128m", "-XX:-UsePerfData", "-XX:+UseG1GC", "-cp", "{programs}/work.java", "Work"], build=("work.java",),
         needs=("java", "javac"), proof=b"all rounds alike", deadline=90, **READY),
    Case("tty-bash", "an interactive bash on a terminal: line editing, ctrl-C, ctrl-Z, fg, background jobs",
         ["bash", "--norc", "--noprofile", "-i"], finish="own", tty=True, steps=TERMINAL, status=4, who="any", needs=("bash",),
         normalisers=("job_pid",), environment={"PS1": "$ ", "HISTFILE": "", "INPUTRC": "/dev/null"}),
]
