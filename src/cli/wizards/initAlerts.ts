import { isJBackupError, JBackupError } from "../../domain/errors.js";
import { Secret } from "../../domain/secret.js";
import type { ChannelDraft } from "../../domain/siteDraft.js";
import { textFlag } from "../flags.js";
import type { Ask } from "./ask.js";
import type { Scene } from "./scene.js";

const FORMS = "email:ADDRESS (several with commas), webhook, slack or none";
const EMAIL = /^[^\s@,;]+@[^\s@,;]+$/;

/** The variable that holds the address, which is a secret: of the mail server, or of the webhook. */
export const channelVariable = ({ kind }: ChannelDraft): string =>
  kind === "email" ? "SMTP_URL" : "HOOK_URL";

/** As `--alerts` takes it. */
export const channelSpec = (channel: ChannelDraft | null): string => {
  if (channel === null) return "none";
  if (channel.kind === "email") return `email:${channel.to.join(",")}`;
  return channel.format === "json" ? "webhook" : "slack";
};

/** Who is told when something goes wrong; null: nobody yet. A channel is tried with a message before it is taken. */
export async function chooseChannel(scene: Scene, site: string): Promise<ChannelDraft | null> {
  const { options, ask, context } = scene;
  const spec = textFlag(options, "alerts") ?? (ask === null ? "none" : undefined);
  if (spec !== undefined) {
    const draft = parseChannel(spec, (name) => context.environment.variable(name));
    if (draft !== null) await tryOut(scene, draft, site);
    return draft;
  }
  return askUntilTaken(scene, ask as Ask, site);
}

export function parseChannel(
  spec: string,
  variable: (name: string) => string | undefined,
): ChannelDraft | null {
  if (spec === "none") return null;
  const wrong = (what: string): JBackupError =>
    new JBackupError("usage", `--alerts cannot be "${spec}"${what}`, { hint: `write it as ${FORMS}` });
  const [, list] = /^email:(.*)$/s.exec(spec) ?? [];
  if (list === undefined && spec !== "webhook" && spec !== "slack") throw wrong("");
  const to = (list ?? "").split(",").map((one) => one.trim());
  if (list !== undefined && !to.every((one) => EMAIL.test(one)))
    throw wrong(": that is no address of a person");
  const name = list === undefined ? "HOOK_URL" : "SMTP_URL";
  const url = variable(name) ?? "";
  const problem = list === undefined ? hookProblem(url) : smtpProblem(url);
  if (problem !== null)
    throw new JBackupError(
      "usage",
      `the environment variable ${name} is ${url === "" ? "not set" : "no address"}`,
      {
        hint: `set ${name}: ${problem}; it is kept in a file that only this user may read`,
      },
    );
  return list === undefined
    ? { kind: "webhook", format: spec === "slack" ? "slack" : "json", url: new Secret(url) }
    : { kind: "email", to, url: new Secret(url) };
}

const smtpProblem = (url: string): string | null =>
  /^smtps?:\/\/[^/]+/.test(url) && URL.canParse(url)
    ? null
    : "such as smtp://USER:PASSWORD@HOST:587, or smtps://HOST:465";
const hookProblem = (url: string): string | null =>
  /^https?:\/\/[^/]+/.test(url) && URL.canParse(url) ? null : "such as https://HOST/PATH";

async function tryOut({ setUp, context }: Scene, draft: ChannelDraft, site: string): Promise<void> {
  const { output } = context;
  const url = draft.url.reveal();
  for (const part of [url, URL.parse(url)?.password ?? ""]) if (part !== "") output.secret(part);
  await setUp.tryChannel(draft, site);
  output.report.info(
    draft.kind === "email"
      ? `A test message is on its way to ${draft.to.join(", ")}`
      : "A test message has been taken by the webhook",
  );
}

type Kind = "email" | "webhook" | "slack" | "none";

const KINDS: { name: string; value: Kind }[] = [
  { name: "people, by e-mail", value: "email" },
  { name: "a webhook, as JSON", value: "webhook" },
  { name: "a Slack channel", value: "slack" },
  { name: "nobody yet: jbackup status and jbackup alerts show what is wrong", value: "none" },
];

type Remedy = "again" | "anew" | "leave" | "take";

const REMEDIES: { name: string; value: Remedy }[] = [
  { name: "try it once more", value: "again" },
  { name: "choose and type it anew", value: "anew" },
  { name: "leave it out", value: "leave" },
  { name: "take it all the same: jbackup alerts test tries it later", value: "take" },
];

async function askUntilTaken(scene: Scene, ask: Ask, site: string): Promise<ChannelDraft | null> {
  const { report } = scene.context.output;
  let draft = await askChannel(scene, ask);
  while (draft !== null) {
    try {
      report.info("Sending a test message ...");
      await tryOut(scene, draft, site);
      return draft;
    } catch (error) {
      if (!isJBackupError(error) || error.code === "interrupted" || error.code === "terminated") throw error;
      report.warn(error.message);
      if (error.hint !== undefined) report.info(`Try: ${error.hint}`);
      const remedy = await ask.select("What now?", REMEDIES);
      if (remedy === "leave") return null;
      if (remedy === "take") return draft;
      if (remedy === "anew") draft = await askChannel(scene, ask);
    }
  }
  return null;
}

async function askChannel(scene: Scene, ask: Ask): Promise<ChannelDraft | null> {
  const kind = await ask.select("Who is told when something goes wrong?", KINDS);
  if (kind === "none") return null;
  if (kind === "email") return askEmail(scene, ask);
  for (;;) {
    // whoever knows it may write there
    const url = (await ask.hidden("Address of the webhook")).trim();
    const problem = hookProblem(url);
    if (problem === null)
      return { kind: "webhook", format: kind === "slack" ? "slack" : "json", url: new Secret(url) };
    scene.context.output.report.warn(`that is no address: it is ${problem}`);
  }
}

async function askEmail(scene: Scene, ask: Ask): Promise<ChannelDraft> {
  const listed = (text: string): string[] => text.split(",").map((one) => one.trim());
  const to = await ask.text("To whom (several addresses with commas)", {
    problem: (text) => (listed(text).every((one) => EMAIL.test(one)) ? null : "such as ops@example.com"),
  });
  const server = await ask.text("Mail server", {
    initial: "smtp://HOST:587",
    problem: (text) => {
      if (/\bHOST\b/.test(text)) return "put your own host in";
      if (text.includes("@")) return "without user and password: they are asked next";
      return smtpProblem(text.trim()) === null
        ? null
        : "such as smtp://mail.example.com:587, or smtps://...:465";
    },
  });
  const url = new URL(server.trim());
  const user = (await ask.text("User there (may be empty)", { initial: "" })).trim();
  if (user !== "") {
    const password = await ask.hidden("Password");
    scene.context.output.secret(password);
    url.username = encodeURIComponent(user);
    url.password = encodeURIComponent(password);
  }
  return { kind: "email", to: listed(to), url: new Secret(url.href) };
}
