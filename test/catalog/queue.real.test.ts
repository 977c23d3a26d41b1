import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type JobQueue, openJobQueue } from "../../src/catalog/catalogs.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";

let server: TestPostgres;
let here: JobQueue;
let there: JobQueue;
const line = { retryPauseMs: 1_000, isSingle: false };

beforeAll(async () => {
  server = await startPostgres();
  // two hosts at once, on a database that has no queue yet
  [here, there] = (await Promise.all([
    openJobQueue(server.url(), "shop-prod"),
    openJobQueue(server.url(), "shop-prod"),
  ])) as [JobQueue, JobQueue];
  await Promise.all([here.open("work", line), there.open("work", line)]);
});
afterAll(async () => {
  await here?.close();
  await there?.close();
  await server?.stop();
});

async function taken(queue: JobQueue, name: string, ms = 10_000) {
  for (let waited = 0; waited < ms; waited += 100) {
    const work = await queue.take(name);
    if (work !== null) return work;
    await delay(100);
  }
  throw new Error(`nothing came in ${ms} ms`);
}

test("of many who ask, each piece goes to one, and an id that was there is not there twice", async () => {
  const work = Array.from({ length: 20 }, (_, nth) => ({ id: randomUUID(), data: { order: "a", nth } }));
  await Promise.all([here.offer("work", work), there.offer("work", work)]);
  const got = await Promise.all(
    Array.from({ length: 30 }, (_, nth) => (nth % 2 === 0 ? here : there).take("work")),
  );
  const ids = got.flatMap((one) => (one === null ? [] : [one.id]));
  expect(ids.toSorted()).toEqual(work.map(({ id }) => id).toSorted());
  for (const id of ids) await here.done("work", id, { backups: [id] });
  await there.offer("work", work);
  expect(await there.take("work")).toBeNull();
  const found = await there.find("work", { order: "a" });
  expect(found).toHaveLength(20);
  expect(found.map(({ id, status, output }) => ({ id, status, output }))).toEqual(
    found.map(({ id }) => ({ id, status: "done", output: { backups: [id] } })),
  );
  expect(await there.find("work", { order: "b" })).toEqual([]);
});

test("what fails is tried four times, then laid aside", async () => {
  const id = randomUUID();
  await here.offer("work", [{ id, data: { order: "c" } }]);
  for (let attempt = 1; attempt <= 4; attempt++) {
    expect(await taken(there, "work")).toMatchObject({ id, attempt });
    if (attempt === 2) expect(await here.take("work")).toBeNull();
    await there.failed("work", id, `no luck ${attempt}`);
  }
  expect(await here.find("work", { order: "c" })).toMatchObject([
    { status: "failed", output: { error: "no luck 4" } },
  ]);
  expect(await here.dead()).toBe(1);
  expect(await here.take("work")).toBeNull();
});

test("a line of single pieces takes nothing in while one waits or is being done", async () => {
  await here.open("job/full", { ...line, isSingle: true });
  const [first, second, third] = [randomUUID(), randomUUID(), randomUUID()];
  await here.offer("job/full", [{ id: first, data: {} }]);
  await there.offer("job/full", [{ id: second, data: {} }]);
  expect(await taken(there, "job/full")).toMatchObject({ id: first });
  await here.offer("job/full", [{ id: second, data: {} }]);
  expect(await here.take("job/full")).toBeNull();
  await there.done("job/full", first, {});
  await here.offer("job/full", [{ id: third, data: {} }]);
  expect(await taken(here, "job/full")).toMatchObject({ id: third, attempt: 1 });
});

test("what was taken by one who falls silent goes to another; what is withdrawn goes to nobody", async () => {
  const [lost, kept, dropped] = [randomUUID(), randomUUID(), randomUUID()];
  await here.offer(
    "work",
    [lost, kept].map((id) => ({ id, data: { order: "d" } })),
  );
  await here.take("work");
  await here.take("work");
  const beat = setInterval(() => void here.stillAtIt("work", kept), 2_000);
  try {
    expect(await taken(there, "work", 40_000)).toMatchObject({ id: lost, attempt: 2 });
    expect(await there.take("work")).toBeNull();
    await here.offer("work", [{ id: dropped, data: { order: "d" } }]);
    await there.withdraw("work", [dropped]);
    expect(await here.take("work")).toBeNull();
  } finally {
    clearInterval(beat);
  }
});

test("another site in the same database has lines of its own", async () => {
  const other = (await openJobQueue(server.url(), "other")) as JobQueue;
  await other.open("work", line);
  await other.offer("work", [{ id: randomUUID(), data: {} }]);
  expect(await here.take("work")).toBeNull();
  expect(await other.take("work")).not.toBeNull();
  await other.close();
});

test("a server that is away is said to be", async () => {
  await expect(openJobQueue("postgresql:///x?host=/nowhere", "s")).rejects.toMatchObject({
    code: "catalog_unavailable",
    message: expect.stringContaining(
      "cannot use the queue beside the catalog postgresql:///x?host=/nowhere: ",
    ),
  });
  expect(await openJobQueue("sqlite:/tmp/x.db", "s")).toBeNull();
});
