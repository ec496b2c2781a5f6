/*
 * What runs inside the virtual machine of the tests: takes jobs from a directory, and starts programs under a profile.
 *
 *   agent serve DIRECTORY           run DIRECTORY/NAME.job with sh, one at a time, until DIRECTORY/stop appears
 *   agent confine [OPTIONS] -- COMMAND...   start a command confined, its standard descriptors as they are
 *       -p PROFILE   the AppArmor profile it gets with its exec (like aa-exec(1))
 *       -b MASK      the capability bounding set, hexadecimal; also what is left of the other sets
 *       -u UID -g GID -G GID,GID...   who runs it
 *       -n           no_new_privs
 *       -o BASE      its output goes through pipes to BASE.out and BASE.err, its status (-1: it took too long) to
 *                    BASE.status, and nothing of it is left at the end
 *       -t SECONDS   how long it may take, with -o; else it is executed in this process
 *   agent log                       the kernel's log so far, with all lines that were under way
 *
 * A job is NAME.SECONDS.job. Its output goes through pipes (the descriptor of a file would be checked again at an exec
 * under a profile) into NAME.out and NAME.err, the kernel's lines since its start go into NAME.kernel, and at last its
 * status into NAME.status.
 * A job that lasts longer than SECONDS is killed, with everything it started; its status is then "timeout".
 *
 * The kernel hands audit lines to its log in another thread, in their order. So after a job the agent provokes a line
 * of its own (profile MARK, loaded before, allows nothing): when it has arrived, all earlier ones have. On a kernel
 * without AppArmor the line is that of a process that seccomp kills, whose name is the mark.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
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

static int has_apparmor(void)
{
    return access("/sys/kernel/security/apparmor", F_OK) == 0;
}

/* End this process by seccomp, with a line in the log that has its name. */
static void killed_as(const char *name)
{
    struct sock_filter kill = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    struct sock_fprog program = {1, &kill};
    prctl(PR_SET_NAME, name, 0, 0, 0);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
    _exit(0);
}

