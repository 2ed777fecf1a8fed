package io.strongroom.encryption;

import java.io.IOException;
import java.io.OutputStream;
import java.util.Objects;

/**
 * Content is written to it, and its message goes to another stream, chunk by chunk.
 *
 * <p>{@link #finish()} writes the end, and is called once all of the content was written. What is closed without it is
 * left cut off, and every reader refuses it: so a source that fails within a try-with-resources leaves no message that
 * would be taken for whole. After an exception of {@code write} there is no end either.
 *
 * <pre>{@code
 * try (EncryptingOutputStream output = encryption.encryptingStream(file, context)) {
 *     source.transferTo(output);
 *     output.finish();
 * }
 * }</pre>
 */
public final class EncryptingOutputStream extends OutputStream {
    private final OutputStream output;
    private final ChunkCipher cipher;
    private final Spent spent;
    private final byte[] content;
    private final byte[] sealed;
    private byte[] head;
    private int filled;
    private long number;
    private boolean broken;
    private boolean finished;
    private boolean aborted;
    private boolean closed;

    /** Counts bytes of content that were encrypted. */
    @FunctionalInterface
    interface Spent {
        void bytes(long count);
    }

    EncryptingOutputStream(OutputStream output, byte[] head, ChunkCipher cipher, int chunkSize, Spent spent) {
        this.output = output;
        this.head = head;
        this.cipher = cipher;
        this.spent = spent;
        content = new byte[chunkSize];
        sealed = new byte[chunkSize + ChunkCipher.TAG_BYTES];
    }

    @Override
    public void write(int one) throws IOException {
        write(new byte[] {(byte) one}, 0, 1);
    }

    @Override
    public void write(byte[] data, int from, int length) throws IOException {
        Objects.checkFromIndexSize(from, length, data.length);
        requireOpen();
        int at = from;
        int left = length;
        while (left > 0) {
            // A full chunk waits: only what comes behind it says that it is not the last.
            if (filled == content.length) {
                seal(false);
            }
            int taken = Math.min(left, content.length - filled);
            System.arraycopy(data, at, content, filled, taken);
            filled += taken;
            at += taken;
            left -= taken;
        }
    }

    @Override
    public void flush() throws IOException {
        output.flush();
    }

    /** Writes the end of the message. The stream below stays open until {@link #close()}. */
    public void finish() throws IOException {
        if (finished) {
            return;
        }
        requireOpen();
        seal(true);
        output.flush();
        finished = true;
    }

    /** Ends without an end: every reader refuses what was written. Closes the stream below. */
    public void abort() throws IOException {
        aborted = true;
        close();
    }

    /**
     * Closes the stream below. Throws where neither {@link #finish()} nor {@link #abort()} was called and nothing failed:
     * what was written is cut off.
     */
    @Override
    public void close() throws IOException {
        if (closed) {
            return;
        }
        closed = true;
        output.close();
        if (!finished && !aborted && !broken) {
            throw new IOException("finish() was not called: the message has no end, and no reader takes it for whole");
        }
    }

    private void requireOpen() throws IOException {
        if (closed || finished || broken) {
            throw new IOException("the message has ended");
        }
    }

    private void seal(boolean last) throws IOException {
        // Until all of it is written: a writer that failed halfway must not go on as if nothing had happened.
        broken = true;
        if (head != null) {
            output.write(head);
            head = null;
        }
        cipher.seal(number++, last, content, 0, filled, sealed, 0);
        output.write(sealed, 0, filled + ChunkCipher.TAG_BYTES);
        spent.bytes(filled);
        filled = 0;
        broken = false;
    }
}
