/* Small operations, one a run: `ops NAME DIR` does one thing below DIR and ends with 0 only if it did what it should.
 *
 *   ops list              every NAME with what it needs: root or user, `traces` when it is itself a tracer
 *   ops prepare NAME DIR  makes DIR and what the operation finds there; to be run before, unwatched and unconfined
 *   ops NAME DIR          the operation; 1 when it was refused, 77 when this kernel does not offer it
 *
 * What each leaves as evidence is in table.py. An operation makes no call on a file that is not listed there, so keep
 * libc functions with opinions of their own (getpwnam, iconv, system) out.
 */
#include "ops.h"

const char *dir, *self;

/* --- opening ------------------------------------------------------------------------------------------------ */

static void file(void) { make("file"); }

static void nothing(void) {}

static void read_file(void)
{
	char byte;
	int fd = CHECK(open(in("file"), O_RDONLY));
	DEMAND(read(fd, &byte, 1) == 1);
}

static void write_file(void) { put(CHECK(open(in("file"), O_WRONLY))); }

static void read_write(void)
{
	char byte;
	int fd = CHECK(open(in("file"), O_RDWR));
	DEMAND(read(fd, &byte, 1) == 1);
	put(fd);
}

static void append_existing(void) { put(CHECK(open(in("file"), O_WRONLY | O_APPEND))); }
static void append_create(void) { put(CHECK(open(in("new"), O_WRONLY | O_APPEND | O_CREAT, 0644))); }
static void create_existing(void) { put(CHECK(open(in("file"), O_WRONLY | O_CREAT, 0644))); }
static void create_exclusive(void) { put(CHECK(open(in("new"), O_RDWR | O_CREAT | O_EXCL, 0600))); }
static void create_taken(void) { FAILS(open(in("file"), O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST); }

static void create(void)
{
#ifdef SYS_creat
	put(CHECK(syscall(SYS_creat, in("new"), 0644)));
#else
	put(CHECK(open(in("new"), O_WRONLY | O_CREAT | O_TRUNC, 0644)));
#endif
}

static void open_truncate(void) { put(CHECK(open(in("file"), O_WRONLY | O_TRUNC))); }
static void truncate_file(void) { CHECK(truncate(in("file"), 3)); }

static void ftruncate_file(void)
{
	int fd = CHECK(open(in("file"), O_RDWR));
	CHECK(ftruncate(fd, 3));
}

static void path_only(void)
{
	struct stat seen;
	int fd = CHECK(open(in("file"), O_PATH));
	CHECK(fstat(fd, &seen));
}

static void open_beneath(void)
{
	struct open_how how = {.flags = O_RDONLY, .resolve = RESOLVE_BENEATH};
	int at = CHECK(open(dir, O_PATH | O_DIRECTORY));
	if (syscall(SYS_openat2, at, "file", &how, sizeof how) < 0)
		errno == ENOSYS ? not_here("openat2") : die("openat2");
}

static void open_in_root(void)
{
	struct open_how how = {.flags = O_RDONLY, .resolve = RESOLVE_IN_ROOT};
	int at = CHECK(open(in("sub"), O_PATH | O_DIRECTORY));
	if (syscall(SYS_openat2, at, "/file", &how, sizeof how) < 0)
		errno == ENOSYS ? not_here("openat2") : die("openat2");
	CHECK(syscall(SYS_openat2, at, "../../file", &how, sizeof how));
	CHECK(syscall(SYS_openat2, at, "to-file", &how, sizeof how));
	FAILS(syscall(SYS_openat2, at, "/etc/passwd", &how, sizeof how), ENOENT);
	FAILS(syscall(SYS_openat2, at, "../up", &how, sizeof how), ENOENT);
	FAILS(syscall(SYS_openat2, at, "to-nowhere", &how, sizeof how), ENOENT);
	CHECK(chdir(in("sub")));
	FAILS(syscall(SYS_openat2, AT_FDCWD, "/here", &how, sizeof how), ENOENT);
}
static void links_to_root(void)
{
	make_dir("sub");
	make("sub/file");
	CHECK(symlink("/file", in("sub/to-file")));
	CHECK(symlink("/../nowhere", in("sub/to-nowhere")));
}

static void replace_file(void)
{
	int fd = CHECK(open(in("file.new"), O_WRONLY | O_CREAT | O_EXCL, 0644));
	put(fd);
	CHECK(fsync(fd));
	CHECK(rename(in("file.new"), in("file")));
}

/* As mkstemp(3) makes one, of whose names one in 400 looks like a word: that name alone would be allowed. */
static void temporary_file(void)
{
	unsigned char random[6];
	char name[] = "work-XXXXXX";
	CHECK(getrandom(random, sizeof random, 0));
	for (int at = 0; at < 6; at += 3) {
		name[5 + at] = 'a' + random[at] % 26;
		name[6 + at] = '0' + random[at + 1] % 10;
		name[7 + at] = 'A' + random[at + 2] % 26;
	}
	put(CHECK(open(in(name), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)));
	CHECK(unlink(in(name)));
}

static void unnamed_file(void)
{
	int fd = open(dir, O_TMPFILE | O_RDWR, 0600);
	if (fd < 0)
		errno == EOPNOTSUPP ? not_here("O_TMPFILE") : die("O_TMPFILE");
	put(fd);
}

static void unnamed_file_named(void)
{
	char link[64];
	int fd = open(dir, O_TMPFILE | O_WRONLY, 0600);
	if (fd < 0)
		errno == EOPNOTSUPP ? not_here("O_TMPFILE") : die("O_TMPFILE");
	put(fd);
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	CHECK(linkat(AT_FDCWD, link, AT_FDCWD, in("named"), AT_SYMLINK_FOLLOW));
}

/* --- names -------------------------------------------------------------------------------------------------- */

static void link_file(void) { CHECK(link(in("file"), in("other"))); }

static void link_descriptor(void)
{
	int fd = CHECK(open(in("file"), O_RDONLY));
	CHECK(linkat(fd, "", AT_FDCWD, in("other"), AT_EMPTY_PATH));
}

static void link_proc(void)
{
	char link[64];
	int fd = CHECK(open(in("file"), O_RDONLY));
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	CHECK(linkat(AT_FDCWD, link, AT_FDCWD, in("other"), AT_SYMLINK_FOLLOW));
}

static void symlink_file(void)
{
	CHECK(symlink("file", in("link")));
	CHECK(open(in("link"), O_RDONLY));
}

static void symlinks(void)
{
	make_dir("real");
	make_dir("real/deep");
	make("real/deep/file");
	CHECK(symlink("real", in("to-dir")));
	CHECK(symlink(in("real/deep"), in("real/to-deep")));
	CHECK(symlink("../real/deep/../deep/file", in("real/to-file")));
	CHECK(symlink("nowhere", in("dangling")));
}

static void symlink_directory(void) { CHECK(open(in("to-dir/to-deep/file"), O_RDONLY)); }
static void symlink_chain(void) { CHECK(open(in("to-dir/to-file"), O_RDONLY)); }
static void symlink_nofollow(void) { FAILS(open(in("real/to-file"), O_RDONLY | O_NOFOLLOW), ELOOP); }
static void dangling(void) { FAILS(open(in("dangling"), O_RDONLY), ENOENT); }
static void dangling_create(void) { put(CHECK(open(in("dangling"), O_WRONLY | O_CREAT, 0644))); }

static void read_link(void)
{
	char target[64];
	DEMAND(CHECK(readlink(in("dangling"), target, sizeof target)) == 7);
}

static void make_directory(void) { CHECK(mkdir(in("new"), 0755)); }

static void make_directory_at(void)
{
	int at = CHECK(open(dir, O_PATH | O_DIRECTORY));
	CHECK(mkdirat(at, "new", 0755));
}

static void directory(void) { make_dir("sub"); }
static void directory_file(void) { directory(), make("sub/file"); }
static void root_tree(void) { directory_file(), file(); }
static void directories(void) { directory(), make_dir("target"); }
static void remove_directory(void) { CHECK(rmdir(in("sub"))); }
static void remove_directory_at(void)
{
	int at = CHECK(open(dir, O_PATH | O_DIRECTORY));
	CHECK(unlinkat(at, "sub", AT_REMOVEDIR));
}
static void rename_directory(void) { CHECK(rename(in("sub"), in("moved"))); }
static void remove_file(void) { CHECK(unlink(in("file"))); }
static void remove_link(void) { CHECK(unlink(in("dangling"))); }

static void two_files(void) { make("one"), make("two"); }

static void exchange(void)
{
	if (syscall(SYS_renameat2, AT_FDCWD, in("one"), AT_FDCWD, in("two"), 2 /* RENAME_EXCHANGE */) < 0)
		errno == EINVAL || errno == ENOSYS ? not_here("renameat2") : die("renameat2");
}

static void rename_at(void)
{
	int from = CHECK(open(in("sub"), O_PATH | O_DIRECTORY)), to = CHECK(open(in("target"), O_PATH | O_DIRECTORY));
	CHECK(renameat(from, "file", to, "moved"));
}
static void directories_file(void) { directories(), make("sub/file"); }

static void list_directory(void)
{
	struct dirent *entry;
	int count = 0;
	DIR *list = opendir(in("sub"));
	if (!list)
		die("opendir");
	while ((entry = readdir(list)))
		count++;
	DEMAND(count == 3);
	closedir(list);
}

static void make_fifo(void)
{
	char byte;
	CHECK(mkfifo(in("fifo"), 0600));
	int fd = CHECK(open(in("fifo"), O_RDWR));
	put(fd);
	DEMAND(read(fd, &byte, 1) == 1);
}

static void make_socket(void) { CHECK(mknod(in("socket"), S_IFSOCK | 0600, 0)); }
static void make_regular(void) { CHECK(mknod(in("new"), S_IFREG | 0600, 0)); }

static void make_device(void)
{
	if (mknod(in("null"), S_IFCHR | 0600, makedev(1, 3)))
		die("mknod");
	int fd = open(in("null"), O_WRONLY);
	if (fd < 0 && errno == EACCES)
		not_here("devices on this file system"); /* mounted nodev */
	put(CHECK(fd));
}

/* --- locks and attributes ----------------------------------------------------------------------------------- */

static void flock_file(void)
{
	int fd = CHECK(open(in("file"), O_RDONLY));
	CHECK(flock(fd, LOCK_EX));
	CHECK(flock(fd, LOCK_UN));
}

static void flock_held(void)
{
	int one = CHECK(open(in("file"), O_RDONLY)), two = CHECK(open(in("file"), O_RDONLY));
	CHECK(flock(one, LOCK_EX));
	FAILS(flock(two, LOCK_EX | LOCK_NB), EAGAIN);
}

static void fcntl_lock(void)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	int fd = CHECK(open(in("file"), O_RDWR));
	CHECK(fcntl(fd, F_SETLK, &lock));
}

