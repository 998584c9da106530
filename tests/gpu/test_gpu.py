"""What a GPU must not change: fp32 tokens equal the CPU's, and so does what is heard in blocks."""

from pathlib import Path

import pytest
import soundfile
import torch
from transformers import WhisperForConditionalGeneration

from streamtrans.compress.teaching import Teaching, teach
from streamtrans.decode import DraftContext, converse, decode, parse_drafters
from streamtrans.model.api import Hearing
from streamtrans.model.cache import EncodedSpeech
from streamtrans.model.loading import EMBEDDED, load_model
from streamtrans.model.speech import TorchSpeechModel
from tests.checkpoints import make_whisper, make_whisper_m2m
from tests.model.test_parity import speech

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]

AUDIOS = [speech(seconds, seed) for seed, seconds in enumerate((0.4, 0.9, 1.6))]


def translate(model: TorchSpeechModel, spec: str) -> list[tuple[int, ...]]:
    drafter = parse_drafters(spec).make(DraftContext(prompt_length=2, eot=model.eot))
    slots, found = model.allocate(len(AUDIOS)), []
    for memory in model.encode(AUDIOS):
        talk = decode(model.prompt("de", None), (), slots.open(memory), drafter, eot=model.eot, limit=40)
        found.append(converse(model, talk).tokens)
    return found


@pytest.mark.parametrize("spec", ["none", "kvspn"])
@pytest.mark.parametrize("which", ["random", "embedded"])
def test_fp32_tokens_equal_the_cpus(tmp_path: Path, spec: str, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    folder = EMBEDDED
    if which == "random":
        make_whisper_m2m(tmp_path)
        folder = tmp_path
    assert translate(load_model(folder, device="cuda", dtype="float32"), spec) == translate(
        load_model(folder, device="cpu", dtype="float32"), spec
    )


def test_bfloat16_runs_on_the_gpu(tmp_path: Path) -> None:
    make_whisper_m2m(tmp_path)
    assert len(translate(load_model(tmp_path, device="cuda"), "kvspn")) == len(AUDIOS)


def test_hearing_in_blocks_is_the_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    make_whisper_m2m(tmp_path, encoder_rotary=True, encoder_block=8, encoder_left=20)
    pairs = []
    for device in ("cuda", "cpu"):
        model = load_model(tmp_path, device=device, dtype="float32")
        states = [found.state for found in model.listen([Hearing(audio[:5_000]) for audio in AUDIOS])]
        heard = model.listen([Hearing(audio, 0, state) for audio, state in zip(AUDIOS, states, strict=True)])
        memories = [found.memory for found in heard]
        pairs.append([pair for memory in memories if isinstance(memory, EncodedSpeech) for pair in memory.decoder])
    assert len(pairs[0]) == 4 * len(AUDIOS)
    for mine, theirs in zip(*pairs, strict=True):
        torch.testing.assert_close(mine.keys.cpu(), theirs.keys, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(mine.values.cpu(), theirs.values, atol=1e-3, rtol=1e-3)


def test_qlora_trains_saves_and_serves_on_the_gpu(tmp_path: Path) -> None:
    whisper, made = tmp_path / "whisper", tmp_path / "made"
    whisper.mkdir()
    make_whisper(whisper, d_model=64, encoder_attention_heads=4, decoder_attention_heads=4)
    soundfile.write(tmp_path / "a.wav", AUDIOS[0], 16_000)
    (tmp_path / "a.tsv").write_text("audio\tlanguage\ten\na.wav\ten\tthe light\n")
    teaching = Teaching(str(whisper), (str(tmp_path / "a.tsv"),), learns="qlora", device="cuda", steps=3, batch=1)
    found = teach(teaching, made, work=tmp_path / "work", told=lambda *_: None)
    assert 0 < found.loss["texts"] < float("inf")
    model = load_model(made, device="cuda")
    assert model.encode(AUDIOS[:1])[0].frames
    assert WhisperForConditionalGeneration.from_pretrained(made).dtype == torch.bfloat16
