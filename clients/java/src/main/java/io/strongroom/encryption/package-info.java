/**
 * Messages, files and objects of any size, encrypted here under data keys that only the mesh can open.
 *
 * <p>Every language writes one format (docs/formats.md, "Encrypted message"), so each reads what the others wrote.
 */
package io.strongroom.encryption;
