"""Work that goes on in a thread while a test does something else."""

import threading


class Background:
    """A context manager: step() again and again, every `pause` seconds, until it is left. What a
    step raises is raised there."""

    pause = 0.01

    def __init__(self):
        self.error = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def step(self):
        raise NotImplementedError

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        self._stop.set()
        self._thread.join()
        if self.error and kind is None:
            raise self.error

    def _run(self):
        try:
            while not self._stop.is_set():
                self.step()
                self._stop.wait(self.pause)
        except Exception as error:  # told by the thread that waits for this one
            self.error = error
