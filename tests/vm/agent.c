/*
 * What runs inside the virtual machine of the tests: takes jobs from a directory, and starts programs under a profile.
 *
 *   agent serve DIRECTORY           run DIRECTORY/NAME.job with sh, one at a time, until DIRECTORY/stop appears
 *   agent confine [OPTIONS] -- COMMAND...   start a command confined, its standard descriptors as they are
 *       -p PROFILE   the AppArmor profile it gets with its exec (like aa-exec(1))
 *       -b MASK      the capability bounding set, hexadecimal; also what is left of the other sets
 *       -u UID -g GID -G GID,GID...   who runs it
 *       -n           no_new_privs
 *       -t SECONDS   SIGKILL its process group after so long (it becomes a group leader); status 137 then
 *   agent log                       the kernel's log so far, with all lines that were under way
 *
 * A job is NAME.SECONDS.job; its output goes through pipes (a descriptor of a file would be checked again at an exec under a profile)
 * into NAME.out and NAME.err, the kernel's lines since its start into NAME.kernel, and at last its status into NAME.status.
 * A job that lasts longer than SECONDS is killed, with everything it started; its status is then "timeout".
 *
 * The kernel hands audit lines to its log in another thread, in their order. So after a job a line of our own is provoked (profile MARK,
 * loaded before, allows nothing): when it has arrived, all earlier ones have.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MARK "profgen-lab-mark"

static void die(const char *what)
{
    fprintf(stderr, "agent: %s: %s\n", what, strerror(errno));
    exit(125);
}

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static void nap(double seconds)
{
    struct timespec length = {(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9)};
    nanosleep(&length, NULL);
}

static int put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t done = fd < 0 ? -1 : write(fd, text, strlen(text));
    if (fd >= 0)
        close(fd);
    return done == (ssize_t)strlen(text) ? 0 : -1;
}

/* ---- the kernel's log ---- */

static int kmsg = -1;

static void log_open(void)
{
    kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (kmsg < 0)
        die("/dev/kmsg");
}

