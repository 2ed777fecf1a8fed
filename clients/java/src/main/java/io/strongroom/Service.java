package io.strongroom;

/** The services of a mesh. */
public enum Service {
    /** Accounts, principals, policies, sessions, keys. */
    KEYSTORE,
    /** Every cryptographic operation. */
    CRYPTO,
    /** Secrets. */
    SECRETS,
    /** The audit log. */
    AUDIT;

    /** As profiles and errors name it. */
    public String id() {
        return name().toLowerCase(java.util.Locale.ROOT);
    }
}
