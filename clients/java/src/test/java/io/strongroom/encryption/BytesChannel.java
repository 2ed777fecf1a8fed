package io.strongroom.encryption;

import java.nio.ByteBuffer;
import java.nio.channels.NonWritableChannelException;
import java.nio.channels.SeekableByteChannel;

/** A file in memory. */
final class BytesChannel implements SeekableByteChannel {
    private final byte[] bytes;
    private int at;
    private boolean closed;

    BytesChannel(byte[] bytes) {
        this.bytes = bytes;
    }

    @Override
    public int read(ByteBuffer into) {
        if (at >= bytes.length) {
            return -1;
        }
        int given = Math.min(into.remaining(), bytes.length - at);
        into.put(bytes, at, given);
        at += given;
        return given;
    }

    @Override
    public long size() {
        return bytes.length;
    }

    @Override
    public long position() {
        return at;
    }

    @Override
    public SeekableByteChannel position(long place) {
        at = (int) place;
        return this;
    }

    @Override
    public int write(ByteBuffer from) {
        throw new NonWritableChannelException();
    }

    @Override
    public SeekableByteChannel truncate(long size) {
        throw new NonWritableChannelException();
    }

    @Override
    public boolean isOpen() {
        return !closed;
    }

    @Override
    public void close() {
        closed = true;
    }
}
