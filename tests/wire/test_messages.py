from streamtrans.core import DecodeStats
from streamtrans.wire import (
    SERVICE_NAME,
    Capabilities,
    ClientMessage,
    Cursors,
    Envelope,
    Limits,
    Notice,
    Started,
    StreamOptions,
    Summary,
    audio_message,
    capabilities_from_proto,
    capabilities_to_proto,
    cursors_from_proto,
    end_message,
    end_utterance_message,
    notice_from_proto,
    notice_message,
    payload_of,
    ping_message,
    pong_message,
    silence_message,
    started_from_proto,
    started_message,
    summary_from_proto,
    summary_message,
)

OPTIONS = StreamOptions(("de", "fr"), vad="energy", min_interval_ms=480, min_silence_ms=500, max_segment_ms=9000)


def test_every_envelope_is_numbered_and_carries_the_cursors():
    envelope = Envelope("abc")
    cursors = Cursors(5, 4, 3, 2, 1)
    for number in (1, 2, 3):
        message = envelope.seal(pong_message(7), cursors, 1234)
        assert (message.session_id, message.event_sequence, message.server_time_ms) == ("abc", number, 1234)
        assert cursors_from_proto(message.cursors) == cursors
        assert message.pong.client_time_ms == 7


def test_started_travels():
    limits = Limits(max_targets=3, max_real_time_factor=1.5)
    started = Started("abc", OPTIONS, limits, "nano", ("de", "zh"), unspaced_languages=("zh",), viewer_token="v")
    message = Envelope("abc").seal(started_message(started), Cursors(), 0)
    assert started_from_proto(message) == started


def test_summary_travels():
    summary = Summary(9000, 4500, 2, 7, 2, 11, (300, 400), 300, 250, 700, DecodeStats(5, 6, 7, 8))
    assert summary_from_proto(summary_message(summary).summary) == summary


def test_notices_travel_and_unknown_ones_keep_their_number():
    for code in (
        *("BEHIND_REALTIME", "QUALITY_DEGRADED", "TEXT_INCOMPLETE", "NO_SPEECH"),
        *("FEWER_PARTIALS", "NO_PARTIALS", "FULL_SERVICE", "AUDIO_SCALE"),
    ):
        assert notice_from_proto(notice_message(Notice(code, "why")).notice) == Notice(code, "why")
    message = notice_message(Notice("BEHIND_REALTIME", "")).notice
    message.code = 42
    assert notice_from_proto(message).code == "42"


def test_capabilities_travel_and_unknown_values_are_left_out():
    capabilities = Capabilities(
        "nano",
        ("de", "en"),
        ("mulaw", "opus"),
        ("energy",),
        ("live", "final"),
        Limits(),
        8000,
        48000,
        2,
        "1.0",
        (("de", ("de", "en")), ("en", ("en",))),
        ("en",),
    )
    assert capabilities.translates("de", "en")
    assert not capabilities.translates("en", "de")
    message = capabilities_to_proto(capabilities)
    assert capabilities_from_proto(message) == capabilities
    message.encodings.append(99)
    message.modes.append(99)
    assert capabilities_from_proto(message) == capabilities


def test_without_a_list_of_translations_any_language_becomes_any():
    some = Capabilities("nano", ("de", "en"), (), (), (), Limits(), 8000, 48000, 2, "1.0")
    assert some.translates("de", "en")
    assert some.translates("en", "en")
    assert not some.translates("de", "it")


def test_client_messages_say_what_they_carry():
    for message, kind in (
        (audio_message(b"ab", 1), "audio"),
        (silence_message(20, 2), "silence"),
        (end_utterance_message(), "end_utterance"),
        (end_message(2), "end"),
        (ping_message(5), "ping"),
        (ClientMessage(), None),
    ):
        assert payload_of(ClientMessage.FromString(message.SerializeToString())) == kind


def test_the_service_has_its_full_name():
    assert SERVICE_NAME == "streamtrans.v1.TranslationService"
