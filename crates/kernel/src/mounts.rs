//! What is mounted where.
#![allow(unsafe_code)]

use std::ffi::{CString, OsString};
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};

/// The topmost mount points below a directory, in order. `table` is what to read where the kernel does not list them (before
/// Linux 6.8): the mountinfo of a process of the same mount namespace and root.
///
/// # Errors
/// The table cannot be read.
pub(crate) fn below(dir: &str, table: &str) -> io::Result<Vec<PathBuf>> {
    let mut points = match listed(dir) {
        Some(points) => points,
        None => in_table(dir, table)?,
    };
    points.sort();
    let mut top: Vec<PathBuf> = Vec::new();
    for point in points {
        if !top.last().is_some_and(|parent| point.starts_with(parent)) {
            top.push(point);
        }
    }
    Ok(top)
}

/// More than most tables of mounts are long.
const TABLE_BYTES: usize = 32 << 10;

fn in_table(dir: &str, table: &str) -> io::Result<Vec<PathBuf>> {
    // At once, for the kernel does not say how long it is.
    let mut file = std::fs::File::open(table)?;
    let mut table = Vec::with_capacity(TABLE_BYTES);
    file.read_to_end(&mut table)?;
    Ok(points(&table).filter(|point| point.starts_with(dir) && point != Path::new(dir)).collect())
}

/// The mount points of a table.
pub(crate) fn points(table: &[u8]) -> impl Iterator<Item = PathBuf> {
    // proc_pid_mountinfo(5): the fifth field.
    let fields = table.split(|&b| b == b'\n').filter_map(|line| line.split(|&b| b == b' ').nth(4));
    fields.map(|field| PathBuf::from(unescape(field)))
}

/// What mountinfo writes in octal: blanks and backslashes.
pub(crate) fn unescape(field: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        if let (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) = (byte, tail) {
            out.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
            rest = tail;
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    OsString::from_vec(out)
}

/// The mounts below a mount that are listed at once.
const AT_ONCE: usize = 64;

/// The same from the kernel's own list of what is below a mount: the table is of all, and a machine with a thousand names has
/// two thousand lines of it. `None`: the directory is no mount, or has more below it, or the kernel has no such list.
fn listed(dir: &str) -> Option<Vec<PathBuf>> {
    /// `STATX_MNT_ID_UNIQUE` (linux/stat.h).
    const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
    let stat = rustix::fs::statx(CWD, dir, AtFlags::SYMLINK_NOFOLLOW, UNIQUE).ok()?;
    if stat.stx_mask & UNIQUE.bits() == 0 || !stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return None;
    }
    let mut ids = [0_u64; AT_ONCE];
    let request = Request::of(stat.stx_mnt_id, 0);
    // SAFETY: the kernel reads the request, of its size, and writes so many numbers at most; both live through the call.
    let count = unsafe { libc::syscall(LISTMOUNT?, &raw const request, ids.as_mut_ptr(), ids.len(), 0) };
    let ids = ids.get(..usize::try_from(count).ok()?).filter(|ids| ids.len() < AT_ONCE)?;
    ids.iter().map(|id| point_of(*id)).collect()
}

fn point_of(mount: u64) -> Option<PathBuf> {
    /// `STATMOUNT_MNT_POINT` (linux/mount.h).
    const POINT: u64 = 0x10;
    /// Of `struct statmount` (there): what is known, where the mount point begins in the texts, and where the texts do.
    const MASK: usize = 8;
    const OFFSET: usize = 108;
    const TEXTS: usize = 512;
    let mut answer = [0_u64; (TEXTS + libc::PATH_MAX as usize) / 8];
    let request = Request::of(mount, POINT);
    // SAFETY: the kernel reads the request, of its size, and writes so many bytes at most; both live through the call.
    let status = unsafe { libc::syscall(STATMOUNT?, &raw const request, answer.as_mut_ptr(), size_of_val(&answer), 0) };
    if status != 0 {
        return None;
    }
    let bytes: Vec<u8> = answer.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mask = u64::from_ne_bytes(bytes.get(MASK..)?.first_chunk().copied()?);
    let begin = TEXTS + u32::from_ne_bytes(bytes.get(OFFSET..)?.first_chunk().copied()?) as usize;
    let text = bytes.get(begin..)?.split(|&byte| byte == 0).next()?;
    (mask & POINT != 0).then(|| OsString::from_vec(text.to_vec()).into())
}

/// Gives attributes (`MOUNT_ATTR_…`) to the mount at that path, and to those below it (mount_setattr(2)).
pub(crate) fn set_attributes(path: &Path, attributes: u64) -> rustix::io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| rustix::io::Errno::INVAL)?;
    let attributes = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: path and attributes live through the call, and the size is theirs.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    if set != 0 {
        return Err(rustix::io::Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(rustix::io::Errno::IO));
    }
    Ok(())
}

/// Nearly all architectures have the same numbers (scripts/syscall.tbl of Linux).
const STATMOUNT: Option<libc::c_long> = if HAS_USUAL_NUMBERS { Some(457) } else { None };
const LISTMOUNT: Option<libc::c_long> = if HAS_USUAL_NUMBERS { Some(458) } else { None };
const HAS_USUAL_NUMBERS: bool = !cfg!(any(
    target_arch = "mips",
    target_arch = "mips32r6",
    target_arch = "mips64",
    target_arch = "mips64r6",
    all(target_arch = "x86_64", target_pointer_width = "32")
));

/// `struct mnt_id_req` of its first version (linux/mount.h).
#[repr(C)]
struct Request {
    size: u32,
    spare: u32,
    mount: u64,
    param: u64,
}

impl Request {
    fn of(mount: u64, param: u64) -> Self {
        Request { size: 24, spare: 0, mount, param }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape(br"/a\040b\134c"), OsString::from(r"/a b\c"));
        assert_eq!(unescape(br"/a\04"), OsString::from(r"/a\04"));
    }

    #[test]
    fn only_the_topmost_mounts_are_taken() {
        let below = below("/sys", "/proc/self/mountinfo").unwrap();
        for (a, b) in below.iter().zip(below.iter().skip(1)) {
            assert!(!b.starts_with(a), "{b:?} is below {a:?}");
        }
    }

    #[test]
    fn what_the_kernel_lists_is_what_its_table_has() {
        for dir in ["/sys", "/proc", "/dev"] {
            let Some(mut listed) = listed(dir) else {
                let release = rustix::system::uname().release().to_string_lossy().into_owned();
                let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
                let is_old = (numbers.next(), numbers.next()) < (Some(6), Some(8));
                assert!(is_old || dir != "/proc", "Linux {release} lists what is below {dir}");
                continue;
            };
            let mut in_table = in_table(dir, "/proc/self/mountinfo").unwrap();
            listed.sort();
            in_table.sort();
            assert_eq!(listed, in_table, "{dir}");
        }
    }
}
