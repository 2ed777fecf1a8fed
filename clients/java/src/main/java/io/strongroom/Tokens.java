package io.strongroom;

import java.time.Duration;
import java.time.Instant;
import java.time.InstantSource;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;

/** Where the session token of a call comes from. */
interface Tokens {
    /** The token for a call that begins now, and ends when {@link System#nanoTime} is {@code deadline}. */
    String current(long deadline);

    /** Says that a service did not accept a token; answers whether {@link #current} may have another now. */
    boolean renew(String refused);

    /** The one token that there is. */
    static Tokens fixed(String token) {
        return new Tokens() {
            @Override
            public String current(long deadline) {
                return token;
            }

            @Override
            public boolean renew(String refused) {
                return false;
            }
        };
    }

    /** A token, and when it expires. */
    record Token(String text, Instant expires) {
        @Override
        public String toString() {
            return "Token[expires=" + expires + "]";
        }
    }

    /** What exchanges something for a token, within a time. */
    @FunctionalInterface
    interface Exchange {
        Token within(Duration time);
    }

    /** Tokens that are exchanged for when first asked for, and again when a fifth of their time is left. */
    final class Exchanged implements Tokens {
        private final Exchange exchange;
        private final InstantSource clock;
        private final ReentrantLock turn = new ReentrantLock();
        private Token token;
        private Instant renewAt = Instant.MIN;
        private StrongroomException failure;
        private long failedAt;
        private volatile String refused = "";

        Exchanged(Exchange exchange, InstantSource clock) {
            this.exchange = exchange;
            this.clock = clock;
        }

        @Override
        public String current(long deadline) {
            long asked = System.nanoTime();
            takeTurn(deadline - asked);
            try {
                Instant now = clock.instant();
                if (token != null && now.isBefore(renewAt) && !token.text().equals(refused)) {
                    return token.text();
                }
                // Whoever waited for an exchange that failed waits for no other.
                if (failure != null && failedAt - asked >= 0) {
                    throw failure;
                }
                token = exchange.within(Duration.ofNanos(deadline - System.nanoTime()));
                renewAt = now.plus(Duration.between(now, token.expires()).multipliedBy(4).dividedBy(5));
                return token.text();
            } catch (StrongroomException error) {
                if (error != failure) {
                    failure = error;
                    failedAt = System.nanoTime();
                }
                throw error;
            } finally {
                turn.unlock();
            }
        }

        @Override
        public boolean renew(String refused) {
            this.refused = refused;
            return true;
        }

        private void takeTurn(long nanos) {
            try {
                if (turn.tryLock(nanos, TimeUnit.NANOSECONDS)) {
                    return;
                }
            } catch (InterruptedException interrupted) {
                Thread.currentThread().interrupt();
                throw new StrongroomException("CANCELLED", "the thread was interrupted", "CANCELLED", "");
            }
            String late = "the exchange of credentials for a session did not end in time";
            throw new StrongroomException("DEADLINE_EXCEEDED", late, "DEADLINE_EXCEEDED", "");
        }
    }
}
