"""A client below gRPC: one HTTP/2 connection that grants as little as it likes and goes away as it likes."""

import asyncio
import contextlib
import struct

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings


class RawClient:
    """Use with ``async with``; ``window`` bytes may be sent to each stream, and never more."""

    def __init__(self, port, window=0):
        self.port = port
        self.statuses = {}
        """Stream → its ``grpc-status``, or ``None`` where it was reset."""
        self.sent_away = False
        """Whether the server has ended the connection."""
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self._http.local_settings = h2.settings.Settings(
            client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
        )

    async def __aenter__(self):
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._http.initiate_connection()
        self._listening = asyncio.create_task(self._listen())
        self._send()
        return self

    async def __aexit__(self, *_):
        self._listening.cancel()
        self.vanish()

    def vanish(self):
        """Break the connection."""
        self._writer.transport.abort()

    def open(self, method, *messages):
        """Call ``method``, send ``messages``, and leave it open."""
        stream = self._http.get_next_available_stream_id()
        headers = {":method": "POST", ":scheme": "http", ":path": method, ":authority": "-", "te": "trailers"}
        self._http.send_headers(stream, [*headers.items(), ("content-type", "application/grpc")])
        for message in messages:
            self._http.send_data(stream, struct.pack(">?I", False, len(message)) + message)
        self._send()
        return stream

    def ping(self):
        if not self.sent_away:
            self._http.ping(b"01234567")
            self._send()

    def _send(self):
        self._writer.write(self._http.data_to_send())

    async def _listen(self):
        with contextlib.suppress(h2.exceptions.ProtocolError):  # what comes behind a farewell
            while data := await self._reader.read(65_536):
                for event in self._http.receive_data(data):
                    if isinstance(event, h2.events.TrailersReceived):
                        self.statuses[event.stream_id] = dict(event.headers).get(b"grpc-status")
                    elif isinstance(event, h2.events.StreamReset):
                        self.statuses.setdefault(event.stream_id, None)
                self._send()
        self.sent_away = True