static void fcntl_look(void)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	int fd = CHECK(open(in("file"), O_RDWR));
	CHECK(fcntl(fd, F_GETLK, &lock));
	lock.l_type = F_UNLCK;
	CHECK(fcntl(fd, F_SETLK, &lock));
}

static void change_mode(void) { CHECK(chmod(in("file"), 0600)); }

static void change_mode_fd(void)
{
	int fd = CHECK(open(in("file"), O_RDONLY));
	CHECK(fchmod(fd, 0600));
}

static void change_mode_at(void)
{
	int at = CHECK(open(dir, O_PATH | O_DIRECTORY));
	CHECK(fchmodat(at, "file", 0640, 0));
}

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
static void change_mode_at2(void)
{
	if (syscall(SYS_fchmodat2, AT_FDCWD, in("file"), 0600, AT_SYMLINK_NOFOLLOW) < 0)
		errno == ENOSYS ? not_here("fchmodat2") : die("fchmodat2");
}

static void change_owner(void) { CHECK(chown(in("file"), 1, 1)); }
static void change_owner_link(void) { CHECK(lchown(in("dangling"), 1, 1)); }

static void change_owner_fd(void)
{
	int fd = CHECK(open(in("file"), O_RDONLY));
	CHECK(fchown(fd, 1, 1));
}

static void change_times(void)
{
	struct timespec times[2] = {{1, 0}, {2, 0}};
	CHECK(utimensat(AT_FDCWD, in("file"), times, 0));
}

static void change_times_fd(void)
{
	int fd = CHECK(open(in("file"), O_RDONLY));
	CHECK(futimens(fd, NULL));
}

static void set_attribute(void)
{
	if (setxattr(in("file"), "user.colour", "blue", 4, 0))
		errno == EOPNOTSUPP ? not_here("user attributes") : die("setxattr");
}

static void remove_attribute(void)
{
	int fd = CHECK(open(in("file"), O_RDONLY));
	if (fsetxattr(fd, "user.colour", "blue", 4, 0))
		errno == EOPNOTSUPP ? not_here("user attributes") : die("fsetxattr");
	CHECK(removexattr(in("file"), "user.colour"));
}

/* --- executing ---------------------------------------------------------------------------------------------- */

static void program(void) { make_program("child"); }

static pid_t wait_for(pid_t pid)
{
	reap(CHECK(pid), 0);
	return pid;
}

static void execute(void)
{
	pid_t pid = fork();
	if (!pid) {
		execl(in("child"), "child", "nothing", dir, NULL);
		die("execve");
	}
	wait_for(pid);
}

static void execute_itself(void)
{
	execl(in("child"), "child", "nothing", dir, NULL);
	die("execve");
}

static void execute_proc_self(void)
{
	execl("/proc/self/exe", self, "nothing", dir, NULL);
	die("execve");
}

static void execute_descriptor(void)
{
	int fd = CHECK(open(in("child"), O_PATH | O_CLOEXEC));
	char *argv[] = {"child", "nothing", (char *)dir, NULL}, *env[] = {NULL};
	pid_t pid = fork();
	if (!pid) {
		syscall(SYS_execveat, fd, "", argv, env, AT_EMPTY_PATH);
		die("execveat");
	}
	wait_for(pid);
}

static void execute_at(void)
{
	int at = CHECK(open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC));
	char *argv[] = {"child", "nothing", (char *)dir, NULL}, *env[] = {NULL};
	pid_t pid = fork();
	if (!pid) {
		syscall(SYS_execveat, at, "child", argv, env, 0);
		die("execveat");
	}
	wait_for(pid);
}

static void execute_link(void)
{
	pid_t pid = fork();
	if (!pid) {
		execl(in("link"), "link", "nothing", dir, NULL);
		die("execve");
	}
	wait_for(pid);
}
static void program_link(void) { program(), CHECK(symlink("child", in("link"))); }

static void execute_thread(void *(*run)(void *))
{
	pthread_t thread;
	pid_t pid = CHECK(fork());
	if (!pid) {
		if (pthread_create(&thread, NULL, run, NULL))
			die("pthread_create");
		pthread_join(thread, NULL);
		_exit(1);
	}
	reap(pid, 0);
}
static void *executing_thread(void *unused)
{
	execl(in("child"), "child", "nothing", dir, NULL);
	die("execve");
	return unused;
}
static void execute_from_thread(void) { execute_thread(executing_thread); }

static void execute_missing(void)
{
	char *argv[] = {"nowhere", NULL};
	FAILS(execv(in("nowhere"), argv), ENOENT);
}

static void execute_forbidden(void)
{
	char *argv[] = {"file", NULL};
	FAILS(execv(in("file"), argv), EACCES);
}

static void execute_nonsense(void)
{
	char *argv[] = {"nonsense", NULL};
	FAILS(execv(in("nonsense"), argv), ENOEXEC);
}
static void nonsense(void) { make_mode("nonsense", 0755); }

