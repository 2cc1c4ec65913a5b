"""python3 multiprocessing: pools, locks and queues, which live in shared memory. All of it is made and gone within a round; the
program may be moved only between rounds (it says so by the file `ready`), since what is shared with others cannot move."""
import multiprocessing
import os


def square(n):
    return n * n


def round_():
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        total = sum(pool.map(square, range(50)))
    lock, queue = context.Lock(), context.SimpleQueue()
    children = [context.Process(target=lambda: (lock.acquire(), queue.put(os.getpid() > 0), lock.release())) for _ in range(3)]
    for child in children:
        child.start()
    got = [queue.get() for _ in children]
    for child in children:
        child.join(30)
    return total, got, [child.exitcode for child in children]


first = (40425, [True] * 3, [0] * 3)
open("ready", "w").close()
while not os.path.exists("go"):  # it computes: no call to come back from
    pass
while not os.path.exists("stop"):
    assert round_() == first
assert round_() == first
os.unlink("go")
print("pool: all rounds alike")
