"""Audio language models compute what transformers computes, of prompts that their processors make."""

import base64
import io
import json
import shutil
import sys

import numpy as np
import pytest
import soundfile
import torch
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.transcription.request import TranscriptionRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from transformers import AutoProcessor, Qwen2AudioConfig, VoxtralConfig, WhisperFeatureExtractor

from streamtrans.compress.speculator import add_speculator
from streamtrans.core import AudioTooLong, BadAnswer, BadModel, UnsupportedLanguage
from streamtrans.decode import DraftContext, converse, decode, greedy, parse_drafters
from streamtrans.model.api import Forward, Hearing, Propose
from streamtrans.model.audio_lm import qwen2_audio, voxtral
from streamtrans.model.layers import rotate
from streamtrans.model.loading import _width, load_speech, load_translator
from tests.audio_models import CHUNK_S, MAKERS, make_drafting_stacked
from tests.model.test_parity import speech

PAIRS = [("en", "en"), ("de", "en"), ("fr", None)]
ANSWER = (60, 61, 70, 45, 62)


@pytest.fixture(scope="module", params=MAKERS)
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "folder"
    return folder, MAKERS[request.param](folder)


@pytest.fixture
def copied(made, tmp_path):
    return shutil.copytree(made[0], tmp_path / "broken")


def qwen_inputs(folder, audio, target, source):
    """Return what Qwen2-Audio's processor makes of a recording and what is asked of it."""
    processor = AutoProcessor.from_pretrained(folder)
    names = {"en": "English", "de": "German", "fr": "French"}
    order = f"Transcribe the {names[target]} speech:"
    if source != target:
        spoken = "" if source is None else f"{names[source]} "
        order = f"Translate the {spoken}speech into {names[target]}:"
    said = [
        {"role": "system", "content": "You are a professional translator."},
        {"role": "user", "content": [{"type": "audio", "audio_url": ""}, {"type": "text", "text": order}]},
    ]
    asked = processor.apply_chat_template(said, add_generation_prompt=True, tokenize=False)
    return dict(processor(text=[asked], audio=[audio], sampling_rate=16_000, return_tensors="pt"))


