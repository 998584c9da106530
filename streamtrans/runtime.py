"""What a user said about a model becomes a model in memory, with the engine that runs it.

Law: whoever needs a model, a server, a measurement or a verb, gets it here, so that what is measured is what is served.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from streamtrans.core import (
    BadConfig,
    BadModel,
    CaptionChoice,
    Option,
    Tokens,
    UnsupportedLanguage,
    asked,
    milliseconds,
)
from streamtrans.foreign import Chosen
from streamtrans.segment import EndpointRules

if TYPE_CHECKING:
    from streamtrans.decode import DraftCosts
    from streamtrans.engine import Engine, EngineConfig
    from streamtrans.model.api import SpeechModel, TextModel, WritingModel
    from streamtrans.model.speech import TorchSpeechModel
    from streamtrans.stream import SessionConfig, Settings, Spellers

SMALL_MODEL = 100_000_000
"""Parameters below which a second thread costs more than it brings: a small product is over before it has woken up.
With nano and eight streams on two cores, two threads doubled the lag (benchmarks/RESULTS.md)."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """What the user said about the model; checked before anything heavy is loaded.

    Raises:
        BadConfig: the drafter, the top-k or the detector doesn't exist.
    """

    model: Annotated[
        str | None,
        Option("Checkpoint folder, or hub name such as openai/whisper-small. By default the embedded model."),
    ] = None
    device: Annotated[str, Option("auto (a GPU if there is one), cpu, cuda, cuda:1, …")] = "auto"
    dtype: Annotated[
        str,
        Option(
            "auto (bfloat16 on GPU and for wide models on CPU, else float32), float32, bfloat16, int8 (CPU), "
            "float16 or float64."
        ),
    ] = "auto"
    drafter: Annotated[
        str | None,
        Option(
            "Who drafts tokens for the model to verify: none, echo (the previous reading), ngram, kvspn "
            "(the model's speculative network), or a chain such as echo,kvspn. By default echo,kvspn where the "
            "model has a KVSPN, else echo,ngram, as of a translator behind it.",
            metavar="NAMES",
            parse=Chosen,
        ),
    ] = None
    top_k: Annotated[
        str,
        Option(
            "Keep a KVSPN draft that is among the model's k best: 1 is exact, 2 and 3 are faster and "
            "looser, inf never checks."
        ),
    ] = "1"
    vad: Annotated[
        str,
        Option(
            "Speech detector: silero, webrtc, energy, or module:Class of an installed package.",
            metavar="NAME",
            parse=Chosen,
        ),
    ] = "silero"
    guard: Annotated[
        str,
        Option(
            "on: what comes out in another language than was asked for, or as talk of the model's own, is read again, "
            "and else held back; or off."
        ),
    ] = "on"
    zero_shot: Annotated[
        bool,
        Option("Ask stock Whisper for languages that it wasn't taught to write, too: it copies and invents much."),
    ] = False
    threads: Annotated[
        int | None,
        Option("CPU threads of the model. By default one for a small model, else one per core.", least=1),
    ] = None
    translator: Annotated[
        str | None,
        Option(
            "Translator of texts: checkpoint folder, or hub name such as facebook/m2m100_418M. The model then writes "
            "down what is said, in the language that --from names, and this one translates it.",
            metavar="FOLDER|NAME",
        ),
    ] = None

    def __post_init__(self) -> None:
        from streamtrans.vad import vad_window

        vad_window(self.vad)
        self.engine_config(slots=1)

    def engine_config(self, slots: int) -> EngineConfig:
        """Return the engine's settings with room for ``slots`` texts at once."""
        from streamtrans.decode import parse_top_k
        from streamtrans.engine import EngineConfig

        if self.guard not in ("on", "off"):
            raise BadConfig(f"guard is {self.guard!r}; use on or off")
        return EngineConfig(
            slots=slots,
            max_batch=max(16, slots),
            drafter=self.drafter,
            top_k=parse_top_k(self.top_k),
            guard=self.guard == "on",
        )

    def arguments(self) -> list[str]:
        """Return the options that say the same, for another process."""
        given = [(each.flag, getattr(self, each.field)) for each in asked(type(self))]
        switched = [flag for flag, value in given if value is True]
        valued = [(flag, value) for flag, value in given if value is not None and not isinstance(value, bool)]
        return [*switched, *(text for flag, value in valued for text in (flag, str(value)))]


