/* Says who it has become: its effective user, and its permitted capabilities. The test makes it root's with the
   set-user-id bit in one copy, and gives it file capabilities in another. */
#include <linux/capability.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0}};
    if (syscall(SYS_capget, &header, data) != 0) {
        return 1;
    }
    printf("%u %llx\n", (unsigned)geteuid(),
           (unsigned long long)data[1].permitted << 32 | data[0].permitted);
    return 0;
}
