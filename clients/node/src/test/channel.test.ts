import assert from "node:assert/strict";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { Channel } from "../channel.js";

const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBdTCCARugAwIBAgIUU7o58KNWZaYPV+Mqy2+i2R8ti74wCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjkwOTIzMDBaGA8yMTI2MTEwNTA5MjMw
MFowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABHEj
RUi8MaDwtveBqYZraSCtX0mARXRxfpbOy1X8fizfnuxlJgIvBNTEzdzr6XkLfxvd
7t7l0Uj7lqEtuWdTrdKjUzBRMB0GA1UdDgQWBBS8wc0Xgsy5vouPIQfKAodZqKq8
TzAfBgNVHSMEGDAWgBS8wc0Xgsy5vouPIQfKAodZqKq8TzAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0gAMEUCIGvp/vZW0Uyl96xA67SOHxTnTzwV93fD2o2I
831cHZXzAiEAv+OEKtaNuiAf8bBniDewMGFGZ17tzjsTr7IYAcdm6vY=
-----END CERTIFICATE-----
`;

test("a replacement that is half done stops no call, and a whole one is used", (context) => {
  const folder = mkdtempSync(join(tmpdir(), "strongroom-"));
  context.after(() => rmSync(folder, { recursive: true }));
  const trust = join(folder, "trust.pem");
  writeFileSync(trust, CERTIFICATE);
  let now = 0;
  const channel = new Channel("127.0.0.1:1", { trust }, () => now);
  context.after(() => channel.close());
  const before = channel.current();
  const replaced = (text: string) => {
    writeFileSync(`${trust}.new`, text);
    renameSync(`${trust}.new`, trust);
    now += 5000;
    return channel.current();
  };
  assert.equal(replaced(CERTIFICATE.slice(0, 200)), before);
  assert.equal(replaced("not a certificate"), before);
  rmSync(trust);
  now += 5000;
  assert.equal(channel.current(), before);
  assert.notEqual(replaced(CERTIFICATE), before);
});

test("what is no certificate is refused where there is no connection yet", (context) => {
  const folder = mkdtempSync(join(tmpdir(), "strongroom-"));
  context.after(() => rmSync(folder, { recursive: true }));
  const trust = join(folder, "trust.pem");
  writeFileSync(trust, "not a certificate");
  assert.throws(() => new Channel("127.0.0.1:1", { trust }).current(), { reason: "CREDENTIALS_UNREADABLE" });
});
