"""What Whisper's configuration forbids at the beginning of a text is not chosen there, and is elsewhere."""

import json

import pytest
import torch
from transformers.generation import GenerationMixin

from streamtrans.decode import converse, greedy
from streamtrans.model.api import Forward
from streamtrans.model.loading import load_model
from tests.checkpoints import make_whisper
from tests.model.test_parity import SHAPES, speech

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper")
    make_whisper(folder, **SHAPES[0])
    return folder


def limited(folder, *tokens):
    """Load the checkpoint with tokens that may not begin a text."""
    path = folder / "generation_config.json"
    listed = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**listed, "begin_suppress_tokens": list(tokens)}))
    return load_model(folder, device="cpu", dtype="float64")


def first(model, *pieces, width=0):
    """Read tokens piece by piece; return the last row's answer."""
    cache = model.allocate(1).open(model.encode([speech(1.1)])[0])
    for piece in pieces:
        answer = model.step([Forward(piece, cache, 1, width=width)])[0]
    return answer


def test_the_first_token_is_the_best_that_may_begin_a_text(folder):
    free = limited(folder)
    prompt = free.prompt("de", "de")
    best, second, third = (token for token, _ in first(free, prompt, width=3).candidates[0])
    model = limited(folder, best, second)
    for pieces in ((prompt,), (prompt[:1], prompt[1:]), tuple((token,) for token in prompt)):
        answer = first(model, *pieces, width=model.config.vocab_size)
        assert answer.tokens == (third,)
        assert not {best, second} & {token for token, _ in answer.candidates[0]}
    # Later they may come, and what follows a text that began so already is as it was.
    line = (*prompt, best)
    assert first(model, line) == first(free, line)


def test_a_draft_that_may_not_begin_a_text_is_rejected(folder):
    free = limited(folder)
    prompt = free.prompt("de", "de")
    best = first(free, prompt).tokens[0]
    model = limited(folder, best)
    memory, slots = model.encode([speech(1.1)])[0], model.allocate(3)
    beside = Forward(prompt[:2], slots.open(memory), 2, prompt[1:2])
    drafted = Forward((*prompt, best, best), slots.open(memory), 3, (best, best))
    _, answer = model.step([beside, drafted])
    assert answer.tokens[0] != best
    assert answer.ranks[0] >= model.config.vocab_size - len(model.manner.suppressed) - 1
    cache = free.allocate(1).open(free.encode([speech(1.1)])[0])
    (alone,) = free.step([Forward((*prompt, best, best), cache, 3, (best, best))])
    assert answer.tokens[1:] == alone.tokens[1:]


@pytest.mark.parametrize("language", ["de", "en"])
def test_texts_are_those_of_transformers(tmp_path, language):
    theirs = make_whisper(tmp_path, **SHAPES[0]).double()
    free = limited(tmp_path)
    prompt = free.prompt(language, language)
    best = first(free, prompt).tokens[0]
    ours = limited(tmp_path, best, free.eot)
    with torch.no_grad():
        wanted = GenerationMixin.generate(
            theirs,
            ours._frames(speech(1.1)),
            decoder_input_ids=torch.tensor([prompt]),
            do_sample=False,
            num_beams=1,
            max_length=20,
            suppress_tokens=sorted(ours.manner.suppressed),
            begin_suppress_tokens=[best, ours.eot],
        )[0, len(prompt) :].tolist()
    cache = ours.allocate(1).open(ours.encode([speech(1.1)])[0])
    found = converse(ours, greedy(prompt, (), cache, eot=ours.eot, limit=20))
    assert list(found.tokens) == [token for token in wanted if token != ours.eot]
    assert found.tokens[0] != best
