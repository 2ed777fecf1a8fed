package io.strongroom.encryption;

/** Where the chunks of a body are, by its length behind the nonce prefix. */
record Layout(long chunks, long contentBytes) {
    /** Throws MESSAGE_ALTERED for a length that no body has, and MESSAGE_TOO_LARGE. */
    static Layout of(long bodyBytes, int chunkSize) {
        if (bodyBytes < ChunkCipher.TAG_BYTES) {
            throw Refusals.altered();
        }
        long sealedSize = chunkSize + (long) ChunkCipher.TAG_BYTES;
        long chunks = (bodyBytes - 1) / sealedSize + 1;
        if (chunks > ChunkCipher.MAX_CHUNKS) {
            throw Refusals.tooLarge();
        }
        long last = bodyBytes - (chunks - 1) * sealedSize;
        // One content has one encoding: an empty chunk is for an empty message alone.
        if (last < ChunkCipher.TAG_BYTES || last == ChunkCipher.TAG_BYTES && chunks > 1) {
            throw Refusals.altered();
        }
        return new Layout(chunks, bodyBytes - chunks * ChunkCipher.TAG_BYTES);
    }

    /** How many bytes the chunk {@code number} has, tag included. */
    int sealedSize(long number, int chunkSize) {
        return (int) Math.min(chunkSize, contentBytes - number * chunkSize) + ChunkCipher.TAG_BYTES;
    }

    /** How many bytes a content has as a body, behind the nonce prefix. */
    static long bodyBytes(long contentBytes, int chunkSize) {
        return contentBytes + ChunkCipher.TAG_BYTES * Math.max(1, (contentBytes + chunkSize - 1) / chunkSize);
    }
}
