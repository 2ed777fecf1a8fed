/** Which HTTP proxy gRPC goes through: it obeys the environment, and its errors do not say so. */

import { BlockList, isIP } from "node:net";

type Environment = Record<string, string | undefined>;

// In gRPC's own order; the first that is set counts.
const PROXIES = ["grpc_proxy", "https_proxy", "http_proxy"];
const EXCEPTIONS = ["no_grpc_proxy", "no_proxy"];

/** An address as errors name it: with the proxy on the way, and without the proxy's own credential. */
export function described(address: string, environment: Environment = process.env): string {
  const variable = PROXIES.find((name) => environment[name]);
  if (variable === undefined || isDirect(address, environment)) return address;
  let proxy: URL;
  try {
    proxy = new URL(environment[variable]!);
  } catch {
    return address; // gRPC uses none that it cannot read
  }
  if (proxy.protocol !== "http:") return address;
  return `${address} (through the proxy ${proxy.host} of ${variable}; no_proxy names exceptions)`;
}

function isDirect(address: string, environment: Environment): boolean {
  const host = address.slice(0, address.lastIndexOf(":")).replace(/^.*\//, "").replace(/^\[|\]$/g, "");
  const variable = EXCEPTIONS.find((name) => environment[name]);
  const exceptions = variable === undefined ? [] : environment[variable]!.split(",").map((one) => one.trim());
  return exceptions.some((exception) => exception !== "" && (host.endsWith(exception) || isWithin(host, exception)));
}

function isWithin(host: string, network: string): boolean {
  const [place, length] = network.split("/");
  if (isIP(host) !== 4 || place === undefined || isIP(place) !== 4 || length === undefined || !/^\d+$/.test(length)) return false;
  if (Number(length) > 32) return false;
  const found = new BlockList();
  found.addSubnet(place, Number(length), "ipv4");
  return found.check(host, "ipv4");
}
