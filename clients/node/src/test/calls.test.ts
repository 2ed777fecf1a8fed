import assert from "node:assert/strict";
import { after, test } from "node:test";

import { create, type Message, type MessageInitShape, toBinary, fromBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { Client as GrpcClient, credentials, type handleUnaryCall, Metadata, Server, ServerCredentials, status } from "@grpc/grpc-js";

import { Endpoint } from "../calls.js";
import { Channel } from "../channel.js";
import { crc32c } from "../checksums.js";
import { ErrorInfoSchema } from "../stubs/google/rpc/error_details_pb.js";
import { StatusSchema } from "../stubs/google/rpc/status_pb.js";
import { CryptoService, type EncryptRequest, type EncryptResponse, type EncryptResponseSchema } from "../stubs/strongroom/crypto/v1/crypto_pb.js";
import { type CreateKeyRequest, KeyService } from "../stubs/strongroom/keystore/v1/key_service_pb.js";

/** A channel without TLS, which no client makes. */
class Plain extends Channel {
  readonly #client: GrpcClient;

  constructor(address: string) {
    super(address, {});
    this.#client = new GrpcClient(address, credentials.createInsecure());
    after(() => this.#client.close());
  }

  override current(): GrpcClient {
    return this.#client;
  }
}

type Refusal = { refusal: { code: status; details: string; metadata?: Metadata } };
type Answer = MessageInitShape<typeof EncryptResponseSchema> | Refusal;

const BROKEN: Refusal = { refusal: { code: status.UNAVAILABLE, details: "the connection broke" } };

/** What requests to create a key came with, how often one was disabled, and how each is refused; undefined is none. */
class Creates {
  ids: string[] = [];
  disables = 0;

  constructor(
    readonly refusal: (count: number) => Refusal | undefined = () => BROKEN,
    readonly refusalToDisable: (count: number) => Refusal | undefined = () => BROKEN,
  ) {}
}

/** A service that answers as a test says, and its address. */
async function serve(encrypt: (request: EncryptRequest, metadata: Metadata) => Answer, creates = new Creates()) {
  const server = new Server();
  const method = CryptoService.method.encrypt;
  const definition = {
    requestStream: false,
    responseStream: false,
    requestSerialize: (message: EncryptRequest) => Buffer.from(toBinary(method.input, message)),
    requestDeserialize: (bytes: Buffer) => fromBinary(method.input, bytes),
    responseSerialize: (message: EncryptResponse) => Buffer.from(toBinary(method.output, message)),
    responseDeserialize: (bytes: Buffer) => fromBinary(method.output, bytes),
  };
  const { createKey, disableKey } = KeyService.method;
  server.addService(
    {
      encrypt: { ...definition, path: "/strongroom.crypto.v1.CryptoService/Encrypt" },
      createKey: {
        ...definition,
        path: "/strongroom.keystore.v1.KeyService/CreateKey",
        requestDeserialize: (bytes: Buffer) => fromBinary(createKey.input, bytes),
        responseSerialize: (message: Message) => Buffer.from(toBinary(createKey.output, message as never)),
      },
      disableKey: {
        ...definition,
        path: "/strongroom.keystore.v1.KeyService/DisableKey",
        requestDeserialize: (bytes: Buffer) => fromBinary(disableKey.input, bytes),
        responseSerialize: (message: Message) => Buffer.from(toBinary(disableKey.output, message as never)),
      },
    },
    {
      encrypt: ((call, done) => {
        const answer = encrypt(call.request, call.metadata);
        if ("refusal" in answer) done(answer.refusal);
        else done(null, create(method.output, answer as MessageInitShape<typeof EncryptResponseSchema>));
      }) satisfies handleUnaryCall<EncryptRequest, EncryptResponse>,
      createKey: ((call, done) => {
        creates.ids.push(call.request.requestId);
        const refused = creates.refusal(creates.ids.length);
        if (refused === undefined) done(null, create(createKey.output));
        else done(refused.refusal);
      }) satisfies handleUnaryCall<CreateKeyRequest, Message>,
      disableKey: ((_, done) => {
        const refused = creates.refusalToDisable(++creates.disables);
        if (refused === undefined) done(null, create(disableKey.output));
        else done(refused.refusal);
      }) satisfies handleUnaryCall<Message, Message>,
    },
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  after(() => server.forceShutdown());
  return `127.0.0.1:${port}`;
}

function refusing(code: status, reason: string, field = ""): { refusal: { code: status; details: string; metadata: Metadata } } {
  const info = create(ErrorInfoSchema, { reason, domain: "strongroom", metadata: { field } });
  const details = create(StatusSchema, { code, message: "refused", details: [anyPack(ErrorInfoSchema, info)] });
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from(toBinary(StatusSchema, details)));
  metadata.set("strongroom-event-id", "event-1");
  return { refusal: Object.assign({ code, details: "refused" }, { metadata }) };
}

function endpoint(addresses: string[], tokens?: { current(): Promise<string>; renew(token: string): boolean }) {
  return new Endpoint("crypto", addresses.map((address) => new Plain(address)), 5000, tokens);
}

const SEALED = { ciphertext: Buffer.from("sealed"), key: "accounts/main/keys/a" };
const NOBODY = "127.0.0.1:1";

test("a call carries trace and checksum, and goes to the next address", async () => {
  const address = await serve((request, metadata) => {
    assert.match(String(metadata.get("traceparent")[0]), /^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$/);
    assert.equal(request.plaintextCrc32c, crc32c(Buffer.from("content")));
    return SEALED;
  });
  const answer = await endpoint([NOBODY, address]).stub(CryptoService).encrypt({ key: "a", plaintext: Buffer.from("content") });
  assert.equal(answer.key, SEALED.key);
});

test("the checksum is Castagnoli's", () => {
  assert.equal(crc32c(Buffer.from("123456789")), 0xe3069283);
});

test("a refused token is replaced once", async () => {
  let token = 1;
  const address = await serve((_, metadata) =>
    metadata.get("authorization")[0] === "Bearer 2" ? SEALED : refusing(status.UNAUTHENTICATED, "TOKEN_EXPIRED"),
  );
  const tokens = { current: () => Promise.resolve(String(token)), renew: () => ++token === 2 };
  await endpoint([address], tokens).stub(CryptoService).encrypt({ key: "a" });
  token = 5;
  await assert.rejects(endpoint([address], tokens).stub(CryptoService).encrypt({ key: "a" }), { reason: "TOKEN_EXPIRED" });
});

test("a call ends in time while a token is exchanged", async () => {
  const tokens = { current: () => new Promise<string>(() => {}), renew: () => true };
  const began = performance.now();
  const call = endpoint(["127.0.0.1:1"], tokens).stub(CryptoService).encrypt({ key: "a" }, { timeoutMs: 100 });
  await assert.rejects(call, { reason: "DEADLINE_EXCEEDED" });
  assert.ok(performance.now() - began < 4000);
});

test("an error has reason, field, event and trace, after retries of what had done nothing", async () => {
  let calls = 0;
  const address = await serve(() =>
    ++calls < 3 ? refusing(status.UNAVAILABLE, "KEYSTORE_STALE") : refusing(status.FAILED_PRECONDITION, "KEY_DISABLED", "key"),
  );
  await assert.rejects(endpoint([address]).stub(CryptoService).encrypt({ key: "a" }), (error: any) => {
    assert.equal(error.reason, "KEY_DISABLED");
    assert.equal(error.message, "KEY_DISABLED: refused");
    assert.deepEqual([error.details.field, error.details.eventId, error.details.traceId.length], ["key", "event-1", 32]);
    return true;
  });
});

test("an answer that was altered is no answer", async () => {
  const address = await serve(() => ({ ...SEALED, ciphertextCrc32c: 1 }));
  const encrypt = endpoint([address]).stub(CryptoService).encrypt({ key: "a" });
  await assert.rejects(encrypt, { reason: "ANSWER_CORRUPTED" });
});

test("a change that may have been made is repeated by its request id alone", async () => {
  const creates = new Creates();
  const keys = endpoint([await serve(() => SEALED, creates)]).stub(KeyService);
  await assert.rejects(keys.disableKey({}), { reason: "UNREACHABLE" });
  assert.equal(creates.disables, 1);
  await assert.rejects(keys.createKey({}), { reason: "UNREACHABLE" });
  assert.equal(creates.ids.length, 4);
  assert.equal(new Set(creates.ids).size, 1);
  assert.match(creates.ids[0]!, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  await assert.rejects(keys.createKey({ requestId: "one" }), { reason: "UNREACHABLE" });
  assert.equal(creates.ids.at(-1), "one");
});

for (const [pushback, calls] of [[undefined, 2], ["0", 2], ["250", 2], ["-1", 1], ["never", 1]] as const) {
  test(`a change without a request id that is refused with pushback ${pushback} is made ${calls} times`, async () => {
    const ending = refusing(status.UNAVAILABLE, "SHUTTING_DOWN");
    if (pushback !== undefined) ending.refusal.metadata.set("grpc-retry-pushback-ms", pushback);
    const creates = new Creates(undefined, (count) => (count === 1 ? ending : undefined));
    const disabled = endpoint([await serve(() => SEALED, creates)]).stub(KeyService).disableKey({});
    if (calls > 1) await disabled;
    else await assert.rejects(disabled, { reason: "SHUTTING_DOWN" });
    assert.equal(creates.disables, calls);
  });
}

for (const reason of ["AUDIT_PENDING", "CHANGE_UNDECIDED"]) {
  test(`after ${reason} a change is asked for by its request id until it is known`, async () => {
    const pending = refusing(status.UNAVAILABLE, reason);
    const away = refusing(status.UNAVAILABLE, "AUDIT_UNREACHABLE");
    const creates = new Creates((count) => (count === 1 ? pending : count < 6 ? away : undefined));
    await endpoint([await serve(() => SEALED, creates)]).stub(KeyService).createKey({});
    assert.equal(creates.ids.length, 6);
    assert.equal(new Set(creates.ids).size, 1);
    const never = new Creates(() => pending);
    const keys = endpoint([await serve(() => SEALED, never)]).stub(KeyService);
    await assert.rejects(keys.createKey({}, { timeoutMs: 600 }), { reason });
    assert.ok(never.ids.length > 1);
  });
}

test("a wall clock that is set changes no deadline", async () => {
  const { now } = Date;
  const creates = new Creates(() => refusing(status.UNAVAILABLE, "AUDIT_PENDING"));
  const keys = endpoint([await serve(() => SEALED, creates)]).stub(KeyService);
  try {
    const begun = performance.now();
    const asked = keys.createKey({}, { timeoutMs: 700 });
    Date.now = () => now() - 3_600_000;
    await assert.rejects(asked, { reason: "AUDIT_PENDING" });
    assert.ok(performance.now() - begun < 5000);
  } finally {
    Date.now = now;
  }
});

test("a service without an address is named", async () => {
  await assert.rejects(endpoint([]).stub(CryptoService).encrypt({ key: "a" }), { reason: "ENDPOINT_UNKNOWN" });
});
