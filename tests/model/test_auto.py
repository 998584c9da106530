"""Speech models that only transformers runs: its tokens and logits, our drafts, promises and refusals."""

import json
import logging
import shutil
from dataclasses import dataclass
from functools import partial

import numpy as np
import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.audio import read_audio
from streamtrans.cli.demo import RECORDING
from streamtrans.client import StreamOptions, Unsupported
from streamtrans.core import AudioTooLong, BadAnswer, BadModel, Caption, Job, Target, UnsupportedLanguage
from streamtrans.decode import DraftContext, converse, decode, greedy, parse_drafters
from streamtrans.engine import Engine, EngineConfig
from streamtrans.model import auto
from streamtrans.model.api import Forward, Hearing, anything
from streamtrans.model.loading import COMPANIONS, FAMILIES, load_model, load_speech
from streamtrans.runtime import ModelChoice, load
from streamtrans.server.offer import what_is_served
from tests.auto_models import (
    make_audio_llm,
    make_canary,
    make_glm_asr,
    make_moonshine,
    make_seamless,
    make_speech2text,
)
from tests.model.test_parity import speech
from tests.server.conftest import configured, running

AUDIO = speech(1.6, 3)
LINE = (30, 31, 40, 55, 20, 30, 77)


@dataclass(frozen=True)
class Kind:
    """A class of transformers: how a folder of it is made, what is asked of it, and how ``generate`` is asked."""

    make: object
    target: str
    source: str | None
    asked: object
    rolls_back: bool = True


def heard(processor):
    return dict(processor.feature_extractor(AUDIO, sampling_rate=16_000, return_tensors="pt"))


def ask_speech2text(processor):
    return heard(processor) | {"forced_bos_token_id": processor.tokenizer.lang_code_to_id["de"]}


def ask_canary(processor):
    return dict(processor.apply_transcription_request(audio=AUDIO, source_language="en", target_language="de"))


def ask_llm(processor):
    wish = {"type": "text", "text": "Translate the speech into German."}
    chat = [{"role": "user", "content": [{"type": "audio", "audio": "x"}, wish]}]
    text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    return dict(processor(text=[text], audio=[AUDIO], return_tensors="pt", audio_kwargs={"sampling_rate": 16_000}))


def ask_glm(processor):
    return dict(processor.apply_transcription_request(AUDIO))


KINDS = {
    "speech_to_text": Kind(make_speech2text, "de", None, ask_speech2text),
    "moonshine": Kind(make_moonshine, "en", "en", heard),
    "seamless_m4t_v2": Kind(make_seamless, "de", "en", lambda processor: heard(processor) | {"tgt_lang": "deu"}),
    "canary": Kind(make_canary, "de", "en", ask_canary),
    "sound in its prompt": Kind(make_audio_llm, "de", "en", ask_llm),
    "sound in its prompt, no way back": Kind(partial(make_audio_llm, window=8), "de", "en", ask_llm, False),
}


def opened(folder, dtype=torch.float64):
    return auto.load(folder, device=torch.device("cpu"), dtype=dtype)


@pytest.fixture(scope="module", params=KINDS)
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("auto") / "folder"
    folder.mkdir()
    kind = KINDS[request.param]
    return kind, folder, *kind.make(folder)


@pytest.fixture(scope="module")
def exact(made):
    return opened(made[1])


@pytest.fixture(scope="module")
def canary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("auto") / "canary"
    make_canary(folder)
    return folder


def begin(model, kind, audio=AUDIO):
    prompt = model.prompt(kind.target, kind.source)
    [memory] = model.encode([audio])
    return prompt, memory


def read(model, cache, prompt, drafter="none", previous=(), *, prefix=()):
    context = DraftContext(len(prompt), model.eot, previous)
    talk = decode(prompt, prefix, cache, parse_drafters(drafter).make(context), eot=model.eot, limit=len(prompt) + 24)
    return converse(model, talk)