/* A line that is certain to come after all that were logged before. */
static void provoke(unsigned long number)
{
    char path[64];
    snprintf(path, sizeof path, "/" MARK "-%lu", number);
    pid_t child = fork();
    if (child == 0 && !has_apparmor()) {
        snprintf(path, sizeof path, "mark-%lu", number);
        killed_as(path);
    }
    if (child == 0) {
        if (put("/proc/thread-self/attr/apparmor/current", "changeprofile " MARK) < 0 &&
            put("/proc/thread-self/attr/current", "changeprofile " MARK) < 0)
            _exit(1);
        mkdir(path, 0700);
        _exit(0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    if (has_apparmor() ? status != 0 : !WIFSIGNALED(status))
        fprintf(stderr, "agent: cannot enter profile " MARK "\n");
}

/* Copy what is new in the log to `to` (NULL: nowhere) up to the line that names this mark, which is not copied. */
static void log_until(FILE *to, unsigned long number)
{
    char record[16384], mark[64];
    snprintf(mark, sizeof mark, has_apparmor() ? "name=\"/" MARK "-%lu/\"" : "comm=\"mark-%lu\"", number);
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

/* ---- groups of processes ----
 *
 * A profile that does not allow a process to receive signals refuses even root's SIGKILL. AppArmor does not mediate
 * what the kernel sends for cgroup.kill.
 */

static void group_path(char *path, size_t size, pid_t of, const char *file)
{
    snprintf(path, size, "/sys/fs/cgroup/agent-%d%s", (int)of, file);
}

/* Called by the process itself, before its exec. */
static void group_enter(void)
{
    char path[128];
    group_path(path, sizeof path, getpid(), "");
    if (mkdir(path, 0700))
        die(path);
    group_path(path, sizeof path, getpid(), "/cgroup.procs");
    if (put(path, "0"))
        die(path);
}

static void group_end(pid_t of)
{
    char path[128];
    for (int round = 0; round < 500; round++) {
        /* those below it, made by `confine` */
        group_path(path, sizeof path, of, "/cgroup.kill");
        put(path, "1");
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        group_path(path, sizeof path, of, "");
        if (rmdir(path) == 0 || errno == ENOENT)
            return;
        nap(0.01);
    }
    fprintf(stderr, "agent: cannot end the processes of %d\n", (int)of);
}

/* Groups that `confine` made and could not remove. */
static void groups_end(void)
{
    DIR *listing = opendir("/sys/fs/cgroup");
    if (!listing)
        return;
    for (struct dirent *entry; (entry = readdir(listing)) != NULL;)
        if (!strncmp(entry->d_name, "agent-", 6))
            group_end(atoi(entry->d_name + 6));
    closedir(listing);
}

/* ---- jobs ---- */

/* Copy what comes out of two pipes to two files until the child has ended; what it left running may hold the pipes open
   a little longer. Return whether the time was up first. */
static int pump(pid_t child, const int pipes[2], FILE *const files[2], double seconds, int *status)
{
    struct pollfd ends[2] = {{pipes[0], POLLIN, 0}, {pipes[1], POLLIN, 0}};
    double end = now() + seconds, grace = 0;
    int ended = 0;
    for (;;) {
        poll(ends, 2, ended ? 5 : 10);
        for (int i = 0; i < 2; i++)
            if (ends[i].fd >= 0 && ends[i].revents) {
                char buffer[65536];
                ssize_t size = read(ends[i].fd, buffer, sizeof buffer);
                if (size > 0)
                    fwrite(buffer, 1, size, files[i]);
                else
                    ends[i].fd = -1;
            }
        if (!ended && waitpid(child, status, WNOHANG) == child) {
            ended = 1;
            grace = now() + 0.2;
        }
        if (ended && ((ends[0].fd < 0 && ends[1].fd < 0) || now() > grace))
            return 0;
        if (!ended && now() > end)
            return 1;
        if (!ended && ends[0].fd < 0 && ends[1].fd < 0)
            nap(0.005);
    }
}

static FILE *open_output(const char *base, const char *ending)
{
    char path[4096];
    snprintf(path, sizeof path, "%s%s", base, ending);
    FILE *file = fopen(path, "we");
    if (!file)
        die(path);
    return file;
}

/* Run `begin(argument)`, which does not return, in a group of its own, its output going through pipes to BASE.out and
   BASE.err. Return the exit status (128+N for a signal), or -1 when it took too long. Nothing of it is left. */
static int supervised(const char *base, double seconds, void (*begin)(void *), void *argument)
{
    int out[2], err[2], status = 0;
    if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
        die("pipe");
    FILE *files[2] = {open_output(base, ".out"), open_output(base, ".err")};
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        group_enter();
        signal(SIGPIPE, SIG_DFL);
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        dup2(null, 0), dup2(out[1], 1), dup2(err[1], 2);
        begin(argument);
        _exit(125);
    }
    close(out[1]), close(err[1]);
    int late = pump(child, (int[2]){out[0], err[0]}, files, seconds, &status);
    group_end(child);
    close(out[0]), close(err[0]);
    fclose(files[0]), fclose(files[1]);
    return late ? -1 : WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void run_script(void *path)
{
    setsid();
    if (chdir("/"))
        die("/");
    execl("/bin/sh", "sh", (char *)path, (char *)NULL);
    die("/bin/sh");
}

static void job(const char *directory, const char *name, double seconds)
{
    char base[3072], path[4096], final[4096];
    snprintf(base, sizeof base, "%s/%s", directory, name);
    snprintf(path, sizeof path, "%s.run", base);
    log_skip();
    int status = supervised(base, seconds, run_script, path);
    groups_end();
    FILE *kernel = open_output(base, ".kernel");
    log_copy(kernel);
    fclose(kernel);
    FILE *file = open_output(base, ".new");
    if (status < 0)
        fprintf(file, "timeout");
    else
        fprintf(file, "%d", status);
    fclose(file);
    snprintf(path, sizeof path, "%s.new", base);
    snprintf(final, sizeof final, "%s.status", base);
    rename(path, final);
}

static int serve(const char *directory)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    signal(SIGPIPE, SIG_IGN);
    close_range(3, ~0U, 0); /* the starter left some open */
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

struct confinement {
    const char *profile;
    uint64_t mask;
    long uid, gid;
    gid_t groups[64];
    int count, nnp;
    char **command;
};

static void start_confined(void *argument)
{
    struct confinement *with = argument;
    for (int number = 0; number < 64; number++)
        if (!(with->mask >> number & 1) && prctl(PR_CAPBSET_READ, number) == 1 && prctl(PR_CAPBSET_DROP, number))
            die("bounding set");
    if ((with->uid >= 0 || with->gid >= 0 || with->count) && setgroups(with->count, with->groups))
        die("setgroups");
    if (with->gid >= 0 && setresgid(with->gid, with->gid, with->gid))
        die("setresgid");
    if (with->uid >= 0 && setresuid(with->uid, with->uid, with->uid))
        die("setresuid");
    if (with->uid <= 0) {
        struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
        struct __user_cap_data_struct sets[2];
        if (syscall(SYS_capget, &header, sets))
            die("capget");
        for (int i = 0; i < 2; i++) {
            uint32_t kept = with->mask >> 32 * i;
            sets[i].effective &= kept, sets[i].permitted &= kept, sets[i].inheritable &= kept;
        }
        if (syscall(SYS_capset, &header, sets))
            die("capset");
    }
    if (with->nnp && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        die("no_new_privs");
    if (with->profile) {
        char text[4096];
        snprintf(text, sizeof text, "exec %s", with->profile);
        if (put("/proc/thread-self/attr/apparmor/exec", text) && put("/proc/thread-self/attr/exec", text))
            die(with->profile);
    }
    execvp(with->command[0], with->command);
    int status = errno == ENOENT ? 127 : 126;
    fprintf(stderr, "agent: %s: %s\n", with->command[0], strerror(errno));
    _exit(status);
}

static int confine(int argc, char **argv)
{
    struct confinement with = {.mask = ~0ULL, .uid = -1, .gid = -1};
    const char *base = NULL;
    double seconds = 60;
    int option;
    while ((option = getopt(argc, argv, "+p:b:u:g:G:no:t:")) != -1)
        switch (option) {
        case 'p': with.profile = optarg; break;
        case 'b': with.mask = strtoull(optarg, NULL, 16); break;
        case 'u': with.uid = atol(optarg); break;
        case 'g': with.gid = atol(optarg); break;
        case 'G':
            for (char *rest = optarg, *word; (word = strsep(&rest, ",")) != NULL;)
                if (*word && with.count < 64)
                    with.groups[with.count++] = atol(word);
            break;
        case 'n': with.nnp = 1; break;
        case 'o': base = optarg; break;
        case 't': seconds = atof(optarg); break;
        default: return 125;
        }
    with.command = argv + optind;
    if (optind >= argc) {
        fprintf(stderr, "agent: confine what?\n");
        return 125;
    }
    if (!base)
        start_confined(&with);
    int status = supervised(base, seconds, start_confined, &with);
    FILE *file = open_output(base, ".status");
    fprintf(file, "%d", status);
    fclose(file);
    return status < 0 ? 124 : status;
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
