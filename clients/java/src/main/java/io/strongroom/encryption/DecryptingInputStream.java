package io.strongroom.encryption;

import io.strongroom.StrongroomException;
import java.io.IOException;
import java.io.InputStream;
import java.util.Arrays;
import java.util.Objects;

/** The content of a message, chunk by chunk; a refusal stays one however often it is read again. */
final class DecryptingInputStream extends InputStream {
    private final InputStream input;
    private final ChunkCipher cipher;
    /** One byte more than a chunk: whether there is one says whether the chunk is the last. */
    private byte[] sealed;
    private final int sealedSize;
    private byte[] content = new byte[0];
    private int held;
    private int at;
    private int filled;
    private long number;
    private boolean ended;
    private StrongroomException refusal;

    DecryptingInputStream(InputStream input, ChunkCipher cipher, int chunkSize) {
        this.input = input;
        this.cipher = cipher;
        sealedSize = chunkSize + ChunkCipher.TAG_BYTES;
        sealed = new byte[Math.min(sealedSize + 1, 1 << 13)];
    }

    @Override
    public int read() throws IOException {
        byte[] one = new byte[1];
        return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
    }

    @Override
    public int read(byte[] into, int from, int length) throws IOException {
        Objects.checkFromIndexSize(from, length, into.length);
        if (length == 0) {
            return 0;
        }
        while (at == filled) {
            if (ended) {
                return -1;
            }
            next();
        }
        int given = Math.min(length, filled - at);
        System.arraycopy(content, at, into, from, given);
        at += given;
        return given;
    }

    @Override
    public int available() {
        return filled - at;
    }

    @Override
    public void close() throws IOException {
        input.close();
    }

    private void next() throws IOException {
        if (refusal != null) {
            throw refusal;
        }
        try {
            openNext();
        } catch (StrongroomException error) {
            refusal = error;
            throw error;
        }
    }

    private void openNext() throws IOException {
        fill();
        boolean last = held <= sealedSize;
        int length = last ? held : sealedSize;
        // One content has one encoding: an empty chunk is for an empty message alone.
        if (last && length == ChunkCipher.TAG_BYTES && number > 0) {
            throw Refusals.altered();
        }
        int size = Math.max(0, length - ChunkCipher.TAG_BYTES);
        if (content.length < size) {
            content = new byte[size];
        }
        cipher.open(number++, last, sealed, 0, length, content, 0);
        at = 0;
        filled = size;
        ended = last;
        held -= length;
        if (held > 0) {
            sealed[0] = sealed[length];
        }
    }

    /** Reads until there is a byte more than a chunk, or the end; takes room as bytes come, not as the header claims. */
    private void fill() throws IOException {
        while (held <= sealedSize) {
            if (held == sealed.length) {
                sealed = Arrays.copyOf(sealed, Math.min(sealedSize + 1, 2 * sealed.length));
            }
            int read = input.read(sealed, held, sealed.length - held);
            if (read < 0) {
                return;
            }
            held += read;
        }
    }
}
