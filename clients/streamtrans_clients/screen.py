"""The microphone client's screen: a column per language, a meter, a bar with how calm and how late captions are.

Law: what is promised is plain, what may still change is dimmed, and nothing that is on the screen is lost by adding or
removing a language, pausing, or taking another device.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, OptionList, Static

from streamtrans.client import (
    Caption,
    ClientError,
    ConfigApplied,
    ConfigRejected,
    GoAway,
    Notice,
    Resumed,
    SpeechEnded,
    SpeechStarted,
    Started,
    StreamEvent,
    StreamOptions,
    Summary,
    TranslationClient,
    TranslationStream,
    both_ways,
)
from streamtrans_clients.boards import caption_text, meter, printable, setting_line
from streamtrans_clients.sources import SILENCE_DB, Device, Source, SourceError, inputs, loudness
from streamtrans_clients.transcript import FORMATS, SaveError, Transcript

Listen = Callable[[Device | None, asyncio.Event], Source]
"""Opens a device, ``None`` the one that was asked for, until the event is set."""

MOST = 6
"""Columns: the language spoken, and five more."""

_KEPT = 200
"""Final captions that a column shows; all of them are saved."""


class Column(VerticalScroll):
    """The captions of one language, the newest below."""

    def __init__(self, language: str) -> None:
        super().__init__()
        self.language = language
        self.border_title = language
        self._finals: list[Caption] = []
        self._open: dict[int, Caption] = {}
        self._text = Static()

    def compose(self) -> ComposeResult:
        """Lay it out."""
        yield self._text

    @property
    def shown(self) -> Text:
        """What stands in it."""
        lines = [*self._finals, *(self._open[segment] for segment in sorted(self._open))]
        return Text("\n").join(map(caption_text, lines))

    def show(self, caption: Caption) -> None:
        """Take a caption in this column's language."""
        self._open.pop(caption.segment, None)
        if not caption.final:
            self._open[caption.segment] = caption
        elif caption.text.strip():
            self._finals = [*self._finals, caption][-_KEPT:]
        self._text.update(self.shown)
        self.scroll_end(animate=False)

    def settle(self) -> None:
        """Leave what is open as it is: its stream has ended."""
        self._finals += [caption for caption in self._open.values() if caption.text.strip()]
        self._open.clear()


class Ask(ModalScreen[str | None]):
    """One line of text; Escape gives ``None``."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "dismiss(None)", "Leave")]

    def __init__(self, question: str, value: str = "") -> None:
        super().__init__()
        self._question, self._value = question, value

    def compose(self) -> ComposeResult:
        """Lay it out."""
        field = Input(self._value)
        field.border_title = self._question
        yield field

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Give what was written."""
        self.dismiss(event.value.strip() or None)


class Choose(ModalScreen[int | None]):
    """One of several; Escape gives ``None``."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "dismiss(None)", "Leave")]

    def __init__(self, question: str, choices: Sequence[str]) -> None:
        super().__init__()
        self._question, self._choices = question, choices

    def compose(self) -> ComposeResult:
        """Lay it out."""
        choices = OptionList(*(Text(printable(choice)) for choice in self._choices))
        choices.border_title = self._question
        yield choices

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Give its place."""
        self.dismiss(event.option_index)