def test_logits_equal_transformers_in_prefill_step_by_step_and_after_a_cut(made):
    kind, folder, reference, processor = made
    ours = opened(folder, torch.float32)
    seen, run = [], ours.run

    def keep(*asked):
        logits, state = run(*asked)
        seen.append(logits)
        return logits, state

    ours.run = keep
    prompt, memory = begin(ours, kind)
    line = [*prompt, *LINE]
    asked = kind.asked(processor)
    if "input_ids" in asked:  # the whole prompt, with the sound in it
        asked |= {"input_ids": torch.cat([asked["input_ids"], torch.tensor([LINE])], 1)}
        asked.pop("attention_mask")
    else:
        asked = {
            name: each for name, each in asked.items() if name in ("input_features", "input_values", "attention_mask")
        }
        asked["decoder_input_ids"] = torch.tensor([line])
    with torch.no_grad():
        wanted = reference(**asked).logits[0, -len(line) :]
    slots = ours.allocate(1)
    for pieces in ([line], [[token] for token in line], [line[:-4], line[-4:]]):
        seen.clear()
        cache = slots.open(memory, prompt)
        for piece in pieces:
            ours.step([Forward(tuple(piece), cache, rows=len(piece), draft=tuple(piece[1:]))])
        torch.testing.assert_close(torch.cat(seen), wanted, atol=1e-4, rtol=0)
        cache.truncate(len(line) - 3)
        ours.step([Forward((50, 60), cache, rows=1)])
        cache.truncate(len(line) - 3)
        seen.clear()
        ours.step([Forward(LINE[-3:], cache, rows=3)])
        torch.testing.assert_close(torch.cat(seen)[-3:], wanted[-3:], atol=1e-4, rtol=0)
        slots.release(cache)


def test_a_greedy_text_is_the_one_of_transformers(made):
    kind, folder, reference, processor = made
    ours = opened(folder, torch.float32)
    prompt, memory = begin(ours, kind)
    found = converse(
        ours, greedy(prompt, (), ours.allocate(1).open(memory, prompt), eot=ours.eot, limit=len(prompt) + 20)
    )
    asked = kind.asked(processor)
    with torch.no_grad():
        wanted = reference.generate(
            **asked,
            max_new_tokens=20 + (0 if "input_ids" in asked else len(prompt)),
            num_beams=1,
            do_sample=False,
            bad_words_ids=[[token] for token in ours.scorer.rules.suppressed],
        )[0].tolist()
    text = [token for token in wanted if token not in ours.scorer.rules.suppressed | {ours.eot}]
    if "input_ids" in asked:
        text = [token for token in wanted[asked["input_ids"].shape[1] :] if token != ours.eot]
    assert found.tokens
    assert list(found.tokens) == text[: len(found.tokens)]
    assert len(text) - len(found.tokens) <= len(prompt)  # generate counts the language among the new tokens
    spelt = processor.tokenizer.decode(found.tokens, skip_special_tokens=True)
    assert "".join(ours.vocabulary.decode(found.tokens).split()) == "".join(spelt.split())


def test_it_knows_whether_it_can_go_back(made, exact):
    assert exact.rolls_back == made[0].rolls_back


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_whoever_drafts_the_text_is_the_greedy_one(made, exact, data):
    kind = made[0]
    prompt, memory = begin(exact, kind)
    slots = exact.allocate(2)
    plain = read(exact, slots.open(memory, prompt), prompt).tokens
    kept = data.draw(st.integers(0, len(plain)))
    junk = data.draw(st.lists(st.integers(5, 100), max_size=5))
    drafted = read(exact, slots.open(memory, prompt), prompt, "echo,ngram", (*plain[:kept], *junk))
    assert drafted.tokens == plain
    prefix = plain[: data.draw(st.integers(0, kept))]
    again = read(exact, exact.allocate(1).open(memory, prompt), prompt, "echo", plain, prefix=prefix)
    assert again.tokens == plain


def test_an_echo_is_read_in_one_pass(made, exact):
    kind = made[0]
    prompt, memory = begin(exact, kind)
    slots = exact.allocate(2)
    plain = read(exact, slots.open(memory, prompt), prompt)
    echoed = read(exact, slots.open(memory, prompt), prompt, "echo", plain.tokens)
    assert (echoed.tokens, echoed.stats.passes) == (plain.tokens, 1)


def test_a_row_of_many_equals_the_row_alone_and_what_fails_leaves_no_trace(made, exact, monkeypatch):
    kind = made[0]
    prompt = exact.prompt(kind.target, kind.source)
    memories = exact.encode([AUDIO, speech(0.7, 1), speech(0.02, 2)])
    many = exact.allocate(3)
    caches = [many.open(memory, prompt) for memory in memories]
    asked = [Forward((*prompt, *LINE[: at + 2]), cache, rows=2) for at, cache in enumerate(caches)]
    with monkeypatch.context() as patch:
        patch.setattr(exact.scorer, "suppression", exact.scorer.suppression * float("nan"))
        with pytest.raises(BadAnswer, match="finite"):
            exact.step(asked)
    assert {cache.length for cache in caches} == {0}
    many.wipe(caches[0])
    together = exact.step(asked)
    for row, (memory, each) in enumerate(zip(memories, asked, strict=True)):
        [alone] = exact.step([Forward(each.tokens, exact.allocate(1).open(memory, prompt), rows=2)])
        assert together[row].tokens == alone.tokens
        assert together[row].logprobs == pytest.approx(alone.logprobs, abs=1e-9)


