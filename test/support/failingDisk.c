/*
 * Preloaded into a program, it makes calls on files below a folder fail as a broken disk, a read-only mount or a quota would.
 *   FAILING_DISK_CALL    fsync (also fdatasync) | write
 *   FAILING_DISK_ERROR   the number of the error
 *   FAILING_DISK_BELOW   what the paths of the files begin with
 *   FAILING_DISK_ENDING  what they end in; empty: anything
 *   FAILING_DISK_TIMES   how many calls fail; 0: all of them
 * It needs no header, so that any small compiler will do.
 */
typedef unsigned long Bytes;
typedef long Done;

extern void *dlsym(void *handle, const char *name);
extern char *getenv(const char *name);
extern int *__errno_location(void);
extern int atoi(const char *text);
extern int snprintf(char *text, Bytes size, const char *format, ...);
extern Done readlink(const char *path, char *text, Bytes size);
extern Bytes strlen(const char *text);
extern int strcmp(const char *one, const char *other);
extern int strncmp(const char *one, const char *other, Bytes size);

#define NEXT ((void *)-1l)

static int failed = 0;

static int fails(int file, const char *call) {
  const char *wanted = getenv("FAILING_DISK_CALL");
  if (wanted == 0 || strcmp(wanted, call) != 0) return 0;
  const char *below = getenv("FAILING_DISK_BELOW");
  const char *ending = getenv("FAILING_DISK_ENDING");
  char link[64];
  char path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  Done length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  if (strncmp(path, below, strlen(below)) != 0) return 0;
  if (strlen(ending) > (Bytes)length || strcmp(path + length - strlen(ending), ending) != 0) return 0;
  int times = atoi(getenv("FAILING_DISK_TIMES"));
  if (times > 0 && failed >= times) return 0;
  failed++;
  *__errno_location() = atoi(getenv("FAILING_DISK_ERROR"));
  return 1;
}

int fsync(int file) {
  return fails(file, "fsync") ? -1 : ((int (*)(int))dlsym(NEXT, "fsync"))(file);
}

int fdatasync(int file) {
  return fails(file, "fsync") ? -1 : ((int (*)(int))dlsym(NEXT, "fdatasync"))(file);
}

Done write(int file, const void *bytes, Bytes size) {
  return fails(file, "write") ? -1 : ((Done(*)(int, const void *, Bytes))dlsym(NEXT, "write"))(file, bytes, size);
}

Done writev(int file, const void *parts, int count) {
  return fails(file, "write") ? -1 : ((Done(*)(int, const void *, int))dlsym(NEXT, "writev"))(file, parts, count);
}

Done pwrite64(int file, const void *bytes, Bytes size, long at) {
  return fails(file, "write")
             ? -1
             : ((Done(*)(int, const void *, Bytes, long))dlsym(NEXT, "pwrite64"))(file, bytes, size, at);
}
