/** The part of backblaze-b2 that jbackup uses; the package brings no types. */
declare module "backblaze-b2" {
  interface Overrides {
    /** Merged over the request that the package builds (an axios configuration). */
    axiosOverride?: { url?: string; signal?: AbortSignal | undefined; data?: Record<string, unknown> };
  }

  interface Answer<T> {
    status: number;
    data: T;
  }

  export interface FileVersion {
    fileId: string;
    fileName: string;
    action: "upload" | "hide" | "start" | "folder";
    contentLength: number;
    contentSha1: string | null;
    uploadTimestamp: number;
    fileInfo?: Record<string, string>;
  }

  export interface UploadUrl {
    uploadUrl: string;
    authorizationToken: string;
  }

  export default class B2 {
    authorizationToken: string | null;
    apiUrl: string | null;
    downloadUrl: string | null;

    constructor(options: {
      applicationKeyId: string;
      applicationKey: string;
      axios?: Record<string, unknown>;
      retry?: { retries: number };
    });

    authorize(args: Overrides): Promise<
      Answer<{
        accountId: string;
        apiUrl: string;
        downloadUrl: string;
        recommendedPartSize: number;
        absoluteMinimumPartSize: number;
        allowed?: { bucketId?: string | null; bucketName?: string | null; namePrefix?: string | null };
      }>
    >;
    getBucket(
      args: { bucketName: string } & Overrides,
    ): Promise<Answer<{ buckets: { bucketId: string; bucketName: string }[] }>>;
    getUploadUrl(args: { bucketId: string } & Overrides): Promise<Answer<UploadUrl>>;
    getUploadPartUrl(args: { fileId: string } & Overrides): Promise<Answer<UploadUrl>>;
    startLargeFile(
      args: { bucketId: string; fileName: string; contentType: string } & Overrides,
    ): Promise<Answer<{ fileId: string }>>;
    finishLargeFile(
      args: { fileId: string; partSha1Array: string[] } & Overrides,
    ): Promise<Answer<FileVersion>>;
    cancelLargeFile(args: { fileId: string } & Overrides): Promise<Answer<unknown>>;
    listFileNames(
      args: { bucketId: string; prefix: string; startFileName: string; maxFileCount: number } & Overrides,
    ): Promise<Answer<{ files: FileVersion[]; nextFileName: string | null }>>;
    listFileVersions(
      args: {
        bucketId: string;
        startFileName: string;
        startFileId?: string;
        maxFileCount: number;
      } & Overrides,
    ): Promise<Answer<{ files: FileVersion[]; nextFileName: string | null; nextFileId: string | null }>>;
    deleteFileVersion(args: { fileId: string; fileName: string } & Overrides): Promise<Answer<unknown>>;
  }
}
