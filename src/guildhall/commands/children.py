"""Processes that live and die with the service: the API's own, and the job worker beside them."""

import os
import signal
import subprocess
import sys
import threading
import time

from guildhall.web.log import logger

TICK_S = 0.2
# A worker that lived this long did not die of its start.
GROWN_UP_S = 60.0
LONGEST_WAIT_S = 30.0
# The contract's bound for finishing what is in hand.
DRAIN_S = 20.0
# An orphan closes its doors at once and then has this long.
ORPHAN_S = 10.0


def follow(parent: int) -> None:
    """Stop this process when `parent` dies, however it dies, so that nothing holds its port any longer."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(TICK_S)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_S)
        os._exit(1)

    threading.Thread(target=watch, name="follow", daemon=True).start()


class JobWorker:
    """The job worker as a process of its own, started again whenever it ends before it is asked to."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="job worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Return at once; safe in a signal handler's thread."""
        self._stopping.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()

    def stop(self, deadline: float) -> None:
        """Wait until it has ended; what goes on after `deadline` is killed."""
        with self._lock:
            self.ask_to_stop()
        if self._process is not None:
            try:
                self._process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                self._process.kill()
        if self._thread.is_alive():
            self._thread.join()

    def _keep(self) -> None:
        wait_s = 0.5
        while not self._stopping.is_set():
            with self._lock:
                if self._stopping.is_set():
                    return
                # -P keeps the folder somebody happens to stand in from being imported from.
                command = [sys.executable, "-P", "-m", "guildhall", "worker", "--parent", str(os.getpid())]
                self._process = process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
            born = time.monotonic()
            code = process.wait()
            if self._stopping.is_set():
                return
            if time.monotonic() - born > GROWN_UP_S:
                wait_s = 0.5
            logger().error("worker_died", exit_code=code, again_in_s=wait_s)
            self._stopping.wait(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)
