"""Run a nats-server on behalf of a parent process, and never outlive that parent.

Started by pipeline.nats_server as a script of its own (`python -E -s -S _nats_guard.py`), so it imports nothing but
the standard library. The parent holds the other end of our standard input: when it closes, however the parent ended,
the server is stopped and the given directory removed. When this process itself is killed, the kernel kills the server
(PR_SET_PDEATHSIG).
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1
STOP_TIMEOUT_S = 5.0


def main() -> int:
    """Start the server, print its process id, wait for its end or the parent's; return the server's exit code."""
    directory, command = sys.argv[1], sys.argv[2:]
    parent = os.getppid()
    libc = ctypes.CDLL(None)  # loaded before the fork: the child may only call, not load

    def die_with_parent() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # stopping goes by standard input alone
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)

    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)  # noqa: PLW1509 - no threads here
    sys.stdout.write(f"{server.pid}\n")
    sys.stdout.flush()
    while server.poll() is None:
        readable, _, _ = select.select([0, wake_read], [], [], 2.0)
        if wake_read in readable:
            os.read(wake_read, 4096)
        if (0 in readable and not os.read(0, 4096)) or os.getppid() != parent:
            _stop(server)
            if directory != "-":
                shutil.rmtree(directory, ignore_errors=True)
    return server.returncode


def _stop(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