/* A line that is certain to come after all that were logged before. */
static void provoke(unsigned long number)
{
    char path[64];
    snprintf(path, sizeof path, "/" MARK "-%lu", number);
    pid_t child = fork();
    if (child == 0) {
        if (put("/proc/thread-self/attr/apparmor/current", "changeprofile " MARK) < 0 &&
            put("/proc/thread-self/attr/current", "changeprofile " MARK) < 0)
            _exit(1);
        mkdir(path, 0700);
        _exit(0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    if (status != 0)
        fprintf(stderr, "agent: cannot enter profile " MARK "\n");
}

/* Copy what is new in the log to `to` (NULL: nowhere) up to the line that names this mark, which is not copied. */
static void log_until(FILE *to, unsigned long number)
{
    char record[16384], mark[64];
    snprintf(mark, sizeof mark, "name=\"/" MARK "-%lu/\"", number);
    double end = now() + 20;
    for (;;) {
        ssize_t size = read(kmsg, record, sizeof record - 1);
        if (size > 0) {
            record[size] = 0;
            char *text = strchr(record, ';');
            if (text == NULL)
                continue;
            text++;
            text[strcspn(text, "\n")] = 0;
            if (strstr(text, mark))
                return;
            if (to && !strstr(text, "profile=\"" MARK "\""))
                fprintf(to, "%s\n", text);
        } else if (size < 0 && errno == EPIPE) {
            if (to)
                fprintf(to, "agent: lines of the kernel's log were overwritten\n");
        } else if (now() > end) {
            if (to)
                fprintf(to, "agent: the mark did not arrive\n");
            return;
        } else
            nap(0.005);
    }
}

static unsigned long marks;

static void log_skip(void)
{
    provoke(++marks);
    log_until(NULL, marks);
}

static void log_copy(FILE *to)
{
    provoke(++marks);
    log_until(to, marks);
}

/* ---- jobs ---- */

static void kill_children(void)
{
    /* We are the reaper of all that the job started: what is left of it is a child of ours, sooner or later. */
    for (int round = 0; round < 200; round++) {
        char path[64], text[4096];
        snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t size = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
        if (fd >= 0)
            close(fd);
        if (size <= 0)
            return;
        text[size] = 0;
        char *rest = text;
        for (char *word; (word = strsep(&rest, " ")) != NULL;)
            if (*word)
                kill(atoi(word), SIGKILL);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        nap(0.01);
    }
}

static void job(const char *directory, const char *name, double seconds)
{
    char path[4096], base[3072];
    snprintf(base, sizeof base, "%s/%s", directory, name);
    int out[2], err[2];
    if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
        die("pipe");
    log_skip();
    double end = now() + seconds;
    pid_t child = fork();
    if (child == 0) {
        setsid();
        snprintf(path, sizeof path, "%s.run", base);
        int null = open("/dev/null", O_RDONLY);
        dup2(null, 0), dup2(out[1], 1), dup2(err[1], 2);
        if (null > 2)
            close(null);
        if (chdir("/"))
            _exit(125);
        execl("/bin/sh", "sh", path, (char *)NULL);
        _exit(127);
    }
    close(out[1]), close(err[1]);
    FILE *files[2];
    snprintf(path, sizeof path, "%s.out", base);
    files[0] = fopen(path, "we");
    snprintf(path, sizeof path, "%s.err", base);
    files[1] = fopen(path, "we");
    if (!files[0] || !files[1])
        die(path);
    struct pollfd ends[2] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
    int status = 0, ended = 0, late = 0;
    double grace = 0;
    while ((ends[0].fd >= 0 || ends[1].fd >= 0)) {
        poll(ends, 2, 20);
        for (int i = 0; i < 2; i++)
            if (ends[i].fd >= 0 && ends[i].revents) {
                char buffer[65536];
                ssize_t size = read(ends[i].fd, buffer, sizeof buffer);
                if (size > 0)
                    fwrite(buffer, 1, size, files[i]);
                else
                    ends[i].fd = -1;
            }
        if (!ended && waitpid(child, &status, WNOHANG) == child) {
            ended = 1;
            grace = now() + 0.2; /* what it left running may hold the pipes */
        }
        if (ended && now() > grace)
            break;
        if (now() > end) {
            late = 1;
            break;
        }
    }
    while (!ended && !late) {
        if (waitpid(child, &status, WNOHANG) == child)
            ended = 1;
        else if (now() > end)
            late = 1;
        else
            nap(0.01);
    }
    kill_children();
    close(out[0]), close(err[0]);
    fclose(files[0]), fclose(files[1]);
    snprintf(path, sizeof path, "%s.kernel", base);
    FILE *kernel = fopen(path, "we");
    if (!kernel)
        die(path);
    log_copy(kernel);
    fclose(kernel);
    snprintf(path, sizeof path, "%s.new", base);
    FILE *file = fopen(path, "we");
    if (!file)
        die(path);
    if (late)
        fprintf(file, "timeout");
    else
        fprintf(file, "%d", WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
    fclose(file);
    char final[4096];
    snprintf(final, sizeof final, "%s.status", base);
    rename(path, final);
}

static int serve(const char *directory)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    signal(SIGPIPE, SIG_IGN);
    log_open();
    for (;;) {
        char path[4096], first[256] = "";
        snprintf(path, sizeof path, "%s/stop", directory);
        if (access(path, F_OK) == 0)
            return 0;
        DIR *listing = opendir(directory);
        if (!listing)
            die(directory);
        for (struct dirent *entry; (entry = readdir(listing)) != NULL;) {
            size_t length = strlen(entry->d_name);
            if (length > 4 && length < sizeof first && !strcmp(entry->d_name + length - 4, ".job") &&
                (!*first || strcmp(entry->d_name, first) < 0))
                strcpy(first, entry->d_name);
        }
        closedir(listing);
        if (!*first) {
            nap(0.05);
            continue;
        }
        char name[256], run[4096];
        double seconds = 60;
        strcpy(name, first);
        name[strlen(name) - 4] = 0;
        char *dot = strrchr(name, '.');
        if (dot) {
            seconds = atof(dot + 1);
            *dot = 0;
        }
        snprintf(path, sizeof path, "%s/%s", directory, first);
        snprintf(run, sizeof run, "%s/%s.run", directory, name);
        if (rename(path, run))
            die(path);
        job(directory, name, seconds);
    }
}

/* ---- one confined program ---- */

static int confine(int argc, char **argv)
{
    const char *profile = NULL;
    uint64_t mask = ~0ULL;
    long uid = -1, gid = -1;
    gid_t groups[64];
    int count = 0, nnp = 0, option;
    double seconds = 0;
    while ((option = getopt(argc, argv, "+p:b:u:g:G:t:n")) != -1)
        switch (option) {
        case 'p': profile = optarg; break;
        case 'b': mask = strtoull(optarg, NULL, 16); break;
        case 'u': uid = atol(optarg); break;
        case 'g': gid = atol(optarg); break;
        case 'G':
            for (char *rest = optarg, *word; (word = strsep(&rest, ",")) != NULL;)
                if (*word && count < 64)
                    groups[count++] = atol(word);
            break;
        case 't': seconds = atof(optarg); break;
        case 'n': nnp = 1; break;
        default: return 125;
        }
    if (optind >= argc) {
        fprintf(stderr, "agent: confine what?\n");
        return 125;
    }
    if (seconds > 0) {
        pid_t child = fork();
        if (child < 0)
            die("fork");
        if (child > 0) {
            setpgid(child, child);
            double end = now() + seconds;
            int status;
            while (waitpid(child, &status, WNOHANG) == 0) {
                if (now() > end) {
                    kill(-child, SIGKILL);
                    waitpid(child, &status, 0);
                    break;
                }
                nap(0.005);
            }
            return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        }
        setpgid(0, 0);
    }
    for (int number = 0; number < 64; number++)
        if (!(mask >> number & 1) && prctl(PR_CAPBSET_READ, number) == 1 && prctl(PR_CAPBSET_DROP, number))
            die("bounding set");
    if ((uid >= 0 || gid >= 0 || count) && setgroups(count, groups))
        die("setgroups");
    if (gid >= 0 && setresgid(gid, gid, gid))
        die("setresgid");
    if (uid >= 0 && setresuid(uid, uid, uid))
        die("setresuid");
    if (uid <= 0) {
        struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
        struct __user_cap_data_struct sets[2];
        if (syscall(SYS_capget, &header, sets))
            die("capget");
        for (int i = 0; i < 2; i++) {
            uint32_t kept = mask >> 32 * i;
            sets[i].effective &= kept, sets[i].permitted &= kept, sets[i].inheritable &= kept;
        }
        if (syscall(SYS_capset, &header, sets))
            die("capset");
    }
    if (nnp && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        die("no_new_privs");
    if (profile) {
        char text[4096];
        snprintf(text, sizeof text, "exec %s", profile);
        if (put("/proc/thread-self/attr/apparmor/exec", text) && put("/proc/thread-self/attr/exec", text))
            die(profile);
    }
    execvp(argv[optind], argv + optind);
    int status = errno == ENOENT ? 127 : 126;
    fprintf(stderr, "agent: %s: %s\n", argv[optind], strerror(errno));
    return status;
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "serve"))
        return serve(argv[2]);
    if (argc > 2 && !strcmp(argv[1], "confine"))
        return confine(argc - 1, argv + 1);
    if (argc == 2 && !strcmp(argv[1], "log")) {
        /* the whole log, and everything pending */
        log_open();
        log_copy(stdout);
        return 0;
    }
    fprintf(stderr, "usage: agent serve DIRECTORY | confine [OPTIONS] -- COMMAND... | log\n");
    return 125;
}
