"""What isn't doubted is read as ever; what is in another language is read again, and else held back and told."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import Caption, Doubt
from streamtrans.decode import DraftContext, NoDraft, converse, decode, guarded, judged, parse_drafters
from streamtrans.decode.guarded import BEGINNINGS, FAR, WORSE
from streamtrans.engine import Engine, EngineConfig
from streamtrans.engine.guard import Asked, doubt, judging, sounding
from streamtrans.evaluate import replay
from streamtrans.model.api import Choices
from streamtrans.stream import SessionConfig, Span, Stages, doubted, load_policy
from streamtrans.stream.lines import Line
from streamtrans.testing.engine import hypothesis
from streamtrans.testing.toy import EOT, ToyConfig, ToyModel, toy_audio
from streamtrans.testing.vad import ScriptedVad
from streamtrans.text import Pieces, Source
from tests.fakes import Words

PROMPT, END = (1, 2), 0
ENGLISH, GERMAN, COSTLY, PREFIX = (11, 12, 13), (21, 22, 23), (31, 32, 33), (5,)
WRONG = Doubt("en", certain=True)


@dataclass
class Cache:
    """Remembers how much was read."""

    length: int = 0
    floor: int = 0

    def truncate(self, length):
        assert self.floor <= length <= self.length
        self.length = length


@dataclass
class Script:
    """A model that goes on with the text that it has begun, and begins in the order of its log-probabilities."""

    beginnings: list[tuple[tuple[int, ...], float, float]]
    """Text, log-probability of its first token, and of each of the others."""
    prefix: tuple[int, ...] = ()
    read: dict[int, list[int]] = field(default_factory=dict)
    passes: int = 0

    def step(self, forwards):
        return [self._answer(forward) for forward in forwards]

    def _answer(self, forward):
        self.passes += 1
        known = self.read.setdefault(id(forward.cache), [])
        known[forward.cache.length :] = forward.tokens
        forward.cache.length = len(known)
        rows = [self._next(known[: len(known) - forward.rows + 1 + row]) for row in range(forward.rows)]
        best = [row[0] for row in rows]
        return Choices(
            tuple(token for token, _ in best),
            tuple(logprob for _, logprob in best),
            candidates=tuple(tuple(row[: forward.width]) for row in rows) if forward.width else (),
            draft_logprobs=(0.0,) * (forward.rows - 1),
            frames=tuple(range(len(known) - len(forward.tokens), len(known))),  # each looks at its own place
        )

    def _next(self, tokens):
        said = tuple(tokens[len(PROMPT) + len(self.prefix) :])
        if not said:
            return [(text[0], first) for text, first, _ in self.beginnings]
        for text, _, rest in self.beginnings:
            if text[: len(said)] == said:
                return [(text[len(said)], rest)] if len(said) < len(text) else [(END, rest)]
        raise AssertionError(f"the script doesn't go on with {said}")


def reading(script, judge, prefix=()):
    script.prefix = prefix
    undrafted = NoDraft(DraftContext(len(PROMPT), END))
    return converse(script, guarded(PROMPT, prefix, Cache(), undrafted, eot=END, limit=40, judge=judge))


def wrong(tokens):
    return WRONG if tokens[-3:] in (ENGLISH, COSTLY) else None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 4), st.sampled_from(["none", "echo", "echo,kvspn"]))
def test_what_is_not_doubted_is_decoded_as_ever_in_as_many_passes(seed, seconds, spec):
    model = ToyModel(ToyConfig(seed=seed))
    prompt, audio = model.prompt("de", None), toy_audio(seconds, seed)
    found = []
    for how in (decode, lambda *args, **more: guarded(*args, judge=lambda _: None, **more)):
        drafter = parse_drafters(spec).make(DraftContext(len(prompt), model.eot))
        cache = model.allocate(1).open(model.encode([audio])[0])
        found.append(converse(model, how(prompt, (), cache, drafter, eot=model.eot, limit=40)))
    assert found[0] == found[1]


@pytest.mark.parametrize("prefix", [(), PREFIX])
def test_a_text_in_doubt_is_begun_otherwise(prefix):
    script = Script([(ENGLISH, -0.1, -0.1), (GERMAN, -2.0, -0.2)])

    found = reading(script, wrong, prefix)

    assert found.tokens == (*prefix, *GERMAN)
    assert found.doubt is None
    assert found.logprobs == (*(0.0,) * len(prefix), -2.0, -0.2, -0.2)
    assert found.stats.passes == script.passes
    first = len(PROMPT) - 1
    assert found.ends == tuple(range(first, first + len(found.tokens)))  # of what was promised, too


def test_where_no_other_beginning_is_right_the_reading_stands_with_its_doubt():
    others = [((40 + at, 1, 2), -1.0 - at / 10, -0.1) for at in range(9)]
    script = Script([(ENGLISH, -0.1, -0.1), *others])

    found = reading(script, lambda _: WRONG)

    assert (found.tokens, found.doubt) == (ENGLISH, WRONG)
    assert script.passes == found.stats.passes == (1 + BEGINNINGS) * 4 + 1 - BEGINNINGS  # a beginning saves its choice


@pytest.mark.parametrize(
    ("first", "rest"), [(-0.2 - FAR, -0.1), (-1.0, -0.2 - 2 * WORSE)], ids=["beginning", "whole text"]
)
def test_what_the_model_holds_for_unlikely_is_not_put_in_its_place(first, rest):
    found = reading(Script([(ENGLISH, -0.1, -0.1), (GERMAN, first, rest)]), wrong)

    assert (found.tokens, found.doubt) == (ENGLISH, WRONG)


def test_what_nobody_can_tell_yet_is_not_read_again():
    script = Script([(ENGLISH, -0.1, -0.1), (GERMAN, -2.0, -0.2)])

    found = reading(script, lambda _: Doubt())

    assert (found.tokens, found.doubt, script.passes) == (ENGLISH, Doubt(), 4)


def test_who_was_taught_a_language_is_doubted_on_strong_evidence_and_who_was_not_on_any():
    words = ["he", "takes", "the", "very", "same", "train", "to", "town", "as", "his", "old", "neighbour"]
    german = ["und", "der", "Zug", "fährt", "heute", "leider", "nicht", "mehr", "nach", "Hause", "zurück", "mein"]
    vocabulary = Pieces([b"", *(f" {word}".encode() for word in (*words, *german))], EOT)
    vocabulary_size = 1 + len(words) + len(german)
    few, all_of_them = tuple(range(1, 5)), tuple(range(1, 1 + len(words)))
    taught = judging(vocabulary, Asked("de", ("en",), taught=True))
    untaught = judging(vocabulary, Asked("de", ("en",), taught=False))

    assert taught(all_of_them) == untaught(all_of_them) == WRONG
    assert taught(few) == Doubt("en", certain=False)
    assert untaught(few) == WRONG
    mixed = (*all_of_them, *range(1 + len(words), vocabulary_size))
    assert (taught(mixed), untaught(mixed)) == (None, WRONG)
    assert (taught((1,)), untaught((1,)), untaught(())) == (None, Doubt(), None)
    assert judging(vocabulary, Asked("en", ("de",), taught=True))(all_of_them) is None


def test_who_was_never_taught_a_language_is_not_believed_where_the_text_is_in_none():
    invented = "Passworderrat. Prägo digitare la Password, seguita daltastocanceletto."
    right = "Das Passwort ist falsch, bitte geben Sie es noch einmal ein."

    assert doubt(invented, Asked("de", ("it", "en"), taught=False)) == Doubt("it", certain=True)
    assert doubt(right, Asked("de", ("it", "en"), taught=False)) is None
    assert doubt(right, Asked("de", ("it", "en"), taught=True)) is None


ENGLISH_WORDS = ["the", "of", "and", "that", "was", "with", "which", "this"]
ENGLISH_WORDS += ["from", "they", "would", "their", "there", "about", "could", "people"]
WHOLE = [(3_000, 50_000)]


def captions_of(target, *, guard=True, mode="live"):
    model = ToyModel(ToyConfig(words=len(ENGLISH_WORDS), languages=("en", "de")))
    first = model.first_word
    model.vocabulary = Pieces([b""] * first + [f" {word}".encode() for word in ENGLISH_WORDS], EOT)
    config = SessionConfig((target,), mode=mode, min_voiced_ms=0)
    with Engine(model, lambda _: ScriptedVad(WHOLE), EngineConfig(slots=2, guard=guard)) as engine:
        return replay(config, model.vocabulary, engine, np.concatenate([toy_audio(3.5, 3), np.zeros(16_000, "f4")]))


@pytest.mark.parametrize("mode", ["live", "stable", "final"])
def test_nothing_of_a_certainly_wrong_text_reaches_a_reader_and_he_is_told(mode):
    unguarded, shown = captions_of("de", guard=False, mode=mode), captions_of("de", mode=mode)

    assert len(unguarded.finals[0].text.split()) >= 6
    [final] = shown.finals
    assert (final.text, final.doubt) == ("", WRONG)
    assert doubted(final) == "a text in German was held back: the model wrote English instead"


def test_a_reading_that_a_newer_one_replaces_is_not_taken_again():
    script = Script([(ENGLISH, -0.1, -0.1), (GERMAN, -2.0, -0.2)])
    undrafted = NoDraft(DraftContext(len(PROMPT), END))

    found = converse(script, judged(decode(PROMPT, (), Cache(), undrafted, eot=END, limit=40), wrong))

    assert (found.tokens, found.doubt, script.passes) == (ENGLISH, WRONG, 4)


@pytest.mark.parametrize("last", [None, hypothesis(GERMAN, 0.9)], ids=["lost", "right"])
def test_a_reader_is_told_of_the_doubt_in_what_he_reads_at_last(last):
    line = Line("de", Words(), load_policy("agreement", 2), SessionConfig(("de",)))
    span = Span(0, 0, 16_000)
    line.read(replace(hypothesis(ENGLISH, 0.9), doubt=Doubt("en")), span, certain=16_000)

    final = line.finish(last, span)

    assert final.text
    assert final.doubt == (Doubt("en") if last is None else None)


def test_a_sentence_that_ended_in_doubt_does_not_end_where_all_of_it_is_taken_back():
    line = Line("de", Words(), load_policy("hold", 9), SessionConfig(("de",)))
    span = Span(0, 0, 16_000)
    for _ in range(2):
        doubted_twice = replace(hypothesis((11, 0, 12, 13), 0.9), doubt=Doubt("en"), ends=(1, 2, 3, 4))
        line.read(doubted_twice, span, certain=16_000)
    assert line.ending is not None
    line.read(replace(hypothesis(ENGLISH, 0.9), doubt=WRONG), span, certain=16_000)

    assert line.ending is None
    assert line.finish(None, span).text == ""


def test_the_same_text_is_right_where_its_language_was_asked_for():
    unguarded, shown = captions_of("en", guard=False), captions_of("en")

    assert [final.text for final in shown.finals] == [final.text for final in unguarded.finals]
    assert shown.finals[0].doubt is None
    assert doubted(shown.finals[0]) is None


def test_a_caption_in_doubt_but_not_for_certain_is_shown_and_said_to_be():
    caption = Caption(0, 1, "de", " Ehre sei Gott!", "", final=True, start=0, end=1, heard=1, doubt=Doubt("fr"))

    assert doubted(caption) == "a text in German seems to be French: Ehre sei Gott!"
    assert doubted(replace(caption, doubt=None)) is None


# ---- what translators say besides ----


def translated(pieces, *, asked_in_words=True, guard=True, mode="live"):
    """Return the final caption of a translator whose words are ``pieces``, behind an ear that speaks English."""
    ear = ToyModel(ToyConfig(words=len(ENGLISH_WORDS), languages=("en", "de")))
    translator = ToyModel(
        ToyConfig(words=len(pieces), languages=("en", "de"), speculator=False, asked_in_words=asked_in_words)
    )
    for model, words in ((ear, [f" {word}" for word in ENGLISH_WORDS]), (translator, pieces)):
        model.vocabulary = Pieces([b""] * model.first_word + [word.encode() for word in words], EOT)
    config = SessionConfig(("de",), source="en", mode=mode, min_voiced_ms=0)
    engine = Engine(ear, lambda _: ScriptedVad(WHOLE), EngineConfig(slots=2, guard=guard), translator)
    audio = np.concatenate([toy_audio(3.5, 3), np.zeros(16_000, "f4")])
    with engine:
        [final] = replay(config, Stages(ear.vocabulary, translator.vocabulary), engine, audio).finals
    return final


@pytest.mark.parametrize("mode", ["live", "stable", "final"])
def test_nothing_of_what_a_translator_says_instead_reaches_a_reader_and_he_is_told(mode):
    talking = [" Übersetzung:", " Die Übersetzung lautet:"]

    assert translated(talking, guard=False, mode=mode).text
    shown = translated(talking, mode=mode)
    assert (shown.text, shown.doubt) == ("", Doubt(certain=True, chatter=True))
    assert doubted(shown) == "a text in German was held back: the model talked about it instead"


def test_who_is_not_asked_in_words_is_not_suspected_of_talking():
    shown, unguarded = (translated([" Übersetzung:", " Wort"], asked_in_words=False, guard=on) for on in (True, False))

    assert (shown.text, shown.doubt) == (unguarded.text, None)


def test_what_may_be_talk_is_shown_and_said_to_be():
    shown = translated([" **Tag**", " **Nacht**"])

    assert shown.text
    assert shown.doubt == Doubt(chatter=True)
    assert doubted(shown) == f"a text in German may be chatter: {shown.text.strip()}"


def test_what_is_no_talk_is_translated_as_ever():
    words = [" Haus", " Licht", " Morgen", " gut"]

    assert translated(words) == translated(words, guard=False)
    assert translated(words).doubt is None


def test_a_copy_of_the_transcript_is_held_back_as_a_text_in_its_language():
    said = "the of and that was with which this"
    source = Source(said, "en")

    assert doubt(said, Asked("de", (), taught=True, source=source)) == WRONG
    assert doubt("Microsoft Windows", Asked("de", (), taught=True, source=Source("Microsoft Windows", "en"))) is None
    already = "wir fangen jetzt mit der nächsten sitzung an"
    assert doubt(already, Asked("de", (), taught=True, source=Source(already, "en"))) is None  # a German was heard


COPIES = """
da no jeg kommer fra en lille by i nord|da no vi har ikke tid til at snakke om det nu|no da jeg har ingen penger
da no jeg vil gerne have en kop kaffe og et glas vand|da no han kommer ikke hjem i dag fordi han er syg
da nn vi skal til byen i morgen med bil og tog|da sv det er en god ide at tage med|no sv det var en god dag for oss alle
da no de bor i et stort hus ved havet|da no hun arbejder på et stort kontor i byen|hr sr to je dobro i lepo za sve nas
hr sr danas idemo u grad po novi auto|hr bs moram ići kući jer je kasno|hr sl danas idemo u grad po novi auto
gl pt a casa da minha avó é moi grande|pt gl a casa é grande e bonita|pt gl o tempo está bom hoje e eu vou sair
pt es a casa é grande e bonita, mas velha|mk bg куќата е голема и убава за сите нас|bg mk нема време да чакаме тук
sk cs kde je moja mama dnes v meste|cs sk dnes je pekný den na prechádzku v meste
id ms saya akan pergi ke sekolah besok pagi
ru uk я не знаю|be uk я не ведаю, дзе мой дом і мой горад|uk be я не знаю, де мій дім і моє місто
""".strip().replace("\n", "|")


@pytest.mark.parametrize("case", COPIES.split("|"))
@pytest.mark.parametrize("in_words", [True, False])
def test_what_is_right_in_two_languages_is_never_certainly_a_copy(case, in_words):
    spoken, target, said = case.split(" ", 2)
    found = doubt(said, Asked(target, (spoken, "en"), taught=True, source=Source(said, spoken), in_words=in_words))

    assert found is None or not found.certain


def test_a_copy_is_certain_where_its_language_is():
    said = "it is far too late to go home by train"
    short = "we must go home"
    for target in ("de", "da", "pt"):
        assert doubt(said, Asked(target, (), taught=True, source=Source(said, "en"))) == WRONG
        found = doubt(short, Asked(target, (), taught=True, source=Source(short, "en")))
        assert found == Doubt("en", certain=False)


REMARK = (41, 42)
CUT = Doubt(chatter=True, cut=True)


@pytest.mark.parametrize("prefix", [(), PREFIX])
def test_what_a_text_says_of_itself_at_its_end_is_left_out(prefix):
    script = Script([((*GERMAN, *REMARK), -0.1, -0.1)])
    script.prefix = prefix
    vocabulary = Pieces([b"x"] * 41 + [b" (Hinweis:", b" informell)"], EOT)
    asked = Asked("de", ("en",), taught=True, source=Source("xxx", "en"), in_words=True)
    undrafted = NoDraft(DraftContext(len(PROMPT), END))
    sound = sounding(vocabulary, asked)

    found = converse(
        script,
        guarded(PROMPT, prefix, Cache(), undrafted, eot=END, limit=40, judge=lambda _: None, sound=sound),
    )

    assert found.tokens == (*prefix, *GERMAN)
    assert len(found.logprobs) == len(found.ends) == len(found.tokens)
    assert (found.complete, found.doubt) == (True, CUT)
    assert script.passes == len(GERMAN) + len(REMARK) + 1  # what is left is right: nothing is begun otherwise
    assert sounding(vocabulary, replace(asked, in_words=False)) is len


def test_what_was_promised_stays_whatever_it_is():
    script = Script([((*GERMAN, *REMARK), -0.1, -0.1)])
    undrafted = NoDraft(DraftContext(len(PROMPT), END))
    talk = decode(PROMPT, (), Cache(), undrafted, eot=END, limit=40)

    found = converse(script, judged(talk, lambda _: None, lambda _: 1, kept=2))

    assert (found.tokens, found.doubt) == (GERMAN[:2], CUT)


@pytest.mark.parametrize("mode", ["live", "stable", "final"])
def test_what_was_left_out_is_told(mode):
    pieces = [" Donaudampfschifffahrt", " Geschwindigkeit", " Wahrscheinlichkeit", "\nHinweis: informell"]
    shown, whole = translated(pieces, mode=mode), translated(pieces, mode=mode, guard=False)

    assert shown.text
    assert whole.text.startswith(shown.text)
    assert "Hinweis" in whole.text
    assert shown.doubt == CUT
    assert doubted(shown) == f"what the model said about a text in German was left out: {shown.text.strip()}"


def test_talk_is_begun_otherwise():
    script = Script([(ENGLISH, -0.1, -0.1), (GERMAN, -2.0, -0.2)])
    chatter = Doubt(certain=True, chatter=True)

    found = reading(script, lambda tokens: chatter if tokens[-3:] == ENGLISH else None)

    assert (found.tokens, found.doubt) == (GERMAN, None)