def test_a_copied_text_goes_on_by_itself(made, exact):
    kind = made[0]
    prompt, memory = begin(exact, kind)
    slots = exact.allocate(2)
    source, copied = slots.open(memory, prompt), slots.open(memory, prompt)
    exact.step([Forward((*prompt, *LINE), source, rows=1)])
    copied.copy_from(source, len(prompt) + 2)
    [found] = exact.step([Forward(LINE[2:], copied, rows=1)])
    [beside] = exact.step([Forward((60,), source, rows=1)])
    fresh = exact.allocate(2)
    [wanted] = exact.step([Forward((*prompt, *LINE), fresh.open(memory, prompt), rows=1)])
    [other] = exact.step([Forward((*prompt, *LINE, 60), fresh.open(memory, prompt), rows=1)])
    assert found.logprobs == pytest.approx(wanted.logprobs, abs=1e-9)
    assert beside.logprobs == pytest.approx(other.logprobs, abs=1e-9)


def test_slots_are_counted_and_caches_are_cut_within_what_was_read(exact):
    [memory] = exact.encode([AUDIO])
    slots = exact.allocate(1)
    cache = slots.open(memory)
    with pytest.raises(RuntimeError, match="taken"):
        slots.open(memory)
    with pytest.raises(ValueError, match="truncate"):
        cache.truncate(1)
    slots.release(cache)
    with pytest.raises(RuntimeError, match="given back"):
        slots.release(cache)
    assert slots.free == 1


def test_silence_and_no_sound_are_heard_and_too_much_is_refused(exact, made):
    kind = made[0]
    for audio in (np.zeros(0, np.float32), np.zeros(16_000, np.float32)):
        prompt, memory = begin(exact, kind, audio)
        assert np.isfinite(read(exact, exact.allocate(1).open(memory, prompt), prompt).logprobs).all()
    with pytest.raises(AudioTooLong, match="max_segment_ms"):
        exact.listen([Hearing(np.zeros(exact.max_samples + 1, np.float32))])
    with pytest.raises(BadAnswer, match="finite"):
        exact.encode([np.full(16_000, np.nan, np.float32)])


def test_who_cannot_go_back_is_never_drafted_for(made, exact):
    """And reads the same from the engine as alone."""
    kind = made[0]
    prompt, memory = begin(exact, kind)
    plain = read(exact, exact.allocate(1).open(memory, prompt), prompt).tokens
    with Engine(exact, None, EngineConfig(slots=2, guard=False)) as engine:
        job = Job(0, 0, len(AUDIO), True, AUDIO, (Target(kind.target, draft=plain),), kind.source)
        [found] = engine.submit(job).result(60).hypotheses
    assert found.tokens[: len(plain)] == plain[: len(found.tokens)]
    assert bool(found.stats.drafted) == exact.rolls_back


# ---- what it can be asked for, and what is refused ----


@pytest.mark.parametrize(
    ("make", "languages", "refused"),
    [
        (make_speech2text, {"en", "de", "fr", "pt"}, [("en", None), ("zh", None), ("de", "fr")]),
        (partial(make_speech2text, several=False), {"en", "de"}, [("en", "en"), ("fr", "en"), ("de", "de")]),
        (make_moonshine, {"en"}, [("de", "en"), ("de", None)]),
        (make_seamless, {"en", "de", "zh"}, [("fr", "en"), ("en", "fr")]),
        (make_canary, {"en", "de", "fr"}, [("fr", "de"), ("it", "en"), ("de", None)]),
        (make_audio_llm, {"en", "de"}, [("fr", "en"), ("en", "zh")]),
    ],
)
def test_what_it_does_not_know_is_refused_and_never_replaced(make, languages, refused, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder)
    raw = json.loads((folder / "config.json").read_text())
    if "several" in getattr(make, "keywords", {}):
        (folder / "config.json").write_text(json.dumps(raw | {"translations": {"en": ["de"]}}))
    model = opened(folder, torch.float32)
    assert languages <= set(model.languages)
    for target, source in refused:
        with pytest.raises(UnsupportedLanguage):
            model.prompt(target, source)
    assert all(model.taught(target, spoken) for spoken, targets in model.translations for target in targets)


