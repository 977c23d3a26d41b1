import type { IncomingMessage } from "node:http";
import B2 from "backblaze-b2";
import type { B2StorageConfig } from "../domain/config.js";
import { B2Refusal, withoutRequest } from "./b2Failures.js";
import { storageFailure } from "./failures.js";
import { type Exchange, HttpClient, textOf } from "./http.js";

const DEFAULT_ENDPOINT = "https://api.backblazeb2.com";

export interface Account {
  apiUrl: string;
  downloadUrl: string;
  token: string;
  recommendedPartBytes: number;
  leastPartBytes: number;
  bucketId: string;
}

/** One authorised account: knows when a token has to be renewed, and how to talk to B2 with it. */
export class B2Session {
  readonly #config: B2StorageConfig;
  readonly #idleMs: number;
  readonly #http: HttpClient;
  readonly #b2: B2;
  #authorizing: Promise<Account> | undefined;
  #latest: Account | undefined;

  private constructor(config: B2StorageConfig, b2: B2, idleMs: number) {
    this.#config = config;
    this.#b2 = b2;
    this.#idleMs = idleMs;
    this.#http = new HttpClient(idleMs);
  }

  static async open(config: B2StorageConfig, idleMs: number): Promise<B2Session> {
    const [keyId, applicationKey] = await Promise.all([config.keyId(), config.applicationKey()]);
    // The package keeps one HTTP client for all its instances: these settings must be the same for each of them.
    const axios = { timeout: idleMs, maxRedirects: 0, proxy: false };
    const b2 = new B2({
      applicationKeyId: keyId.reveal(),
      applicationKey: applicationKey.reveal(),
      axios,
      retry: { retries: 0 },
    });
    return new B2Session(config, b2, idleMs);
  }

  /** The account, authorised once for all that ask at the same time. */
  account(): Promise<Account> {
    this.#authorizing ??= this.#authorize().catch((error: unknown) => {
      this.#authorizing = undefined;
      throw error;
    });
    return this.#authorizing;
  }

  async #authorize(): Promise<Account> {
    const base = (this.#config.endpoint ?? DEFAULT_ENDPOINT).replace(/\/+$/, "");
    const { data } = await this.#plain(
      // The package knows only Backblaze's own address; its documented override leads elsewhere.
      () => this.#b2.authorize({ axiosOverride: { url: `${base}/b2api/v2/b2_authorize_account` } }),
    );
    this.#latest = {
      apiUrl: data.apiUrl,
      downloadUrl: data.downloadUrl,
      token: this.#b2.authorizationToken ?? "",
      recommendedPartBytes: data.recommendedPartSize,
      leastPartBytes: data.absoluteMinimumPartSize,
      bucketId: await this.#bucketId(data.allowed),
    };
    return this.#latest;
  }

  /** A key that is restricted to one bucket may not list them, but says which one it is. */
  async #bucketId(
    allowed: { bucketId?: string | null; bucketName?: string | null } | undefined,
  ): Promise<string> {
    const { bucket: bucketName, name: storage } = this.#config;
    const deed = { storage, verb: "reach", key: "" } as const;
    if (allowed?.bucketId && allowed.bucketName === bucketName) return allowed.bucketId;
    if (allowed?.bucketId)
      throw storageFailure(
        "storage_denied",
        deed,
        `the application key is for bucket ${allowed.bucketName}, not ${bucketName}`,
      );
    const { data } = await this.#plain(() => this.#b2.getBucket({ bucketName }));
    const found = data.buckets.find((bucket) => bucket.bucketName === bucketName);
    if (found === undefined) throw storageFailure("not_found", deed, `no such bucket: ${bucketName}`);
    return found.bucketId;
  }

  /** A control call. An expired token is renewed once; when that does not help, the key is no good any more. */
  call<T>(work: (b2: B2, account: Account) => Promise<{ data: T }>): Promise<T> {
    return this.#renewing(async (account) => (await this.#plain(() => work(this.#b2, account))).data);
  }

  /** A control call that the package does not implement. */
  post<T>(name: string, parameters: (account: Account) => Record<string, unknown>): Promise<T> {
    return this.#renewing(async (account) => {
      const answer = await this.request({
        url: `${account.apiUrl}/b2api/v2/${name}`,
        method: "POST",
        headers: { Authorization: account.token, "Content-Type": "application/json" },
        body: JSON.stringify(parameters(account)),
        signal: AbortSignal.timeout(this.#idleMs),
      });
      return JSON.parse(await textOf(answer, 16 << 20)) as T;
    });
  }

  /** The start of a file's content. */
  download(
    path: string,
    headers: Record<string, string>,
    signal: AbortSignal | undefined,
  ): Promise<IncomingMessage> {
    return this.#renewing(({ downloadUrl, token }) =>
      this.request({
        url: `${downloadUrl}/file/${this.#config.bucket}/${path}`,
        method: "GET",
        headers: { ...headers, Authorization: token },
        signal,
      }),
    );
  }

  /** One exchange with whatever credentials stand in its headers. Everything but a success is a B2Refusal. */
  async request(exchange: Exchange): Promise<IncomingMessage> {
    const answer = await this.#http.exchange(exchange);
    const status = answer.statusCode ?? 0;
    if (status === 200 || status === 206) return answer;
    const refusal = new B2Refusal(status, parsedOrUndefined(await textOf(answer)), answer.headers);
    // What was sent of a refused body may still be on its way: the connection is good for nothing else.
    answer.destroy();
    throw refusal;
  }

  async #renewing<T>(work: (account: Account) => Promise<T>): Promise<T> {
    const account = await this.account();
    try {
      return await work(account);
    } catch (error) {
      if (!(error instanceof B2Refusal && error.isExpiredToken)) throw error;
      // Whoever notices first renews; the others find a fresh token already.
      if (this.#latest === account) this.#latest = this.#authorizing = undefined;
      return await work(await this.account());
    }
  }

  async #plain<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw withoutRequest(error);
    }
  }

  close(): void {
    this.#http.close();
  }
}

const parsedOrUndefined = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};