_ANY = CaptionChoice()


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory, the translator behind it if there is one, and the engine of both; close that when done."""

    model: SpeechModel
    config: EngineConfig
    engine: Engine
    settings: Settings
    translator: TextModel | None = None

    @property
    def name(self) -> str:
        """What serves, to show."""
        return self.model.name if self.translator is None else f"{self.model.name} → {self.translator.name}"

    @property
    def spellers(self) -> Spellers:
        """Who spells the captions."""
        from streamtrans.stream import Stages

        ear, translator = self.model.vocabulary, self.translator
        return ear if translator is None else Stages(ear, translator.vocabulary)

    @property
    def word(self) -> Tokens:
        """Something to translate, where there is a translator."""
        return self.model.vocabulary.encode("1948") if self.translator is not None else ()

    @property
    def layout(self) -> str:
        """What a recording keeps of that."""
        from streamtrans.stream import layout

        return layout(self.model.vocabulary, None if self.translator is None else self.translator.vocabulary)

    @property
    def translations(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Spoken language and what can be made of it; empty: any of :attr:`languages` becomes any."""
        if self.translator is None:
            return self.model.translations
        heard = [spoken for spoken, _ in self.model.translations] or self.model.languages
        return tuple((spoken, (spoken, *self.translator.targets(spoken))) for spoken in heard)

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes that can be spoken or written."""
        if self.translator is None:
            return self.model.languages
        return tuple(dict.fromkeys(code for spoken, written in self.translations for code in (spoken, *written)))

    def ask(self, target: str, source: str | None) -> None:
        """Refuse what can't be written of ``source``.

        Raises:
            UnsupportedLanguage: that is so, or the spoken language must be named.
        """
        if self.translator is None:
            self.model.prompt(target, source)
        else:
            from streamtrans.engine import check_stages

            check_stages(self.model, self.translator, target, source)

    @property
    def endpoints(self) -> EndpointRules:
        """The default endpoint rules, cut down to what the model can hold."""
        rules = EndpointRules()
        longest = min(rules.max_segment_ms, milliseconds(self.model.max_samples))
        return replace(rules, max_segment_ms=longest, cut_search_ms=min(rules.cut_search_ms, longest // 2))

    def session_config(
        self,
        targets: tuple[str, ...],
        source: str | None = None,
        vad: str = "silero",
        captions: CaptionChoice = _ANY,
    ) -> SessionConfig:
        """Return the settings of a session: what was measured to be best with this model for what was said of captions.

        Raises:
            BadConfig: a budget can't be kept, or a segment would be longer than the model can hold.
        """
        from streamtrans.stream import SessionConfig, Unmet, arrange

        template = SessionConfig(targets, source, vad, self.endpoints)
        try:
            return arrange(template, captions, self.settings, milliseconds(self.model.max_samples))[0]
        except Unmet as error:
            raise error.by_option() from error

    def check_languages(self, targets: tuple[str, ...], source: str | None = None) -> None:
        """Refuse languages that the model doesn't know, and pairs that it doesn't translate.

        Raises:
            UnsupportedLanguage: at least one.
        """
        named = (*targets, source) if source else targets
        unknown = [language for language in named if language not in self.languages]
        if unknown:
            raise UnsupportedLanguage(
                f"{self.name} doesn't know {', '.join(unknown)}; it knows {', '.join(self.languages)}"
            )
        for target in targets:
            self.ask(target, source)


def load(choice: ModelChoice, *, slots: int = 16, costs: DraftCosts | None = None) -> Loaded:
    """Load the model and start its engine.

    Args:
        choice: what was said about it.
        slots: texts at once.
        costs: of drafts; ``None`` takes what they cost here, which is measured once.

    Raises:
        BadModel: the checkpoint is missing or broken.
        BadConfig: the device isn't there, or the drafter needs what the model lacks.
    """
    import torch

    from streamtrans.engine import Engine
    from streamtrans.model.loading import find_folder, load_speech, load_translator
    from streamtrans.model.speech import TorchSpeechModel
    from streamtrans.stream import Settings
    from streamtrans.vad import load_vad

    settings = Settings.load(find_folder(choice.model))
    model = load_speech(choice.model, device=choice.device, dtype=choice.dtype)
    if choice.zero_shot:
        if not isinstance(model, TorchSpeechModel):
            raise BadConfig(f"{model.name} can't be asked for what it wasn't taught; stock multilingual Whisper can")
        model.ask_for_anything()
    translator = None
    if choice.translator is not None:
        translator = load_translator(choice.translator, device=choice.device, dtype=choice.dtype)
    torch.set_num_threads(choice.threads or default_threads(model, translator))
    config = choice.engine_config(slots)
    config = replace(config, costs=_costs(model, config) if costs is None else costs)
    return Loaded(model, config, Engine(model, load_vad, config, translator), settings, translator)


def _costs(model: SpeechModel, config: EngineConfig) -> DraftCosts:
    """Return what drafts cost here, where their length follows from it and what is written doesn't."""
    import torch

    from streamtrans.decode import parse_drafters
    from streamtrans.engine import priced
    from streamtrans.model.native import why_not
    from streamtrans.model.speech import TorchSpeechModel

    guesses = model.has_speculator and (config.drafter is None or parse_drafters(config.drafter).needs_speculator)
    if not guesses or config.top_k != 1 or not isinstance(model, TorchSpeechModel):
        return config.costs
    threads = torch.get_num_threads()
    about = [model.config.asdict(), model.precision, str(model.device), threads, torch.__version__, why_not()]
    return priced(cast("SpeechModel", model), about, alone=threads == 1 and model.device.type == "cpu")


