import assert from "node:assert/strict";
import { test } from "node:test";

import { Endpoint } from "../calls.js";
import { Channel } from "../channel.js";
import { described } from "../proxies.js";
import { CryptoService } from "../stubs/strongroom/crypto/v1/crypto_pb.js";

test("the error of a call names the proxy that it went through, and not its credential", async () => {
  for (const variable of ["grpc_proxy", "https_proxy", "http_proxy"]) {
    process.env[variable] = "http://somebody:hunter2@127.0.0.1:1";
    const channel = new Channel("127.0.0.1:7101", {});
    try {
      await assert.rejects(new Endpoint("crypto", [channel], 2000, undefined).stub(CryptoService).encrypt({ key: "a" }), (error: Error) => {
        assert.ok(error.message.includes(`crypto at 127.0.0.1:7101 (through the proxy 127.0.0.1:1 of ${variable}`), error.message);
        assert.ok(!error.message.includes("hunter2"));
        return true;
      });
    } finally {
      channel.close();
      delete process.env[variable];
    }
  }
});

test("what no_proxy names is reached directly", () => {
  const cases: [string, string, boolean][] = [
    ["127.0.0.1:1", "127.0.0.1", true],
    ["127.0.0.1:1", "localhost, 127.0.0.0/8", true],
    ["keystore.mesh.example:1", ".example", true],
    ["[::1]:1", "::1", true],
    ["127.0.0.1:1", "", false],
    ["127.0.0.1:1", "10.0.0.0/8", false],
  ];
  for (const [address, exceptions, isDirect] of cases) {
    const told = described(address, { https_proxy: "http://proxy.example:3128", no_proxy: exceptions });
    assert.equal(told === address, isDirect, `${address} ${exceptions}`);
  }
  assert.equal(described("a:1", {}), "a:1");
  assert.equal(described("a:1", { https_proxy: "socks5://b:1" }), "a:1");
});
