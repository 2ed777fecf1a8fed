package io.strongroom.encryption;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.ClosedChannelException;
import java.nio.channels.NonWritableChannelException;
import java.nio.channels.SeekableByteChannel;

/**
 * The content of a message in another channel, to be read anywhere, in constant memory. That nothing is missing was
 * verified when it was opened, by the last chunk; each chunk is verified when it is read.
 */
final class DecryptingChannel implements SeekableByteChannel {
    private final SeekableByteChannel input;
    private final ChunkCipher cipher;
    private final Layout layout;
    private final int chunkSize;
    /** Where the chunks begin. */
    private final long start;
    /** What was read last, for reads that go on in it. */
    private byte[] chunk = new byte[0];
    private long number = -1;
    private long at;

    /** Takes what stands from here to the end of {@code input} for the chunks. */
    DecryptingChannel(SeekableByteChannel input, ChunkCipher cipher, int chunkSize) throws IOException {
        this.input = input;
        this.cipher = cipher;
        this.chunkSize = chunkSize;
        start = input.position();
        layout = Layout.of(Math.max(0, input.size() - start), chunkSize);
        load(layout.chunks() - 1);
    }

    @Override
    public synchronized int read(ByteBuffer into) throws IOException {
        checkOpen();
        if (at >= layout.contentBytes()) {
            return -1;
        }
        if (!into.hasRemaining()) {
            return 0;
        }
        load(at / chunkSize);
        int from = (int) (at % chunkSize);
        int given = Math.min(into.remaining(), chunk.length - from);
        into.put(chunk, from, given);
        at += given;
        return given;
    }

    /** How many bytes the content has, verified. */
    @Override
    public long size() throws IOException {
        checkOpen();
        return layout.contentBytes();
    }

    @Override
    public synchronized long position() throws IOException {
        checkOpen();
        return at;
    }

    @Override
    public synchronized SeekableByteChannel position(long place) throws IOException {
        checkOpen();
        if (place < 0) {
            throw new IllegalArgumentException("there is no such place in the content: " + place);
        }
        at = place;
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
        return input.isOpen();
    }

    @Override
    public void close() throws IOException {
        input.close();
    }

    private void checkOpen() throws ClosedChannelException {
        if (!isOpen()) {
            throw new ClosedChannelException();
        }
    }

    private void load(long wanted) throws IOException {
        if (number == wanted) {
            return;
        }
        number = -1;
        // Layout says that these bytes are there, so a header takes no more room than the message has.
        ByteBuffer sealed = ByteBuffer.allocate(layout.sealedSize(wanted, chunkSize));
        input.position(start + wanted * (chunkSize + (long) ChunkCipher.TAG_BYTES));
        while (sealed.hasRemaining()) {
            if (input.read(sealed) < 0) {
                throw Refusals.altered();
            }
        }
        byte[] opened = new byte[sealed.capacity() - ChunkCipher.TAG_BYTES];
        boolean last = wanted == layout.chunks() - 1;
        cipher.open(wanted, last, sealed.array(), 0, sealed.capacity(), opened, 0);
        chunk = opened;
        number = wanted;
    }
}
