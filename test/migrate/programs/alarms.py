"""python3 signals: alarm, interval timers, sigwait, wakeup descriptor, handlers raising out of sleeps, default and ignored ones."""
import os
import select
import signal
import time

counts = {}


def on(number, _frame):
    counts[number] = counts.get(number, 0) + 1


class Bell(Exception):
    pass


def ring(_number, _frame):
    raise Bell


def round_():
    counts.clear()
    signal.signal(signal.SIGALRM, on)
    signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
    x = 0
    while counts.get(signal.SIGALRM, 0) < 5:
        x = (x * 31 + 7) % 1000003
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)  # a move may take longer than that
        time.sleep(30)
        raise AssertionError("slept through")
    except Bell:
        pass
    signal.signal(signal.SIGUSR1, on)
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGUSR1)
    assert counts[signal.SIGUSR1] == 3, counts
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    os.kill(os.getpid(), signal.SIGUSR2)
    assert signal.sigpending() == {signal.SIGUSR2}
    assert signal.sigwait({signal.SIGUSR2}) == signal.SIGUSR2
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
    r, w = os.pipe()
    os.set_blocking(w, False)
    signal.signal(signal.SIGWINCH, on)
    signal.set_wakeup_fd(w)
    child = os.fork()
    if child == 0:
        os.kill(os.getppid(), signal.SIGWINCH)
        os._exit(0)
    assert select.select([r], [], [], 20)[0] == [r]
    assert os.read(r, 10) == bytes([signal.SIGWINCH])
    signal.set_wakeup_fd(-1)
    os.close(r)
    os.close(w)
    assert os.waitpid(child, 0)[1] == 0
    signal.signal(signal.SIGVTALRM, on)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.01)
    while not counts.get(signal.SIGVTALRM):
        x = (x * 31 + 7) % 1000003
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    return sorted(map(int, counts))


first = round_()
print("ready", first, flush=True)
while not os.path.exists("stop"):
    assert round_() == first
signal.alarm(100)
assert signal.alarm(0) in (99, 100)
print("alarms: all rounds alike")
