"""python3 threads: queue, locks, conditions, events, thread pool; results independent of timing."""
import concurrent.futures
import hashlib
import os
import queue
import threading


def digest(n):
    return hashlib.sha256(str(n).encode() * 2000).hexdigest()[:8]


def round_():
    work, results, lock = queue.Queue(20), {}, threading.Lock()

    def worker():
        while (n := work.get()) is not None:
            value = digest(n)
            with lock:
                results[n] = value
            work.task_done()

    threads = [threading.Thread(target=worker) for _ in range(5)]
    for thread in threads:
        thread.start()
    for n in range(150):
        work.put(n)
    work.join()
    for _ in threads:
        work.put(None)
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    event, ready = threading.Event(), threading.Condition()
    timer = threading.Timer(0.01, event.set)
    timer.start()
    assert event.wait(20)
    with ready:
        assert not ready.wait(0.005)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(digest, range(40))) == [results[n] for n in range(40)]
    return hashlib.md5(repr(sorted(results.items())).encode()).hexdigest()


first = round_()
print("ready", first, flush=True)
pid = os.getpid()
while not os.path.exists("stop"):
    assert round_() == first
    assert os.getpid() == pid
print("threads: all rounds alike")
