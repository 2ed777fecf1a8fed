package io.strongroom.encryption;

import io.strongroom.StrongroomException;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.function.LongSupplier;
import java.util.function.Supplier;

/**
 * Keeps data keys for messages to come, for each set of keys and each encryption context, in both directions.
 *
 * <p>A data key that is in use is replaced ahead of its end, beside messages that go on. While the mesh cannot be
 * reached, it is used up to {@code maxStale} longer; what the mesh refuses, since the key is disabled or a permission is
 * gone, is never bridged. So a revocation takes effect here after {@code maxAge}, and after {@code maxAge} and
 * {@code maxStale} in a process that cannot reach the mesh: choose them for what you can accept. {@link #clear()} ends it
 * at once. Meanwhile data keys are in the memory of this process.
 */
public final class DataKeyCache {
    private static final int MAX_ENTRIES = 1000;
    private static final Duration MAX_STALE = Duration.ofMinutes(2);
    private static final long REFRESH_AHEAD_NANOS = Duration.ofSeconds(30).toNanos();
    private static final long RETRY_AFTER_NANOS = Duration.ofSeconds(1).toNanos();

    private final long maxAgeNanos;
    private final long maxMessages;
    private final long maxBytes;
    private final long maxStaleNanos;
    private final LongSupplier nanoTime;
    private final LinkedHashMap<Object, Entry> entries = new LinkedHashMap<>(16, 0.75f, true);

    /** With the usual limits: 5 minutes, a million messages, 1 TiB, and 2 minutes more while the mesh is away. */
    public DataKeyCache() {
        this(Duration.ofMinutes(5), 1_000_000, 1L << 40);
    }

    /**
     * With limits of one's own, whichever is reached first, and 2 minutes more while the mesh is away.
     *
     * @param maxAge for how long a data key is used
     * @param maxMessages how many messages are written under one
     * @param maxBytes how many bytes of content are written under one
     */
    public DataKeyCache(Duration maxAge, long maxMessages, long maxBytes) {
        this(maxAge, maxMessages, maxBytes, MAX_STALE);
    }

    /**
     * With limits of one's own, whichever is reached first.
     *
     * @param maxAge for how long a data key is used
     * @param maxMessages how many messages are written under one
     * @param maxBytes how many bytes of content are written under one
     * @param maxStale how long beyond {@code maxAge} one is used while the mesh cannot be reached
     */
    public DataKeyCache(Duration maxAge, long maxMessages, long maxBytes, Duration maxStale) {
        this(maxAge, maxMessages, maxBytes, maxStale, System::nanoTime);
    }

    DataKeyCache(Duration maxAge, long maxMessages, long maxBytes, Duration maxStale, LongSupplier nanoTime) {
        this.maxAgeNanos = maxAge.toNanos();
        this.maxMessages = maxMessages;
        this.maxBytes = maxBytes;
        this.maxStaleNanos = maxStale.toNanos();
        this.nanoTime = nanoTime;
    }

    /** Forgets every data key, also those that are on their way. */
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
        Entry before = null;
        boolean isMine = false;
        boolean isDue = false;
        synchronized (entries) {
            entry = entries.get(lookup);
            if (entry != null && !entry.isOver() && entry.take(bytes)) {
                isDue = entry.isDue();
                entry.isRefreshing |= isDue;
            } else {
                before = entry;
                entry = new Entry();
                isMine = entry.take(bytes);
                entries.put(lookup, entry);
                dropEldest();
            }
        }
        if (isMine) {
            make(lookup, entry, before, fetch);
        } else if (isDue) {
            refreshBeside(lookup, entry, fetch);
        }
        @SuppressWarnings("unchecked") // a lookup names what is kept under it
        T kept = (T) entry.value();
        return kept;
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

    private void make(Object lookup, Entry entry, Entry before, Supplier<?> fetch) {
        try {
            entry.made.complete(fetch.get());
        } catch (RuntimeException | Error error) {
            synchronized (entries) {
                boolean isKept = entries.remove(lookup, entry);
                if (before != null && before.bridges(error) && before.take(entry.bytes)) {
                    before.messages += entry.messages - 1;
                    before.prolong();
                    if (isKept) {
                        entries.put(lookup, before);
                    }
                    entry.made.complete(before.value());
                }
            }
            entry.made.completeExceptionally(error);
        }
    }

    private void refreshBeside(Object lookup, Entry old, Supplier<?> fetch) {
        Thread refresh = new Thread(() -> refresh(lookup, old, fetch), "strongroom-data-key-refresh");
        refresh.setDaemon(true);
        refresh.start();
    }

    /** Makes an entry anew. While the mesh is away it is used on; what the mesh refuses ends it. */
    private void refresh(Object lookup, Entry old, Supplier<?> fetch) {
        Entry entry = new Entry();
        RuntimeException refused = null;
        try {
            entry.made.complete(fetch.get());
        } catch (RuntimeException error) {
            refused = error;
        }
        synchronized (entries) {
            old.isRefreshing = false;
            if (entries.get(lookup) != old) {
                return; // it was forgotten, or replaced
            }
            if (refused == null) {
                entries.put(lookup, entry);
            } else if (isAway(refused)) {
                old.prolong();
            } else {
                entries.remove(lookup);
            }
        }
    }

    private void dropEldest() {
        if (entries.size() > MAX_ENTRIES) {
            Map.Entry<Object, Entry> eldest = entries.entrySet().iterator().next();
            entries.remove(eldest.getKey());
        }
    }

    private static boolean isAway(Throwable error) {
        return error instanceof StrongroomException refusal && refusal.isAway();
    }

    private final class Entry {
        private final CompletableFuture<Object> made = new CompletableFuture<>();
        private final long staleUntil;
        private long expires;
        private long refreshAt;
        private long messages;
        private long bytes;
        private boolean isRefreshing;

        Entry() {
            expires = nanoTime.getAsLong() + maxAgeNanos;
            refreshAt = expires - Math.min(REFRESH_AHEAD_NANOS, maxAgeNanos / 2);
            staleUntil = expires + maxStaleNanos;
        }

        /** Uses it for one more message of this size, unless it may serve no other. */
        boolean take(long size) {
            boolean isFirst = messages == 0;
            if (!isFirst && (messages >= maxMessages || bytes + size > maxBytes)) {
                return false;
            }
            messages += 1;
            bytes += size;
            return true;
        }

        boolean isOver() {
            return nanoTime.getAsLong() - expires >= 0;
        }

        /** Whether another one should be fetched beside messages that go on. */
        boolean isDue() {
            return !isRefreshing && isMade() && nanoTime.getAsLong() - refreshAt >= 0;
        }

        boolean bridges(Throwable error) {
            return isMade() && isAway(error) && nanoTime.getAsLong() - staleUntil < 0;
        }

        /** Uses it beyond its age, and asks for another one now and then. */
        void prolong() {
            refreshAt = nanoTime.getAsLong() + RETRY_AFTER_NANOS;
            expires = staleUntil;
        }

        Object value() {
            try {
                return made.join();
            } catch (CompletionException error) {
                if (error.getCause() instanceof RuntimeException refused) {
                    throw refused;
                }
                throw error;
            }
        }

        private boolean isMade() {
            return made.isDone() && !made.isCompletedExceptionally();
        }
    }
}