def changed(**values):
    def change(folder):
        raw = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(raw | values))

    return change


def without(*names):
    def change(folder):
        for name in names:
            (folder / name).unlink()

    return change


def pickled(folder):
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def generation(**values):
    def change(folder):
        file = folder / "generation_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change


endless = generation(eos_token_id=None)


def bins(folder):
    file = folder / "processor_config.json"
    raw = json.loads(file.read_text())
    raw["feature_extractor"]["feature_size"] = 64
    file.write_text(json.dumps(raw))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without("processor_config.json"), "processor"),
        (without("model.safetensors"), "no model.safetensors"),
        (pickled, "pickled"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 100), "can't load"),
        (without("tokenizer.json", "tokenizer_config.json"), "processor"),
        (changed(model_type="canary_of_somebody"), "unknown model_type"),
        (changed(model_type="bert"), "unknown model_type"),
        (changed(translations=["en"]), "translations"),
        (changed(has_lora_adapter=True), r"none is loaded.*adapter_config\.json"),
        (lambda folder: (folder / "generation_config.json").write_text("{"), "not readable JSON"),
        (endless, "how a text ends"),
        (changed(translations={"en": [1]}), "translations"),
        (changed(translations={"tlh": ["de"]}), "translations"),
        (changed(translations={"en": ["uk"]}), "translations names uk"),
        (changed(vocab_size="many"), "vocab_size"),
        (changed(decoder_config=3), "decoder_config"),
        (changed(model_type="dia"), "doesn't make text of speech"),
        (generation(eos_token_id=5000), "eos_token_id"),
        (generation(eos_token_id="x"), "eos_token_id"),
        (generation(suppress_tokens=[99_999]), "suppress_tokens"),
        (lambda folder: (folder / "chat_template.jinja").write_text("{{ said("), "go together"),
        (bins, "go together"),
    ],
)
def test_a_wrong_folder_is_refused_by_name(canary, tmp_path, change, told):
    folder = shutil.copytree(canary, tmp_path / "broken")
    change(folder)
    with pytest.raises(BadModel, match=told):
        load_speech(folder, device="cpu", dtype="float32")


def test_weights_of_another_model_are_refused_by_name(canary, tmp_path):
    folder = shutil.copytree(canary, tmp_path / "broken")
    raw = json.loads((folder / "config.json").read_text())
    raw["decoder_config"]["num_hidden_layers"] = 3
    (folder / "config.json").write_text(json.dumps(raw))
    with pytest.raises(BadModel, match=r"missing or of other sizes \(model\.decoder\.layers\.2"):
        load_speech(folder, device="cpu", dtype="float32")
    raw["decoder_config"] |= {"num_hidden_layers": 2, "intermediate_size": 40}
    (folder / "config.json").write_text(json.dumps(raw))
    with pytest.raises(BadModel, match="missing or of other sizes"):
        load_speech(folder, device="cpu", dtype="float32")


def test_code_that_comes_with_a_folder_is_never_run(canary, tmp_path):
    folder = shutil.copytree(canary, tmp_path / "broken")
    (folder / "evil.py").write_text("open('ran', 'w')\nclass Evil: pass\n")
    changed(auto_map={"AutoModelForSpeechSeq2Seq": "evil.Evil", "AutoConfig": "evil.Evil"}, model_type="evil")(folder)
    with pytest.raises(BadModel, match="unknown model_type 'evil'"):
        load_speech(folder, device="cpu")
    changed(model_type="canary")(folder)
    load_speech(folder, device="cpu", dtype="float32")
    assert not (tmp_path / "ran").exists()


def test_other_kinds_of_transformers_load_by_their_name_and_say_that_it_is_slow(canary, caplog):
    assert "canary" not in FAMILIES
    with caplog.at_level(logging.WARNING):
        model = load_speech(canary, device="cpu", dtype="float32")
    assert "slow" in caplog.text
    assert (model.name, model.precision) == ("canary", "float32")
    with pytest.raises(BadModel, match="isn't shaped like a Whisper"):
        load_model(canary, device="cpu", dtype="float32")


def test_without_transformers_the_package_is_named(canary, monkeypatch):
    monkeypatch.setattr("streamtrans.model.loading.find_spec", lambda name: None)
    with pytest.raises(BadModel, match="pip install transformers"):
        load_speech(canary, device="cpu")


# ---- live ----


