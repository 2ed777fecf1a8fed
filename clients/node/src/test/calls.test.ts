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
import { KeyService } from "../stubs/strongroom/keystore/v1/key_service_pb.js";

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

type Answer = MessageInitShape<typeof EncryptResponseSchema> | { refusal: { code: status; details: string; metadata?: Metadata } };

/** A service that answers as a test says, and its address. */
async function serve(encrypt: (request: EncryptRequest, metadata: Metadata) => Answer, creates = { count: 0 }) {
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
  const createKey = KeyService.method.createKey;
  server.addService(
    {
      encrypt: { ...definition, path: "/strongroom.crypto.v1.CryptoService/Encrypt" },
      createKey: {
        ...definition,
        path: "/strongroom.keystore.v1.KeyService/CreateKey",
        requestDeserialize: (bytes: Buffer) => fromBinary(createKey.input, bytes),
      },
    },
    {
      encrypt: ((call, done) => {
        const answer = encrypt(call.request, call.metadata);
        if ("refusal" in answer) done(answer.refusal);
        else done(null, create(method.output, answer as MessageInitShape<typeof EncryptResponseSchema>));
      }) satisfies handleUnaryCall<EncryptRequest, EncryptResponse>,
      createKey: ((_, done) => {
        creates.count++;
        done({ code: status.UNAVAILABLE, details: "the connection broke" });
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

test("a change that may have been made is not repeated without a request id", async () => {
  const creates = { count: 0 };
  const keys = endpoint([await serve(() => SEALED, creates)]).stub(KeyService);
  await assert.rejects(keys.createKey({}), { reason: "UNREACHABLE" });
  assert.equal(creates.count, 1);
  await assert.rejects(keys.createKey({ requestId: "one" }), { reason: "UNREACHABLE" });
  assert.equal(creates.count, 5);
});

test("a service without an address is named", async () => {
  await assert.rejects(endpoint([]).stub(CryptoService).encrypt({ key: "a" }), { reason: "ENDPOINT_UNKNOWN" });
});
