"""``streamtrans replay``: a recorded session once more, compared caption by caption."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from streamtrans.cli.options import MODEL
from streamtrans.cli.record import PACKAGES, fingerprints
from streamtrans.core import SAMPLE_RATE, BadModel, Caption, Event, Group, milliseconds
from streamtrans.decode import COSTS, DraftCosts
from streamtrans.foreign import BadValue, Chosen, parse
from streamtrans.runtime import ModelChoice, load
from streamtrans.stream import (
    BadRecording,
    Difference,
    Differs,
    EngineLike,
    Recording,
    Session,
    Spellers,
    read_layout,
    rerun,
)
from streamtrans.stream.records import checked

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(slots=True)
class _Result:
    """What a replay came to."""

    revisions: int = 0
    finals: list[Caption] = field(default_factory=list)
    rounding: float = 0.0
    """The most that a stability is off where answers were computed again."""
    difference: Difference | None = None

    def take(self, was: Sequence[Event], now: Sequence[Event]) -> None:
        """Count more events, which differ in nothing but stabilities."""
        for one, other in zip(was, now, strict=True):
            if isinstance(one, Caption) and isinstance(other, Caption):
                self.revisions += 1
                self.rounding = max(self.rounding, abs(one.stability - other.stability))
                if other.final:
                    self.finals.append(other)


def _theirs(what: str) -> Any:
    """Return an option that names what isn't ours and a recording was made with: data can't name code."""
    return typer.Option(
        parser=Chosen,
        metavar="NAME",
        help=f"The {what} that it was recorded with, where module:Class of another package was.",
        show_default=False,
    )


def replay(
    file: Annotated[Path, typer.Argument(help="What streamtrans record or a server wrote.", show_default=False)],
    *,
    answers: Annotated[
        bool,
        typer.Option(
            "--answers", help="Take the recorded answers of the model instead of computing them: needs no model."
        ),
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Print every caption, revision by revision.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")] = False,
    policy: Annotated[str | None, _theirs("policy")] = None,
    vad: Annotated[str | None, _theirs("detector")] = None,
    drafter: Annotated[str | None, _theirs("drafters")] = None,
    choice: Annotated[ModelChoice, Group("model", "translator", "device", "threads", heading=MODEL)],
) -> None:
    """Replay a recorded session, and say whether its captions come out the same bit for bit.

    With the model that it was recorded with, whose answers are computed anew:

        streamtrans replay talk.stsession

    Without the model, from the answers in the recording, showing how the captions grew:

        streamtrans replay talk.stsession --answers --show

    The exit status is 1 where a caption differs, and the first one that does is named. A recording that was cut off
    is replayed as far as it goes. What a model computes may differ in its last bits on another kind of machine, or
    from what a busy server computed for several streams at once; recorded answers never do.
    """
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(file.open("rb"))
        except OSError as error:
            raise BadRecording(f"{file} can't be read: {error.strerror}") from error
        recording = Recording(opened, str(file), chosen=[name for name in (policy, vad) if name is not None])
        if answers:
            speller, engine = _recorded(recording)
        else:
            speller, engine = _computing(recording, stack, choice, drafter)
        session = Session(recording.config, speller, window=recording.window)
        tell = _printer(stderr=as_json) if show else None
        result = _run(recording, session, engine, tell)
    _say(recording, result, answers=answers, as_json=as_json)
    if result.difference is not None:
        raise typer.Exit(1)


def _run(
    recording: Recording, session: Session, engine: EngineLike | None, tell: Callable[[Event], None] | None
) -> _Result:
    result = _Result()
    try:
        for was, now in rerun(recording, session, engine):
            result.take(was, now)
            if tell is not None:
                for event in now:
                    tell(event)
    except Differs as differs:
        result.difference = differs.difference
    return result


def _recorded(recording: Recording) -> tuple[Spellers, None]:
    """Return the tokenizer in the recording."""
    text = recording.origin.tokenizer
    if not text:
        raise BadRecording(f"{recording.name} holds no tokenizer; replay it with its model, without --answers")
    try:
        return read_layout(parse(text, len(text)), origin=recording.name), None
    except BadValue as error:
        raise BadRecording(f"{recording.name}: the tokenizer in it can't be read: {error}") from None


@dataclass(frozen=True, slots=True)
class _Decoding:
    """What a recording says of the engine and matters to what is said."""

    slots: int
    drafter: str | None
    top_k: float
    guard: bool = False  # recordings of before it was there don't name it
    costs: DraftCosts = COSTS  # nor these


@dataclass(frozen=True, slots=True)
class _Loading:
    """What a recording says of how its model was loaded."""

    model: str | None
    dtype: str
    threads: int
    engine: _Decoding
    translator: str | None = None
    zero_shot: bool = False

    @classmethod
    def of(cls, recording: Recording) -> Self:
        """Read the settings of a recording's origin.

        Raises:
            BadRecording: they aren't there, of another type, or more than a machine like this one has.
        """
        settings = recording.origin.settings
        if not settings:
            raise BadRecording(f"{recording.name} doesn't say how its model was loaded; replay it with --answers")
        known = {item.name: settings[item.name] for item in fields(cls) if item.name in settings}
        if isinstance(engine := known.get("engine"), dict):
            known["engine"] = {item.name: engine[item.name] for item in fields(_Decoding) if item.name in engine}
        loading: Self = checked(cls, known, "settings")
        for name, value, most in (("threads", loading.threads, 1_024), ("engine.slots", loading.engine.slots, 4_096)):
            if not 1 <= value <= most:
                raise BadRecording(f"{recording.name}: settings.{name} is {value}; 1 to {most:,} can be")
        return loading


def _computing(
    recording: Recording, stack: ExitStack, choice: ModelChoice, drafter: str | None
) -> tuple[Spellers, EngineLike]:
    """Load the model that the recording was made with, as it was loaded then."""
    from streamtrans.model.loading import find_folder

    origin, loading = recording.origin, _Loading.of(recording)
    where = choice.model if choice.model is not None else loading.model
    translator = choice.translator if choice.translator is not None else loading.translator
    for named, chosen, flag in ((where, choice.model, "--model"), (translator, choice.translator, "--translator")):
        if chosen is None and named is not None and not Path(named).is_dir():
            raise BadRecording(
                f"{recording.name} was recorded with {named}, which is no folder here: name it with {flag}"
            )
    folder = find_folder(where)
    found = fingerprints(where, translator)
    if found != origin.fingerprint:
        raise BadModel(
            f"{recording.name} was recorded with {origin.model} (weights {origin.fingerprint[:12]}), and "
            f"{folder.name} (weights {found[:12]}) is another model; name the right one with --model, or replay the "
            "recorded answers with --answers"
        )
    engine = loading.engine
    as_then = ModelChoice(
        where,
        choice.device,
        loading.dtype,
        drafter if drafter == engine.drafter else engine.drafter,
        f"{engine.top_k:g}",
        recording.config.vad,
        "on" if engine.guard else "off",
        loading.zero_shot,
        choice.threads or loading.threads,
        translator,
    )
    loaded = load(as_then, slots=engine.slots, costs=engine.costs)
    stack.callback(loaded.engine.close)
    return loaded.spellers, loaded.engine


def _printer(*, stderr: bool) -> Callable[[Event], None]:
    """Return what prints an event; beside JSON it prints elsewhere."""
    from rich.console import Console
    from streamtrans_clients import GrowingLines

    console: Console = Console(stderr=stderr)
    return GrowingLines(console).show


def _say(recording: Recording, result: _Result, *, answers: bool, as_json: bool) -> None:
    difference = result.difference
    problem = None if difference is not None else recording.problem
    if as_json:
        typer.echo(json.dumps(_figures(recording, result, problem), ensure_ascii=False))
    elif difference is not None:
        typer.echo(f"{recording.name} differs at {difference.at / SAMPLE_RATE:.2f} s: {difference}")
    else:
        told = sum(bool(caption.text.strip()) for caption in result.finals)
        how = "from its own answers" if answers else "computed again"
        exactly = "bit for bit" if not result.rounding else f"but for stabilities, off by up to {result.rounding:.0e}"
        typer.echo(
            f"{recording.name}: {recording.received / SAMPLE_RATE:.1f} s, {told} captions in {result.revisions} "
            f"revisions, {how}: the same {exactly}"
        )
    if problem is not None:
        typer.echo(f"notice: {problem}", err=True)
    if difference is not None and not answers and (changed := _changed(recording)):
        typer.echo(f"notice: recorded with {changed}", err=True)


def _changed(recording: Recording) -> str:
    """Name the packages whose version is another one now."""
    from importlib.metadata import version

    from streamtrans import __version__

    now = {"streamtrans": __version__, **{name: version(name) for name in PACKAGES}}
    return ", ".join(
        f"{name} {was} (here {now[name]})"
        for name, was in recording.origin.versions.items()
        if name in now and was != now[name]
    )


def _figures(recording: Recording, result: _Result, problem: str | None) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    captions = [
        {
            "language": caption.language,
            "start_ms": milliseconds(caption.start),
            "end_ms": milliseconds(min(caption.end, recording.received)),
            "text": caption.text.strip(),
        }
        for caption in result.finals
        if caption.text.strip()
    ]
    return {
        "file": recording.name,
        "model": recording.origin.model,
        "duration_s": round(recording.received / SAMPLE_RATE, 3),
        "same": result.difference is None,
        "difference": None if result.difference is None else asdict(result.difference),
        "problem": problem,
        "stability_off": result.rounding,
        "revisions": result.revisions,
        "captions": captions,
    }