async def chunks(audio):
    for at in range(0, len(audio), 1_600):
        yield audio[at : at + 1_600]


async def test_a_stream_is_read_live_and_promises_are_kept(made, monkeypatch):
    kind, folder, _, _ = made
    # Whatever families of their own these kinds may have.
    monkeypatch.setattr("streamtrans.model.loading.load_speech", lambda *_, **__: opened(folder, torch.float32))
    audio = read_audio(RECORDING)[: 8 * 16_000]
    choice = ModelChoice(model=str(folder), vad="energy", threads=1, guard="off")  # what it says is no language
    loaded = load(choice, slots=4)
    with loaded.engine:
        async with running(what_is_served(loaded, "energy"), configured()) as (_, client):
            spoken = () if kind.source is None else (kind.source,)
            stream = client.translate(StreamOptions(targets=(kind.target,), source_languages=spoken), chunks(audio))
            captions = [event async for event in stream if isinstance(event, Caption)]
            with pytest.raises(Unsupported, match="folder doesn't know 'la'; it knows"):
                async for _ in client.translate(StreamOptions(targets=("la",)), chunks(audio)):
                    pass
    assert {caption.segment for caption in captions if caption.final} == {0, 1}
    said = {}
    for caption in captions:
        assert caption.committed.startswith(said.get(caption.segment, ""))
        assert not (caption.final and caption.tentative)
        said[caption.segment] = caption.committed
    assert any(said.values())


def test_what_may_not_begin_a_text_is_masked_where_texts_begin(canary, tmp_path):
    folder = shutil.copytree(canary, tmp_path / "folder")
    plain = opened(folder)
    prompt = plain.prompt("de", "en")
    [memory] = plain.encode([AUDIO])
    first = read(plain, plain.allocate(1).open(memory, prompt), prompt).tokens[0]
    generation(begin_suppress_tokens=[first])(folder)
    masked = opened(folder)
    found = read(masked, masked.allocate(1).open(masked.encode([AUDIO])[0], prompt), prompt).tokens
    assert found[0] != first


def test_who_makes_prompts_of_a_language_is_asked_by_its_processor(canary):
    model = opened(canary)
    ear = model.ear
    assert ear.begin == len(model.prompt("de", "en"))
    assert model.prompt("de", "en") == tuple(ask_canary(ear.processor)["decoder_input_ids"][0].tolist())


def test_who_only_translates_is_tried_by_what_it_can(tmp_path):
    make_speech2text(tmp_path)
    model = opened(tmp_path, torch.float32)
    assert anything(model) == ("pt", "en")
    with Engine(model, None, EngineConfig(slots=1)) as engine:
        job = Job(0, 0, len(AUDIO), True, AUDIO, (Target("de"),), "en")
        assert engine._device.try_silence(job) is None


def test_what_may_not_begin_a_text_needs_prompts_of_one_length(tmp_path):
    make_audio_llm(tmp_path)
    generation(begin_suppress_tokens=[20])(tmp_path)
    with pytest.raises(BadModel, match="prompts of several lengths"):
        opened(tmp_path)


def test_who_only_transcribes_is_asked_as_its_processor_asks_and_for_nothing_else(tmp_path):
    _, processor = make_glm_asr(tmp_path)
    model = opened(tmp_path)
    assert model.translations == (("en", ("en",)), ("zh", ("zh",)), ("de", ("de",)))
    line = ask_glm(processor)["input_ids"][0].tolist()
    for asked in (model.prompt("en", "en"), model.prompt("de", None)):
        assert tuple(line[-len(asked) :]) == asked
    for target, source in (("de", "en"), ("en", "zh")):
        with pytest.raises(UnsupportedLanguage, match=f"makes no {target} of {source}"):
            model.prompt(target, source)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft's
def test_an_adapter_beside_the_weights_is_fetched_and_loaded(canary, tmp_path):
    folder = shutil.copytree(canary, tmp_path / "adapted")
    torch.manual_seed(1)
    wanted = peft.LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    peft.get_peft_model(opened(folder).network, wanted).save_pretrained(folder)
    changed(has_lora_adapter=True)(folder)
    assert {path.name for path in folder.glob("adapter_*")} <= {*COMPANIONS}
    found = []
    for model in (opened(canary), opened(folder)):
        prompt, memory = begin(model, KINDS["canary"])
        [answer] = model.step([Forward((*prompt, *LINE), model.allocate(1).open(memory), rows=8)])
        found.append(answer.logprobs)
    assert found[0] != found[1]
