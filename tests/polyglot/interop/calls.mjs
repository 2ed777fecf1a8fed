// Makes calls with grpc-js. The package says what it reads and writes.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// The client's own, from whose folder this runs.
const grpc = createRequire(`${process.cwd()}/package.json`)("@grpc/grpc-js");

const asked = JSON.parse(readFileSync(0, "utf8"));
const GZIP = 2;
const raw = (bytes) => bytes;

const options = { "grpc.max_receive_message_length": 64 << 20, "grpc.enable_http_proxy": 0 };
const credentials = grpc.credentials.createSsl(readFileSync(asked.trust));
const plain = new grpc.Client(asked.address, credentials, options);
// A channel compresses, or does not.
const compressing = new grpc.Client(asked.address, credentials, {
  ...options,
  "grpc.default_compression_algorithm": GZIP,
});

function metadataOf(pairs) {
  const metadata = new grpc.Metadata();
  for (const [name, value] of pairs) {
    metadata.add(name, name.endsWith("-bin") ? Buffer.from(value, "base64") : value);
  }
  return metadata;
}

function said(metadata) {
  return Object.keys(metadata.getMap())
    .filter((name) => name.startsWith("x-"))
    .flatMap((name) => metadata.get(name).map((value) => [name, text(value)]));
}

const text = (value) => (typeof value === "string" ? value : value.toString("base64"));

function begin(wanted) {
  return new Promise((resolve) => {
    const client = wanted.compress ? compressing : plain;
    const began = performance.now();
    const message = Buffer.from(wanted.message, "base64");
    const metadata = metadataOf(wanted.metadata);
    const how = wanted.timeout ? { deadline: Date.now() + wanted.timeout } : {};
    const answers = [];
    let call;
    if (wanted.stream) {
      call = client.makeServerStreamRequest(wanted.path, raw, raw, message, metadata, how);
      call.on("data", (answer) => {
        answers.push(answer);
        if (answers.length === wanted.take) call.cancel();
      });
      call.on("error", () => {});
    } else {
      call = client.makeUnaryRequest(wanted.path, raw, raw, message, metadata, how, (error, answer) => {
        if (!error) answers.push(answer);
      });
    }
    if (wanted.cancel) setTimeout(() => call.cancel(), wanted.cancel);
    call.on("status", (status) =>
      // What was answered may be told after the status.
      setImmediate(() =>
        resolve({
          code: status.code,
          message: status.details,
          answers: answers.map((answer) => answer.toString("base64")),
          trailing: said(status.metadata),
          details: status.metadata.get("grpc-status-details-bin").map(text)[0] ?? "",
          milliseconds: performance.now() - began,
        }),
      ),
    );
  });
}

async function make(wanted) {
  const ends = performance.now() + 1000 * wanted.seconds;
  for (;;) {
    const outcomes = await Promise.all(Array.from({ length: wanted.times }, () => begin(wanted)));
    const outcome = outcomes.find((one) => one.code) ?? outcomes[outcomes.length - 1];
    if (outcome.code || performance.now() >= ends) return outcome;
  }
}

const outcomes = [];
for (const wanted of asked.calls) outcomes.push(await make(wanted));
plain.close();
compressing.close();
process.stdout.write(JSON.stringify(outcomes));
