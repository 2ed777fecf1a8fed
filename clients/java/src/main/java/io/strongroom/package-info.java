/** The client of a Strongroom mesh: {@link io.strongroom.Client}, and {@link io.strongroom.encryption} for messages. */
package io.strongroom;