static void script(void)
{
	program();
	make_script("script", "child", "interpret");
}

static void script_of_script(void)
{
	script();
	make_script("outer", "script", "word");
}

static void run_script(const char *name)
{
	pid_t pid = fork();
	if (!pid) {
		execl(in(name), name, NULL);
		die("execve");
	}
	wait_for(pid);
}
static void execute_script(void) { run_script("script"); }
static void execute_outer_script(void) { run_script("outer"); }

static void execute_script_relative(void)
{
	pid_t pid = fork();
	if (!pid) {
		CHECK(chdir(dir));
		execl("./script", "script", NULL);
		die("execve");
	}
	wait_for(pid);
}

/* A script's interpreter: reads the script. argv: child interpret SCRIPT ... */
static int interpret(const char *path)
{
	char byte;
	int fd = CHECK(open(path, O_RDONLY));
	DEMAND(read(fd, &byte, 1) == 1 && byte == '#');
	return 0;
}

static int copied_memfd(const char *name, const char *from, unsigned flags)
{
	char buffer[65536];
	ssize_t n;
	int source = CHECK(open(from, O_RDONLY | O_CLOEXEC)), fd = CHECK(memfd_create(name, flags));
	while ((n = CHECK(read(source, buffer, sizeof buffer))) > 0)
		DEMAND(write(fd, buffer, n) == n);
	close(source);
	return fd;
}

static void memfd_execute(void)
{
	int fd = copied_memfd("code", in("child"), MFD_CLOEXEC);
	char *argv[] = {"code", "nothing", (char *)dir, NULL}, *env[] = {NULL};
	pid_t pid = fork();
	if (!pid) {
		fexecve(fd, argv, env);
		die("fexecve");
	}
	wait_for(pid);
}

static void memfd_map(void)
{
	int fd = CHECK(memfd_create("some code", MFD_CLOEXEC));
	DEMAND(write(fd, "\xc3", 1) == 1);
	DEMAND(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) != MAP_FAILED);
}

static void map_library(void)
{
	int fd = CHECK(open(in("child"), O_RDONLY | O_CLOEXEC));
	DEMAND(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) != MAP_FAILED);
	DEMAND(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) != MAP_FAILED);
}

static void protect_mapping(void)
{
	int fd = CHECK(open(in("child"), O_RDONLY | O_CLOEXEC));
	void *at = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, fd, 0);
	DEMAND(at != MAP_FAILED);
	close(fd);
	CHECK(mprotect((char *)at + 4096, 4096, PROT_READ | PROT_EXEC));
}

/* --- places ------------------------------------------------------------------------------------------------- */

static void at_directory(void)
{
	int at = CHECK(open(in("sub"), O_PATH | O_DIRECTORY));
	CHECK(openat(at, "file", O_RDONLY));
}

static void after_chdir(void)
{
	CHECK(chdir(in("sub")));
	CHECK(open("file", O_RDONLY));
}

static void after_fchdir(void)
{
	int at = CHECK(open(in("sub"), O_RDONLY | O_DIRECTORY));
	CHECK(fchdir(at));
	close(at);
	CHECK(open("file", O_RDONLY));
}

static void dots(void)
{
	CHECK(chdir(in("sub")));
	CHECK(open("../sub//.././sub/file", O_RDONLY));
	CHECK(mkdir(".//made/", 0755));
	CHECK(rmdir("../sub/made//"));
}

static void renamed_directory(void)
{
	int at = CHECK(open(in("sub"), O_PATH | O_DIRECTORY));
	CHECK(rename(in("sub"), in("moved")));
	CHECK(openat(at, "file", O_RDONLY));
}

static void magic_links(void)
{
	char path[64];
	int at = CHECK(open(in("sub"), O_PATH | O_DIRECTORY));
	CHECK(chdir(dir));
	CHECK(open("/proc/self/cwd/file", O_RDONLY));
	snprintf(path, sizeof path, "/proc/thread-self/fd/%d/file", at);
	CHECK(open(path, O_RDONLY));
}

static void path_at_page_end(void)
{
	char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *name = in("file");
	DEMAND(pages != MAP_FAILED);
	CHECK(munmap(pages + 4096, 4096));
	char *at = pages + 4096 - strlen(name) - 1;
	strcpy(at, name);
	CHECK(open(at, O_RDONLY));
}

static void odd_names(void)
{
	static const char *const names[] = {
		"a b", "new\nline", "tab\tquote\"'", "[x]{y,z}*?", "@{HOME}", "#hash^", "back\\slash", "\xff\xfe bytes",
		"gone (deleted)", "caf\xc3\xa9", "-> arrow,",
	};
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		put(CHECK(open(in(names[i]), O_WRONLY | O_CREAT, 0644)));
}

/* DIR below directories of 200 bytes each until, with a last name, the path has exactly `length` bytes. */
static void long_path(int fd, size_t length, int made)
{
	char name[256];
	size_t used = strlen(dir);
	memset(name, 'd', sizeof name);
	while (length - used > 250) {
		name[200] = 0;
		if (!made)
			CHECK(mkdirat(fd, name, 0755));
		int next = CHECK(openat(fd, name, O_PATH | O_DIRECTORY));
		close(fd);
		fd = next;
		used += 201;
	}
	memset(name, 'f', sizeof name);
	name[length - used - 1] = 0;
	if (made)
		put(CHECK(openat(fd, name, O_WRONLY | O_CREAT, 0644)));
}
static void long_directories(void) { long_path(CHECK(open(dir, O_PATH | O_DIRECTORY)), 4000, 0); }
static void open_long_at(void) { long_path(CHECK(open(dir, O_PATH | O_DIRECTORY)), 4000, 1); }
static void longer_directories(void) { long_path(CHECK(open(dir, O_PATH | O_DIRECTORY)), 6000, 0); }
static void open_longer_at(void) { long_path(CHECK(open(dir, O_PATH | O_DIRECTORY)), 6000, 1); }

static void open_long(void)
{
	char path[4001];
	size_t used = strlen(dir);
	memcpy(path, dir, used);
	while (sizeof path - 1 - used > 250) {
		path[used] = '/';
		memset(path + used + 1, 'd', 200);
		used += 201;
	}
	path[used] = '/';
	memset(path + used + 1, 'f', sizeof path - used - 2);
	path[sizeof path - 1] = 0;
	put(CHECK(open(path, O_WRONLY | O_CREAT, 0644)));
}

static void deleted_directory(void)
{
	CHECK(chdir(in("sub")));
	int at = CHECK(open(in("sub"), O_PATH | O_DIRECTORY));
	CHECK(rmdir(in("sub")));
	FAILS(open("file", O_WRONLY | O_CREAT, 0644), ENOENT);
	FAILS(open("some/file", O_RDONLY), ENOENT);
	FAILS(openat(at, "other/file", O_RDONLY), ENOENT);
	FAILS(mkdir("new/below", 0755), ENOENT);
}

/* Their name ends in what the kernel appends to the paths of removed files. */
static void named_deleted(void)
{
	int at = CHECK(open(in("gone (deleted)"), O_PATH | O_DIRECTORY));
	CHECK(openat(at, "file (deleted)", O_RDONLY));
	CHECK(chdir(in("gone (deleted)")));
	FAILS(open("some/file", O_RDONLY), ENOENT);
	int fd = CHECK(open("file (deleted)", O_RDWR));
	CHECK(unlink("file (deleted)"));
	CHECK(fchmod(fd, 0600));
}
static void directory_named_deleted(void)
{
	make_dir("gone (deleted)");
	make("gone (deleted)/file (deleted)");
}

static void deleted_file(void)
{
	char link[64];
	int fd = CHECK(open(in("file"), O_RDWR));
	CHECK(unlink(in("file")));
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	put(CHECK(open(link, O_WRONLY)));
}

