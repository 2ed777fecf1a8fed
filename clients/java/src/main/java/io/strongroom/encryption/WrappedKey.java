package io.strongroom.encryption;

/**
 * A message's data key, encrypted under one key.
 *
 * @param encryptedDataKey what the key's mesh answered
 * @param key the key's full name: a hint that a writer may leave out, and that nothing but the mesh confirms
 * @param mesh which mesh the key is of, a word of its writers: a hint too
 */
record WrappedKey(byte[] encryptedDataKey, String key, String mesh) {}
