//! File systems that live in memory.

use std::path::Path;

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` (linux/magic.h).
const IN_MEMORY: [rustix::fs::FsWord; 2] = [0x0102_1994, 0x8584_58f6];

/// Is the directory on a file system in memory, so that what is in it is gone after a reboot?
pub fn is_in_memory(dir: &Path) -> bool {
    rustix::fs::statfs(dir).is_ok_and(|fs| IN_MEMORY.contains(&fs.f_type))
}
