"""Many recordings at once, shown and written by one thread.

Law: a recording that fails, or whose files can't be written, stops no other; Ctrl-C keeps what was made.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from streamtrans_clients import clock, escaped, marked

from streamtrans.cli import streams
from streamtrans.cli.inputs import Recording
from streamtrans.cli.outputs import Outcome, Output, json_line
from streamtrans.cli.progress import Display
from streamtrans.cli.reading import Stopped, Translated, Watcher, translate_file
from streamtrans.core import BadAudio, Caption, Event, StreamtransError
from streamtrans.runtime import Loaded
from streamtrans.stream import SessionConfig

_TICK_S = 0.2
"""How often the main thread looks around while nothing happens."""


def translate_all(
    loaded: Loaded,
    config: SessionConfig,
    recordings: Sequence[Recording],
    output: Output,
    *,
    together: int,
    outcome: Outcome,
) -> None:
    """Translate all recordings; write the files of each as soon as it is done, and its lines when its turn has come."""
    stop = threading.Event()
    updates: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    pool = ThreadPoolExecutor(max_workers=together, thread_name_prefix="file")
    try:
        with Display({each.path: each.samples for each in recordings}, growing=config.mode != "final") as display:
            desk = _Desk(display, output, recordings, stop, outcome)
            work = partial(
                translate_file,
                config=config,
                tokenizer=loaded.spellers,
                engine=loaded.engine,
                watcher=Watcher(
                    lambda path, samples: updates.put(partial(display.heard, path, samples)),
                    lambda path, events: updates.put(partial(desk.show, path, events)),
                ),
                stop=stop,
            )
            for each in recordings:
                future = pool.submit(work, each)
                future.add_done_callback(partial(_hand_over, updates, partial(desk.settle, each)))
            with _interruptible(stop):
                while desk.waiting:
                    with contextlib.suppress(queue.Empty):
                        updates.get(timeout=_TICK_S)()
                    display.tick()
            outcome.interrupted = stop.is_set() and not outcome.lost
    finally:
        stop.set()
        loaded.engine.close()
        pool.shutdown(cancel_futures=True)


def _hand_over(
    updates: queue.SimpleQueue[Callable[[], None]],
    settle: Callable[[Future[Translated]], None],
    done: Future[Translated],
) -> None:
    updates.put(partial(settle, done))


@contextlib.contextmanager
def _interruptible(stop: threading.Event) -> Iterator[None]:
    """Let the first Ctrl-C set ``stop``, and the second end all at once."""

    def on_interrupt(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Desk:
    """Takes what the readers say, in the main thread, and puts it out in the order of the recordings."""

    def __init__(
        self, display: Display, output: Output, recordings: Sequence[Recording], stop: threading.Event, outcome: Outcome
    ) -> None:
        self.outcome = outcome
        self.waiting = len(recordings)
        self._display = display
        self._output = output
        self._stop = stop
        self._named = len(recordings) > 1
        self._turn = deque(each.path for each in recordings)
        self._lines: dict[Path, list[Caption]] = {each.path: [] for each in recordings}
        self._results: dict[Path, Translated | None] = {}

    def show(self, path: Path, events: list[Event]) -> None:
        """Take events of a recording."""
        self._display.grow(path, events)
        self._lines[path] += [
            event for event in events if isinstance(event, Caption) and event.final and event.text.strip()
        ]
        self._put_out()

    def settle(self, recording: Recording, future: Future[Translated]) -> None:
        """Take the end of a recording: write its files, and note what is wrong."""
        path = recording.path
        self.waiting -= 1
        done = None
        try:
            done = future.result()
        except BadAudio as error:
            self.outcome.fail(path, recording.told(error))
        except Stopped as error:
            if not self.outcome.lost:
                self.outcome.fail(path, str(error))
        except StreamtransError as error:
            self.outcome.fail(path, str(error))
        if done is not None:
            self._note(recording, done)
        self._results[path] = done
        self._display.done(path)
        self._put_out()

    def _note(self, recording: Recording, done: Translated) -> None:
        path = recording.path
        if done.problem and not (self.outcome.lost and self._stop.is_set()):  # who closed the output wants no more
            self.outcome.fail(path, done.problem)
        if done.stats.failures:
            self.outcome.fail(path, f"{done.stats.failures} readings failed; captions may be missing")
        for problem in self._output.write(recording, done):
            self.outcome.fail(path, problem)
        self.outcome.notes += [f"{path}: {note}" for note in done.notes]
        if done.silent is not None:
            self.outcome.notes.append(f"no speech was found in {path}{done.silent and ': '}{done.silent}")

    def _put_out(self) -> None:
        """Print the lines of the recording whose turn it is, and of those after it that are done."""
        while self._turn:
            path = self._turn[0]
            lines, self._lines[path] = self._lines[path], []
            if not self._output.json:
                for caption in lines:
                    self._print(caption, path)
            if path not in self._results:
                return
            done = self._results[path]
            if self._output.json and done is not None:
                self._say(partial(self._display.line, json_line(done.summary(), sys.stdout.encoding)))
            self._turn.popleft()

    def _print(self, caption: Caption, path: Path) -> None:
        name = f"{escaped(path)} " if self._named else ""
        plain = f"{name}{clock(caption.start)} {caption.language:<3} {marked(caption)}"
        note = f"standard output is in {sys.stdout.encoding}, which lacks some letters: set PYTHONIOENCODING=utf-8"
        if streams.lacks(plain) and note not in self.outcome.notes:
            self.outcome.notes.append(note)
        self._say(partial(self._display.caption, path, caption, plain))

    def _say(self, say: Callable[[], None]) -> None:
        """Print, as long as standard output takes it; files are written all the same."""
        if self.outcome.lost:
            return
        try:
            say()
        except OSError as error:
            streams.give_up(error)
            self.outcome.lost = True
            if not self._output.formats:
                self._stop.set()
