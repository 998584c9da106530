"""A playlist of WebVTT files as RFC 8216 has it, read by a player that fetches each segment once, when it is new."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streamtrans_clients.sinks import SinkError, sinks_for

from streamtrans.client import Caption, subtitles


def caption(text, start_ms, end_ms, segment=0, final=True):
    return Caption(segment, 1, "de", text, "", final, start_ms * 16, end_ms * 16, end_ms * 16)


class Player:
    """Fetches what is new in the playlist, once."""

    def __init__(self, folder):
        self.folder, self.names, self.cues, self.heads, self.ended = folder, [], [], [], False

    def look(self):
        lines = (self.folder / "captions.m3u8").read_text().splitlines()
        assert lines[:2] == ["#EXTM3U", "#EXT-X-VERSION:3"]
        target = int(re.fullmatch(r"#EXT-X-TARGETDURATION:(\d+)", lines[2])[1])
        first = int(re.fullmatch(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", lines[3])[1])
        self.ended = lines[-1] == "#EXT-X-ENDLIST"
        entries = lines[4 : len(lines) - self.ended]
        for number, (length, name) in enumerate(zip(entries[::2], entries[1::2], strict=True), first):
            seconds = float(re.fullmatch(r"#EXTINF:(\d+\.\d{3}),", length)[1])
            assert round(seconds) <= target
            assert (self.folder / name).is_file()  # also the oldest can be had
            if number >= len(self.names):
                assert number == len(self.names), "a segment came and went unseen"
                self.names.append(name)
                self.read((self.folder / name).read_text(), number * round(seconds * 1000), round(seconds * 1000))

    def read(self, text, start, length):
        head, *blocks = text.removesuffix("\n\n").split("\n\n")
        self.heads.append(re.fullmatch(r"WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:(\d+),LOCAL:([\d:.]+)", head).groups())
        for block in blocks:
            times, words = block.split("\n", 1)
            begin, end = (ms(each) for each in times.split(" --> "))
            assert begin < start + length
            assert end > start
            if begin >= start:
                self.cues.append((begin, end, words.replace("\n", " / ")))
            else:
                assert (begin, end, words.replace("\n", " / ")) in self.cues  # the same as where it began


def ms(text):
    hours, minutes, seconds = text.split(":")
    return round(((int(hours) * 60 + int(minutes)) * 60 + float(seconds)) * 1000)


async def test_segments_follow_the_sound_with_its_delay_and_map_to_the_video_clock(tmp_path):
    [sink] = sinks_for(f"hls:{tmp_path}/live?seconds=4&delay=2&keep=3&mpegts=8589934000", ["de"])
    player = Player(tmp_path / "live")
    async with sink:
        player.look()
        await sink.show(caption("Guten Tag & <willkommen>", 1_000, 3_000), "")
        await sink.heard(5_999)
        player.look()
        assert player.names == []
        await sink.heard(6_000)
        player.look()
        assert player.names == ["captions0.vtt"]
        for heard in range(6_000, 60_000, 1_000):
            await sink.heard(heard)
            player.look()
    player.look()
    assert player.ended
    assert player.cues == [(1_000, 3_000, "Guten Tag &amp; &lt;willkommen&gt;")]
    # 33 bits of 90 kHz wrap: from 592 ticks before on
    assert player.heads[:3] == [
        ("8589934000", "00:00:00.000"),
        (str((8589934000 + 360_000) % 2**33), "00:00:04.000"),
        (str((8589934000 + 720_000) % 2**33), "00:00:08.000"),
    ]
    # What left the playlist stays as long as the playlist, and one came at the end.
    assert len(list((tmp_path / "live").glob("*.vtt"))) == 2 * 3 + 1


async def test_a_late_caption_begins_with_the_next_segment_and_a_long_one_stands_in_both(tmp_path):
    [sink] = sinks_for(f"hls:{tmp_path}?seconds=2&delay=1", ["de"])
    player = Player(tmp_path)
    async with sink:
        await sink.heard(5_000)  # segments 0 and 1 are out
        player.look()
        await sink.show(caption("zu spät gekommen", 500, 1_500), "Anna")
        await sink.show(caption("und noch eins", 1_600, 2_400, 1), "Bob")
        await sink.heard(9_000)
        player.look()
    player.look()
    [(begin, end, text)] = player.cues
    assert (begin, text) == (4_000, "Anna: zu spät gekommen / Bob: und noch eins")
    assert end - begin == 40 * 1000 // subtitles.READING_SPEED


async def test_of_what_is_written_at_the_end_all_stands_in_the_playlist(tmp_path):
    [sink] = sinks_for(f"hls:{tmp_path}?seconds=1&delay=0&keep=3", ["de"])
    player = Player(tmp_path)
    async with sink:
        for heard in range(0, 8_000, 500):
            await sink.heard(heard)
            player.look()
        await sink.show(caption("es dauert noch", 7_000, 21_000), "")
    player.look()
    assert player.ended
    assert len(player.names) == 21


@settings(deadline=None, max_examples=10)
@given(
    st.lists(
        st.tuples(st.integers(0, 6_000), st.integers(1, 8_000), st.integers(1, 18), st.integers(0, 12_000)), max_size=8
    ),
    st.integers(1, 6),
    st.integers(0, 6),
)
async def test_law_every_final_caption_is_seen_once_and_in_order(tmp_path_factory, talk, seconds, delay):
    folder = tmp_path_factory.mktemp("hls")
    [sink] = sinks_for(f"hls:{folder}?seconds={seconds}&delay={delay}", ["de"])
    player, start, coming, words = Player(folder), 0, [], []
    for at, (pause, length, count, lag) in enumerate(talk):
        start += pause
        text = " ".join(f"w{at}x{each}" for each in range(count))
        words += text.split()
        coming.append(
            (max(start + length + lag, coming[-1][0] if coming else 0), caption(text, start, start + length, at))
        )
        start += length
    async with sink:
        heard = 0
        for moment, each in coming:
            while heard < moment:
                heard += 500
                await sink.heard(heard)
                player.look()
            await sink.show(each, "")
    player.look()
    assert player.ended
    assert [word for _, _, text in player.cues for word in text.split() if word != "/"] == words
    assert all(one[1] <= other[0] for one, other in zip(player.cues, player.cues[1:], strict=False))
    assert all(len(line) <= subtitles.LINE_WIDTH for _, _, text in player.cues for line in text.split(" / "))


async def test_a_folder_of_another_stream_is_left_alone(tmp_path):
    [sink] = sinks_for(f"hls:{tmp_path}", ["de"])
    async with sink:
        pass
    assert (tmp_path / "captions.m3u8").read_text().endswith("#EXT-X-ENDLIST\n")
    with pytest.raises(SinkError, match=r"captions\.m3u8 is there already, of another stream; give another folder"):
        async with sinks_for(f"hls:{tmp_path}", ["de"])[0]:
            pytest.fail("it is another's")
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="can't be made"):
        async with sinks_for(f"hls:{tmp_path}/file/a", ["de"])[0]:
            pytest.fail("there is a file")


async def test_ffmpeg_plays_it(tmp_path):
    av = pytest.importorskip("av")
    [sink] = sinks_for(f"hls:{tmp_path}?seconds=2&delay=1&mpegts=900000", ["de"])
    async with sink:
        await sink.show(caption("Guten Tag", 500, 1_500), "")
        await sink.show(caption("noch eins über die Grenze hinaus", 1_700, 4_200, 1), "")
        await sink.heard(9_000)
    with av.open(str(tmp_path / "captions.m3u8")) as played:
        assert played.format.name == "hls"
        shown = [(each.pts, each.duration, bytes(each).decode()) for each in played.demux() if each.pts is not None]
    assert shown == [(500, 1_000, "Guten Tag"), (1_700, 2_500, "noch eins über die Grenze hinaus")]


async def test_a_segment_that_cannot_be_removed_is_told(tmp_path):
    [sink] = sinks_for(f"hls:{tmp_path}/live?seconds=1&delay=0&keep=3", ["de"])
    async with sink:
        await sink.heard(6_000)
        (tmp_path / "live" / "captions0.vtt").unlink()
        (tmp_path / "live" / "captions0.vtt").mkdir()
        with pytest.raises(SinkError, match=r"captions0\.vtt can't be removed: "):
            await sink.heard(9_000)
