package io.strongroom;

import java.time.Duration;
import java.time.Instant;
import java.time.InstantSource;
import java.util.function.Supplier;

/** Where the session token of a call comes from. */
interface Tokens {
    /** The token for a call that begins now. */
    String current();

    /** Says that a service did not accept a token; answers whether {@link #current} may have another now. */
    boolean renew(String refused);

    /** The one token that there is. */
    static Tokens fixed(String token) {
        return new Tokens() {
            @Override
            public String current() {
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

    /** Tokens that are exchanged for when first asked for, and again when a fifth of their time is left. */
    final class Exchanged implements Tokens {
        private final Supplier<Token> exchange;
        private final InstantSource clock;
        private Token token;
        private Instant renewAt = Instant.MIN;

        Exchanged(Supplier<Token> exchange, InstantSource clock) {
            this.exchange = exchange;
            this.clock = clock;
        }

        @Override
        public synchronized String current() {
            Instant now = clock.instant();
            if (token == null || !now.isBefore(renewAt)) {
                token = exchange.get();
                renewAt = now.plus(Duration.between(now, token.expires()).multipliedBy(4).dividedBy(5));
            }
            return token.text();
        }

        @Override
        public synchronized boolean renew(String refused) {
            // Unless somebody has since.
            if (token != null && token.text().equals(refused)) {
                token = null;
            }
            return true;
        }
    }
}