static void moved_file(void)
{
	int fd = CHECK(open(in("file"), O_RDWR));
	CHECK(rename(in("file"), in("moved")));
	CHECK(fchmod(fd, 0600));
}

static void made_and_gone(void)
{
	CHECK(mkdir(in("new"), 0755));
	put(CHECK(open(in("new/file"), O_WRONLY | O_CREAT, 0644)));
	CHECK(unlink(in("new/file")));
	CHECK(rmdir(in("new")));
}

/* --- refusals ----------------------------------------------------------------------------------------------- */

static void missing(void) { FAILS(open(in("nowhere"), O_RDONLY), ENOENT); }
static void missing_directory(void) { FAILS(open(in("nowhere/file"), O_WRONLY | O_CREAT, 0644), ENOENT); }
static void not_directory(void) { FAILS(open(in("file/below"), O_RDONLY), ENOTDIR); }

static void bad_pointers(void)
{
	FAILS(syscall(SYS_openat, AT_FDCWD, (char *)1, O_RDONLY), EFAULT);
	FAILS(open("", O_RDONLY), ENOENT);
	FAILS(unlink(""), ENOENT);
}

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
/* Calls that fail before they read their path: for a flag, a descriptor, a size or a limit. */
static void unread_pointers(void)
{
	char *const bad = (char *)1;
	const long all = 0x7fffffff;
	static char path[5000];
	struct stat seen;
	int tcp = CHECK(socket(AF_UNIX, SOCK_STREAM, 0));
	for (unsigned i = 0; i < sizeof path - 1; i++)
		path[i] = i % 2 ? 'a' : '/';
	FAILS(stat(path, &seen), ENAMETOOLONG);
	FAILS(open(path, O_RDONLY), ENAMETOOLONG);
	FAILS(unlink(path), ENAMETOOLONG);
	FAILS(rename(path, path), ENAMETOOLONG);
	FAILS(symlink("to", path), ENAMETOOLONG);
	FAILS(syscall(SYS_execve, path, NULL, NULL), ENAMETOOLONG);
	syscall(SYS_openat2, -1, NULL, NULL, 0);
	syscall(SYS_openat2, -1, bad, bad, all);
	syscall(SYS_unlinkat, -1, NULL, ~0);
	syscall(SYS_unlinkat, -1, bad, ~0);
	syscall(SYS_linkat, -1, bad, -1, bad, ~0);
	syscall(SYS_renameat2, -1, bad, -1, bad, ~0);
	syscall(SYS_fchownat, -1, bad, 0, 0, ~0);
	syscall(SYS_fchmodat2, -1, bad, 0, ~0);
	syscall(SYS_utimensat, -1, bad, NULL, ~0);
	syscall(SYS_utimensat, -1, bad, bad, 0);
	syscall(SYS_faccessat, -1, bad, ~0);
	fstatat(-1, bad, &seen, ~0);
	syscall(SYS_statx, -1, bad, ~0, ~0, &seen);
	syscall(SYS_execveat, -1, bad, NULL, NULL, ~0);
	syscall(SYS_readlinkat, -1, bad, &seen, 0);
	syscall(SYS_readlinkat, -1, bad, &seen, -1);
	syscall(SYS_mknodat, -1, bad, ~0, 0);
	syscall(SYS_truncate, bad, -1);
	syscall(SYS_name_to_handle_at, -1, bad, bad, bad, ~0);
	syscall(SYS_inotify_add_watch, -1, bad, 0);
	syscall(SYS_umount2, bad, ~0);
	syscall(SYS_pivot_root, bad, bad);
	syscall(SYS_setxattr, bad, bad, bad, 0, ~0);
	syscall(SYS_open_by_handle_at, -1, bad, ~0);
	syscall(SYS_getdents64, -1, bad, 0);
	syscall(SYS_connect, -1, bad, 16);
	syscall(SYS_sendto, -1, bad, 1, 0, bad, 16);
	syscall(SYS_sendmsg, tcp, bad, 0);
	syscall(SYS_sendmmsg, tcp, bad, 5, 0);
}

static void name_too_long(void)
{
	char name[301] = {0};
	memset(name, 'n', 300);
	FAILS(open(in(name), O_RDONLY), ENAMETOOLONG);
}

static void symlink_loop(void) { FAILS(open(in("loop"), O_RDONLY), ELOOP); }
static void loop(void) { CHECK(symlink("loop", in("loop"))); }

static void failed_names(void)
{
	FAILS(mkdir(in("sub"), 0755), EEXIST);
	FAILS(rmdir(in("sub")), ENOTEMPTY);
	FAILS(unlink(in("nowhere")), ENOENT);
	FAILS(rename(in("nothing"), in("other")), ENOENT);
	FAILS(truncate(in("sub"), 0), EISDIR);
}

static void look_missing(void)
{
	struct stat seen;
	FAILS(stat(in("no-stat"), &seen), ENOENT);
	FAILS(access(in("no-access"), R_OK), ENOENT);
	FAILS(chdir(in("no-chdir")), ENOENT);
	FAILS(syscall(SYS_readlinkat, AT_FDCWD, in("no-readlink"), "", 1), ENOENT);
	CHECK(stat(in("file"), &seen));
	CHECK(access(in("file"), R_OK));
	CHECK(chdir(dir));
}

static void become_nobody(void)
{
	if (geteuid() == 0) {
		CHECK(setgroups(0, NULL));
		CHECK(setresgid(NOBODY, NOBODY, NOBODY));
		CHECK(setresuid(NOBODY, NOBODY, NOBODY));
	}
}

static void closed_file(void)
{
	make_mode("closed", 0000);
	make_dir("shut");
	make("shut/file");
	CHECK(chmod(in("shut"), 0000));
}

static void denied(void)
{
	become_nobody();
	FAILS(open(in("closed"), O_RDWR), EACCES);
}

static void denied_directory(void)
{
	struct stat seen;
	become_nobody();
	FAILS(open(in("shut/file"), O_RDONLY), EACCES);
	FAILS(stat(in("shut/file"), &seen), EACCES);
}

static void others_file(void)
{
	become_nobody();
	CHECK(open(in("file"), O_RDONLY));
}

/* --- processes ---------------------------------------------------------------------------------------------- */

static void *open_one(void *unused)
{
	CHECK(open(in("one"), O_RDONLY));
	return unused;
}

static void threads(void)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, open_one, NULL))
		die("pthread_create");
	CHECK(open(in("two"), O_RDONLY));
	pthread_join(thread, NULL);
}

/* A thread with its own working directory and descriptors; those of the process's first thread must not count. */
static void *open_apart(void *unused)
{
	CHECK(unshare(CLONE_FS | CLONE_FILES));
	CHECK(chdir(in("target")));
	int at = CHECK(open(in("target"), O_PATH | O_DIRECTORY));
	CHECK(dup2(at, 100));
	CHECK(open("new", O_WRONLY | O_CREAT, 0644));
	CHECK(mkdirat(100, "made", 0755));
	return unused;
}

static void thread_apart(void)
{
	pthread_t thread;
	int at = CHECK(open(in("sub"), O_PATH | O_DIRECTORY));
	CHECK(dup2(at, 100));
	CHECK(chdir(in("sub")));
	if (pthread_create(&thread, NULL, open_apart, NULL))
		die("pthread_create");
	pthread_join(thread, NULL);
	CHECK(open("file", O_RDONLY));
}

static void handle(int number) { (void)number; }

