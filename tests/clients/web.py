"""Servers of others, as their documents describe them, on this machine."""

import base64
import hashlib
import json
from contextlib import asynccontextmanager

from aiohttp import WSCloseCode, web


@asynccontextmanager
async def serving(*routes, port=0):
    """Serve ``routes`` and yield the port."""
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    try:
        yield site._server.sockets[0].getsockname()[1]
    finally:
        await runner.cleanup()


class FakeObs:
    """obs-websocket 5: greets, checks the password as its document says, and does what it is asked."""

    def __init__(self, password=None, sources=("Captions",), streaming=True):
        self.password, self.sources, self.streaming = password, sources, streaming
        self.texts, self.captions, self.calls, self.sockets = [], [], 0, set()

    def route(self):
        return web.get("/", self.call)

    async def call(self, request):
        socket = web.WebSocketResponse(protocols=("obswebsocket.json",))
        await socket.prepare(request)
        assert socket.ws_protocol == "obswebsocket.json"
        self.calls += 1
        self.sockets.add(socket)
        challenge, salt = "+IxH4CnCiqpX1rM9scsNynZzbOe4KhDeYcTNS3PDaeY=", "lM1GncleQOaCu9lT1yeUZhFYnqhsLLP1G5lAGo3ixaI="
        hello = {"obsWebSocketVersion": "5.5.0", "rpcVersion": 1}
        if self.password:
            hello["authentication"] = {"challenge": challenge, "salt": salt}
        await socket.send_json({"op": 0, "d": hello})
        identify = await socket.receive_json()
        assert set(identify) == {"op", "d"}
        assert identify["op"] == 1
        given = identify["d"].pop("authentication", None)
        assert identify["d"] == {"rpcVersion": 1, "eventSubscriptions": 0}
        if self.password:
            secret = base64.b64encode(hashlib.sha256((self.password + salt).encode()).digest())
            if given != base64.b64encode(hashlib.sha256(secret + challenge.encode()).digest()).decode():
                await socket.close(code=4009, message=b"Authentication failed.")
                return socket
        await socket.send_json({"op": 2, "d": {"negotiatedRpcVersion": 1}})
        async for frame in socket:
            await socket.send_json({"op": 5, "d": {"eventType": "ExitStarted", "eventIntent": 1}})
            await socket.send_json({"op": 7, "d": self.answer(json.loads(frame.data))})
        return socket

    def answer(self, message):
        assert set(message) == {"op", "d"}
        assert message["op"] == 6
        asked = message["d"]
        assert set(asked) == {"requestType", "requestId", "requestData"}
        status = {"result": True, "code": 100}
        data = asked["requestData"]
        if asked["requestType"] == "SetInputSettings":
            assert set(data) == {"inputName", "inputSettings", "overlay"}
            assert data["overlay"] is True
            assert set(data["inputSettings"]) == {"text"}
            if data["inputName"] in self.sources:
                self.texts.append(data["inputSettings"]["text"])
            else:
                status = {"result": False, "code": 600, "comment": "No source was found by that name."}
        else:
            assert asked["requestType"] == "SendStreamCaption"
            assert set(data) == {"captionText"}
            if self.streaming:
                self.captions.append(data["captionText"])
            else:
                status = {"result": False, "code": 501}
        return {"requestType": asked["requestType"], "requestId": asked["requestId"], "requestStatus": status}

    async def leave(self):
        for socket in self.sockets:
            await socket.close(code=WSCloseCode.GOING_AWAY)
        self.sockets.clear()


class FakePosts:
    """Captions over HTTP: numbered posts; answers each with the next of ``answers``, and then with 200."""

    def __init__(self, answers=(), newest="-1"):
        self.answers, self.newest, self.posts, self.asked = list(answers), newest, [], []

    def routes(self):
        return web.post("/closedcaption", self.post), web.get("/closedcaption/seq", self.seq)

    async def post(self, request):
        self.posts.append((dict(request.query), request.headers["Content-Type"], (await request.read()).decode()))
        status = self.answers.pop(0) if self.answers else 200
        if status == "silence":
            request.transport.abort()
        return web.Response(status=status if isinstance(status, int) else 500)

    async def seq(self, request):
        self.asked.append(dict(request.query))
        return web.Response(text=self.newest)