class MicApp(App[Summary | None]):
    """Captions of what is heard, until the sound or the user ends it.

    ``problem`` is what ended it otherwise.
    """

    CSS = """
    Column { border: round $primary; width: 1fr; padding: 0 1; }
    #bar { height: 1; background: $panel; }
    Ask, Choose { align: center middle; }
    Ask Input, Choose OptionList { width: 60; max-height: 16; border: round $accent; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("space", "pause", "Pause"),
        ("a", "add", "Add language"),
        ("r", "remove", "Remove language"),
        ("d", "device", "Input"),
        ("s", "save", "Save"),
        Binding("q", "finish", "End", priority=False),
        Binding("ctrl+c", "finish", "End", show=False, priority=True),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, client: TranslationClient, options: StreamOptions, listen: Listen) -> None:
        super().__init__()
        self.transcript = Transcript()
        self.problem: ClientError | SourceError | OSError | None = None
        self.paused = False
        self._client, self._options, self._listen = client, options, listen
        self._languages = options.targets
        self._known: tuple[str, ...] = ()
        self._stream: TranslationStream | None = None
        self._stop = asyncio.Event()
        self._next: Device | None = None
        self._finishing = self._speaking = False
        self._level, self._lag_ms, self._name, self._news = SILENCE_DB, 0, "", "connecting …"

    def compose(self) -> ComposeResult:
        """Lay it out."""
        with Horizontal(id="columns"):
            yield from map(Column, self._languages)
        yield Static(id="bar")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to listen."""
        self._follow()

    @property
    def columns(self) -> dict[str, Column]:
        """Language → its column, from left to right."""
        return {column.language: column for column in self.query(Column)}

    @work(exclusive=True)
    async def _follow(self) -> None:
        summary = None
        device: Device | None = None
        try:
            while True:
                self._stop, self._next = asyncio.Event(), None
                source = self._listen(device, self._stop)
                summary = await self._until_end(source)
                if self._next is None or self._finishing:
                    break
                device = self._next
        except (ClientError, SourceError, OSError) as error:
            self.problem = error
        self.exit(summary)

    async def _until_end(self, source: Source) -> Summary | None:
        """Show one stream from its beginning to its end."""
        self._name, summary = source.name, None
        options = replace(
            self._options,
            targets=self._languages,
            sample_rate_hertz=source.sample_rate_hertz,
            channels=source.channels,
            resumable=True,
        )
        stream = self._client.stream(options)
        async with stream, aclosing(both_ways(stream, self._sounding(source))) as events:
            self._stream = stream
            async for event in events:
                self._lag_ms = stream.cursors.lag_ms
                self._take(event)
                if isinstance(event, ConfigApplied):
                    await self._arrange(event.options.targets)
                summary = event if isinstance(event, Summary) else summary
        self._stream = None
        for column in self.columns.values():
            column.settle()
        return summary

    async def _sounding(self, source: Source) -> AsyncIterator[bytes]:
        async for chunk in source.chunks:
            self._level = loudness(chunk)
            self._draw()
            if not self.paused:
                yield chunk

    def _take(self, event: StreamEvent) -> None:
        if isinstance(event, Started):
            self._known = event.languages
            self.transcript.begin(event.unspaced_languages)
            self._news = f"{event.model} hears {self._name}"
            if (line := setting_line(event)) is not None:
                self.notify(printable(line))
        elif isinstance(event, Caption):
            placed = self.transcript.take(event)
            if event.language in self.columns:
                self.columns[event.language].show(placed)
        elif isinstance(event, SpeechStarted | SpeechEnded):
            self._speaking = isinstance(event, SpeechStarted)
        elif isinstance(event, Resumed):
            self._news = f"the connection was away for {event.away_s:.1f} s; nothing is lost"
        elif isinstance(event, Notice | ConfigRejected):
            self.notify(printable(event.message), severity="warning")
        elif isinstance(event, GoAway):
            self._news = f"the server ends this in {event.time_left_ms / 1000:.0f} s"
        self._draw()

    async def _arrange(self, languages: tuple[str, ...]) -> None:
        """Have a column per language; those that stay keep what stands in them."""
        self._languages = languages
        here = self.columns
        for language, column in here.items():
            if language not in languages:
                await column.remove()
        await self.query_one("#columns").mount(*(Column(each) for each in languages if each not in here))

    def _draw(self) -> None:
        bar = Text.assemble(
            meter(self._level),
            ("  ● speech" if self._speaking else "  ○ silence", "bold green" if self._speaking else "dim"),
            f"  lag {self._lag_ms} ms  erasure {self.transcript.erasure:.2f}  ",
            ("paused" if self.paused else printable(self._news), "bold yellow" if self.paused else "dim"),
        )
        bars = self.query("#bar")
        if bars:
            bars.first(Static).update(bar)

    async def action_pause(self) -> None:
        """Hear nothing for a while, or hear again; what was said before is closed."""
        self.paused = not self.paused
        if self.paused and self._stream is not None:
            await self._stream.end_utterance()
        self._draw()

    def action_add(self) -> None:
        """Ask for a language, and write it too from now on."""
        if len(self._languages) >= MOST:
            self.notify(f"there is room for {MOST} languages; remove one first", severity="warning")
            return
        others = " ".join(each for each in self._known if each not in self._languages)
        self.push_screen(Ask(f"Language to add: {others}"[:56]), self._add)

    async def _add(self, language: str | None) -> None:
        if language is not None and self._stream is not None:
            await self._stream.update(add=(language,))

    def action_remove(self) -> None:
        """Ask which language to write no more."""
        if len(self._languages) < 2:
            self.notify("one language has to stay; add another one first", severity="warning")
            return
        self.push_screen(Choose("Remove", self._languages), self._remove)

    async def _remove(self, place: int | None) -> None:
        if place is not None and self._stream is not None:
            await self._stream.update(remove=(self._languages[place],))

    def action_device(self) -> None:
        """Ask for another input."""
        try:
            found = inputs()
        except SourceError as error:
            self.notify(str(error), severity="error")
            return
        if not found:
            self.notify("no microphone and no system sound is found", severity="warning")
            return
        self.push_screen(Choose("Input", [each.label for each in found]), partial(self._choose, found))

    def _choose(self, found: Sequence[Device], place: int | None) -> None:
        if place is not None:
            self._next = found[place]
            self._stop.set()

    def action_save(self) -> None:
        """Ask for the name of a file."""
        self.push_screen(Ask(f"Save as ({' '.join(FORMATS)})", "captions.srt"), self._save)

    def _save(self, name: str | None) -> None:
        if name is None:
            return
        try:
            files = self.transcript.save(Path(name).expanduser())
        except SaveError as error:
            self.notify(printable(str(error)), severity="error")
        else:
            self.notify("saved " + ", ".join(map(str, files)))

    def action_finish(self) -> None:
        """End the sound and await the last captions; the second time end at once."""
        if self._finishing:
            self.exit(None)
        self._finishing = True
        self._news = "awaiting the last captions; once more ends at once"
        self._stop.set()
        self._draw()
