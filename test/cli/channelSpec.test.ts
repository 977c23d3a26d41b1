import { expect, test } from "vitest";
import { channelSpec, parseChannel } from "../../src/cli/wizards/initAlerts.js";

const given: Record<string, string> = {
  SMTP_URL: "smtp://u:geheim42@mail.example:587",
  HOOK_URL: "https://hooks.example/T0/geheim42",
};
const parse = (spec: string, variables = given) => parseChannel(spec, (name) => variables[name]);

test.each(["none", "email:ops@example.com", "email:a@example.com,b@example.com", "webhook", "slack"])(
  "--alerts %s is a channel that is written back in the same words",
  (spec) => {
    expect(channelSpec(parse(spec))).toBe(spec);
  },
);

test("the address comes from a variable", () => {
  expect(parse("email:a@example.com")?.url.reveal()).toBe(given.SMTP_URL);
  expect(parse("slack")?.url.reveal()).toBe(given.HOOK_URL);
});

test.each([
  ["pigeon", given, '--alerts cannot be "pigeon"'],
  ["", given, '--alerts cannot be ""'],
  ["email:ops", given, '--alerts cannot be "email:ops": that is no address of a person'],
  ["email:a@b.example,", given, '--alerts cannot be "email:a@b.example,": that is no address of a person'],
  ["email:a@b.example", {}, "the environment variable SMTP_URL is not set"],
  ["slack", { HOOK_URL: "hooks.example/geheim42" }, "the environment variable HOOK_URL is no address"],
  ["email:a@b.example", { SMTP_URL: "mail:geheim42@x" }, "the environment variable SMTP_URL is no address"],
])("--alerts %j with %j is refused without repeating the address", (spec, variables, message) => {
  const refused = (): unknown => parse(spec, variables as Record<string, string>);
  expect(refused).toThrow(message);
  expect(refused).not.toThrow("geheim42");
});
