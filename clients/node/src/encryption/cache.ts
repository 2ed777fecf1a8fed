/** Data keys for messages to come. */

const MAX_ENTRIES = 1000;
const MAX_MESSAGES = 1_000_000;
const MAX_BYTES = 64 * 2 ** 30;

interface Entry<Value> {
  value: Promise<Value>;
  expires: number;
  messages: number;
  bytes: number;
}

/** Keeps what was made with calls to a mesh. Concurrent misses make one call. */
export class Cache<Value> {
  readonly #entries = new Map<string, Entry<Value>>();

  constructor(private readonly maxAgeMs: number) {}

  /** What is at hand for a message of `size` bytes, or what `ask` answers. */
  get(name: string, size: number, ask: () => Promise<Value>): Promise<Value> {
    const found = this.#entries.get(name);
    const now = performance.now();
    if (found && now < found.expires && found.messages < MAX_MESSAGES && found.bytes + size <= MAX_BYTES) {
      found.messages++;
      found.bytes += size;
      return found.value;
    }
    this.#entries.delete(name);
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size < MAX_ENTRIES) break;
      this.#entries.delete(oldest);
    }
    const made = { value: ask(), expires: now + this.maxAgeMs, messages: 1, bytes: size };
    this.#entries.set(name, made);
    made.value.catch(() => {
      if (this.#entries.get(name) === made) this.#entries.delete(name);
    });
    return made.value;
  }

  /** Forgets everything. */
  clear(): void {
    this.#entries.clear();
  }
}
