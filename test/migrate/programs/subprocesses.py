"""python3 subprocess and pipes: big transfers both ways, pipelines, statuses, signals to children, timeouts, fork."""
import hashlib
import os
import signal
import subprocess

DATA = b"".join(b"%d some text to send through\n" % i for i in range(12000))


def round_():
    out = []
    done = subprocess.run(["cat"], input=DATA, stdout=subprocess.PIPE, check=True)
    assert done.stdout == DATA
    first = subprocess.Popen(["tr", "a-z", "A-Z"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    second = subprocess.Popen(["sort", "-r"], stdin=first.stdout, stdout=subprocess.PIPE, env={"LC_ALL": "C"})
    first.stdout.close()
    first.stdin.write(DATA)
    first.stdin.close()
    out.append(hashlib.md5(second.stdout.read()).hexdigest())
    out.append((first.wait(30), second.wait(30)))
    out.append(subprocess.run(["sh", "-c", "echo err >&2; exit 11"], stderr=subprocess.PIPE).returncode)
    sleeper = subprocess.Popen(["sleep", "60"])
    sleeper.send_signal(signal.SIGTERM)
    out.append(sleeper.wait(30))
    try:
        subprocess.run(["sleep", "60"], timeout=0.02)
        out.append("no timeout")
    except subprocess.TimeoutExpired:
        out.append("timeout")
    try:
        subprocess.run(["/no/such/program"])
    except FileNotFoundError as error:
        out.append(error.errno)
    r, w = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(w, b"from the child")
        os._exit(6)
    os.close(w)
    out.append(os.read(r, 100))
    os.close(r)
    out.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return repr(out)


first = round_()
print("ready", first, flush=True)
while not os.path.exists("stop"):
    again = round_()
    assert again == first, again
print("subprocesses: all rounds alike")
