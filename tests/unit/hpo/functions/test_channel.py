"""Messages over a socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from hpo.functions.channel import Channel, ChannelClosedError


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours), theirs


def test_messages_arrive_in_order(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    far = Channel(other)
    far.send({"a": 1})
    far.send({"text": "line\nbreak"})
    assert (channel.receive(), channel.receive(1.0), channel.receive(0.0)) == (
        {"a": 1},
        {"text": "line\nbreak"},
        None,
    )


def test_message_may_arrive_in_parts(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    other.sendall(b'{"a":')
    assert channel.receive(0.0) is None
    other.sendall(b' 1}\n{"b"')
    assert channel.receive(0.0) == {"a": 1}


def test_closed_channel_is_told(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    other.sendall(b'{"last": 1}\n')
    other.close()
    assert channel.receive() == {"last": 1}
    with pytest.raises(ChannelClosedError):
        channel.receive()
    with pytest.raises(ChannelClosedError):
        channel.send({})


@pytest.mark.parametrize("line", [b"text\n", b"[1]\n", b"\xff\n"])
def test_what_is_no_message_is_refused(ends: tuple[Channel, socket.socket], line: bytes) -> None:
    channel, other = ends
    other.sendall(line)
    with pytest.raises(ValueError):  # noqa: PT011 - of any kind
        channel.receive()
