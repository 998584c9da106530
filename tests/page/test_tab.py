"""The sound of another tab is captioned as a microphone is."""

import numpy as np

PLAYER = """<!doctype html><title>Talk</title><script>
const context = new AudioContext();
const buffer = context.createBuffer(1, context.sampleRate * 3, context.sampleRate);
const samples = buffer.getChannelData(0);
for (let at = 0; at < samples.length; at += 1) {
  const time = at / context.sampleRate;
  samples[at] = time > 0.8 && time < 2.2 ? 0.3 * Math.sin(2 * Math.PI * 440 * time) : 0;
}
const source = new AudioBufferSourceNode(context, { buffer, loop: true });
source.connect(context.destination);
source.start();
</script>"""


async def test_the_sound_of_a_tab(hall):
    arguments = ("--auto-select-tab-capture-source-by-title=Talk",)
    async with (
        hall.running(config=hall.configured(http_port=0)) as (server, _),
        hall.browser(microphone=False, arguments=arguments) as program,
    ):
        page = await hall.opened(program, server)
        ears = hall.Ears(page)
        player = await page.context.new_page()
        await player.set_content(PLAYER)
        await page.bring_to_front()
        await page.check("input[value=tab]")
        await page.click("#go")
        await hall.rows(page, 2)
        await hall.ended(page)
        assert list(ears.finals().values()) == await hall.shown(page, "de")
        heard = np.frombuffer(b"".join(ears.audio), "<i2") / 32_768
        assert 0.1 < np.abs(heard).max() <= 0.5
        tone = np.abs(np.fft.rfft(heard[: 16_000 * 3]))
        assert np.argmax(tone) * 16_000 / min(len(heard), 48_000) == 440  # neither faster nor slower


async def test_captions_end_when_the_tab_is_no_longer_shared(hall):
    arguments = ("--auto-select-tab-capture-source-by-title=Talk",)
    async with (
        hall.running(config=hall.configured(http_port=0)) as (server, _),
        hall.browser(microphone=False, arguments=arguments) as program,
    ):
        page = await hall.opened(program, server)
        player = await page.context.new_page()
        await player.set_content(PLAYER)
        await page.bring_to_front()
        await page.check("input[value=tab]")
        await page.click("#go")
        await hall.rows(page, 1)
        await player.close()
        await hall.said(page, "Stopped")
        await hall.until(lambda: not server.active_sessions)
