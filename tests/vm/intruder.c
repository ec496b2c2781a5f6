/*
 * Tries things that no workload of the tests does. Writes `NAME refused` or `NAME done` for each, and ends with 0 when
 * all were refused.
 *
 * It is started under a workload's profile, as root with every capability, so that only the profile can refuse.
 * /etc/intruder-prey must be there.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int done;

static void tried(const char *name, long result)
{
    /* any other failure means that it was let through, and failed for a reason of its own */
    int refused = result < 0 && (errno == EACCES || errno == EPERM);
    const char *error = result < 0 ? strerrorname_np(errno) : "";
    printf("%s %s%s%s\n", name, refused ? "refused" : "done", result < 0 ? " " : "", error);
    done += !refused;
}

static long shell(void)
{
    int status;
    pid_t child = vfork();
    if (child == 0) {
        execl("/usr/bin/bash", "bash", "-c", ":", (char *)NULL);
        _exit(errno);
    }
    waitpid(child, &status, 0);
    errno = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    return errno ? -1 : 0;
}

static long named_socket(void)
{
    struct sockaddr_un address = {AF_UNIX, "/run/intruder.sock"};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return fd < 0 ? fd : bind(fd, (struct sockaddr *)&address, sizeof address);
}

int main(void)
{
    char name[65] = "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    gethostname(name, sizeof name - 1);
    tried("read_shadow", open("/etc/shadow", O_RDONLY));
    tried("write_etc", open("/etc/intruder", O_WRONLY | O_CREAT, 0600));
    tried("execute_shell", shell());
    tried("raw_socket", socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
    tried("packet_socket", socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)));
    tried("mount", mount("tmpfs", "/mnt", "tmpfs", 0, NULL));
    tried("trace_init", ptrace(PTRACE_SEIZE, 1, 0, 0));
    tried("read_environment_of_init", open("/proc/1/environ", O_RDONLY));
    tried("signal_init", kill(1, SIGCONT));
    tried("kernel_memory", open("/proc/kcore", O_RDONLY));
    tried("kernel_setting", open("/proc/sys/kernel/core_pattern", O_WRONLY));
    tried("device", mknod("/tmp/intruder", S_IFBLK | 0600, makedev(7, 0)));
    tried("named_socket", named_socket());
    tried("list_home", open("/root", O_RDONLY | O_DIRECTORY));
    tried("change_mode", chmod("/etc/intruder-prey", 0777));
    tried("rename", rename("/etc/intruder-prey", "/etc/intruder-prey.2"));
    tried("remove", unlink("/etc/intruder-prey"));
    tried("link_binary", link("/usr/bin/passwd", "/usr/bin/intruder"));
    tried("host_name", sethostname(name, strlen(name)));
    tried("chroot", chroot("/tmp"));
    tried("load_module", syscall(SYS_init_module, "x", 1, ""));
    return done != 0;
}
