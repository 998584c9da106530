"""A server whose model hears and whose translator writes: streams come in languages that the ear doesn't know."""

import numpy as np
import pytest

from streamtrans.audio import read_audio
from streamtrans.cli.demo import RECORDING
from streamtrans.client import StreamOptions, Unsupported
from streamtrans.core import Caption
from streamtrans.runtime import ModelChoice, load
from streamtrans.server.offer import what_is_served
from tests.server.conftest import configured, running
from tests.translators import make_llama, make_m2m


@pytest.fixture(scope="module", params=[make_m2m, make_llama])
def translator(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "translator"
    request.param(folder)
    return str(folder)


@pytest.fixture
def loaded(translator):
    """The embedded model, and a random translator."""
    choice = ModelChoice(vad="energy", threads=1, translator=translator, guard="off")  # what it says is no language
    loaded = load(choice, slots=4)
    with loaded.engine:
        yield loaded


async def chunks(audio):
    for at in range(0, len(audio), 1_600):
        yield audio[at : at + 1_600]


async def test_a_stream_is_translated_live(loaded):
    audio = read_audio(RECORDING)[: 8 * 16_000]
    async with running(what_is_served(loaded, "energy"), configured()) as (_, client):
        capabilities = await client.capabilities()
        targets = tuple(code for code in ("de", "fr", "ru") if code in loaded.translator.targets("en"))
        assert {"en", *targets} <= set(capabilities.languages)
        stream = client.translate(StreamOptions(targets=targets, source_languages=("en",)), chunks(audio))
        captions = [event async for event in stream if isinstance(event, Caption)]
    finals = [caption for caption in captions if caption.final]
    assert {(caption.segment, caption.language) for caption in finals} == {(n, c) for n in (0, 1) for c in targets}
    assert all(caption.text for caption in finals)
    said = {}
    for caption in captions:
        key = caption.segment, caption.language
        assert caption.committed.startswith(said.get(key, ""))
        said[key] = caption.committed


async def test_before_anybody_calls_a_text_has_been_translated(loaded):
    read, texts = loaded.translator.read, []

    def seen(asked):
        texts.extend(asked)
        return read(asked)

    loaded.translator.read = seen
    async with running(what_is_served(loaded, "energy"), configured()):
        assert texts
        assert all(text.text for text in texts)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (StreamOptions(targets=("de",)), "name one source language"),
        (StreamOptions(targets=("la",), source_languages=("en",)), "la"),
        (StreamOptions(targets=("de",), source_languages=("fi",)), "fi"),
    ],
)
async def test_what_the_two_cannot_do_is_refused_at_the_door(loaded, options, told):
    async with running(what_is_served(loaded, "energy"), configured()) as (_, client):
        with pytest.raises(Unsupported, match=told):
            async for _ in client.translate(options, chunks(np.zeros(1_600, np.float32))):
                pass