/* A FIFO's open waits for the other end; a signal comes in between, and the call is made again (SA_RESTART) or not. */
static void wait_for_fifo(int flags, int error)
{
	struct sigaction action = {.sa_handler = handle, .sa_flags = flags};
	struct timespec pause = {0, 50000000};
	CHECK(sigaction(SIGUSR1, &action, NULL));
	pid_t pid = CHECK(fork());
	if (!pid) {
		for (int i = 0; i < (error ? 20 : 2); i++) {
			nanosleep(&pause, NULL);
			CHECK(kill(getppid(), SIGUSR1));
		}
		nanosleep(&pause, NULL);
		if (!error)
			CHECK(open(in("fifo"), O_WRONLY));
		_exit(0);
	}
	if (error)
		FAILS(open(in("fifo"), O_RDONLY), error);
	else
		CHECK(open(in("fifo"), O_RDONLY));
	reap(pid, 0);
}
static void fifo(void) { CHECK(mkfifo(in("fifo"), 0600)); }
static void open_restarted(void) { wait_for_fifo(SA_RESTART, 0); }
static void open_interrupted(void) { wait_for_fifo(0, EINTR); }

static void short_child(void)
{
	pid_t pid = CHECK(fork());
	if (!pid) {
		CHECK(open(in("file"), O_RDONLY));
		_exit(0);
	}
	reap(pid, 0);
}

static void killed_child(void)
{
	pid_t pid = CHECK(fork());
	if (!pid) {
		CHECK(open(in("file"), O_RDONLY));
		raise(SIGKILL);
	}
	reap(pid, -SIGKILL);
}

static void shared_descriptors(void)
{
	int pair[2], fd;
	char space[CMSG_SPACE(sizeof fd)], byte = 'x';
	struct iovec vec = {&byte, 1};
	struct msghdr message = {
		.msg_iov = &vec, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	pid_t pid = CHECK(fork());
	if (!pid) {
		struct cmsghdr *control = CMSG_FIRSTHDR(&message);
		fd = CHECK(open(in("file"), O_RDONLY));
		*control = (struct cmsghdr){
			.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
		memcpy(CMSG_DATA(control), &fd, sizeof fd);
		CHECK(sendmsg(pair[0], &message, 0));
		_exit(0);
	}
	CHECK(recvmsg(pair[1], &message, 0));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
	DEMAND(read(fd, &byte, 1) == 1);
	reap(pid, 0);
}

static void signal_child(void)
{
	struct sleeper child = sleeper_start();
	CHECK(kill(child.pid, SIGTERM));
	reap(child.pid, -SIGTERM);
}

static void signal_parent(void)
{
	signal(SIGUSR2, SIG_IGN);
	pid_t pid = CHECK(fork());
	if (!pid)
		_exit(kill(getppid(), SIGUSR2) ? 1 : 0);
	reap(pid, 0);
}

static void signal_self(void)
{
	signal(SIGUSR1, SIG_IGN);
	CHECK(raise(SIGUSR1));
}

static void signal_queue(void)
{
	signal(SIGRTMIN + 3, SIG_IGN);
	CHECK(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){0}));
}

static void signal_check(void)
{
	CHECK(kill(getpid(), 0));
	FAILS(kill(0x3ffffffe, 0), ESRCH);
}

static void signal_outside(void)
{
	if (kill(1, 0))
		die("kill");
}

static void signal_group(void)
{
	signal(SIGUSR1, SIG_IGN);
	CHECK(setpgid(0, 0));
	CHECK(kill(0, SIGUSR1));
}

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#define SYS_pidfd_send_signal 424
#endif
static void signal_pidfd(void)
{
	struct sleeper child = sleeper_start();
	int fd = CHECK(syscall(SYS_pidfd_open, child.pid, 0));
	CHECK(syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
	reap(child.pid, -SIGKILL);
}

/* A directory of a procfs stands for its process, like a pidfd, also in the numbers of another namespace. */
static void signal_directory(void)
{
	char path[64];
	struct sleeper child = sleeper_start();
	int own = CHECK(open("/proc/self", O_RDONLY | O_DIRECTORY));
	snprintf(path, sizeof path, "/proc/%d", child.pid);
	int fd = CHECK(open(path, O_RDONLY | O_DIRECTORY));
	CHECK(syscall(SYS_pidfd_send_signal, own, 0, NULL, 0));
	CHECK(syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
	reap(child.pid, -SIGKILL);
}

static void trace_me(void)
{
	pid_t pid = CHECK(fork());
	if (!pid) {
		CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0));
		_exit(0);
	}
	reap(pid, 0);
}

static void trace_child(void)
{
	int status;
	struct sleeper child = sleeper_start();
	CHECK(ptrace(PTRACE_SEIZE, child.pid, 0, 0));
	CHECK(ptrace(PTRACE_INTERRUPT, child.pid, 0, 0));
	DEMAND(waitpid(child.pid, &status, __WALL) == child.pid && WIFSTOPPED(status));
	CHECK(ptrace(PTRACE_DETACH, child.pid, 0, 0));
	sleeper_end(child);
}

static void read_memory(void)
{
	static char here[] = "word", there[5];
	struct iovec local = {there, 5}, remote = {here, 5};
	struct sleeper child = sleeper_start();
	DEMAND(process_vm_readv(child.pid, &local, 1, &remote, 1, 0) == 5 && !strcmp(there, "word"));
	sleeper_end(child);
}

static void proc_self(void)
{
	CHECK(open("/proc/self/maps", O_RDONLY));
	CHECK(open("/proc/thread-self/stat", O_RDONLY));
}

static void proc_child(void)
{
	char path[64];
	struct sleeper child = sleeper_start();
	snprintf(path, sizeof path, "/proc/%d/environ", child.pid);
	CHECK(open(path, O_RDONLY));
	sleeper_end(child);
}

static void namespace_files(void)
{
	char text[64];
	int at = CHECK(open("/proc/self/ns", O_PATH | O_DIRECTORY));
	CHECK(open("/proc/self/ns/uts", O_RDONLY));
	CHECK(openat(at, "mnt", O_RDONLY));
	CHECK(readlink("/proc/self/ns/net", text, sizeof text));
	FAILS(open("/proc/self/ns/none", O_RDONLY), ENOENT);
	FAILS(open("/proc/self/ns/uts", O_RDWR), EPERM);
}

static void proc_outside(void) { CHECK(open("/proc/1/status", O_RDONLY)); }

/* --- sockets ------------------------------------------------------------------------------------------------ */

static struct sockaddr_un unix_address(const char *path, socklen_t *length)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	DEMAND(strlen(path) < sizeof address.sun_path);
	strcpy(address.sun_path, path);
	*length = offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1;
	return address;
}

static void converse(int server, const struct sockaddr *address, socklen_t length)
{
	char byte;
	CHECK(listen(server, 1));
	int client = CHECK(socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
	CHECK(connect(client, address, length));
	int peer = CHECK(accept4(server, NULL, NULL, SOCK_CLOEXEC));
	DEMAND(send(client, "x", 1, 0) == 1);
	DEMAND(recv(peer, &byte, 1, 0) == 1);
}

static void unix_path(void)
{
	socklen_t length;
	CHECK(chdir(dir));
	struct sockaddr_un address = unix_address("socket", &length);
	int server = CHECK(socket(AF_UNIX, SOCK_STREAM, 0));
	CHECK(bind(server, (struct sockaddr *)&address, length));
	converse(server, (struct sockaddr *)&address, length);
}

static void unix_datagram(void)
{
	socklen_t length;
	struct sockaddr_un address = unix_address(in("socket"), &length);
	int server = CHECK(socket(AF_UNIX, SOCK_DGRAM, 0)), client = CHECK(socket(AF_UNIX, SOCK_DGRAM, 0));
	CHECK(bind(server, (struct sockaddr *)&address, length));
	CHECK(sendto(client, "x", 1, 0, (struct sockaddr *)&address, length));
}

static void unix_missing(void)
{
	socklen_t length;
	struct sockaddr_un address = unix_address(in("nowhere"), &length);
	int client = CHECK(socket(AF_UNIX, SOCK_STREAM, 0));
	FAILS(connect(client, (struct sockaddr *)&address, length), ENOENT);
}

static void unix_abstract(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "\0profgen operation"};
	socklen_t length = offsetof(struct sockaddr_un, sun_path) + 1 + strlen("profgen operation");
	int server = CHECK(socket(AF_UNIX, SOCK_STREAM, 0));
	CHECK(bind(server, (struct sockaddr *)&address, length));
	converse(server, (struct sockaddr *)&address, length);
}

