/** Part of a file, read between the start and the end of a backup. */
export interface FilePart {
  offset: number;
  bytes: Buffer;
  /**
   * Checks the pages of some of the bytes: those that have a wrong checksum are read again, for they may have been in the
   * middle of being written. To be asked for what is stored only.
   */
  check(from: number, to: number): Promise<CheckedPages>;
}

export interface CheckedPages {
  /** Numbers of pages of the file whose checksum stayed wrong. */
  damaged: number[];
  /** Some of the bytes are no longer what they were before the check. */
  hasChanged: boolean;
}

export interface ByteSpan {
  start: number;
  /** Not included. */
  end: number;
}

export interface SourceFile {
  path: string;
  mode: number;
  /** As it was when it was found: it may grow or shrink meanwhile. */
  size: number;
  /**
   * The file in parts of at most `partBytes`, or only the given spans of it. The memory of a part is used again for the next.
   * Null when the file is gone. It ends early where the file has shrunk.
   */
  read(partBytes: number, spans: ByteSpan[] | null): Promise<AsyncIterable<FilePart> | null>;
}

export interface BackupFiles {
  /** Everything but pg_control and the WAL; several files may be read at one time if `isParallel`. */
  readonly isParallel: boolean;
  all(): AsyncIterable<SourceFile | { path: string; mode: number; isFolder: true }>;
  /** To be read when all others are. */
  control(): Promise<SourceFile>;
  /** The segments from one LSN to another, and the histories of timelines; to be asked for after the backup's stop. */
  wal(range: {
    timeline: number;
    startLsn: string;
    endLsn: string;
    segmentBytes: number;
  }): AsyncIterable<SourceFile>;
  warnings(): string[];
}