def voxtral_inputs(folder, audio, target, source):
    """Return what Voxtral's processor makes of them: prompts by mistral-common, features of whole chunks."""
    tokenizer = MistralTokenizer.from_file(folder / "tekken.json")
    file = io.BytesIO()
    soundfile.write(file, audio, 16_000, format="wav")
    if source == target:
        file.seek(0)
        asked = tokenizer.encode_transcription(
            TranscriptionRequest.from_openai({"model": "voxtral", "file": file, "language": target})
        )
    else:
        order = "Translate this to " + {"de": "German", "fr": "French"}[target] + "."
        sound = {"data": base64.b64encode(file.getvalue()).decode(), "format": "wav"}
        content = [{"type": "input_audio", "input_audio": sound}, {"type": "text", "text": order}]
        asked = tokenizer.encode_chat_completion(
            ChatCompletionRequest.from_openai([{"role": "user", "content": content}])
        )
    features = WhisperFeatureExtractor.from_pretrained(folder)
    chunk = features.n_samples
    mel = features(
        audio,
        sampling_rate=16_000,
        padding=True,
        truncation=False,
        pad_to_multiple_of=chunk,
        return_tensors="pt",
    ).input_features[0]
    chunks = mel.reshape(len(mel), -1, chunk // 160).transpose(0, 1)
    return {"input_ids": torch.tensor([asked.tokens]), "input_features": chunks}


def inputs(folder, audio, target, source):
    make = voxtral_inputs if (folder / "tekken.json").exists() else qwen_inputs
    return make(folder, audio, target, source)


def scored(model, forwards):
    """Step, and return the logits besides."""
    seen, score = [], model._score

    def keep(rows):
        hidden, logits = score(rows)
        seen.append(logits.clone())
        return hidden, logits

    model._score = keep
    try:
        for forward in forwards:
            model.step([forward])
    finally:
        model._score = score
    return torch.cat(seen)


def lengths(model):
    """Return seconds: hardly anything, odd and even counts of frames, all that is held."""
    return [0.031, 0.5, 0.777, 1.311, 1.999, model.max_samples / 16_000]


def check_logits(ours, folder, reference, audio, pair):
    """Compare the logits of prompt and answer with transformers', in one pass and step by step."""
    prompt, slots = ours.prompt(*pair), ours.allocate(1)
    given = inputs(folder, audio, *pair)
    asked = given["input_ids"][0].tolist()
    [memory] = ours.encode([audio])
    before = len(asked) - memory.frames - len(prompt)
    assert tuple(asked[:before]) == ours.manner.before
    assert len(set(asked[before : -len(prompt)])) == 1
    assert tuple(asked[-len(prompt) :]) == prompt
    given["input_ids"] = torch.tensor([[*asked, *ANSWER]])
    if "attention_mask" in given:
        given["attention_mask"] = torch.ones_like(given["input_ids"])
    with torch.no_grad():
        wanted = reference(**given).logits[0, -len(prompt) - len(ANSWER) :]
    line = (*prompt, *ANSWER)
    for pieces in ([line], [(token,) for token in line], [line[:-3], line[-3:]]):
        cache = slots.open(memory, prompt)
        found = scored(ours, [Forward(piece, cache, len(piece), piece[1:]) for piece in pieces])
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
        slots.release(cache)


@pytest.mark.parametrize("pair", PAIRS)
def test_logits_equal_transformers_in_prefill_and_step_by_step(made, pair):
    folder, reference = made
    ours = load_speech(folder, device="cpu", dtype="float32")
    for seed, seconds in enumerate(lengths(ours)):
        check_logits(ours, folder, reference, speech(seconds, seed), pair)


@pytest.mark.parametrize("family", MAKERS)
def test_what_is_longer_than_a_chunk_of_published_size_and_what_is_none(family, tmp_path):
    """Published sizes of chunks: positions beyond a thousand, and silence that fills what isn't said."""
    reference = MAKERS[family](tmp_path / "folder", positions=1500)
    ours = load_speech(tmp_path / "folder", device="cpu", dtype="float32")
    for seconds in (7.3, ours.max_samples / 16_000 - 3.1):
        check_logits(ours, tmp_path / "folder", reference, speech(seconds, 1), ("de", "en"))


def rows(model):
    """Return audio of different lengths, and a text about each."""
    audios = [speech(seconds, seed) for seed, seconds in enumerate((0.4, 1.9, 0.05, 1.0))]
    prompts = [model.prompt(target, source) for target, source in [*PAIRS, ("en", "de")]]
    return audios, [(*prompt, *ANSWER[: row + 1]) for row, prompt in enumerate(prompts)]


def test_a_row_of_many_equals_the_row_alone(made):
    ours = load_speech(made[0], device="cpu", dtype="float64")
    audios, lines = rows(ours)
    slots = ours.allocate(2 * len(lines))
    memories = ours.encode(audios)
    together = ours.step([Forward(line, slots.open(each), 1) for line, each in zip(lines, memories, strict=True)])
    for audio, line, memory, found in zip(audios, lines, memories, together, strict=True):
        [own] = ours.encode([audio])
        assert own.frames == memory.frames
        for pair, lonely in zip(memory.prefix, own.prefix, strict=True):
            torch.testing.assert_close(pair.keys, lonely.keys, atol=1e-9, rtol=0)
            torch.testing.assert_close(pair.values, lonely.values, atol=1e-9, rtol=0)
        [alone] = ours.step([Forward(line, slots.open(own), 1)])
        assert alone.tokens == found.tokens
        assert alone.logprobs == pytest.approx(found.logprobs, abs=1e-9)


def test_truncation_leaves_no_trace_and_targets_share_what_was_heard(made):
    ours = load_speech(made[0], device="cpu", dtype="float64")
    [memory] = ours.encode([speech(1.2, 3)])
    slots = ours.allocate(3)
    one, other = (slots.open(memory) for _ in range(2))
    prompt = ours.prompt("de", "en")
    ours.step([Forward((*prompt, 50, 51, 52), one, 1)])
    one.truncate(len(prompt))
    other.copy_from(one, len(prompt))
    fresh = slots.open(memory)
    wanted = ours.step([Forward((*prompt, *ANSWER), fresh, 4, ANSWER[-3:])])
    for cache in (one, other):
        found = ours.step([Forward(ANSWER, cache, 4, ANSWER[-3:])])
        assert found[0].tokens == wanted[0].tokens
        assert found[0].logprobs == pytest.approx(wanted[0].logprobs, abs=1e-9)


@pytest.mark.parametrize("drafters", ["echo", "echo,ngram"])
def test_a_draft_changes_the_speed_and_not_the_text(made, drafters):
    ours = load_speech(made[0], device="cpu", dtype="float64")
    [memory] = ours.encode([speech(1.5, 1)])
    slots, prompt = ours.allocate(1), ours.prompt("de", "en")
    limit = len(prompt) + 20

    def read(make):
        cache = slots.open(memory, prompt)
        found = converse(ours, make(cache))
        slots.release(cache)
        return found

    plain = read(lambda cache: greedy(prompt, (), cache, eot=ours.eot, limit=limit))
    for previous in (plain.tokens, (*plain.tokens[:3], 50, *plain.tokens[4:]), (60, 61), ()):
        drafter = parse_drafters(drafters).make(DraftContext(len(prompt), ours.eot, previous))
        again = read(lambda cache, who=drafter: decode(prompt, (), cache, who, eot=ours.eot, limit=limit))
        assert again.tokens == plain.tokens
        assert again.stats.passes <= plain.stats.passes
        assert previous != plain.tokens or again.stats.passes <= 2


def test_what_grows_is_read_as_if_it_was_heard_at_once(made):
    ours = load_speech(made[0], device="cpu", dtype="float64")
    audio = speech(ours.max_samples / 16_000, 5)
    state, prompt = None, ours.prompt("de", "en")
    for end in (4_000, 17_000, len(audio) // 2 + 700, len(audio) * 3 // 4, len(audio)):
        [heard] = ours.listen([Hearing(audio[:end], 32_000, state)])
        [fresh] = ours.encode([audio[:end]])
        assert (heard.begin, heard.memory.frames) == (32_000, fresh.frames)
        for memory in (heard.memory, fresh):
            assert len(memory.prefix) == 3
        for pair, alone in zip(heard.memory.prefix, fresh.prefix, strict=True):
            torch.testing.assert_close(pair.keys, alone.keys, atol=1e-9, rtol=0)
            torch.testing.assert_close(pair.values, alone.values, atol=1e-9, rtol=0)
        slots = ours.allocate(2)
        found = [ours.step([Forward(prompt, slots.open(memory), 1)])[0] for memory in (heard.memory, fresh)]
        assert found[0].logprobs == pytest.approx(found[1].logprobs, abs=1e-9)
        state = heard.state
    assert (state is not None) == (ours.manner.chunks > 1)


def test_only_what_changed_is_heard_and_read_again(tmp_path):
    MAKERS["voxtral"](tmp_path)
    ours = load_speech(tmp_path, device="cpu", dtype="float64")
    heard, read = [], []
    hear, prefix = ours.network.hear, ours.network.prefix

    def counted(mel, *frames):
        heard.append(len(mel))
        return hear(mel, *frames)

    def counting(embedded, past):
        read.append(embedded.shape[1])
        return prefix(embedded, past)

    ours.network.hear, ours.network.prefix = counted, counting
    audio = speech(2 * CHUNK_S, 5)
    audio[4_000:12_000] = 0
    audio[20_000:24_000] *= 4
    [first] = ours.listen([Hearing(audio[: 3 * len(audio) // 4])])
    [second] = ours.listen([Hearing(audio, state=first.state)])
    assert (heard, read) == ([2, 1], [50, 25])  # two chunks, then the one that grew
    loud = audio.copy()
    loud[-8_000:] *= 100  # the floor of the features follows the loudest sound of all
    ours.listen([Hearing(loud, state=second.state)])
    assert (heard, read) == ([2, 1, 2], [50, 25, 50])


def test_beyond_what_it_holds_audio_is_refused_and_broken_sound_is_told(made):
    ours = load_speech(made[0], device="cpu", dtype="float32")
    with pytest.raises(AudioTooLong, match=r"exceeds the model's"):
        ours.encode([speech(ours.max_samples / 16_000 + 0.1, 0)])
    with pytest.raises(BadAnswer, match="aren't finite"):
        ours.listen([Hearing(np.full(9_000, np.nan, np.float32))])
    assert ours.listen([]) == []


def test_a_language_that_it_does_not_know_is_refused_and_never_replaced(made, copied):
    ours = load_speech(made[0], device="cpu", dtype="float32")
    for wrong in (("uk", "en"), ("en", "uk")):
        with pytest.raises(UnsupportedLanguage, match=r"no uk \(Ukrainian\)"):
            ours.prompt(*wrong)
    said = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(said | {"languages": ["en", "uk"]}))
    other = load_speech(copied, device="cpu", dtype="float32")
    assert other.languages == ("en", "uk")
    assert other.prompt("uk", "en") != other.prompt("en", "en")
    with pytest.raises(UnsupportedLanguage, match="no de"):
        other.prompt("de", "en")


def test_each_language_is_asked_for_when_it_is_loaded_and_each_prompt_made_once(made, tmp_path):
    ours = load_speech(made[0], device="cpu", dtype="float32")
    for pair in PAIRS:
        assert ours.prompt(*pair) is ours.prompt(*pair)
    MAKERS["voxtral"](tmp_path / "folder")
    said = json.loads((tmp_path / "folder" / "config.json").read_text())
    (tmp_path / "folder" / "config.json").write_text(json.dumps(said | {"languages": ["en", "yue"]}))
    with pytest.raises(BadModel, match="can't ask for yue, which is among its languages"):
        load_speech(tmp_path / "folder", device="cpu")


def test_each_of_several_ends_ends_a_text(made, copied):
    ours = load_speech(made[0], device="cpu", dtype="float64")
    [memory] = ours.encode([speech(1.0, 2)])
    prompt = ours.prompt("de", "en")
    found = ours.step([Forward(prompt, ours.allocate(1).open(memory), 1)])[0].tokens[0]
    for name in ("config.json", "generation_config.json"):
        said = json.loads((copied / name).read_text())
        part = said.get("text_config", said)
        part["eos_token_id"] = [ours.eot, found]
        (copied / name).write_text(json.dumps(said))
    other = load_speech(copied, device="cpu", dtype="float64")
    assert other.step([Forward(prompt, other.allocate(1).open(memory), 1)])[0].tokens == (ours.eot,)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_packed_it_says_nearly_the_same(made, dtype):
    exact, packed = (load_speech(made[0], device="cpu", dtype=each) for each in ("float32", dtype))
    prompt = exact.prompt("de", "en")
    line = (*prompt, *ANSWER)
    logits = []
    for model in (exact, packed):
        [memory] = model.encode([speech(1.3, 4)])
        logits.append(scored(model, [Forward(line, model.allocate(1).open(memory), len(line), line[1:])]).float())
    assert (logits[0] - logits[1]).norm() < 0.15 * logits[0].norm()


BROKEN = {
    "audio_config": ({"audio_config": 3}, "audio_config of config.json is 3"),
    "no heads": ({"text_config.num_attention_heads": 3}, r"^3 heads of width \d can't share the keys of 2$"),
    "other sizes": ({"text_config.intermediate_size": 36}, "has shape"),
    "sinusoids": ({"audio_config.scale_embedding": True}, "scale_embedding is True"),
    "windows": ({"text_config.use_sliding_window": True}, "use_sliding_window is True"),
    "few tokens": ({"text_config.vocab_size": 12}, "another model's"),
    "no room": ({"text_config.max_position_embeddings": 20}, "holds fewer positions"),
    "languages": ({"languages": ["xx"]}, "languages"),
    "no languages": ({"languages": []}, "languages"),
    "mels": ({"audio_config.num_mel_bins": 64}, "mel bins"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_wrong_folder_is_refused_by_name(copied, name):
    changes, told = BROKEN[name]
    said = json.loads((copied / "config.json").read_text())
    for place, value in changes.items():
        part, _, key = place.rpartition(".")
        (said[part] if part else said)[key] = value
    (copied / "config.json").write_text(json.dumps(said))
    with pytest.raises(BadModel, match=told):
        load_speech(copied, device="cpu")


def test_a_folder_without_its_words_or_with_those_of_another_is_refused_by_name(copied):
    qwen = (copied / "tokenizer.json").exists()
    file = copied / ("tokenizer.json" if qwen else "tekken.json")
    said = file.read_text()
    changed = said.replace("<|AUDIO|>", "<|SOUND|>") if qwen else json.dumps(json.loads(said) | {"audio": None})
    for text, told in ((changed, "AUDIO|nothing of audio"), ("{}", file.name), (None, file.name)):
        file.unlink() if text is None else file.write_text(text)
        with pytest.raises(BadModel, match=told):
            load_speech(copied, device="cpu")


def test_a_translator_is_not_heard_and_what_hears_is_no_translator(made):
    with pytest.raises(BadModel, match="--model"):
        load_translator(made[0])


def test_the_missing_package_is_named(tmp_path, monkeypatch):
    MAKERS["voxtral"](tmp_path)
    monkeypatch.setitem(sys.modules, "mistral_common.tokens.tokenizers.mistral", None)
    with pytest.raises(BadModel, match=r"mistral-common.*\[voxtral\]"):
        load_speech(tmp_path, device="cpu")


def test_what_folders_leave_out_is_as_transformers_has_it():
    """The published folders name few sizes of their decoders."""
    said = {
        "model_type": "qwen2_audio",
        "audio_config": {"model_type": "qwen2_audio_encoder", "d_model": 1280},
        "text_config": {"model_type": "qwen2", "intermediate_size": 11_008, "vocab_size": 156_032, "rope_theta": 1e4},
    }
    tower, text = qwen2_audio.shapes(said)
    wanted = Qwen2AudioConfig(**{key: value for key, value in said.items() if key != "model_type"})
    assert compared(text, wanted.text_config)
    assert (tower.layers, tower.heads, tower.inner, tower.mels, tower.positions) == (32, 20, 5120, 128, 1500)
    assert _width(said) == 1280  # of one of the two parts that computes
    tower, each, text = voxtral.shapes({"model_type": "voxtral", "audio_config": {}, "text_config": {}})
    assert compared(text, VoxtralConfig(audio_config={}, text_config={}).text_config)
    assert (tower.layers, tower.heads, tower.width, each) == (32, 20, 1280, 4)


def compared(shape, config):
    names = [name for name in shape.__dataclass_fields__ if hasattr(config, name) and name != "head_dim"]
    assert {name: getattr(shape, name) for name in names} == {name: getattr(config, name) for name in names}
    assert shape.theta == config.rope_parameters["rope_theta"]
    assert shape.head_dim == (getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    return len(names) > 5


# ---- KVSPN beside a decoder that has the audio in its own text ----


@pytest.fixture(scope="module", params=[*MAKERS, "window"])
def drafting(request, tmp_path_factory):
    """A model whose KVSPN has three blocks, each of which reads two layers or, of Voxtral, one."""
    folder = tmp_path_factory.mktemp("kvspn")
    kind = "qwen2_audio" if request.param == "window" else request.param
    MAKERS[kind](folder / "whole", **({"layers": 6} if kind == "qwen2_audio" else {}))
    add_speculator(folder / "whole", folder / "made", blocks=3)
    if request.param == "window":
        said = json.loads((folder / "made" / "config.json").read_text())
        (folder / "made" / "config.json").write_text(json.dumps(said | {"speculator_window": 4}))
    return load_speech(folder / "made", device="cpu", dtype="float64")


def by_definition(ours, memory, line, newest):
    """Return the logits after ``newest``, whose keys the base has not, by what the base kept of the line before it."""
    network, language = ours.network, ours.network.language_model
    kvspn = network.speculator
    slots = ours.allocate(1)
    cache = slots.open(memory)
    ours.step([Forward(line, cache, 1)])
    first = max(0, cache.end - kvspn.speculation.speculator_window) if kvspn.speculation.speculator_window else 0
    lanes = [[part[0, :, first : cache.end] for part in lane] for lane in slots.lanes]
    rotation = language.rotation(torch.tensor([cache.end]), torch.float64)
    x = language.model.embed_tokens(torch.tensor([[newest]]))
    for block, layers in zip(kvspn.blocks, kvspn.speculation.speculator_reads, strict=True):
        keys, values = (torch.cat([lanes[layer][part] for layer in layers], 1) for part in (0, 1))
        queries = rotate(block.base_attn.q_proj(x).unflatten(-1, (-1, keys.shape[-1])).transpose(1, 2), rotation)[0]
        each = len(queries) // len(keys)
        keys, values = keys.repeat_interleave(each, 0), values.repeat_interleave(each, 0)
        weights = (queries @ keys.transpose(-1, -2) / keys.shape[-1] ** 0.5).softmax(-1)
        x = x + block.base_attn_layernorm(block.base_attn.out_proj((weights @ values).transpose(0, 1).flatten(1)[None]))
        x = x + block.mlp(block.post_attention_layernorm(x))
    return language.logits(kvspn.norm(x))[0, 0] + ours.suppression


def test_a_guess_is_made_of_the_bases_keys_audio_among_them(drafting):
    audios, lines = rows(drafting)
    memories = drafting.encode(audios)
    slots = drafting.allocate(len(lines))
    caches = [slots.open(memory) for memory in memories]
    drafting.step([Forward(line[:-1], cache, 1) for line, cache in zip(lines, caches, strict=True)])
    kept = [tensor.clone() for tensor in (*slots.keys, *slots.values)]
    asked = [
        Propose(line[-1:], cache, count=1 + row) for row, (line, cache) in enumerate(zip(lines, caches, strict=True))
    ]
    together = drafting.propose(asked[::-1])[::-1]
    assert all(torch.equal(old, new) for old, new in zip(kept, (*slots.keys, *slots.values), strict=True))
    for row, (line, memory, guess) in enumerate(zip(lines, memories, together, strict=True)):
        wanted = by_definition(drafting, memory, line[:-1], line[-1]).log_softmax(-1)
        assert guess.tokens[0] == int(wanted.argmax())
        assert guess.logprobs[0] == pytest.approx(float(wanted.max()), abs=1e-9)
        assert 1 <= len(guess.tokens) <= 1 + row
        [alone] = drafting.propose([asked[row]])
        assert alone.tokens == guess.tokens
        assert alone.logprobs == pytest.approx(guess.logprobs, abs=1e-9)


@pytest.mark.parametrize("drafters", ["kvspn", "echo,kvspn", "echo,ngram,kvspn"])
def test_what_kvspn_guesses_changes_no_text(drafting, drafters):
    [memory] = drafting.encode([speech(1.5, 1)])
    slots, prompt = drafting.allocate(1), drafting.prompt("de", "en")
    limit = len(prompt) + 25

    def read(make):
        cache = slots.open(memory, prompt)
        found = converse(drafting, make(cache))
        slots.release(cache)
        return found

    plain = read(lambda cache: greedy(prompt, (), cache, eot=drafting.eot, limit=limit))
    for previous in ((), plain.tokens[:4], (60, 61)):
        drafter = parse_drafters(drafters).make(DraftContext(len(prompt), drafting.eot, previous))
        again = read(lambda cache, who=drafter: decode(prompt, (), cache, who, eot=drafting.eot, limit=limit))
        assert (again.tokens, again.complete) == (plain.tokens, plain.complete)
        assert again.logprobs == pytest.approx(plain.logprobs, abs=1e-9)
        assert again.stats.passes <= plain.stats.passes


def test_a_kvspn_that_does_not_fit_is_refused_by_name(made, tmp_path):
    with pytest.raises(BadModel, match="3 decoder layers cannot be split into 2"):
        add_speculator(made[0], tmp_path / "out", blocks=2)
    with pytest.raises(BadModel, match="give 1 or more"):
        add_speculator(made[0], tmp_path / "out", blocks=0)
    count = add_speculator(made[0], tmp_path / "out", blocks=1)
    assert load_speech(tmp_path / "out").parameters == load_speech(made[0]).parameters + count
    with pytest.raises(BadModel, match="has a KVSPN already"):
        add_speculator(tmp_path / "out", tmp_path / "again")
    said = json.loads((tmp_path / "out" / "config.json").read_text())
    for changes, told in (
        ({"speculator_acceptance": 2}, "speculator_acceptance is 2"),
        ({"speculator_blocks": 0}, "unknown"),
    ):
        (tmp_path / "out" / "config.json").write_text(json.dumps(said | changes))
        with pytest.raises(BadModel, match=told):
            load_speech(tmp_path / "out")


@pytest.mark.parametrize("samples", [0, 1, 400, 1_000])
def test_sound_too_short_for_one_stack_is_silence_that_can_be_asked_about(tmp_path, samples):
    make_drafting_stacked(tmp_path)
    model = load_speech(tmp_path, device="cpu", dtype="float32")
    sound = Hearing(np.full(samples, 0.01, np.float32))
    [alone], [beside, _] = model.listen([sound]), model.listen([sound, Hearing(speech(0.5))])
    prompt, slots = model.prompt("de", "en"), model.allocate(2)
    asked = []
    for heard in (alone, beside):
        assert heard.memory.frames == 0
        cache = slots.open(heard.memory, prompt)
        [found] = model.step([Forward(prompt[cache.length :], cache, rows=1)])
        asked.append(found)
    assert asked[0] == asked[1]