/* A path that looks like an abstract name as profgen writes it. */
static void unix_at_sign(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "@socket"};
	CHECK(chdir(dir));
	int server = CHECK(socket(AF_UNIX, SOCK_STREAM, 0));
	CHECK(bind(server, (struct sockaddr *)&address, sizeof address));
	converse(server, (struct sockaddr *)&address, sizeof address);
}

static void socket_pair(void)
{
	int pair[2];
	char byte;
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	DEMAND(write(pair[0], "x", 1) == 1 && read(pair[1], &byte, 1) == 1);
}

static struct sockaddr_in at_port(int port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int loopback4(int type, int port, struct sockaddr_in *address)
{
	int one = 1, fd = CHECK(socket(AF_INET, type, 0));
	*address = at_port(port);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
	CHECK(bind(fd, (struct sockaddr *)address, sizeof *address));
	return fd;
}

static void *talk_alone(void *first)
{
	struct sockaddr_in address;
	pthread_join((pthread_t)first, NULL);
	int fd = loopback4(SOCK_DGRAM, 23457, &address);
	DEMAND(sendto(fd, "x", 1, 0, (struct sockaddr *)&address, sizeof address) == 1);
	_exit(0);
}

/* The process's first thread, and all that /proc says of it, is gone. */
static void socket_leader_gone(void)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, talk_alone, (void *)pthread_self()))
		die("pthread_create");
	syscall(SYS_exit, 0);
}

static void *talk_apart(void *taken)
{
	struct sockaddr_in address;
	CHECK(unshare(CLONE_FILES));
	CHECK(close((int)(long)taken));
	int fd = loopback4(SOCK_DGRAM, 23458, &address);
	DEMAND(fd == (int)(long)taken);
	DEMAND(sendto(fd, "x", 1, 0, (struct sockaddr *)&address, sizeof address) == 1);
	return NULL;
}

/* A thread with its own descriptors: the process's first thread has another socket under the same number. */
static void socket_apart(void)
{
	pthread_t thread;
	int fd = CHECK(socket(AF_UNIX, SOCK_DGRAM, 0));
	if (pthread_create(&thread, NULL, talk_apart, (void *)(long)fd))
		die("pthread_create");
	pthread_join(thread, NULL);
}

static void tcp(void)
{
	struct sockaddr_in address;
	int server = loopback4(SOCK_STREAM, 23451, &address);
	converse(server, (struct sockaddr *)&address, sizeof address);
}

static void tcp_refused(void)
{
	struct sockaddr_in address = at_port(23459);
	int client = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	FAILS(connect(client, (struct sockaddr *)&address, sizeof address), ECONNREFUSED);
}

static void tcp_waiting(void)
{
	int error;
	socklen_t length = sizeof error;
	struct sockaddr_in address;
	int server = loopback4(SOCK_STREAM, 23454, &address);
	CHECK(listen(server, 1));
	int client = CHECK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP));
	FAILS(connect(client, (struct sockaddr *)&address, sizeof address), EINPROGRESS);
	struct pollfd event = {client, POLLOUT, 0};
	DEMAND(poll(&event, 1, 5000) == 1);
	CHECK(getsockopt(client, SOL_SOCKET, SO_ERROR, &error, &length));
	CHECK(getsockname(client, (struct sockaddr *)&address, &(socklen_t){sizeof address}));
	CHECK(shutdown(client, SHUT_WR));
	DEMAND(!error);
}

static void udp(void)
{
	char byte;
	struct sockaddr_in address;
	int server = loopback4(SOCK_DGRAM, 23452, &address), client = CHECK(socket(AF_INET, SOCK_DGRAM, 0));
	CHECK(sendto(client, "x", 1, 0, (struct sockaddr *)&address, sizeof address));
	DEMAND(recvfrom(server, &byte, 1, 0, NULL, NULL) == 1);
}

static void udp_messages(void)
{
	char byte = 'x';
	struct iovec vec = {&byte, 1};
	struct sockaddr_in address;
	int server = loopback4(SOCK_DGRAM, 23455, &address), client = CHECK(socket(AF_INET, SOCK_DGRAM, 0));
	struct mmsghdr messages[1] = {
		{.msg_hdr = {.msg_name = &address, .msg_namelen = sizeof address, .msg_iov = &vec, .msg_iovlen = 1}}};
	CHECK(sendmsg(client, &messages[0].msg_hdr, 0));
	CHECK(sendmmsg(client, messages, 1, 0));
	struct msghdr got = {.msg_iov = &vec, .msg_iovlen = 1};
	CHECK(recvmsg(server, &got, 0));
}

static void many_messages(void)
{
	enum { PORTS = 100, NAMES = 2 };
	char byte = 'x';
	struct iovec vec = {&byte, 1};
	struct sockaddr_in ports[PORTS];
	struct sockaddr_un names[NAMES];
	struct mmsghdr messages[PORTS] = {0};
	int client = CHECK(socket(AF_INET, SOCK_DGRAM, 0));
	for (int i = 0; i < PORTS; i++) {
		ports[i] = at_port(23500 + i);
		messages[i].msg_hdr = (struct msghdr){
			.msg_name = &ports[i], .msg_namelen = sizeof ports[i], .msg_iov = &vec, .msg_iovlen = 1};
	}
	DEMAND(sendmmsg(client, messages, PORTS, 0) == PORTS);
	client = CHECK(socket(AF_UNIX, SOCK_DGRAM, 0));
	for (int i = 0; i < NAMES; i++) {
		socklen_t length;
		names[i] = unix_address(in(i ? "second" : "first"), &length);
		CHECK(bind(CHECK(socket(AF_UNIX, SOCK_DGRAM, 0)), (struct sockaddr *)&names[i], length));
		messages[i].msg_hdr.msg_name = &names[i];
		messages[i].msg_hdr.msg_namelen = length;
	}
	DEMAND(sendmmsg(client, messages, NAMES, 0) == NAMES);
}

static void tcp6(void)
{
	int one = 1, server = socket(AF_INET6, SOCK_STREAM, 0);
	struct sockaddr_in6 address = {
		.sin6_family = AF_INET6, .sin6_port = htons(23453), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	if (server < 0)
		errno == EAFNOSUPPORT ? not_here("IPv6") : die("socket");
	CHECK(setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
	if (bind(server, (struct sockaddr *)&address, sizeof address))
		errno == EADDRNOTAVAIL ? not_here("::1") : die("bind");
	converse(server, (struct sockaddr *)&address, sizeof address);
}

/* An IPv6 socket with a mapped peer becomes an IPv4 one. */
static void address_form(void)
{
	int family = AF_INET, one = 1, client = socket(AF_INET6, SOCK_DGRAM, 0);
	struct sockaddr_in6 mapped = {.sin6_family = AF_INET6, .sin6_port = htons(23460)};
	if (client < 0)
		errno == EAFNOSUPPORT ? not_here("IPv6") : die("socket");
	DEMAND(inet_pton(AF_INET6, "::ffff:127.0.0.1", &mapped.sin6_addr) == 1);
	CHECK(connect(client, (struct sockaddr *)&mapped, sizeof mapped));
	CHECK(setsockopt(client, IPPROTO_IPV6, IPV6_ADDRFORM, &family, sizeof family));
	CHECK(setsockopt(client, SOL_SOCKET, SO_BROADCAST, &one, sizeof one));
	CHECK(send(client, "x", 1, 0));
}

static void netlink(void)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK};
	int fd = CHECK(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
	CHECK(bind(fd, (struct sockaddr *)&address, sizeof address));
}

static void raw_socket(void) { CHECK(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)); }

static void packet_socket(void)
{
	if (socket(AF_PACKET, SOCK_DGRAM, 0) < 0)
		errno == EAFNOSUPPORT ? not_here("packet sockets") : die("socket");
}