def load_alone(choice: ModelChoice) -> TorchSpeechModel:
    """Load a model, with its tokenizer, and without an engine around it.

    Raises:
        BadModel: the checkpoint is missing or broken.
        BadConfig: the device isn't there, or a translator is asked for besides.
    """
    if choice.translator is not None:
        raise BadConfig("--translator: here one model is read alone; leave it out")
    import torch

    from streamtrans.model.loading import load_model

    model = load_model(choice.model, device=choice.device, dtype=choice.dtype)
    torch.set_num_threads(choice.threads or default_threads(model))
    return model


def default_threads(*models: WritingModel | TorchSpeechModel | None) -> int:
    """Return one thread for small models, as many as there are cores for a larger one."""
    import torch

    largest = max(model.parameters for model in models if model is not None)
    return 1 if largest < SMALL_MODEL else torch.get_num_threads()


def identity(model: str | None) -> dict[str, str]:
    """Name the model and the checksum of its weights, without saying where it lies.

    Raises:
        BadModel: there is no such checkpoint.
    """
    from streamtrans.model.loading import find_folder

    folder = find_folder(model)
    name = folder.name if model is None or Path(model).is_dir() else model
    return {"name": name, "sha256": weights_sha256(folder)}


def identities(choice: ModelChoice) -> dict[str, dict[str, str]]:
    """Name the model and, where there is one, the translator behind it; see :func:`identity`."""
    behind = {} if choice.translator is None else {"translator": identity(choice.translator)}
    return {"model": identity(choice.model), **behind}


def weights_sha256(folder: Path) -> str:
    """Return the checksum over a checkpoint's weights, shards in order of their names.

    Raises:
        BadModel: the folder holds no safetensors.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BadModel(f"{folder} has no .safetensors file: there are no weights to identify")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
