// matrix-js-sdk, as a Matrix client uses it, against the demonstration with `--quota caller=6/60`.
//
//   node client.mjs http://127.0.0.1:8090
import assert from "node:assert/strict";
import { createClient, MatrixError } from "matrix-js-sdk";
import { logger } from "matrix-js-sdk/lib/logger.js";

logger.disableAll?.();

const url = process.argv[2];
const client = createClient({ baseUrl: url, idBaseUrl: url });
const [ada, bob, eve] = ["ada", "bob", "eve"].map((name) => `demo-token-of-${name}`);
const choose = (token, medium, address, discoverable) =>
    fetch(`${url}/_unlisted/v1/discoverable`, {
        method: "PUT",
        headers: { Authorization: `Bearer ${token}` },
        body: JSON.stringify({ medium, address, discoverable }),
    });

// The SDK asks for the hash details, hashes, looks up, and puts addresses to what it finds.
const details = await client.getIdentityHashDetails(eve);
assert.deepEqual(details.algorithms, ["sha256"]);
const book = [["14155550100", "msisdn"], ["ada@example.org", "email"], ["14155550101", "msisdn"]];
let found = await client.identityHashedLookup(book, eve);
assert.deepEqual(found.map(({ address, mxid }) => [address, mxid]).sort(), [
    ["14155550100", "@ada:example.org"],
    ["ada@example.org", "@ada:example.org"],
]);
assert.equal((await client.lookupThreePid("email", "ada@example.org", eve)).mxid, "@ada:example.org");
console.log("found by number and by e-mail, and not who hides");

// A user's choice holds at once.
assert.equal((await choose(bob, "msisdn", "14155550101", true)).status, 200);
found = await client.identityHashedLookup(book, eve);
assert.ok(found.some(({ mxid }) => mxid === "@bob:example.org"));
assert.equal((await choose(ada, "email", "ada@example.org", false)).status, 200);
found = await client.identityHashedLookup(book, eve);
assert.ok(!found.some(({ address }) => address === "ada@example.org"));
console.log("an opt-in and an opt-out hold at once");

// The budget is the client's own standard error.
for (let i = 0; i < 3; i++) await client.identityHashedLookup([[`1415999000${i}`, "msisdn"]], eve);
const limited = await client.identityHashedLookup([["14159990009", "msisdn"]], eve).catch((error) => error);
assert.ok(limited instanceof MatrixError, String(limited));
assert.equal(limited.errcode, "M_LIMIT_EXCEEDED");
assert.ok(limited.isRateLimitError() && limited.getRetryAfterMs() > 0);
assert.ok(limited.data.retry_after_ms > 0);
assert.equal((await client.identityHashedLookup(book, eve)).length, 2);
console.log(`a spent budget is M_LIMIT_EXCEEDED, again in ${limited.data.retry_after_ms} ms; the book again is free`);

const denied = await client.identityHashedLookup(book, "wrong").catch((error) => error);
assert.equal(denied.errcode, "M_UNAUTHORIZED");
const mine = await fetch(`${url}/_unlisted/v1/found-me`, { headers: { Authorization: `Bearer ${ada}` } });
assert.equal((await mine.json()).found_me.length, 1);
console.log("a wrong token is M_UNAUTHORIZED; Ada learns that somebody found her");
