package io.strongroom.encryption;

import java.util.Arrays;

/** Bytes that are read field by field, and must end where the last field does. */
final class Fields {
    private final byte[] data;
    private int at;

    Fields(byte[] data) {
        this.data = data;
    }

    /** The next number, of 1 or 2 bytes. Throws MESSAGE_ALTERED. */
    int number(int size) {
        int number = 0;
        for (byte part : take(size)) {
            number = number << 8 | part & 0xff;
        }
        return number;
    }

    /** The next {@code size} bytes. Throws MESSAGE_ALTERED. */
    byte[] take(int size) {
        if (size > data.length - at) {
            throw Refusals.altered();
        }
        at += size;
        return Arrays.copyOfRange(data, at - size, at);
    }

    /** Throws MESSAGE_ALTERED unless every byte was taken. */
    void end() {
        if (at != data.length) {
            throw Refusals.altered();
        }
    }
}
