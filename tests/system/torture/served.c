/* A file system and its server, below one program: served SOURCE POINT HOW MILLISECONDS COMMAND...
 *
 * The server answers the kernel's FUSE requests (fuse(4)) with what SOURCE holds, which must be small; nothing can be
 * written. It lets the kernel cache no name and no attribute, so each look-up asks it. HOW is "answers"; "private": it
 * answers processes of its user alone; or "stops": it stops itself (SIGSTOP) when it is asked for the name "stop".
 * Each answer comes MILLISECONDS late. COMMAND runs in a child. When that ends, the mount is taken away, and the status
 * is that of COMMAND. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BUFFER = 1 << 18, NODES = 4096, ROOT = FUSE_ROOT_ID };

static char *paths[NODES];
static int nodes = ROOT;
static int device;

static void check(int failed, const char *what)
{
    if (failed) {
        perror(what);
        _exit(99);
    }
}

static void answer(uint64_t unique, int error, const void *data, size_t size)
{
    struct fuse_out_header head = {.len = sizeof head + size, .error = -error, .unique = unique};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)data, size}};

    writev(device, parts, size ? 2 : 1);
}

static struct fuse_attr attributes(const struct stat *found)
{
    return (struct fuse_attr){.ino = found->st_ino, .size = found->st_size, .blocks = found->st_blocks,
        .mode = found->st_mode, .nlink = found->st_nlink, .uid = found->st_uid, .gid = found->st_gid,
        .blksize = 4096};
}

static uint64_t node_of(const char *path)
{
    for (int node = ROOT; node <= nodes; node++)
        if (strcmp(paths[node], path) == 0)
            return node;
    check(nodes + 1 >= NODES, "too many nodes");
    paths[++nodes] = strdup(path);
    return nodes;
}

static void look_up(struct fuse_in_header *in, const char *name, int stops)
{
    struct fuse_entry_out out = {0};
    char path[8192];
    struct stat found;

    if (stops && strcmp(name, "stop") == 0)
        raise(SIGSTOP);
    snprintf(path, sizeof path, "%s/%s", paths[in->nodeid], name);
    if (lstat(path, &found) != 0) {
        answer(in->unique, errno, NULL, 0);
        return;
    }
    out.nodeid = node_of(path);
    out.attr = attributes(&found);
    answer(in->unique, 0, &out, sizeof out);
}

static void read_directory(struct fuse_in_header *in, struct fuse_read_in *asked)
{
    static char data[BUFFER];
    size_t size = 0;
    uint64_t place = 0;
    DIR *directory = opendir(paths[in->nodeid]);
    struct dirent *each;

    while (directory && (each = readdir(directory))) {
        struct fuse_dirent *entry = (void *)(data + size);
        size_t length = strlen(each->d_name);

        if (++place <= asked->offset)
            continue;
        if (size + FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + length) > asked->size)
            break;
        memset(entry, 0, FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + length));
        *entry = (struct fuse_dirent){.ino = each->d_ino, .off = place, .namelen = length, .type = each->d_type};
        memcpy(entry->name, each->d_name, length);
        size += FUSE_DIRENT_SIZE(entry);
    }
    if (directory)
        closedir(directory);
    answer(in->unique, 0, data, size);
}

static void read_file(struct fuse_in_header *in, struct fuse_read_in *asked)
{
    static char data[BUFFER];
    int fd = open(paths[in->nodeid], O_RDONLY);
    ssize_t size = pread(fd, data, asked->size, asked->offset);

    close(fd);
    answer(in->unique, size < 0 ? errno : 0, data, size < 0 ? 0 : size);
}

static void attributes_of(struct fuse_in_header *in)
{
    struct fuse_attr_out out = {0};
    struct stat found;

    if (lstat(paths[in->nodeid], &found) != 0) {
        answer(in->unique, errno, NULL, 0);
        return;
    }
    out.attr = attributes(&found);
    answer(in->unique, 0, &out, sizeof out);
}

static void serve(int stops, int late)
{
    static char request[BUFFER];

    for (;;) {
        ssize_t size = read(device, request, sizeof request);
        struct fuse_in_header *in = (void *)request;
        void *more = in + 1;

        if (size < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN))
            continue;
        if (size < (ssize_t)sizeof *in)
            _exit(0); /* the mount is gone */
        if (late)
            usleep(1000 * late);
        if (in->opcode == FUSE_INIT) {
            struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION,
                .max_readahead = 1 << 16, .max_write = 1 << 16, .max_background = 8, .congestion_threshold = 8};
            answer(in->unique, 0, &out, sizeof out);
        } else if (in->opcode == FUSE_LOOKUP) {
            look_up(in, more, stops);
        } else if (in->opcode == FUSE_GETATTR) {
            attributes_of(in);
        } else if (in->opcode == FUSE_READLINK) {
            char text[4096];
            ssize_t length = readlink(paths[in->nodeid], text, sizeof text);
            answer(in->unique, length < 0 ? errno : 0, text, length < 0 ? 0 : length);
        } else if (in->opcode == FUSE_OPEN || in->opcode == FUSE_OPENDIR) {
            struct fuse_open_out out = {0};
            answer(in->unique, 0, &out, sizeof out);
        } else if (in->opcode == FUSE_READ) {
            read_file(in, more);
        } else if (in->opcode == FUSE_READDIR) {
            read_directory(in, more);
        } else if (in->opcode == FUSE_RELEASE || in->opcode == FUSE_RELEASEDIR || in->opcode == FUSE_FLUSH) {
            answer(in->unique, 0, NULL, 0);
        } else if (in->opcode != FUSE_FORGET && in->opcode != FUSE_BATCH_FORGET && in->opcode != FUSE_INTERRUPT) {
            answer(in->unique, ENOSYS, NULL, 0);
        }
    }
}

int main(int argc, char **argv)
{
    char options[256];
    int status;
    pid_t server, command;

    check(argc < 6, "served SOURCE POINT HOW MILLISECONDS COMMAND...");
    paths[ROOT] = argv[1];
    device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    check(device < 0, "/dev/fuse");
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=%d,group_id=%d%s", device, getuid(), getgid(),
        strcmp(argv[3], "private") ? ",allow_other" : "");
    check(mount("served", argv[2], "fuse", MS_NOSUID | MS_NODEV, options) != 0, "mount");
    server = fork();
    check(server < 0, "fork");
    if (server == 0)
        serve(strcmp(argv[3], "stops") == 0, atoi(argv[4]));
    close(device);
    command = fork();
    check(command < 0, "fork");
    if (command == 0) {
        execvp(argv[5], argv + 5);
        check(1, argv[5]);
    }
    waitpid(command, &status, 0);
    umount2(argv[2], MNT_DETACH);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 98;
}
