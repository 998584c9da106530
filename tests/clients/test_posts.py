"""Captions over HTTP as YouTube and Zoom document it: every field of every post, numbers, retries, refusals."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from streamtrans_clients.sinks import SinkError, posts, sinks_for

from tests.clients.test_sinks import caption
from tests.clients.web import FakePosts, serving


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(posts, "PAUSES_S", (0.02,) * 3)


def made(
    kind, port, query="id=200610693&ns=GZHkEA%3D%3D&expire=86400&spparams=id%2Cns%2Cexpire&signature=nYtX", to="de"
):
    [sink] = sinks_for(f"{kind}:http://127.0.0.1:{port}/closedcaption?{query}", [to])
    return sink


GIVEN = {"id": "200610693", "ns": "GZHkEA==", "expire": "86400", "spparams": "id,ns,expire", "signature": "nYtX"}


async def test_youtube_gets_time_and_text_of_what_is_promised():
    fake = FakePosts()
    async with serving(*fake.routes()) as port, made("youtube", port, "cid=abcd-1234") as sink:
        before = datetime.now(UTC)
        await sink.heard(9_000)
        await sink.show(caption("guten Tag meine sehr geehrten Damen und Herren", " und", start=16_000 * 5), "")
        await sink.show(caption("guten Tag meine sehr geehrten Damen und Herren", final=True, start=16_000 * 5), "")
    assert [query for query, _, _ in fake.posts] == [{"cid": "abcd-1234", "seq": str(number)} for number in (1, 2)]
    assert {kind for _, kind, _ in fake.posts} == {"text/plain; charset=utf-8"}
    lines = [text.split("\n") for _, _, text in fake.posts]
    assert [text for _, text, _ in lines] == ["guten Tag meine sehr geehrten Damen und", "Herren"]
    for head, _, rest in lines:
        assert rest == ""
        said = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}) region:reg1#cue1", head)[1]
        late = before - datetime.fromisoformat(said).replace(tzinfo=UTC)
        assert timedelta(seconds=3) < late <= timedelta(seconds=4.01)  # heard up to 9 s, said at 5 s


async def test_zoom_gets_language_and_numbers_that_follow_those_that_were():
    fake = FakePosts(newest="41")
    async with serving(*fake.routes()) as port, made("zoom", port) as sink:
        await sink.show(caption("guten Tag meine sehr geehrten Damen und Herren", final=True), "Anna")
        await sink.show(caption("ja", segment=1, final=True), "Anna")
    assert fake.asked == [GIVEN]
    assert fake.posts == [
        (
            {**GIVEN, "seq": "42", "lang": "de-DE"},
            "text/plain; charset=utf-8",
            "Anna: guten Tag meine sehr geehrten Damen ",
        ),
        ({**GIVEN, "seq": "43", "lang": "de-DE"}, "text/plain; charset=utf-8", "und Herren\n"),
        ({**GIVEN, "seq": "44", "lang": "de-DE"}, "text/plain; charset=utf-8", "ja\n"),
    ]


@pytest.mark.parametrize(
    ("language", "query", "expected"),
    [("ja", "id=1", "jp-JP"), ("fr", "id=1", "fr-FR"), ("pt-PT", "id=1", "pt-PT"), ("en", "id=1&lang=en-GB", "en-GB")],
)
async def test_zoom_names_languages_its_own_way(language, query, expected):
    fake = FakePosts()
    async with serving(*fake.routes()) as port, made("zoom", port, query, language) as sink:
        await sink.show(caption("ja", final=True, language=language), "")
    assert [query for query, _, _ in fake.posts] == [{"id": "1", "seq": "1", "lang": expected}]


@pytest.mark.parametrize("kind", ["youtube", "zoom"])
async def test_what_fails_is_posted_again_under_the_same_number(kind):
    fake = FakePosts([503, "silence", 408])
    async with serving(*fake.routes()) as port, made(kind, port) as sink:
        await sink.show(caption("eins", final=True), "")
        await sink.show(caption("zwei", segment=1, final=True), "")
    assert [query["seq"] for query, _, _ in fake.posts] == ["1", "1", "1", "1", "2"]


@pytest.mark.parametrize(
    ("kind", "status", "problem"),
    [
        ("youtube", 403, "YouTube doesn't know the address .*copy it again from the Live Control Room"),
        ("youtube", 400, "is the stream live"),
        ("zoom", 403, "let the host copy the API token again"),
        ("zoom", 400, "the meeting hasn't begun"),
        ("zoom", 500, "it answers 500 Internal Server Error"),
    ],
)
async def test_what_is_refused_for_good_is_told_without_the_address(kind, status, problem):
    fake = FakePosts([status] * 10)
    async with serving(*fake.routes()) as port, made(kind, port) as sink:
        with pytest.raises(SinkError, match=problem) as caught:
            await sink.show(caption("eins", final=True), "")
    assert "nYtX" not in str(caught.value)
    assert len(fake.posts) == 4


async def test_nobody_at_the_address_is_told_without_it():
    async with serving() as port:
        pass
    async with made("zoom", port) as sink:
        with pytest.raises(SinkError, match=r"127\.0\.0\.1: it can't be reached") as caught:
            await sink.show(caption("eins", final=True), "")
    assert "nYtX" not in str(caught.value)