/* i386 has one call for all socket operations too; elsewhere this is the ordinary one. */
static void socket_call(void)
{
#ifdef SYS_socketcall
	unsigned long create[] = {AF_INET, SOCK_DGRAM, 0};
	int fd = CHECK(syscall(SYS_socketcall, 1 /* SYS_SOCKET */, create));
	struct sockaddr_in address = at_port(23456);
	unsigned long connect[] = {fd, (unsigned long)&address, sizeof address};
	CHECK(syscall(SYS_socketcall, 3 /* SYS_CONNECT */, connect));
#else
	int fd = CHECK(socket(AF_INET, SOCK_DGRAM, 0));
	struct sockaddr_in address = at_port(23456);
	CHECK(connect(fd, (struct sockaddr *)&address, sizeof address));
#endif
}

static void unknown_family(void) { FAILS(socket(AF_APPLETALK, SOCK_DGRAM, 0), EAFNOSUPPORT); }

/* --- namespaces and mounts ---------------------------------------------------------------------------------- */

static void own_mounts(void)
{
	CHECK(unshare(CLONE_NEWNS));
	CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
}

static void namespace_bound(void)
{
	own_mounts();
	CHECK(mount("/proc/self/ns/uts", in("file"), NULL, MS_BIND, NULL));
	CHECK(setns(CHECK(open(in("file"), O_RDONLY)), CLONE_NEWUTS));
	CHECK(umount2(in("file"), MNT_DETACH));
}

