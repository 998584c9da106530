"""A phrase that is said and written is in no log, at any level, in no metric and in no file, unless it is asked for."""

import asyncio
import io
import json
import logging
import tempfile
import time
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from streamtrans.client import Caption, ClientError, StreamOptions, TranslationClient
from streamtrans.core import BadConfig, StreamtransError, loggable
from streamtrans.server import logs
from streamtrans.server.spans import Spans
from streamtrans.testing.engine import hypothesis

CANARY = "the yellow nightingale sings at noon"
WORDS = CANARY.split()
PATTERN = b"\x01\x23" * 800
"""Audio that can be looked for: 16-bit samples of one value, loud enough for speech."""


class Speaks:
    """A tokenizer whose only text is the canary."""

    def decode(self, tokens):
        return " ".join(WORDS[token % len(WORDS)] for token in tokens)

    def boundary(self, tokens, n, *, final=False):
        return max(0, min(n, len(tokens) - (not final)))

    def sentence_end(self, tokens):
        return None


class FailsWith(Speaks):
    """One that quotes what it was given, as others' code does, when it fails."""

    def decode(self, tokens):
        raise LookupError(CANARY)


@pytest.fixture
def logged():
    """Everything that is logged in this process, at the lowest level, in both forms."""
    root, before, level = logging.getLogger(), logging.getLogger().handlers[:], logging.getLogger().level
    text, lines = io.StringIO(), io.StringIO()
    logs.write_logs("text", "debug", text)
    second = logging.StreamHandler(lines)
    second.setFormatter(logs.JsonLines())
    root.addHandler(second)
    yield lambda: text.getvalue() + lines.getvalue()
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """Where the process would write, if it wrote anything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def write(_job, _target):
    return hypothesis(range(len(WORDS)), 0.5)


def quote(_job, _target):
    raise StreamtransError("a reading failed") from ValueError(CANARY)


def fail(job, _target):
    if len(job.audio) != 8_000:  # that of the warm-up
        raise RuntimeError(CANARY)
    return write(job, _target)


def said(house):
    quiet = np.zeros(8_000, np.int16).tobytes()
    return quiet + PATTERN * 20 + quiet


def held(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_silent(text):
    assert text
    assert "nightingale" not in text
    assert PATTERN[:8].decode("latin-1") not in text


async def metrics_of(server):
    def get():
        with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/", timeout=5) as answer:
            return answer.read().decode()

    return await asyncio.to_thread(get)


@pytest.mark.parametrize("mode", ["live", "stable", "final"])
async def test_what_is_said_is_told_to_its_reader_and_to_nobody_else(house, logged, folder, mode):
    served = house.served(house.instant(write), tokenizer=Speaks())
    async with house.running(served, house.configured(metrics_port=0)) as (server, client):
        events = await house.collect(client, said(house), StreamOptions(("de",), mode=mode))
        assert any(CANARY in repr(event) for event in events)  # or there would be nothing to look for
        assert_silent(await metrics_of(server))
    assert_silent(logged())
    assert held(folder) == {}


class Traced:
    """Whatever a server would send to a collector, as text."""

    def __init__(self, server):
        self.exporter = InMemorySpanExporter()
        self.spans = server._service.spans = Spans(self.exporter)

    def text(self):
        self.spans.close()
        return "".join(span.to_json() for span in self.exporter.get_finished_spans())


@pytest.mark.parametrize("mode", ["live", "final"])
async def test_spans_tell_of_streams_and_readings_and_not_what_is_said(house, folder, mode):
    served = house.served(house.instant(write), tokenizer=Speaks())
    async with house.running(served) as (server, client):
        traced = Traced(server)
        await house.collect(client, said(house), StreamOptions(("de",), mode=mode))
        await asyncio.sleep(0.05)
        assert_silent(traced.text())
        spans = traced.exporter.get_finished_spans()
    [stream] = [span for span in spans if span.name == "stream"]
    readings = [span for span in spans if span.name == "reading"]
    assert readings
    assert all(span.parent.span_id == stream.context.span_id for span in readings)
    assert all(span.start_time <= span.end_time for span in readings)
    assert stream.attributes["streamtrans.readings"] == len(readings)
    assert stream.attributes["streamtrans.mode"] == mode
    assert all(isinstance(value, bool | int | str) for span in spans for value in span.attributes.values())
    assert held(folder) == {}


@pytest.mark.parametrize("model", [quote, fail])
async def test_spans_of_what_fails_quote_nothing(house, model):
    def after_warm_up(job, target):
        return model(job, target) if len(job.audio) != 8_000 else hypothesis((), 0.5)

    async with house.running(house.served(house.instant(after_warm_up), tokenizer=Speaks())) as (server, client):
        traced = Traced(server)
        with pytest.raises(ClientError):
            await house.collect(client, said(house))
        await asyncio.sleep(0.05)
        assert_silent(traced.text())


async def test_without_being_asked_for_there_are_no_spans_and_a_dead_collector_holds_up_nobody(house):
    async with house.running() as (server, _):
        assert server._service.spans._provider is None
    logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
    async with house.running(config=house.configured(traces="http://127.0.0.1:9/v1/traces")) as (server, client):
        await house.collect(client, said(house))
        began = time.monotonic()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(("model", "speller"), [(write, FailsWith()), (quote, Speaks()), (fail, Speaks())])
async def test_what_fails_and_quotes_it_is_logged_by_name_and_place(house, logged, folder, model, speller):
    def after_warm_up(job, target):
        return model(job, target) if len(job.audio) != 8_000 else hypothesis((), 0.5)

    engine = house.instant(after_warm_up)
    async with house.running(house.served(engine, tokenizer=speller), house.configured(metrics_port=0)) as (
        server,
        client,
    ):
        with pytest.raises(ClientError):
            await house.collect(client, said(house))
        assert_silent(await metrics_of(server))
    assert_silent(logged())
    assert any(name in logged() for name in ("LookupError", "StreamtransError", "RuntimeError"))
    assert held(folder) == {}


@pytest.mark.parametrize("way", ["told to its end", "left", "broken off"])
async def test_a_store_tells_nobody_what_was_said_and_holds_nothing_of_it_in_the_end(house, logged, folder, way):
    served = house.served(house.instant(write), tokenizer=Speaks())
    limits = replace(house.EAGER, resume_ms=500, idle_ms=500)
    config = house.configured(limits, store=str(folder / "store"), metrics_port=0)
    async with asyncio.timeout(20), house.running(served, config) as (server, client):
        async with client.stream(StreamOptions(("de",), resumable=True)) as stream:
            await stream.send(said(house))
            seen = []
            async for event in stream:
                seen.append(event)
                if isinstance(event, Caption) and event.final:
                    break
            assert CANARY in repr(seen)
            kept = held(folder)
            assert kept
            assert_silent("".join(map(str, kept)) + "".join(data.decode("latin-1") for data in kept.values()))
            assert all(path.stat().st_mode & 0o077 == 0 for path in folder.rglob("*"))
            if way == "told to its end":
                await stream.end()
                async for _ in stream:
                    pass
            elif way == "broken off":
                await stream._link._link.close()  # without a word, as a network does
        assert_silent(await metrics_of(server))
        while held(folder):
            await asyncio.sleep(0.05)
    assert_silent(logged())


@pytest.mark.parametrize("scheme", ["", "ws://"])
async def test_viewers_and_other_carriers_tell_nobody_else_either(house, logged, folder, scheme):
    served = house.served(house.instant(write), tokenizer=Speaks())
    config = house.configured(metrics_port=0, http_port=0, store=str(folder / "store"))
    async with asyncio.timeout(20), house.running(served, config) as (server, _):
        traced = Traced(server)
        port = server.http_port if scheme else server.port
        async with TranslationClient(f"{scheme}127.0.0.1:{port}") as client:
            async with client.stream(StreamOptions(("de",))) as stream:
                token, seen = stream.started.viewer_token, {"de": [], "it": []}

                async def watch(language):
                    seen[language] += [event async for event in client.watch(token, language)]

                watching = [asyncio.create_task(watch(language)) for language in seen]
                await stream.send(said(house))
                await stream.end()
                async for _ in stream:
                    pass
                await asyncio.gather(*watching)
            assert all(CANARY in repr(events) for events in seen.values())
            with pytest.raises(ClientError):  # what is refused quotes nothing either
                [event async for event in client.watch(CANARY, CANARY)]
        assert_silent(await metrics_of(server))
        await asyncio.sleep(0.05)
        assert_silent(traced.text())
    assert_silent(logged())
    assert held(folder) == {}


async def test_who_asks_for_recordings_gets_it_there_alone(house, logged, folder):
    kept = folder / "kept"
    kept.mkdir()
    served = house.served(house.instant(write), tokenizer=Speaks())
    async with house.running(served, house.configured(record=kept)) as (_, client):
        await house.collect(client, said(house))
    [path] = held(folder)
    assert path.parent == kept
    assert len(path.read_bytes()) > 1_000
    assert_silent(logged())


def test_lines_for_machines_are_one_object_each(logged):
    logging.getLogger("streamtrans.x").info("two\nlines, %s", "ü")
    try:
        raise KeyError(CANARY) from ValueError(CANARY)
    except KeyError:
        logging.getLogger("asyncio").exception("something failed")
    lines = [json.loads(line) for line in logged().splitlines() if line.startswith("{")]
    assert [line["message"] for line in lines] == ["two\nlines, ü", "something failed"]
    assert lines[0].keys() == {"time", "level", "logger", "message"}
    assert lines[1]["error"].startswith("KeyError at ")
    assert "ValueError" in lines[1]["error"]
    assert "test_canary.py" in lines[1]["error"]
    assert_silent(logged())


def test_our_own_errors_keep_their_words_and_groups_are_told_whole():
    assert loggable(BadConfig("port is 0")) == "BadConfig: port is 0"
    assert loggable(FileNotFoundError(2, "No such file", "x")).startswith("FileNotFoundError: ")
    group = ExceptionGroup(CANARY, [ValueError(CANARY), ExceptionGroup("", [TypeError(CANARY)])])
    assert "nightingale" not in loggable(group)
    assert all(name in loggable(group) for name in ("ExceptionGroup", "ValueError", "TypeError"))


def test_there_is_no_other_form_or_level():
    with pytest.raises(BadConfig, match="log is 'xml'; use one of text, json"):
        logs.write_logs("xml")
    with pytest.raises(BadConfig, match="log_level is 'loud'"):
        logs.write_logs("json", "loud")
