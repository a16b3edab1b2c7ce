"""Whatever a client sends: nothing undocumented is raised, and any cut of it gives the same events and output.

pip install atheris
python fuzz/server.py -max_total_time=60
"""

import sys

import atheris

with atheris.instrument_imports(include=["smtpcore"]):
    from smtpcore import (
        NEED_DATA,
        PAUSED,
        BareNewlines,
        Bodies,
        Config,
        Connection,
        ConnectionClosed,
        DataChunk,
        DataEnd,
        DataLine,
        Rcpt,
        RemoteProtocolError,
        Reply,
    )

CONFIGS = [
    Config(
        hostname="mx.example.org", bodies=bodies, bare_newlines=newlines, max_message_size=65_536, max_text_line=1000
    )
    for bodies in Bodies
    for newlines in BareNewlines
]


def converse(config: Config, segments: list[bytes]) -> list[object]:
    """Everything that is seen of a session: its events, with the pieces of bodies joined, and its output."""
    conn = Connection(config)
    seen: list[object] = []
    try:
        for segment in [*segments, b""]:
            conn.receive_data(segment)
            while (event := conn.next_event()) is not NEED_DATA and event is not PAUSED:
                if isinstance(event, DataChunk | DataLine):
                    if isinstance(event, DataChunk) and seen and isinstance(seen[-1], bytearray):
                        seen[-1] += event.data
                    else:
                        seen.append(bytearray(event.data))
                    continue

                seen.append(event)
                if isinstance(event, ConnectionClosed):
                    return [*seen, conn.data_to_send()]
                accepted = isinstance(event, Rcpt | DataEnd)
                conn.send(Reply(250, "Fine") if accepted else conn.default_reply(event))
    except RemoteProtocolError as exc:
        seen.append(str(exc))

    return [*seen, conn.data_to_send()]


def test_one_input(data: bytes) -> None:
    """Feed `data` whole, byte by byte, and cut at a place that it names."""
    if not data:
        return

    config = CONFIGS[data[0] % len(CONFIGS)]
    session = data[1:]
    whole = converse(config, [session] if session else [])
    assert converse(config, [session[i : i + 1] for i in range(len(session))]) == whole
    cut = data[0] * len(session) // 256
    assert converse(config, [part for part in (session[:cut], session[cut:]) if part]) == whole


def main() -> None:
    """Fuzz, with the options of libFuzzer."""
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
