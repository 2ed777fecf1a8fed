import assert from "node:assert/strict";
import { test } from "node:test";

import { status } from "@grpc/grpc-js";

import { Cache } from "../encryption/cache.js";
import { StrongroomError } from "../errors.js";

const AGE = 300_000;
const AHEAD = 30_000;
const STALE = 120_000;

/** A cache that holds the answer of a first call, which comes to its end soon. */
async function due() {
  const mesh = { now: 0, calls: 0, refusal: undefined as StrongroomError | undefined };
  const cache = new Cache<number>(AGE, STALE, () => mesh.now);
  const get = () =>
    cache.get("a", 1, async () => {
      mesh.calls++;
      if (mesh.refusal) throw mesh.refusal;
      return mesh.calls;
    });
  await get();
  mesh.now = AGE - AHEAD;
  return { mesh, cache, get };
}

const away = new StrongroomError("UNREACHABLE", "nobody answers", { code: status.UNAVAILABLE });
const disabled = new StrongroomError("KEY_DISABLED", "the key is disabled", { code: status.FAILED_PRECONDITION });
const settled = () => new Promise((done) => setImmediate(done));

test("a data key in use is replaced ahead of its end, beside messages that go on", async () => {
  const { mesh, get } = await due();
  assert.deepEqual(await Promise.all([get(), get()]), [1, 1]);
  await settled();
  assert.equal(await get(), 2);
  mesh.now = AGE + AHEAD;
  assert.equal(await get(), 2);
});

test("while the mesh is away a data key is used up to its last limit", async () => {
  for (const ahead of [true, false]) {
    const { mesh, get } = await due();
    mesh.refusal = away;
    if (ahead) await get();
    await settled();
    mesh.now = AGE + STALE - 1;
    assert.equal(await get(), 1);
    await settled();
    mesh.now++;
    await assert.rejects(get(), { reason: "UNREACHABLE" });
    mesh.refusal = undefined;
    assert.equal(await get(), mesh.calls);
  }
});

test("what the mesh refuses is never bridged", async () => {
  for (const ahead of [true, false]) {
    const { mesh, get } = await due();
    mesh.refusal = disabled;
    if (ahead) await get();
    else mesh.now = AGE;
    await settled();
    await assert.rejects(get(), { reason: "KEY_DISABLED" });
  }
});

test("what is on its way when all is forgotten is not kept", async () => {
  const { cache, get } = await due();
  await get();
  cache.clear();
  await settled();
  assert.equal(await get(), 3);
});