static void bind_mount(void)
{
	own_mounts();
	CHECK(mount(in("sub"), in("target"), NULL, MS_BIND, NULL));
	CHECK(mount(NULL, in("target"), NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
	CHECK(open(in("target/file"), O_RDONLY));
	CHECK(umount2(in("target"), MNT_DETACH));
}

static void new_mount(void)
{
	own_mounts();
	CHECK(mount("scratch", in("target"), "tmpfs", MS_NOSUID | MS_NODEV, "mode=755"));
	int fd = CHECK(open(in("target/new"), O_WRONLY | O_CREAT, 0644));
	put(fd);
	close(fd);
	CHECK(mount(in("target"), in("sub"), NULL, MS_MOVE, NULL));
	close(CHECK(open(in("sub/new"), O_RDONLY)));
	CHECK(umount2(in("sub"), 0));
}

static void detached_mount(void)
{
	own_mounts();
	CHECK(mount("scratch", in("target"), "tmpfs", 0, NULL));
	int at = CHECK(open(in("target"), O_PATH | O_DIRECTORY));
	CHECK(umount2(in("target"), MNT_DETACH));
	put(CHECK(openat(at, "new", O_WRONLY | O_CREAT, 0644)));
}

/* Names made and removed, and not opened, on a mount that is not in the tree. */
static void detached_names(void)
{
	own_mounts();
	CHECK(mount("scratch", in("target"), "tmpfs", 0, NULL));
	int at = CHECK(open(in("target"), O_PATH | O_DIRECTORY));
	CHECK(umount2(in("target"), MNT_DETACH));
	CHECK(mkdirat(at, "new", 0755));
	CHECK(mkdirat(at, "new/below", 0755));
}

static void change_root(void)
{
	CHECK(chroot(dir));
	CHECK(chdir("/"));
	CHECK(open("/sub/file", O_RDONLY));
	CHECK(open("../../file", O_RDONLY));
}

static void change_root_links(void)
{
	CHECK(chroot(dir));
	CHECK(open("/to-file", O_RDONLY));
	CHECK(chdir("/sub"));
	CHECK(open("to-top", O_RDONLY));
}
static void root_links(void)
{
	root_tree();
	CHECK(symlink("/sub/file", in("to-file")));
	CHECK(symlink("/../../file", in("sub/to-top")));
}

static void change_root_execute(void)
{
	char *argv[] = {"child", "nothing", "/", NULL}, *env[] = {NULL};
	pid_t pid = CHECK(fork());
	if (!pid) {
		CHECK(chroot(dir));
		CHECK(chdir("/"));
		execve("/child", argv, env);
		die("execve");
	}
	reap(pid, 0);
}

/* Process numbers of another namespace: 1 is the child itself there, and 2 its own child. */
static void pid_namespace(void)
{
	CHECK(unshare(CLONE_NEWPID));
	pid_t pid = CHECK(fork());
	if (!pid) {
		DEMAND(getpid() == 1);
		CHECK(kill(1, 0));
		struct sleeper child = sleeper_start();
		DEMAND(child.pid == 2);
		CHECK(kill(2, SIGTERM));
		reap(2, -SIGTERM);
		_exit(0);
	}
	reap(pid, 0);
}

static void signal_inner_directory(void)
{
	CHECK(unshare(CLONE_NEWPID));
	pid_t pid = CHECK(fork());
	if (!pid) {
		own_mounts();
		CHECK(mount("proc", "/proc", "proc", 0, NULL));
		struct sleeper child = sleeper_start();
		int own = CHECK(open("/proc/1", O_RDONLY | O_DIRECTORY));
		int other = CHECK(open("/proc/2", O_RDONLY | O_DIRECTORY));
		CHECK(syscall(SYS_pidfd_send_signal, own, 0, NULL, 0));
		CHECK(syscall(SYS_pidfd_send_signal, other, SIGKILL, NULL, 0));
		reap(child.pid, -SIGKILL);
		_exit(0);
	}
	reap(pid, 0);
}

static void pivot(void)
{
	own_mounts();
	CHECK(mount(dir, dir, NULL, MS_BIND, NULL));
	CHECK(chdir(dir));
	CHECK(syscall(SYS_pivot_root, ".", "target"));
	CHECK(umount2("/target", MNT_DETACH));
	CHECK(chdir("/"));
	CHECK(open("/sub/file", O_RDONLY));
}
static void pivot_tree(void) { directory_file(), make_dir("target"); }

static void user_namespace(void)
{
	if (!unshare(CLONE_NEWUSER))
		return;
	if (errno == EPERM || errno == ENOSPC || errno == ENOSYS || errno == EUSERS)
		not_here("user namespaces");
	die("unshare");
}

#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#endif
static void io_uring(void)
{
	char parameters[120] = {0};
	if (syscall(SYS_io_uring_setup, 1, parameters) < 0)
		errno == ENOSYS || errno == EPERM ? not_here("io_uring") : die("io_uring_setup");
}

/* --- the table ---------------------------------------------------------------------------------------------- */

static const struct {
	const char *name, *needs;
	void (*run)(void), (*prepare)(void);
} operations[] = {
	{"nothing", "user", nothing},
	{"read", "user", read_file, file},
	{"write", "user", write_file, file},
	{"read_write", "user", read_write, file},
	{"append_existing", "user", append_existing, file},
	{"append_create", "user", append_create},
	{"create", "user", create},
	{"create_existing", "user", create_existing, file},
	{"create_exclusive", "user", create_exclusive},
	{"create_taken", "user", create_taken, file},
	{"open_truncate", "user", open_truncate, file},
	{"truncate", "user", truncate_file, file},
	{"ftruncate", "user", ftruncate_file, file},
	{"path_only", "user", path_only, file},
	{"open_beneath", "user", open_beneath, file},
	{"open_in_root", "user", open_in_root, links_to_root},
	{"replace_file", "user", replace_file, file},
	{"temporary_file", "user", temporary_file},
	{"unnamed_file", "user", unnamed_file},
	{"unnamed_file_named", "user", unnamed_file_named},
	{"link", "user", link_file, file},
	{"link_descriptor", "root", link_descriptor, file},
	{"link_proc", "user", link_proc, file},
	{"symlink", "user", symlink_file, file},
	{"symlink_directory", "user", symlink_directory, symlinks},
	{"symlink_chain", "user", symlink_chain, symlinks},
	{"symlink_nofollow", "user", symlink_nofollow, symlinks},
	{"dangling", "user", dangling, symlinks},
	{"dangling_create", "user", dangling_create, symlinks},
	{"readlink", "user", read_link, symlinks},
	{"mkdir", "user", make_directory},
	{"mkdirat", "user", make_directory_at},
	{"rmdir", "user", remove_directory, directory},
	{"unlinkat_directory", "user", remove_directory_at, directory},
	{"rename_directory", "user", rename_directory, directory},
	{"unlink", "user", remove_file, file},
	{"unlink_symlink", "user", remove_link, symlinks},
	{"exchange", "user", exchange, two_files},
	{"renameat", "user", rename_at, directories_file},
	{"list", "user", list_directory, directory_file},
	{"mkfifo", "user", make_fifo},
	{"mknod_socket", "user", make_socket},
	{"mknod_file", "user", make_regular},
	{"mknod_device", "root", make_device},
	{"flock", "user", flock_file, file},
	{"flock_held", "user", flock_held, file},
	{"fcntl_lock", "user", fcntl_lock, file},
	{"fcntl_look", "user", fcntl_look, file},
	{"chmod", "user", change_mode, file},
	{"fchmod", "user", change_mode_fd, file},
	{"fchmodat", "user", change_mode_at, file},
	{"fchmodat2", "user", change_mode_at2, file},
	{"chown", "root", change_owner, file},
	{"lchown", "root", change_owner_link, symlinks},
	{"fchown", "root", change_owner_fd, file},
	{"utimens", "user", change_times, file},
	{"futimens", "user", change_times_fd, file},
	{"setxattr", "user", set_attribute, file},
	{"removexattr", "user", remove_attribute, file},
	{"execve", "user", execute, program},
	{"execve_itself", "user", execute_itself, program},
	{"execve_proc_self", "user", execute_proc_self},
	{"execveat_descriptor", "user", execute_descriptor, program},
	{"execveat_directory", "user", execute_at, program},
	{"execve_symlink", "user", execute_link, program_link},
	{"execve_thread", "user", execute_from_thread, program},
	{"execve_missing", "user", execute_missing},
	{"execve_forbidden", "user", execute_forbidden, file},
	{"execve_nonsense", "user", execute_nonsense, nonsense},
	{"script", "user", execute_script, script},
	{"script_relative", "user", execute_script_relative, script},
	{"script_of_script", "user", execute_outer_script, script_of_script},
	{"memfd_execute", "user", memfd_execute, program},
	{"memfd_map", "user", memfd_map},
	{"map_library", "user", map_library, program},
	{"protect_mapping", "user", protect_mapping, program},
	{"at_directory", "user", at_directory, directory_file},
	{"after_chdir", "user", after_chdir, directory_file},
	{"after_fchdir", "user", after_fchdir, directory_file},
	{"dots", "user", dots, directory_file},
	{"renamed_directory", "user", renamed_directory, directory_file},
	{"magic_links", "user", magic_links, root_tree},
	{"path_at_page_end", "user", path_at_page_end, file},
	{"odd_names", "user", odd_names},
	{"long_path", "user", open_long, long_directories},
	{"long_path_at", "user", open_long_at, long_directories},
	{"too_long_path", "user", open_longer_at, longer_directories},
	{"deleted_directory", "user", deleted_directory, directory},
	{"named_deleted", "user", named_deleted, directory_named_deleted},
	{"deleted_file", "user", deleted_file, file},
	{"moved_file", "user", moved_file, file},
	{"made_and_gone", "user", made_and_gone},
	{"missing", "user", missing},
	{"missing_directory", "user", missing_directory},
	{"not_directory", "user", not_directory, file},
	{"bad_pointers", "user", bad_pointers},
	{"unread_pointers", "user", unread_pointers},
	{"name_too_long", "user", name_too_long},
	{"symlink_loop", "user", symlink_loop, loop},
	{"failed_names", "user", failed_names, directory_file},
	{"look_missing", "user", look_missing, file},
	{"denied", "user", denied, closed_file},
	{"denied_directory", "user", denied_directory, closed_file},
	{"others_file", "root", others_file, file},
	{"threads", "user", threads, two_files},
	{"thread_apart", "user", thread_apart, directories_file},
	{"open_restarted", "user", open_restarted, fifo},
	{"open_interrupted", "user", open_interrupted, fifo},
	{"short_child", "user", short_child, file},
	{"killed_child", "user", killed_child, file},
	{"shared_descriptors", "user", shared_descriptors, file},
	{"signal_child", "user", signal_child},
	{"signal_parent", "user", signal_parent},
	{"signal_self", "user", signal_self},
	{"signal_queue", "user", signal_queue},
	{"signal_check", "user", signal_check},
	{"signal_outside", "root", signal_outside},
	{"signal_group", "user", signal_group},
	{"signal_pidfd", "user", signal_pidfd},
	{"signal_directory", "user", signal_directory},
	{"trace_me", "user traces", trace_me},
	{"trace_child", "user traces", trace_child},
	{"read_memory", "user", read_memory},
	{"proc_self", "user", proc_self},
	{"proc_child", "user", proc_child},
	{"proc_outside", "user", proc_outside},
	{"namespace_files", "user", namespace_files},
	{"unix_path", "user", unix_path},
	{"unix_datagram", "user", unix_datagram},
	{"unix_missing", "user", unix_missing},
	{"unix_at_sign", "user", unix_at_sign},
	{"socket_leader_gone", "user", socket_leader_gone},
	{"socket_apart", "user", socket_apart},
	{"unix_abstract", "user", unix_abstract},
	{"socketpair", "user", socket_pair},
	{"tcp", "user", tcp},
	{"tcp_refused", "user", tcp_refused},
	{"tcp_waiting", "user", tcp_waiting},
	{"tcp6", "user", tcp6},
	{"address_form", "user", address_form},
	{"udp", "user", udp},
	{"udp_messages", "user", udp_messages},
	{"many_messages", "user", many_messages},
	{"netlink", "user", netlink},
	{"raw_socket", "root", raw_socket},
	{"packet_socket", "root", packet_socket},
	{"socketcall", "user", socket_call},
	{"unknown_family", "user", unknown_family},
	{"namespace_bound", "root", namespace_bound, file},
	{"bind_mount", "root", bind_mount, directories_file},
	{"new_mount", "root", new_mount, directories},
	{"detached_mount", "root", detached_mount, directories},
	{"detached_names", "root", detached_names, directories},
	{"chroot", "root", change_root, root_tree},
	{"chroot_symlinks", "root", change_root_links, root_links},
	{"chroot_execute", "root", change_root_execute, program},
	{"pivot_root", "root", pivot, pivot_tree},
	{"pid_namespace", "root", pid_namespace},
	{"signal_inner_directory", "root", signal_inner_directory},
	{"user_namespace", "user", user_namespace},
	{"io_uring", "user", io_uring},
};

int main(int argc, char **argv)
{
	int preparing = argc == 4 && !strcmp(argv[1], "prepare");
	self = argv[0];
	umask(022);
	if (argc == 2 && !strcmp(argv[1], "list")) {
		for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
			printf("%s %s\n", operations[i].name, operations[i].needs);
		return 0;
	}
	if (argc >= 3 && !strcmp(argv[1], "interpret"))
		return interpret(argv[2]);
	if (argc != 3 && !preparing) {
		dprintf(2, "usage: ops list | ops [prepare] NAME DIR\n");
		return 2;
	}
	dir = argv[argc - 1];
	for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
		if (!strcmp(operations[i].name, argv[argc - 2])) {
			if (!preparing)
				operations[i].run();
			else {
				if (mkdir(dir, 0755) && errno != EEXIST)
					die(dir);
				if (operations[i].prepare)
					operations[i].prepare();
			}
			return 0;
		}
	dprintf(2, "ops: no operation named %s\n", argv[argc - 2]);
	return 2;
}
