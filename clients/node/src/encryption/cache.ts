/** Data keys for messages to come. */

import { StrongroomError } from "../errors.js";

const MAX_ENTRIES = 1000;
const MAX_MESSAGES = 1_000_000;
const MAX_BYTES = 64 * 2 ** 30;
/** What is in use is made anew so long before its end, or for half of its time, beside messages that go on. */
const REFRESH_AHEAD_MS = 30_000;
/** How often another one is asked for while the mesh is away. */
const RETRY_AFTER_MS = 1000;

interface Entry<Value> {
  value: Promise<Value>;
  isMade: boolean;
  isRefreshing: boolean;
  refreshAt: number;
  expires: number;
  staleUntil: number;
  messages: number;
  bytes: number;
}

/** Keeps what was made with calls to a mesh. Concurrent misses make one call. */
export class Cache<Value> {
  readonly #entries = new Map<string, Entry<Value>>();

  constructor(
    private readonly maxAgeMs: number,
    private readonly maxStaleMs: number,
    private readonly now = () => performance.now(),
  ) {}

  /** What is at hand for a message of `size` bytes, or what `ask` answers. */
  get(name: string, size: number, ask: () => Promise<Value>): Promise<Value> {
    const found = this.#entries.get(name);
    const now = this.now();
    if (found && now < found.expires && take(found, size)) {
      if (now >= found.refreshAt && found.isMade && !found.isRefreshing) void this.#refresh(name, found, ask);
      return found.value;
    }
    this.#entries.delete(name);
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size < MAX_ENTRIES) break;
      this.#entries.delete(oldest);
    }
    const made = this.#entry(ask());
    take(made, size);
    this.#entries.set(name, made);
    made.value = made.value.then(
      (value) => {
        made.isMade = true;
        return value;
      },
      (error: unknown) => this.#failed(name, made, found, error),
    );
    return made.value;
  }

  /** Forgets everything. */
  clear(): void {
    this.#entries.clear();
  }

  #entry(value: Promise<Value>): Entry<Value> {
    const expires = this.now() + this.maxAgeMs;
    return {
      value,
      isMade: false,
      isRefreshing: false,
      refreshAt: expires - Math.min(REFRESH_AHEAD_MS, this.maxAgeMs / 2),
      expires,
      staleUntil: expires + this.maxStaleMs,
      messages: 0,
      bytes: 0,
    };
  }

  /** Makes an entry anew. While the mesh is away it is used on; what the mesh refuses ends it. */
  async #refresh(name: string, old: Entry<Value>, ask: () => Promise<Value>): Promise<void> {
    old.isRefreshing = true;
    const made = this.#entry(ask());
    let refused: unknown;
    try {
      await made.value;
      made.isMade = true;
    } catch (error) {
      refused = error;
    }
    old.isRefreshing = false;
    // It was forgotten, or replaced.
    if (this.#entries.get(name) !== old) return;
    if (made.isMade) this.#entries.set(name, made);
    else if (isAway(refused)) this.#prolong(old);
    else this.#entries.delete(name);
  }

  /** What was there before, in the place of what could not be made, while the mesh is away and as long as that may be. */
  #failed(name: string, failed: Entry<Value>, before: Entry<Value> | undefined, error: unknown): Promise<Value> {
    const isCurrent = this.#entries.get(name) === failed;
    if (isCurrent) this.#entries.delete(name);
    if (!before?.isMade || !isAway(error) || this.now() >= before.staleUntil || !take(before, failed.bytes)) throw error;
    before.messages += failed.messages - 1;
    this.#prolong(before);
    if (isCurrent) this.#entries.set(name, before);
    return before.value;
  }

  /** Uses an entry beyond its age, and has another one asked for now and then. */
  #prolong(entry: Entry<Value>): void {
    entry.refreshAt = this.now() + RETRY_AFTER_MS;
    entry.expires = entry.staleUntil;
  }
}

/** Uses an entry for a message of `size` bytes, unless it may serve no other. */
function take(entry: Entry<unknown>, size: number): boolean {
  if (entry.messages >= MAX_MESSAGES || entry.bytes + size > MAX_BYTES) return false;
  entry.messages++;
  entry.bytes += size;
  return true;
}

function isAway(error: unknown): boolean {
  return error instanceof StrongroomError && error.isAway;
}
