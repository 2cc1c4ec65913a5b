"""SQLite in WAL mode: two processes write to one database and read what the other one has written, which they do by a
file that both have mapped shared."""
import os
import sqlite3


def connect():
    base = sqlite3.connect("base", timeout=60, isolation_level=None)
    assert base.execute("pragma journal_mode=wal").fetchone() == ("wal",)
    base.execute("pragma synchronous=normal")
    return base


def child_main(ask, answer):
    base = connect()
    while os.read(ask, 1):
        number = base.execute("select max(n) from t").fetchone()[0]
        base.execute("begin immediate")
        base.execute("insert into t values (?, 'child')", (number + 1,))
        base.execute("commit")
        os.write(answer, b"x")
    base.close()
    os._exit(0)


base = connect()
base.execute("create table t (n integer primary key, who text)")
base.execute("insert into t values (0, 'parent')")
ask, answer = os.pipe(), os.pipe()
base.close()
child = os.fork()
if child == 0:
    os.close(ask[1])
    child_main(ask[0], answer[1])
base = connect()
rounds = 0
while True:
    for _ in range(3):
        number = base.execute("select max(n) from t").fetchone()[0]
        os.write(ask[1], b"x")
        assert os.read(answer[0], 1) == b"x"
        row = base.execute("select n, who from t order by n desc limit 1").fetchone()
        assert row == (number + 1, "child"), row
        base.execute("insert into t values (?, 'parent')", (number + 2,))
    if rounds == 0:
        print("ready", flush=True)
    rounds += 1
    if rounds % 5 == 0:
        base.execute("pragma wal_checkpoint(truncate)")
    base.execute("delete from t where n > 0")
    if os.path.exists("stop"):
        break
os.close(ask[1])
assert os.waitpid(child, 0)[1] == 0
assert base.execute("pragma integrity_check").fetchone() == ("ok",)
base.close()
os.unlink("base")
print("wal: all rounds alike")
