//! The spawner alone: `rouse-test-spawner SOCKET INSTANCE OWNER_UID FIRST_UID POOL MOUNT_ROOT...`, where the pool always
//! has the same size.

use rouse_sandbox::container::{
    Pool,
    spawner::{Config, run},
};

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().ok_or(std::io::ErrorKind::InvalidInput);
    let number = |text: String| text.parse::<u32>().map_err(|_| std::io::ErrorKind::InvalidInput);
    let (socket, instance) = (next()?.into(), next()?);
    let (owner, first_uid) = (number(next()?)?, number(next()?)?);
    let size = number(next()?)?;
    let pool = Pool {
        floor: size,
        most: size,
        memory_bytes: u64::MAX,
        zygotes_most: 8,
        zygotes_bytes: 200 << 20,
        forks_most: 2,
        started_most: 2,
        started_bytes: u64::MAX,
    };
    let mount_roots = args.map(Into::into).collect();
    run(Config { socket, owner: (owner, owner), instance, mount_roots, first_uid, sandboxes_max: 64, pool })
}
