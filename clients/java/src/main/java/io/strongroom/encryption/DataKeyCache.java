package io.strongroom.encryption;

import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.LongSupplier;
import java.util.function.Supplier;

/**
 * Keeps data keys for messages to come, for each set of keys and each encryption context, in both directions.
 *
 * <p>A data key at hand works on when its key is disabled or a permission is taken away, until {@code maxAge} is over:
 * choose that for what you can accept. {@link #clear()} ends it at once. Meanwhile data keys are in the memory of this
 * process.
 */
public final class DataKeyCache {
    private static final int MAX_ENTRIES = 1000;

    private final long maxAgeNanos;
    private final long maxMessages;
    private final long maxBytes;
    private final LongSupplier nanoTime;
    private final LinkedHashMap<Object, Entry> entries = new LinkedHashMap<>(16, 0.75f, true);

    /** With the usual limits: 5 minutes, a million messages, 1 TiB. */
    public DataKeyCache() {
        this(Duration.ofMinutes(5), 1_000_000, 1L << 40);
    }

    /**
     * With limits of one's own, whichever is reached first.
     *
     * @param maxAge for how long a data key is used
     * @param maxMessages how many messages are written under one
     * @param maxBytes how many bytes of content are written under one
     */
    public DataKeyCache(Duration maxAge, long maxMessages, long maxBytes) {
        this(maxAge, maxMessages, maxBytes, System::nanoTime);
    }

    DataKeyCache(Duration maxAge, long maxMessages, long maxBytes, LongSupplier nanoTime) {
        this.maxAgeNanos = maxAge.toNanos();
        this.maxMessages = maxMessages;
        this.maxBytes = maxBytes;
        this.nanoTime = nanoTime;
    }

    /** Forgets every data key. */
    public void clear() {
        synchronized (entries) {
            entries.clear();
        }
    }

    /**
     * What is kept for {@code lookup} and has room for a message of {@code bytes} bytes, or else what {@code fetch}
     * answers, kept from now on. Concurrent messages that lack the same one make one call.
     */
    <T> T get(Object lookup, long bytes, Supplier<T> fetch) {
        Entry entry;
        synchronized (entries) {
            entry = entries.get(lookup);
            if (entry == null || !entry.spend(bytes)) {
                entry = new Entry();
                entries.put(lookup, entry);
                entry.spend(bytes);
                dropEldest();
            }
        }
        try {
            @SuppressWarnings("unchecked") // a lookup names what is kept under it
            T kept = (T) entry.value(fetch);
            return kept;
        } catch (RuntimeException error) {
            synchronized (entries) {
                entries.remove(lookup, entry);
            }
            throw error;
        }
    }

    /** Counts bytes of a message that went on after it had begun. */
    void spend(Object lookup, long bytes) {
        synchronized (entries) {
            Entry entry = entries.get(lookup);
            if (entry != null) {
                entry.bytes += bytes;
            }
        }
    }

    private void dropEldest() {
        if (entries.size() > MAX_ENTRIES) {
            Map.Entry<Object, Entry> eldest = entries.entrySet().iterator().next();
            entries.remove(eldest.getKey());
        }
    }

    private final class Entry {
        private final long begun = nanoTime.getAsLong();
        private long messages;
        private long bytes;
        private Object value;

        /** Whether one more message of this size may use it. */
        boolean spend(long size) {
            boolean first = messages == 0;
            if (!first && nanoTime.getAsLong() - begun >= maxAgeNanos) {
                return false;
            }
            messages += 1;
            bytes += size;
            return first || messages <= maxMessages && bytes <= maxBytes;
        }

        synchronized Object value(Supplier<?> fetch) {
            if (value == null) {
                value = fetch.get();
            }
            return value;
        }
    }
}
